//! Domains as the toolstack makes, watches and ends them (`domctl.h`, `arch-arm.h`).
//!
//! A call's argument is a [`Domctl`]: an envelope, and in its payload the structure of the
//! operation.

use crate::{DomId, GuestHandle};

/// `XEN_DOMCTL_INTERFACE_VERSION` of Xen 4.20.
pub const INTERFACE_VERSION: u32 = 0x17;

numbers! {
    /// Operations (`XEN_DOMCTL_…`). Those that Xen has and no arm64 hypervisor does are not here.
    pub enum DomctlOp: u32 {
        /// [`CreateDomain`]; the domain's id comes back in the envelope.
        CreateDomain = 1,
        /// Ends a domain and takes back what it had.
        DestroyDomain = 2,
        /// Keeps a domain from running, once more.
        PauseDomain = 3,
        /// Takes one pause back.
        UnpauseDomain = 4,
        /// [`GetDomainInfo`].
        GetDomainInfo = 5,
        /// [`VcpuAffinity`].
        SetVcpuAffinity = 9,
        /// [`MaxMem`].
        MaxMem = 11,
        /// [`VcpuContext`].
        SetVcpuContext = 12,
        /// [`VcpuContext`].
        GetVcpuContext = 13,
        /// [`GetVcpuInfo`].
        GetVcpuInfo = 14,
        /// [`MaxVcpus`].
        MaxVcpus = 15,
        /// [`SchedulerOp`].
        SchedulerOp = 16,
        /// The domain's handle: 16 bytes.
        SetDomainHandle = 17,
        /// Not on arm64.
        IrqPermission = 19,
        /// [`IomemPermission`].
        IomemPermission = 20,
        /// [`IoportPermission`].
        IoportPermission = 21,
        /// [`SetTimeOffset`].
        SetTimeOffset = 24,
        /// [`VcpuAffinity`].
        GetVcpuAffinity = 25,
        /// A domain that was suspended runs on.
        ResumeDomain = 27,
        /// [`AddressSize`].
        SetAddressSize = 35,
        /// [`AddressSize`].
        GetAddressSize = 36,
        /// [`AssignDevice`].
        AssignDevice = 37,
        /// [`BindPtIrq`].
        BindPtIrq = 38,
        /// [`MemoryMapping`].
        MemoryMapping = 39,
        /// [`AssignDevice`].
        TestAssignDevice = 45,
        /// [`AssignDevice`].
        DeassignDevice = 47,
        /// [`BindPtIrq`].
        UnbindPtIrq = 48,
        /// [`GetDeviceGroup`].
        GetDeviceGroup = 50,
        /// [`SetVirqHandler`].
        SetVirqHandler = 66,
        /// [`Bitmap`].
        SetNodeAffinity = 68,
        /// [`Bitmap`].
        GetNodeAffinity = 69,
        /// [`CacheFlush`].
        CacheFlush = 71,
        /// [`VuartOp`].
        VuartOp = 81,
        /// [`PagingMempool`].
        GetPagingMempoolSize = 85,
        /// [`PagingMempool`].
        SetPagingMempoolSize = 86,
        /// Cache colours, which are not supported.
        SetLlcColors = 89,
        /// [`AssignFunction`]. Xen has no such thing.
        AssignFunction = 0x5852_0001,
        /// [`DeviceSupport`]. Xen has no such thing.
        DeviceSupport = 0x5852_0002,
    }

    /// What a vUART operation does (`XEN_DOMCTL_VUART_OP_…`).
    pub enum VuartCommand: u32 {
        /// Makes it.
        Init = 0,
    }

    /// Operations of [`SchedulerOp`] and of its like for a pool (`XEN_DOMCTL_SCHEDOP_…`).
    pub enum SchedulerCommand: u32 {
        /// Sets a domain's parameters.
        PutInfo = 0,
        /// Reads them.
        GetInfo = 1,
        /// Sets those of vCPUs.
        PutVcpuInfo = 2,
        /// Reads them.
        GetVcpuInfo = 3,
    }

    /// Schedulers (`XEN_SCHEDULER_…`).
    pub enum SchedulerId: u32 {
        /// Credit.
        Credit = 5,
        /// Credit 2: by weight.
        Credit2 = 6,
        /// ARINC 653.
        Arinc653 = 7,
        /// Real time.
        Rtds = 8,
        /// Each vCPU has a CPU.
        Null = 9,
    }
}

