//! A vCPU: what others know of it, and its state while it is on no CPU.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use spin::Once;
use xen_core::sched::SlotId;
use xen_core::vgic::{CpuId, Effects, affinity_of};
use xen_types::{Gpa, Hpa};

use super::context::{Context, EL1H_MASKED};
use super::interrupts::Interface;
use super::registers::Registers;
use super::runstate::{self, RunstateArea};
use super::timer::{Kind, Timers};
use super::{Domain, schedule, traps};
use crate::arch::barrier;
use crate::arch::percpu::PerCpu;
use crate::arch::sysreg::{read_sysreg, write_sysreg};
use crate::arch::time::Ticks;
use crate::lock::IrqLock;
use crate::memory::frames;

/// A vCPU.
pub struct Vcpu {
    /// Its number.
    pub id: CpuId,
    /// What the scheduler knows it as.
    pub slot: SlotId,
    /// Where it shall start from reset, with what in x0.
    pub start: IrqLock<Option<(Gpa, u64)>>,
    /// Where it wants to be told of events.
    pub info: Once<Hpa>,
    /// Where it wants to read what it has done with its time.
    pub runstate_area: RunstateArea,
    /// It waits for an event of its domain, masked or not.
    pub polls: AtomicBool,
    /// What it is when it runs on, also before it has ever run; away while it is resident on a CPU.
    pub state: IrqLock<Option<Box<State>>>,
}

/// All that makes up the state of a vCPU.
pub struct State {
    /// General-purpose registers, and what the last exit left.
    pub context: Context,
    /// The other registers of EL1 and EL0.
    pub registers: Registers,
    /// Its interrupts.
    pub interface: Interface,
    /// Its timers.
    pub timers: Timers,
    /// How much of the domain's RAM a maintenance of caches has cleaned: see `set_way`.
    pub cleaned: u64,
}

impl State {
    /// A vCPU after reset, about to execute its first instruction.
    fn at(cpu: CpuId, entry: Gpa, argument: u64) -> Self {
        let mut context = Context::at(entry.get(), EL1H_MASKED);
        context.set_register(0, argument);
        Self {
            context,
            registers: Registers::new(),
            interface: Interface::new(cpu),
            timers: Timers::default(),
            cleaned: 0,
        }
    }
}

impl Vcpu {
    /// One that is off, with a place at the scheduler that is given back when it goes.
    pub fn new(id: CpuId, slot: SlotId) -> Self {
        Self {
            id,
            slot,
            start: IrqLock::new(None),
            info: Once::new(),
            runstate_area: RunstateArea::new(),
            polls: AtomicBool::new(false),
            state: IrqLock::new(Some(Box::new(State::at(id, Gpa::new(0), 0)))),
        }
    }

    /// Its state, to run it: from reset if it was started since.
    fn take(&self) -> Option<Box<State>> {
        let start = self.start.lock().take();
        let mut state = self.state.lock().take()?;
        if let Some((entry, argument)) = start {
            *state = State::at(self.id, entry, argument);
        }
        Some(state)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        schedule::remove(self.slot);
        if let Some(info) = self.info.get() {
            frames::put(info.frame());
        }
    }
}

/// A vCPU whose registers are on this CPU.
pub struct Resident {
    /// Whose it is.
    pub domain: Arc<Domain>,
    /// Which.
    pub id: CpuId,
    /// Its state, of which the hardware has the newer version in part.
    pub state: Box<State>,
}

impl Resident {
    /// Gives the registers of this CPU to a vCPU. `None` if it has no state to run from.
    pub fn enter(cpu: &PerCpu, domain: Arc<Domain>, id: CpuId, shared: bool) -> Option<Self> {
        let vcpu = domain.vcpu(id)?;
        let state = vcpu.take()?;
        write_sysreg!("vmpidr_el2", 1 << 31 | affinity_of(id).get());
        write_sysreg!("vpidr_el2", read_sysreg!("midr_el1"));
        domain.translation.activate();
        domain.forget_translations_of_others(cpu, id);
        state.registers.restore();
        traps::enter(shared);
        *cpu.resident.lock() = Some((domain.clone(), id));
        let mut resident = Self { domain, id, state };
        resident.state.timers.enter();
        resident.state.interface.enter(&resident.domain.vgic);
        barrier::isb();
        runstate::update(&resident.domain, resident.vcpu());
        Some(resident)
    }

    /// Takes the registers of this CPU from the vCPU, which may then run elsewhere. Returns when its
    /// virtual timer is due, which is not in the hardware any more.
    pub fn leave(self, cpu: &PerCpu) -> Option<Ticks> {
        runstate::update(&self.domain, self.vcpu());
        let Self {
            domain,
            id,
            mut state,
        } = self;
        let mut effects = Effects::new();
        state.timers.leave();
        state.interface.leave(&domain.vgic, &mut effects);
        state.registers.save();
        traps::leave();
        *cpu.resident.lock() = None;
        let due = state.timers.deadline(Kind::Virtual);
        if let Some(vcpu) = domain.vcpu(id) {
            *vcpu.state.lock() = Some(state);
        }
        domain.carry_out(&mut effects);
        due
    }

    /// The vCPU.
    pub fn vcpu(&self) -> &Vcpu {
        self.domain
            .vcpu(self.id)
            .expect("a resident vCPU is one of its domain's")
    }
}

impl Domain {
    /// Translations are cached for the domain, not for the vCPU: what another one of its vCPUs left
    /// on this CPU may come from a different stage 1 under the same ASID.
    fn forget_translations_of_others(&self, cpu: &PerCpu, id: CpuId) {
        use core::sync::atomic::Ordering;
        let Some(last) = self.last_ran.get(cpu.id.0 as usize) else {
            return;
        };
        if usize::from(last.swap(id.get() as u8, Ordering::Relaxed)) != id.get() {
            // SAFETY: removes cached translations of this CPU; memory does not change.
            unsafe {
                core::arch::asm!("tlbi vmalle1", "ic iallu", "dsb nsh", options(nostack));
            }
            barrier::isb();
        }
    }
}
