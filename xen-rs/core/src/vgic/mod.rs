//! The virtual interrupt controller of a domain: GICv2 (IHI 0048) or GICv3 (IHI 0069).
//!
//! [`Vgic`] is a state machine. Guests change it by loads and stores ([`Vgic::access`]) and by
//! sending SGIs, the hypervisor by [`Vgic::set_line`] and [`Vgic::inject`]; [`Vgic::flush`] puts the
//! most urgent interrupts of a CPU into list registers, [`Vgic::sync`] takes them back. What has to
//! happen outside is returned in [`Effects`]: CPUs to kick, physical interrupts to change.
//!
//! A guest takes and ends its interrupts without any exit. Its list registers need to be looked at
//! only when something changed ([`Vgic::has_news`]), when the hardware says so by a maintenance
//! interrupt, before the guest reads or writes pending or active states
//! ([`Vgic::is_about_state`]), and when the CPU is switched. [`Vgic::refresh`] syncs and flushes at
//! once, and with no lock but the CPU's own where only its private interrupts are concerned.
//!
//! An interrupt is in one place: idle, in the queue of the CPU that must take it, or in one of that
//! CPU's list registers. Queues are bitmaps, so that an interrupt arrives in constant time, and the
//! cost of a look at them depends on what is in them only.
//!
//! Lock order: the distributor, then a CPU, then the LPIs, under which guest memory may be read. No
//! two CPUs' locks are held together, and none when a method returns.
//!
//! | module | |
//! |---|---|
//! | `irq` | one interrupt |
//! | `distributor`, `cpu` | shared and private interrupts, their queues |
//! | `marks` | what registers with a bit for each interrupt read |
//! | `lpi` | interrupts raised by messages, their queues |
//! | `deliver` | queues to list registers and back |
//! | [`lr`] | how list registers are spelled |
//! | `mmio`, `sgi` | the registers that guests see |
//! | `domain` | the whole, with its locks |

extern crate alloc;

mod cpu;
mod deliver;
mod distributor;
mod domain;
mod effects;
mod irq;
mod lpi;
pub mod lr;
mod marks;
mod mmio;
mod ready;
mod sgi;
#[cfg(test)]
pub(crate) mod tests;

use xen_types::Affinity;

pub use self::cpu::Cpu;
pub use self::distributor::Distributor;
pub use self::domain::{LinkError, Lock, Locking, Region, Vgic};
pub use self::effects::{CpuId, CpuSet, Effects, Physical};
pub use self::irq::Irq;
pub use self::lpi::{BadAddress, GuestMemory, PART as LPI_PART};
pub use self::mmio::{Access, Direction, Width};
pub(crate) use self::mmio::{read_part, write_part};
pub use self::sgi::SgiRegister;

/// The architecture that a guest sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// GICv2: up to 8 CPUs.
    V2,
    /// GICv3: up to 128 CPUs.
    V3,
}

impl Version {
    /// Most CPUs that a domain can have.
    pub const fn max_cpus(self) -> usize {
        match self {
            Self::V2 => 8,
            Self::V3 => CpuId::MAX,
        }
    }
}

/// Why a domain gets no interrupt controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreateError {
    /// Too many CPUs, or none.
    #[error("{cpus} vCPUs: this interrupt controller serves 1 to {most}")]
    Cpus {
        /// What was asked for.
        cpus: usize,
        /// What the version allows.
        most: usize,
    },
    /// Too many shared interrupts.
    #[error("{0} shared interrupts: there are at most 988")]
    Spis(usize),
    /// LPIs on a GICv2, or INTIDs of a size that they cannot have.
    #[error("INTIDs of {0} bits: LPIs need a GICv3 and 14 to 16 bits")]
    Lpis(u8),
    /// No memory.
    #[error("no memory for the interrupt controller")]
    OutOfMemory,
}

/// CPUs of a cluster: SGIs of GICv3 name a cluster and 16 CPUs in it.
const CLUSTER: usize = 16;

/// The affinity of a virtual CPU: 16 to a cluster, numbered in order. The vCPU's `MPIDR_EL1`, its
/// `reg` in the device tree and PSCI must say the same.
pub const fn affinity_of(cpu: CpuId) -> Affinity {
    let (cluster, number) = (cpu.get() / CLUSTER, cpu.get() % CLUSTER);
    Affinity::from_mpidr((cluster << 8 | number) as u64)
}

/// The CPU with an affinity, whether or not the domain has it.
pub const fn cpu_with(affinity: Affinity) -> Option<CpuId> {
    cpu_with_levels([
        affinity.level(0),
        affinity.level(1),
        affinity.level(2),
        affinity.level(3),
    ])
}

const fn cpu_with_levels(levels: [u8; 4]) -> Option<CpuId> {
    match levels {
        [cpu, cluster, 0, 0] if (cpu as usize) < CLUSTER => {
            CpuId::new(cluster as usize * CLUSTER + cpu as usize)
        }
        _ => None,
    }
}