/// Bits of [`CreateDomain::flags`] (`XEN_DOMCTL_CDF_…`).
pub mod create_flags {
    /// A guest with its own memory translation.
    pub const HVM: u32 = 1 << 0;
    /// By hardware.
    pub const HAP: u32 = 1 << 1;
    /// It keeps the store.
    pub const XS_DOMAIN: u32 = 1 << 4;
    /// Devices can be assigned to it.
    pub const IOMMU: u32 = 1 << 5;
    /// It has performance counters.
    pub const VPMU: u32 = 1 << 7;
}

/// Bits of [`GetDomainInfo::flags`] (`XEN_DOMINF_…`).
pub mod info_flags {
    /// It is being ended.
    pub const DYING: u32 = 1 << 0;
    /// A guest with its own memory translation.
    pub const HVM: u32 = 1 << 1;
    /// It has shut down; why is in bits 23:16.
    pub const SHUTDOWN: u32 = 1 << 2;
    /// The toolstack has paused it.
    pub const PAUSED: u32 = 1 << 3;
    /// All its vCPUs wait.
    pub const BLOCKED: u32 = 1 << 4;
    /// One of its vCPUs runs.
    pub const RUNNING: u32 = 1 << 5;
    /// It is the store.
    pub const XS_DOMAIN: u32 = 1 << 7;
    /// Its memory translation is hardware's.
    pub const HAP: u32 = 1 << 8;
    /// Where the reason of a shutdown starts.
    pub const SHUTDOWN_SHIFT: u32 = 16;
}

/// Values of [`CreateDomain::gic_version`] (`XEN_DOMCTL_CONFIG_GIC_…`).
pub mod gic_version {
    /// The host's.
    pub const NATIVE: u8 = 0;
    /// GICv2.
    pub const V2: u8 = 1;
    /// GICv3.
    pub const V3: u8 = 2;
}

/// Bits of [`DeviceSupport::flags`].
pub mod device_support {
    /// PCI functions can be assigned to it.
    pub const PCI: u32 = 1 << 0;
    /// It has an ITS at [`layout::ITS`](crate::layout::ITS).
    pub const ITS: u32 = 1 << 1;
    /// It has a GICv2m frame at [`layout::V2M`](crate::layout::V2M).
    pub const V2M: u32 = 1 << 2;
}

/// Bits of [`VcpuAffinity::flags`] (`XEN_VCPUAFFINITY_…`).
pub mod affinity_flags {
    /// The bitmap of where it may run.
    pub const HARD: u32 = 1 << 0;
    /// The bitmap of where it should.
    pub const SOFT: u32 = 1 << 1;
    /// Over what a driver has pinned.
    pub const FORCE: u32 = 1 << 2;
}

/// Bit of [`Context::flags`]: the vCPU is on (`VGCF_online`).
pub const CONTEXT_ONLINE: u32 = 1;
/// [`BindPtIrq::irq_type`] of an SPI (`PT_IRQ_TYPE_SPI`).
pub const PT_IRQ_SPI: u32 = 4;
/// [`VuartOp::kind`] of the PL011 (`XEN_DOMCTL_VUART_TYPE_VPL011`).
pub const VUART_VPL011: u32 = 0;
/// [`AssignDevice::dev`] of a PCI function and of a device tree node (`XEN_DOMCTL_DEV_…`).
pub const DEVICE_PCI: u32 = 0;
/// See [`DEVICE_PCI`].
pub const DEVICE_DT: u32 = 1;
/// [`AssignFunction::slot`] for any.
pub const ANY_SLOT: u8 = 0xff;
/// Most pages of a [`CacheFlush`] (`2^MAX_ORDER`).
pub const CACHE_FLUSH_PAGES: u64 = 1 << 18;

