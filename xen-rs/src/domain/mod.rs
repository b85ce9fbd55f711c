//! Domains: what a guest has of the machine, and how it is entered and left.

pub mod context;
pub mod dom0;
pub mod events;
mod guest_pages;
pub mod hypercall;
mod id_registers;
pub mod interrupts;
pub mod memory;
pub mod mmio;
pub mod run;
pub mod space;
mod tables;
pub mod trial;

use alloc::vec::Vec;

use spin::Once;
use xen_abi::DomId;
use xen_core::event::PortTable;
use xen_core::psci::Power;
use xen_core::vgic::{CpuId, Effects, Physical, Region, Vgic};
use xen_types::{Gpa, GpaRange, Hpa, HpaRange, IntId};

use self::interrupts::Masking;
use self::space::Space;
use crate::arch::percpu::PerCpu;
use crate::gic;
use crate::lock::IrqLock;
use crate::memory::frames;

/// A domain. Its vCPUs are bound to a CPU each.
pub struct Domain {
    /// Its id.
    pub id: DomId,
    /// What its addresses lead to.
    pub space: IrqLock<Space>,
    /// Its interrupt controller.
    pub vgic: Vgic<Masking>,
    /// Which of its vCPUs run.
    pub power: IrqLock<Power>,
    /// Its RAM.
    pub ram: Vec<GpaRange>,
    /// Where it finds its interrupt controller.
    pub gic_frames: [(Region, GpaRange); 2],
    /// Its vCPUs.
    pub vcpus: Vec<Vcpu>,
    /// Its event channels.
    pub ports: IrqLock<PortTable>,
    /// The page that it shares with the hypervisor.
    pub shared_page: HpaRange,
}

/// A vCPU.
pub struct Vcpu {
    /// Its number.
    pub id: CpuId,
    /// The CPU that runs it.
    pub cpu: &'static PerCpu,
    /// Where it shall start, and with what in x0.
    pub start: IrqLock<Option<(Gpa, u64)>>,
    /// Where it wants to be told of events.
    pub info: Once<Hpa>,
}

/// The domain that has the machine's interrupts.
static DOM0: Once<&'static Domain> = Once::new();

impl Domain {
    /// Whether a guest address is RAM.
    pub fn is_ram(&self, address: Gpa) -> bool {
        self.ram.iter().any(|bank| bank.contains(address))
    }

    /// Whether host memory is the domain's RAM.
    pub fn owns(&self, range: HpaRange) -> bool {
        frames::is_ram_of(range, self.id)
    }

    /// The vCPU with a number.
    pub fn vcpu(&self, id: CpuId) -> Option<&Vcpu> {
        self.vcpus.get(id.get())
    }

    /// Starts a vCPU.
    pub fn start(&self, id: CpuId, entry: Gpa, context: u64) {
        if let Some(vcpu) = self.vcpu(id) {
            *vcpu.start.lock() = Some((entry, context));
            gic::kick(vcpu.cpu);
        }
    }

    /// Does what the interrupt controller asks for.
    pub fn carry_out(&self, effects: &mut Effects) {
        for request in effects.take_physical() {
            match request {
                Physical::Enable(id) => gic::enable(id),
                Physical::Disable(id) => gic::disable(id),
                Physical::Deactivate(id) => gic::deactivate(id),
                Physical::Configure(id, trigger) => gic::configure(id, trigger),
            }
        }
        for id in effects.take_kicks() {
            if let Some(vcpu) = self.vcpu(id) {
                gic::kick(vcpu.cpu);
            }
        }
    }
}

/// Gives the machine's interrupts to a domain.
pub fn set_owner_of_interrupts(domain: &'static Domain) {
    DOM0.call_once(|| domain);
}

/// The control domain, once it is made.
pub fn dom0_domain() -> Option<&'static Domain> {
    DOM0.get().copied()
}

/// A physical interrupt that is no one's here arrived on `cpu`: a domain takes it. False if none
/// does.
pub fn take_interrupt(cpu: &PerCpu, id: IntId) -> bool {
    let Some(domain) = DOM0.get() else {
        return false;
    };
    let mut effects = Effects::new();
    match id {
        IntId::Spi(spi) => domain.vgic.inject(spi, &mut effects),
        IntId::Ppi(ppi) => {
            let vcpu = domain.vcpus.iter().find(|vcpu| vcpu.cpu.id == cpu.id);
            let Some(vcpu) = vcpu else {
                return false;
            };
            domain.vgic.inject_private(vcpu.id, ppi, &mut effects);
        }
        IntId::Sgi(_) => return false,
    }
    domain.carry_out(&mut effects);
    true
}
