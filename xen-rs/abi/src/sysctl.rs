//! The machine as the toolstack sees it (`sysctl.h`).
//!
//! A call's argument is a [`Sysctl`]: an envelope, and in its payload the structure of the
//! operation.

use crate::domctl::Bitmap;
use crate::{DomId, GuestHandle};

/// `XEN_SYSCTL_INTERFACE_VERSION` of Xen 4.20.
pub const INTERFACE_VERSION: u32 = 0x15;

numbers! {
    /// Operations (`XEN_SYSCTL_…`). Those that Xen has and no arm64 hypervisor does are not here.
    pub enum SysctlOp: u32 {
        /// [`ReadConsole`].
        ReadConsole = 1,
        /// [`PhysInfo`].
        PhysInfo = 3,
        /// [`SchedId`].
        SchedId = 4,
        /// [`GetDomainInfoList`].
        GetDomainInfoList = 6,
        /// [`DebugKeys`].
        DebugKeys = 7,
        /// [`AvailHeap`].
        AvailHeap = 9,
        /// [`TopologyInfo`] of [`CpuTopology`].
        CpuTopoInfo = 16,
        /// [`NumaInfo`].
        NumaInfo = 17,
        /// [`CpuPoolOp`].
        CpuPoolOp = 18,
        /// [`PoolSchedulerOp`].
        SchedulerOp = 19,
        /// [`PciTopologyInfo`].
        PciTopoInfo = 22,
    }

    /// Operations of [`CpuPoolOp`] (`XEN_SYSCTL_CPUPOOL_OP_…`).
    pub enum CpuPoolCommand: u32 {
        /// Makes one.
        Create = 1,
        /// Ends one.
        Destroy = 2,
        /// The first with this id or a higher one.
        Info = 3,
        /// Gives it a CPU.
        AddCpu = 4,
        /// Takes one.
        RemoveCpu = 5,
        /// Moves a domain.
        MoveDomain = 6,
        /// CPUs in no pool.
        FreeInfo = 7,
    }
}

/// Bits of [`PhysInfo::capabilities`] (`XEN_SYSCTL_PHYSCAP_…`).
pub mod capabilities {
    /// Guests with their own memory translation.
    pub const HVM: u32 = 1 << 0;
    /// Devices can be assigned.
    pub const DIRECT_IO: u32 = 1 << 2;
    /// Translation is hardware's.
    pub const HAP: u32 = 1 << 3;
    /// IOMMUs use the same tables.
    pub const IOMMU_HAP_PT_SHARE: u32 = 1 << 5;
    /// Grant tables of version 1.
    pub const GNTTAB_V1: u32 = 1 << 8;
}

/// No core, socket, node or distance.
pub const INVALID_ID: u32 = u32::MAX;
/// No memory size.
pub const INVALID_SIZE: u64 = u64::MAX;
/// Bytes of the envelope before the payload.
pub const PAYLOAD_OFFSET: u64 = 8;
/// Words of the payload.
pub const PAYLOAD_WORDS: usize = 16;

