//! Event channels (`event_channel.h`).

use crate::DomId;

/// Ports of the two-level ABI, port 0 included (`EVTCHN_2L_NR_CHANNELS`).
pub const TWO_LEVEL_CHANNELS: u32 = 4096;

numbers! {
    /// Sub-operations of `event_channel_op` (`EVTCHNOP_…`).
    pub enum EventChannelOp: u64 {
        /// [`BindInterdomain`].
        BindInterdomain = 0,
        /// [`BindVirq`].
        BindVirq = 1,
        /// [`BindPirq`]; not supported on arm64.
        BindPirq = 2,
        /// [`Close`].
        Close = 3,
        /// [`Send`].
        Send = 4,
        /// [`Status`].
        Status = 5,
        /// [`AllocUnbound`].
        AllocUnbound = 6,
        /// [`BindIpi`].
        BindIpi = 7,
        /// [`BindVcpu`].
        BindVcpu = 8,
        /// [`Unmask`].
        Unmask = 9,
        /// [`Reset`].
        Reset = 10,
        /// [`InitControl`]: chooses the FIFO ABI.
        InitControl = 11,
        /// FIFO ABI only.
        ExpandArray = 12,
        /// FIFO ABI only.
        SetPriority = 13,
    }

    /// What a port is, in [`Status::status`] (`EVTCHNSTAT_…`).
    pub enum PortStatus: u32 {
        /// Not in use.
        Closed = 0,
        /// Waits for a domain to bind to it.
        Unbound = 1,
        /// Connected to a port.
        Interdomain = 2,
        /// Connected to a physical interrupt.
        Pirq = 3,
        /// Connected to a virtual interrupt.
        Virq = 4,
        /// Between vCPUs.
        Ipi = 5,
    }
}

layout! {
    /// `evtchn_alloc_unbound`: a new port of `dom` that `remote_dom` may bind to.
    pub struct AllocUnbound: 8 {
        /// Whose port.
        0 dom: DomId,
        /// Who may bind to it.
        2 remote_dom: DomId,
        /// Out: the port.
        4 port: u32,
    }

    /// `evtchn_bind_interdomain`: a new port of the caller, connected to an unbound one.
    pub struct BindInterdomain: 12 {
        /// Whose unbound port.
        0 remote_dom: DomId,
        /// Padding.
        2 pad: u16,
        /// The unbound port.
        4 remote_port: u32,
        /// Out: the caller's port.
        8 local_port: u32,
    }

    /// `evtchn_bind_virq`: a new port of the caller, connected to a virtual interrupt.
    pub struct BindVirq: 12 {
        /// Which, see [`crate::virq`].
        0 virq: u32,
        /// Whose, for interrupts that each vCPU has; else 0.
        4 vcpu: u32,
        /// Out: the port.
        8 port: u32,
    }

    /// `evtchn_bind_pirq`.
    pub struct BindPirq: 12 {
        /// Which.
        0 pirq: u32,
        /// Bit 0: it may be shared.
        4 flags: u32,
        /// Out: the port.
        8 port: u32,
    }

    /// `evtchn_bind_ipi`: a new port of the caller that notifies one of its vCPUs.
    pub struct BindIpi: 8 {
        /// Which vCPU.
        0 vcpu: u32,
        /// Out: the port.
        4 port: u32,
    }

    /// `evtchn_close`.
    pub struct Close: 4 {
        /// The port.
        0 port: u32,
    }

    /// `evtchn_send`: notifies the other end.
    pub struct Send: 4 {
        /// The port.
        0 port: u32,
    }

    /// `evtchn_status`.
    pub struct Status: 24 {
        /// Whose port.
        0 dom: DomId,
        /// Padding.
        2 pad: u16,
        /// The port.
        4 port: u32,
        /// Out: a [`PortStatus`].
        8 status: u32,
        /// Out: the vCPU that is notified.
        12 vcpu: u32,
        /// Out: the rest, by status. Unbound: the domain that may bind. Interdomain: the other
        /// domain, the other port. Virq: its number.
        16 detail: [u32; 2],
    }

    /// `evtchn_bind_vcpu`: from now on that vCPU is notified.
    pub struct BindVcpu: 8 {
        /// The port.
        0 port: u32,
        /// The vCPU.
        4 vcpu: u32,
    }

    /// `evtchn_unmask`.
    pub struct Unmask: 4 {
        /// The port.
        0 port: u32,
    }

    /// `evtchn_reset`: closes all ports.
    pub struct Reset: 2 {
        /// Whose.
        0 dom: DomId,
    }

    /// `evtchn_init_control`.
    pub struct InitControl: 24 {
        /// Frame of the control block.
        0 control_gfn: u64,
        /// Its offset in the frame.
        8 offset: u32,
        /// For which vCPU.
        12 vcpu: u32,
        /// Out: bits of a link.
        16 link_bits: u8,
        /// Padding.
        17 pad: [u8; 7],
    }
}
