//! A vCPU's registrations (`vcpu.h`).

numbers! {
    /// Sub-operations of `vcpu_op` (`VCPUOP_…`).
    pub enum VcpuOp: u64 {
        /// Not on arm64.
        Initialise = 0,
        /// Not on arm64.
        Up = 1,
        /// Not on arm64.
        Down = 2,
        /// Not on arm64.
        IsUp = 3,
        /// Not on arm64.
        GetRunstateInfo = 4,
        /// [`RegisterRunstateMemoryArea`].
        RegisterRunstateMemoryArea = 5,
        /// Not on arm64.
        SetPeriodicTimer = 6,
        /// Not on arm64.
        StopPeriodicTimer = 7,
        /// Not on arm64.
        SetSingleshotTimer = 8,
        /// Not on arm64.
        StopSingleshotTimer = 9,
        /// [`RegisterVcpuInfo`].
        RegisterVcpuInfo = 10,
        /// Not on arm64.
        SendNmi = 11,
        /// Not on arm64.
        GetPhysid = 12,
        /// Not on arm64.
        RegisterVcpuTimeMemoryArea = 13,
        /// By physical address; the dispatcher of arm64 refuses it.
        RegisterRunstatePhysArea = 14,
        /// Not on arm64.
        RegisterVcpuTimePhysArea = 15,
    }

    /// What a vCPU is doing (`RUNSTATE_…`); also its place in [`RunstateInfo::time`].
    pub enum Runstate: u32 {
        /// On a physical CPU.
        Running = 0,
        /// Waits for a physical CPU.
        Runnable = 1,
        /// Waits for an event.
        Blocked = 2,
        /// Not started, or its domain is paused.
        Offline = 3,
    }
}

/// Set in [`RunstateInfo::state_entry_time`] while the hypervisor writes (`XEN_RUNSTATE_UPDATE`),
/// for guests that enabled it.
pub const RUNSTATE_UPDATE: u64 = 1 << 63;

layout! {
    /// `vcpu_runstate_info`: what a vCPU does and did.
    pub struct RunstateInfo: 48 {
        /// A [`Runstate`].
        0 state: u32,
        /// Padding.
        4 pad: u32,
        /// Since when, in nanoseconds of system time.
        8 state_entry_time: u64,
        /// Nanoseconds spent in each state.
        16 time: [u64; 4],
    }

    /// `vcpu_register_runstate_memory_area`.
    pub struct RegisterRunstateMemoryArea: 8 {
        /// Guest virtual address of a [`RunstateInfo`]; need not be aligned to a page.
        0 address: crate::GuestHandle,
    }

    /// `vcpu_register_vcpu_info`: where a [`crate::shared_info::VcpuInfo`] shall be.
    pub struct RegisterVcpuInfo: 16 {
        /// Guest frame.
        0 mfn: u64,
        /// Offset in the frame; 8-byte aligned, and all of it inside the frame.
        8 offset: u32,
        /// Not used.
        12 rsvd: u32,
    }
}
