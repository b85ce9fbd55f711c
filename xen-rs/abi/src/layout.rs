//! Where a guest finds what the hypervisor gives it (`arch-arm.h`, `GUEST_…`).

/// Base and bytes of a part of a guest's address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

impl Region {
    const fn new(base: u64, size: u64) -> Self {
        Self { base, size }
    }

    /// The address behind it.
    pub const fn end(self) -> u64 {
        self.base + self.size
    }
}

/// GICv2 and GICv3: the distributor. A GICv2 guest sees its first page.
pub const GICD: Region = Region::new(0x0300_1000, 0x1_0000);
/// GICv2: the distributor's page.
pub const GICD_V2: Region = Region::new(0x0300_1000, 0x1000);
/// GICv2: the CPU interface.
pub const GICC: Region = Region::new(0x0300_2000, 0x2000);
/// GICv3: redistributors, of which each vCPU has [`GICR_STRIDE`].
pub const GICR: Region = Region::new(0x0302_0000, 0x0100_0000);
/// Bytes of a redistributor.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// The frame of a GICv2m. Xen has no such thing.
pub const V2M: Region = Region::new(0x0802_0000, 0x1000);
/// GICv3: the interrupt translation service. Xen gives guests none.
pub const ITS: Region = Region::new(0x0808_0000, 0x2_0000);
/// PCI configuration space.
pub const VPCI_ECAM: Region = Region::new(0x1000_0000, 0x1000_0000);
/// ACPI tables.
pub const ACPI: Region = Region::new(0x2000_0000, 0x0200_0000);
/// The emulated PL011.
pub const VPL011: Region = Region::new(0x2200_0000, 0x1000);
/// PCI memory.
pub const VPCI_MEMORY: Region = Region::new(0x2300_0000, 0x1000_0000);
/// Frames of the grant table.
pub const GRANT_TABLE: Region = Region::new(0x3800_0000, 0x0100_0000);
/// Pages that the toolstack fills: console, store, memory access, vUART.
pub const MAGIC: Region = Region::new(0x3900_0000, 0x0100_0000);
/// RAM, the first bank.
pub const RAM0: Region = Region::new(0x4000_0000, 0xc000_0000);
/// PCI memory that can be read ahead.
pub const VPCI_PREFETCH: Region = Region::new(0x1_0000_0000, 0x1_0000_0000);
/// RAM, the second bank.
pub const RAM1: Region = Region::new(0x2_0000_0000, 0xfe_0000_0000);

/// Interrupts: the virtual timer's.
pub const TIMER_VIRT: u32 = 27;
/// The secure physical timer's.
pub const TIMER_SECURE: u32 = 29;
/// The physical timer's.
pub const TIMER_PHYS: u32 = 30;
/// That of events.
pub const EVTCHN: u32 = 31;
/// The emulated PL011's.
pub const VPL011_SPI: u32 = 32;

/// Most vCPUs of a guest (`GUEST_MAX_VCPUS`).
pub const MAX_VCPUS: u32 = 128;

/// Pages of [`MAGIC`], by number.
pub mod magic {
    /// The console's ring.
    pub const CONSOLE: u64 = 0;
    /// The store's ring.
    pub const XENSTORE: u64 = 1;
    /// Memory access.
    pub const MEMACCESS: u64 = 2;
    /// The vUART's ring.
    pub const VUART: u64 = 3;
}

/// `CPSR` of a vCPU that starts (`PSR_GUEST64_INIT`): EL1 with SP_EL1, all masked but debug's.
pub const CPSR_INIT: u64 = 0x1c5;
/// `SCTLR_EL1` of a vCPU that starts (`SCTLR_GUEST_INIT`).
pub const SCTLR_INIT: u64 = 0x00c5_0078;

const _: () = {
    assert!(GICD.end() <= GICR.base);
    assert!(GICR.size / GICR_STRIDE == MAX_VCPUS as u64);
    assert!(GICD_V2.end() == GICC.base);
    assert!(GICR.end() <= V2M.base && V2M.end() <= ITS.base);
    assert!(ITS.end() <= VPCI_ECAM.base);
    assert!(MAGIC.end() <= RAM0.base);
    assert!(RAM0.end() == VPCI_PREFETCH.base);
    assert!(VPCI_PREFETCH.end() == RAM1.base);
};
