//! Hypercall numbers and the calling convention (`xen.h`, `arch-arm.h`).
//!
//! `HVC #0xEA1` with the number in x16, arguments in x0 to x4, result in x0.

/// The immediate of the `HVC` instruction that is a hypercall (`XEN_HYPERCALL_TAG`).
pub const HVC_TAG: u16 = 0xea1;

/// The most arguments of a hypercall.
pub const MAX_ARGUMENTS: usize = 5;

numbers! {
    /// The hypercalls that arm64 has (`__HYPERVISOR_…`).
    pub enum Hypercall: u64 {
        /// Time and firmware of the machine.
        PlatformOp = 7,
        /// Memory of domains.
        MemoryOp = 12,
        /// Several calls in one.
        Multicall = 13,
        /// What hypervisor this is.
        XenVersion = 17,
        /// The hypervisor's console.
        ConsoleIo = 18,
        /// Shared pages.
        GrantTableOp = 20,
        /// Optional behaviour.
        VmAssist = 21,
        /// A vCPU's registrations.
        VcpuOp = 24,
        /// Security modules.
        XsmOp = 27,
        /// The scheduler, shutdown.
        SchedOp = 29,
        /// Event channels.
        EventChannelOp = 32,
        /// Physical devices.
        PhysdevOp = 33,
        /// Parameters of domains.
        HvmOp = 34,
        /// The whole system, for the toolstack.
        Sysctl = 35,
        /// One domain, for the toolstack.
        Domctl = 36,
        /// Messages between domains.
        ArgoOp = 39,
        /// Device models.
        DmOp = 41,
        /// The hypervisor's file system.
        HypfsOp = 42,
    }
}

layout! {
    /// One call of several (`multicall_entry`).
    pub struct MulticallEntry: 64 {
        /// Number of the hypercall.
        0 op: u64,
        /// Out: what it returned.
        8 result: u64,
        /// Its arguments; the last is not used on arm64.
        16 args: [u64; 6],
    }
}