layout! {
    /// `xen_sysctl`: the envelope.
    pub struct Sysctl: 136 {
        /// A [`SysctlOp`].
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
        /// The operation's structure.
        8 payload: [u64; PAYLOAD_WORDS],
    }

    /// What precedes the payload of a [`Sysctl`].
    pub struct SysctlHeader: 8 {
        /// A [`SysctlOp`].
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
    }

    /// `xen_sysctl_readconsole`: the log.
    pub struct ReadConsole: 24 {
        /// Forget what was read.
        0 clear: u8,
        /// From `index` on.
        1 incremental: u8,
        /// Padding.
        2 pad1: u16,
        /// In: where to start; out: where to go on.
        4 index: u32,
        /// Where it goes.
        8 buffer: GuestHandle,
        /// In: room; out: bytes.
        16 count: u32,
        /// Padding.
        20 pad2: u32,
    }

    /// `xen_sysctl_physinfo`.
    pub struct PhysInfo: 112 {
        /// Threads of a core.
        0 threads_per_core: u32,
        /// Cores of a socket.
        4 cores_per_socket: u32,
        /// CPUs that run.
        8 nr_cpus: u32,
        /// Highest number of a CPU.
        12 max_cpu_id: u32,
        /// NUMA nodes.
        16 nr_nodes: u32,
        /// Highest number of a node.
        20 max_node_id: u32,
        /// kHz of the timer.
        24 cpu_khz: u32,
        /// See [`capabilities`].
        28 capabilities: u32,
        /// Bits 4:0: length of SVE vectors.
        32 arch_capabilities: u32,
        /// Padding.
        36 pad: u32,
        /// Pages of RAM.
        40 total_pages: u64,
        /// Pages that are free.
        48 free_pages: u64,
        /// Pages that are still to be cleared.
        56 scrub_pages: u64,
        /// Pages set aside.
        64 outstanding_pages: u64,
        /// Highest page.
        72 max_mfn: u64,
        /// Features of x86.
        80 hw_cap: [u32; 8],
    }

    /// `xen_sysctl_sched_id`.
    pub struct SchedId: 4 {
        /// Out: a [`crate::domctl::SchedulerId`].
        0 sched_id: u32,
    }

    /// `xen_sysctl_getdomaininfolist`.
    pub struct GetDomainInfoList: 24 {
        /// From this id on.
        0 first_domain: DomId,
        /// Padding.
        2 pad1: u16,
        /// Room.
        4 max_domains: u32,
        /// [`crate::domctl::GetDomainInfo`] each.
        8 buffer: GuestHandle,
        /// Out: how many.
        16 num_domains: u32,
        /// Padding.
        20 pad2: u32,
    }

    /// `xen_sysctl_debug_keys`.
    pub struct DebugKeys: 16 {
        /// Characters.
        0 keys: GuestHandle,
        /// How many.
        8 nr_keys: u32,
        /// Padding.
        12 pad: u32,
    }

    /// `xen_sysctl_availheap`.
    pub struct AvailHeap: 24 {
        /// Addresses of at least so many bits.
        0 min_bitwidth: u32,
        /// At most so many; 0 any.
        4 max_bitwidth: u32,
        /// Of a node; -1 any.
        8 node: i32,
        /// Padding.
        12 pad: u32,
        /// Out: free bytes.
        16 avail_bytes: u64,
    }

    /// `xen_sysctl_cputopo`.
    pub struct CpuTopology: 12 {
        /// Its core.
        0 core: u32,
        /// The core's socket.
        4 socket: u32,
        /// The socket's node.
        8 node: u32,
    }

    /// `xen_sysctl_cputopoinfo`.
    pub struct TopologyInfo: 16 {
        /// In: room; out: how many there are.
        0 num: u32,
        /// Padding.
        4 pad: u32,
        /// Entries; null asks for the number.
        8 entries: GuestHandle,
    }

    /// `xen_sysctl_meminfo`.
    pub struct NodeMemory: 16 {
        /// Bytes.
        0 memsize: u64,
        /// Free bytes.
        8 memfree: u64,
    }

    /// `xen_sysctl_numainfo`.
    pub struct NumaInfo: 24 {
        /// In: room; out: how many there are.
        0 num_nodes: u32,
        /// Padding.
        4 pad: u32,
        /// [`NodeMemory`] each.
        8 meminfo: GuestHandle,
        /// A row for each, `u32` each.
        16 distance: GuestHandle,
    }

    /// `xen_sysctl_cpupool_op`.
    pub struct CpuPoolOp: 40 {
        /// A [`CpuPoolCommand`].
        0 op: u32,
        /// Which; in or out.
        4 cpupool_id: u32,
        /// Out: its scheduler.
        8 sched_id: u32,
        /// For a move.
        12 domid: u32,
        /// Which CPU.
        16 cpu: u32,
        /// Out: domains in it.
        20 n_dom: u32,
        /// Out: its CPUs.
        24 cpumap: Bitmap,
    }

    /// `xen_sysctl_scheduler_op`, its part for credit2.
    pub struct PoolSchedulerOp: 32 {
        /// Which pool.
        0 cpupool_id: u32,
        /// A [`crate::domctl::SchedulerId`].
        4 sched_id: u32,
        /// A [`crate::domctl::SchedulerCommand`].
        8 cmd: u32,
        /// Padding.
        12 pad: u32,
        /// Microseconds that a vCPU runs at least.
        16 ratelimit_us: u32,
        /// The union's rest.
        20 rest: [u32; 3],
    }

    /// `xen_sysctl_pcitopoinfo`.
    pub struct PciTopologyInfo: 24 {
        /// How many; out: how many were looked at.
        0 num_devs: u32,
        /// Padding.
        4 pad: u32,
        /// [`crate::physdev::PciDevice`] each.
        8 devs: GuestHandle,
        /// Out: the node of each, `u32`.
        16 nodes: GuestHandle,
    }
}