/// Bytes of the envelope before the payload.
pub const PAYLOAD_OFFSET: u64 = 16;
/// Words of the payload.
pub const PAYLOAD_WORDS: usize = 16;

layout! {
    /// `xen_domctl`: the envelope.
    pub struct Domctl: 144 {
        /// A [`DomctlOp`].
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
        /// Which domain.
        8 domain: DomId,
        /// Padding.
        10 pad: [u16; 3],
        /// The operation's structure.
        16 payload: [u64; PAYLOAD_WORDS],
    }

    /// What precedes the payload of a [`Domctl`].
    pub struct DomctlHeader: 16 {
        /// A [`DomctlOp`].
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
        /// Which domain.
        8 domain: DomId,
        /// Padding.
        10 pad: [u16; 3],
    }

    /// `xen_domctl_createdomain`, with `xen_arch_domainconfig` at its end.
    pub struct CreateDomain: 72 {
        /// Of a security policy.
        0 ssidref: u32,
        /// The UUID.
        4 handle: [u8; 16],
        /// See [`create_flags`].
        20 flags: u32,
        /// How its IOMMU tables are kept.
        24 iommu_opts: u32,
        /// How many vCPUs.
        28 max_vcpus: u32,
        /// Highest port; negative: what the ABI has.
        32 max_evtchn_port: i32,
        /// Frames of its grant table; negative: the default.
        36 max_grant_frames: i32,
        /// Frames' worth of what it maps of others; negative: the default.
        40 max_maptrack_frames: i32,
        /// Bits 3:0: the grant table's version.
        44 grant_opts: u32,
        /// Not on arm64.
        48 altp2m_opts: u32,
        /// Bytes of trace.
        52 vmtrace_size: u32,
        /// Which pool of CPUs.
        56 cpupool_id: u32,
        /// See [`gic_version`]; out: what native means.
        60 gic_version: u8,
        /// Length of SVE vectors in 128 bits.
        61 sve_vl: u8,
        /// Trusted services.
        62 tee_type: u16,
        /// SPIs of its interrupt controller.
        64 nr_spis: u32,
        /// Out: Hz of the timer, 0: as the register says.
        68 clock_frequency: u32,
    }

    /// `xen_domctl_getdomaininfo`.
    pub struct GetDomainInfo: 120 {
        /// Its id.
        0 domain: DomId,
        /// Padding.
        2 pad1: u16,
        /// See [`info_flags`].
        4 flags: u32,
        /// Pages that it has.
        8 tot_pages: u64,
        /// Pages that it may have.
        16 max_pages: u64,
        /// Pages set aside for it.
        24 outstanding_pages: u64,
        /// Pages that it shares.
        32 shr_pages: u64,
        /// Pages paged out.
        40 paged_pages: u64,
        /// Guest frame of its shared page.
        48 shared_info_frame: u64,
        /// Nanoseconds that its vCPUs have run.
        56 cpu_time: u64,
        /// vCPUs that are on.
        64 nr_online_vcpus: u32,
        /// Highest number of a vCPU.
        68 max_vcpu_id: u32,
        /// Of a security policy.
        72 ssidref: u32,
        /// The UUID.
        76 handle: [u8; 16],
        /// Its pool of CPUs.
        92 cpupool: u32,
        /// Bits of its physical addresses.
        96 gpaddr_bits: u8,
        /// Padding.
        97 pad2: [u8; 7],
        /// Its interrupt controller, as in [`CreateDomain`].
        104 gic_version: u8,
        /// Length of SVE vectors in 128 bits.
        105 sve_vl: u8,
        /// Trusted services.
        106 tee_type: u16,
        /// SPIs.
        108 nr_spis: u32,
        /// Hz of the timer.
        112 clock_frequency: u32,
        /// Padding.
        116 pad3: u32,
    }

    /// `xenctl_bitmap`.
    pub struct Bitmap: 16 {
        /// Bytes, bit 0 of the first first.
        0 bytes: GuestHandle,
        /// How many bits.
        8 bits: u32,
        /// Padding.
        12 pad: u32,
    }

    /// `xen_domctl_vcpuaffinity`.
    pub struct VcpuAffinity: 40 {
        /// Which.
        0 vcpu: u32,
        /// See [`affinity_flags`].
        4 flags: u32,
        /// Where it may run.
        8 hard: Bitmap,
        /// Where it should.
        24 soft: Bitmap,
    }

    /// `xen_domctl_max_mem`.
    pub struct MaxMem: 8 {
        /// KiB.
        0 max_memkb: u64,
    }

    /// `xen_domctl_vcpucontext`.
    pub struct VcpuContext: 16 {
        /// Which.
        0 vcpu: u32,
        /// Padding.
        4 pad: u32,
        /// A [`Context`].
        8 context: GuestHandle,
    }

    /// `vcpu_guest_context` of arm64, with `vcpu_guest_core_regs` in it.
    pub struct Context: 352 {
        /// [`CONTEXT_ONLINE`].
        0 flags: u32,
        /// Padding.
        4 pad: u32,
        /// General-purpose registers 0 to 30.
        8 x: [u64; 31],
        /// Where it goes on.
        256 pc: u64,
        /// Its processor state.
        264 cpsr: u64,
        /// `SPSR_EL1`.
        272 spsr_el1: u64,
        /// Of AArch32's FIQ, IRQ, Undefined and Abort modes.
        280 spsr_fiq: u32,
        /// See `spsr_fiq`.
        284 spsr_irq: u32,
        /// See `spsr_fiq`.
        288 spsr_und: u32,
        /// See `spsr_fiq`.
        292 spsr_abt: u32,
        /// `SP_EL0`.
        296 sp_el0: u64,
        /// `SP_EL1`.
        304 sp_el1: u64,
        /// `ELR_EL1`.
        312 elr_el1: u64,
        /// `SCTLR_EL1`.
        320 sctlr: u64,
        /// `TCR_EL1`.
        328 ttbcr: u64,
        /// `TTBR0_EL1`.
        336 ttbr0: u64,
        /// `TTBR1_EL1`.
        344 ttbr1: u64,
    }

    /// `xen_domctl_getvcpuinfo`.
    pub struct GetVcpuInfo: 24 {
        /// Which.
        0 vcpu: u32,
        /// It is on.
        4 online: u8,
        /// It waits.
        5 blocked: u8,
        /// It runs.
        6 running: u8,
        /// Padding.
        7 pad1: u8,
        /// Nanoseconds that it has run.
        8 cpu_time: u64,
        /// Where.
        16 cpu: u32,
        /// Padding.
        20 pad2: u32,
    }

    /// `xen_domctl_max_vcpus`.
    pub struct MaxVcpus: 4 {
        /// How many; what the domain was created with.
        0 max: u32,
    }

    /// `xen_domctl_scheduler_op`.
    pub struct SchedulerOp: 24 {
        /// A [`SchedulerId`].
        0 sched_id: u32,
        /// A [`SchedulerCommand`].
        4 cmd: u32,
        /// Share of the CPUs.
        8 weight: u16,
        /// Percent of a CPU at most; 0 none.
        10 cap: u16,
        /// The union's rest.
        12 pad: [u32; 3],
    }

    /// `xen_domctl_iomem_permission`.
    pub struct IomemPermission: 24 {
        /// First page.
        0 first_mfn: u64,
        /// Pages.
        8 nr_mfns: u64,
        /// Whether it may.
        16 allow_access: u8,
        /// Padding.
        17 pad: [u8; 7],
    }

    /// `xen_domctl_ioport_permission`.
    pub struct IoportPermission: 12 {
        /// First port.
        0 first_port: u32,
        /// Ports.
        4 nr_ports: u32,
        /// Whether it may.
        8 allow_access: u8,
        /// Padding.
        9 pad: [u8; 3],
    }

    /// `xen_domctl_settimeoffset`.
    pub struct SetTimeOffset: 8 {
        /// Seconds.
        0 time_offset_seconds: i64,
    }

    /// `xen_domctl_address_size`.
    pub struct AddressSize: 4 {
        /// Bits: 64.
        0 size: u32,
    }

    /// `xen_domctl_assign_device`.
    pub struct AssignDevice: 24 {
        /// [`DEVICE_PCI`] or [`DEVICE_DT`].
        0 dev: u32,
        /// Flags.
        4 flags: u32,
        /// A PCI function's address, or the length of a path.
        8 sbdf_or_size: u32,
        /// Padding.
        12 pad: u32,
        /// A node's path, without a zero at its end.
        16 path: GuestHandle,
    }

    /// A PCI function for a domain, at a place of its virtual bus.
    pub struct AssignFunction: 8 {
        /// The function, `segment << 16 | bus << 8 | devfn`.
        0 sbdf: u32,
        /// Device number on the virtual bus; [`ANY_SLOT`] for the first that is free.
        4 slot: u8,
        /// Padding.
        5 pad: u8,
        /// Out: where the domain sees it, `bus << 8 | devfn` of its segment 0.
        6 virtual_bdf: u16,
    }

    /// What devices of a domain have.
    pub struct DeviceSupport: 16 {
        /// Out: see [`device_support`].
        0 flags: u32,
        /// Out: the first interrupt of the GICv2m frame.
        4 v2m_first: u32,
        /// Out: how many it has.
        8 v2m_count: u32,
        /// Out: the interrupt of the virtual bus's INTA; INTB, INTC and INTD follow. 0: there are none.
        12 intx_first: u32,
    }

    /// `xen_domctl_bind_pt_irq`, its part for SPIs.
    pub struct BindPtIrq: 24 {
        /// The machine's interrupt.
        0 machine_irq: u32,
        /// [`PT_IRQ_SPI`].
        4 irq_type: u32,
        /// The guest's: the same.
        8 spi: u16,
        /// The union's rest.
        10 pad: [u16; 7],
    }

    /// `xen_domctl_memory_mapping`.
    pub struct MemoryMapping: 32 {
        /// Where in the guest.
        0 first_gfn: u64,
        /// Which pages.
        8 first_mfn: u64,
        /// How many.
        16 nr_mfns: u64,
        /// 1 to add, 0 to remove.
        24 add_mapping: u32,
        /// Padding.
        28 pad: u32,
    }

    /// `xen_domctl_get_device_group`.
    pub struct GetDeviceGroup: 24 {
        /// A PCI function's address.
        0 machine_sbdf: u32,
        /// Room in the list.
        4 max_sdevs: u32,
        /// Out: how many are in it.
        8 num_sdevs: u32,
        /// Padding.
        12 pad: u32,
        /// Addresses, `u32` each.
        16 sdev_array: GuestHandle,
    }

    /// `xen_domctl_set_virq_handler`.
    pub struct SetVirqHandler: 4 {
        /// Which.
        0 virq: u32,
    }

    /// `xen_domctl_cacheflush`.
    pub struct CacheFlush: 16 {
        /// First guest frame.
        0 start_pfn: u64,
        /// How many, at most [`CACHE_FLUSH_PAGES`].
        8 nr_pfns: u64,
    }

    /// `xen_domctl_vuart_op`.
    pub struct VuartOp: 24 {
        /// A [`VuartCommand`].
        0 cmd: u32,
        /// [`VUART_VPL011`].
        4 kind: u32,
        /// Guest frame of the ring.
        8 gfn: u64,
        /// Who has the other end.
        16 console_domid: DomId,
        /// Padding.
        18 pad: u16,
        /// Out: the port that the other end binds to.
        20 evtchn: u32,
    }

    /// `xen_domctl_paging_mempool`.
    pub struct PagingMempool: 8 {
        /// Bytes, whole pages.
        0 size: u64,
    }
}
