//! The interrupt controller: GICv2 (IHI 0048) or GICv3 (IHI 0069), set up far enough for SGIs and
//! PPIs.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::mmio::{read32, write8, write32};
use crate::{power, read_sysreg, write_sysreg};

/// Which interrupt controller there is, and where its registers are.
#[derive(Clone, Copy, Debug)]
pub enum Gic {
    /// Version 2.
    V2 {
        /// GICD.
        distributor: u64,
        /// GICC.
        cpu_interface: u64,
    },
    /// Version 3, used by system registers.
    V3 {
        /// GICD.
        distributor: u64,
        /// GICR of the first CPU.
        redistributors: u64,
    },
}

/// `GICD_CTLR`.
pub const GICD_CTLR: u64 = 0;
/// `GICD_TYPER`.
pub const GICD_TYPER: u64 = 0x4;
/// `GICD_ISENABLER<n>`: the first word.
pub const GICD_ISENABLER: u64 = 0x100;
const GICD_IPRIORITYR: u64 = 0x400;
const GICD_IGROUPR: u64 = 0x80;
const GICD_SGIR: u64 = 0xf00;
const GICC_CTLR: u64 = 0;
const GICC_PMR: u64 = 0x4;
const GICC_IAR: u64 = 0xc;
const GICC_EOIR: u64 = 0x10;
/// From one CPU's redistributor to the next one's, and to its frame of SGIs and PPIs (12.10).
const GICR_STRIDE: u64 = 0x2_0000;
const GICR_SGI_FRAME: u64 = 0x1_0000;
const GICR_WAKER: u64 = 0x14;
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;
/// `GICD_CTLR`: affinity routing and group 1 (12.9.4).
const ARE_AND_GROUP_1: u32 = 1 << 4 | 1 << 1;
/// In the middle, so that every mask lets it pass that lets anything.
const PRIORITY: u8 = 0x80;

/// GICC of a GICv2, for the interrupt handler; zero for a GICv3.
static CPU_INTERFACE: AtomicU64 = AtomicU64::new(0);

/// Sets the controller up for the first CPU.
pub fn set_up(gic: &Gic) {
    match *gic {
        Gic::V2 {
            distributor,
            cpu_interface,
        } => {
            CPU_INTERFACE.store(cpu_interface, Ordering::Relaxed);
            write32(distributor + GICD_CTLR, 1);
        }
        Gic::V3 { distributor, .. } => write32(distributor + GICD_CTLR, ARE_AND_GROUP_1),
    }
    gic.set_up_cpu();
}

impl Gic {
    /// GICD.
    pub fn distributor(&self) -> u64 {
        match *self {
            Self::V2 { distributor, .. } | Self::V3 { distributor, .. } => distributor,
        }
    }

    /// The major version.
    pub fn version(&self) -> u32 {
        match self {
            Self::V2 { .. } => 2,
            Self::V3 { .. } => 3,
        }
    }

    /// Lets interrupts through to this CPU.
    pub fn set_up_cpu(&self) {
        match *self {
            Self::V2 { cpu_interface, .. } => {
                write32(cpu_interface + GICC_PMR, 0xff);
                write32(cpu_interface + GICC_CTLR, 1);
            }
            Self::V3 { .. } => {
                let waker = self.redistributor() + GICR_WAKER;
                write32(waker, read32(waker) & !PROCESSOR_SLEEP);
                while read32(waker) & CHILDREN_ASLEEP != 0 {}
                write32(self.private_registers() + GICD_IGROUPR, u32::MAX);
                write_sysreg!("S3_0_C12_C12_5", 1); // ICC_SRE_EL1
                write_sysreg!("S3_0_C4_C6_0", 0xff); // ICC_PMR_EL1
                write_sysreg!("S3_0_C12_C12_7", 1); // ICC_IGRPEN1_EL1
            }
        }
    }

    /// Enables an SGI or PPI on this CPU.
    pub fn enable(&self, id: u32) {
        let registers = self.private_registers();
        write8(registers + GICD_IPRIORITYR + u64::from(id), PRIORITY);
        write32(registers + GICD_ISENABLER, 1 << id);
    }

    /// Sends an SGI to a CPU of the first cluster.
    #[inline(always)]
    pub fn send_sgi(&self, id: u32, cpu: u32) {
        match *self {
            Self::V2 { distributor, .. } => {
                write32(distributor + GICD_SGIR, 1 << (16 + cpu) | id);
            }
            // ICC_SGI1R_EL1
            Self::V3 { .. } => write_sysreg!("S3_0_C12_C11_5", u64::from(id) << 24 | 1 << cpu),
        }
    }

    /// This CPU's GICR of a GICv3; GICD of a GICv2, where its registers are banked.
    pub fn redistributor(&self) -> u64 {
        match *self {
            Self::V2 { distributor, .. } => distributor,
            Self::V3 { redistributors, .. } => {
                redistributors + GICR_STRIDE * u64::from(power::this_cpu())
            }
        }
    }

    /// Where `GICD_*R0`, the registers of SGIs and PPIs, are for this CPU.
    fn private_registers(&self) -> u64 {
        match *self {
            Self::V2 { distributor, .. } => distributor,
            Self::V3 { .. } => self.redistributor() + GICR_SGI_FRAME,
        }
    }
}

/// Takes the interrupt that this CPU is to handle.
pub fn acknowledge() -> u32 {
    match CPU_INTERFACE.load(Ordering::Relaxed) {
        0 => read_sysreg!("S3_0_C12_C12_0") as u32, // ICC_IAR1_EL1
        interface => read32(interface + GICC_IAR),
    }
}

/// Ends what [`acknowledge`] took.
pub fn end(acknowledged: u32) {
    match CPU_INTERFACE.load(Ordering::Relaxed) {
        0 => write_sysreg!("S3_0_C12_C12_1", acknowledged.into()), // ICC_EOIR1_EL1
        interface => write32(interface + GICC_EOIR, acknowledged),
    }
}
