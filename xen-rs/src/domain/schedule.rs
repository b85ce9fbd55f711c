//! Which vCPU each CPU runs: the loop of a CPU, and what wakes it.
//!
//! The decisions are the scheduler's (`xen_core::sched`). A vCPU stays resident on its CPU, its
//! registers in the hardware, until another one is to run there.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use log::warn;
use spin::Once;
use xen_core::sched::{
    AddError, Choice, CpuSet, DEFAULT_WEIGHT, Doing, Kicks, Policy, Runstate, Scheduler, SlotId,
    Tuning, Why,
};
use xen_core::vgic::{CpuId, Effects};

use super::deadlines::{Deadlines, Due, What};
use super::interrupts::Masking;
use super::run::{self, Next};
use super::timer::Kind;
use super::vcpu::{Resident, Vcpu};
use super::{Domain, traps};
use crate::arch::percpu::{self, PerCpu};
use crate::arch::time::{self, Ticks};
use crate::arch::{barrier, interrupts};
use crate::gic;
use crate::lock::IrqLock;

/// A vCPU and the domain that keeps it.
type VcpuRef = (Arc<Domain>, CpuId);

/// Most vCPUs of all domains together.
const MAX_VCPUS: usize = 1024;

static SCHEDULER: Once<Scheduler<Masking>> = Once::new();
/// The CPUs by number.
static CPUS: Once<Vec<Option<&'static PerCpu>>> = Once::new();
/// The vCPU of each slot.
static UNITS: IrqLock<Vec<Option<VcpuRef>>> = IrqLock::new(Vec::new());

/// Sets the scheduler up for these CPUs.
///
/// # Errors
/// If there is no memory for it.
pub fn init(cpus: &[&'static PerCpu], policy: Policy) -> Result<(), AddError> {
    let numbers = || cpus.iter().map(|cpu| cpu.id.index());
    let mut table = Vec::new();
    table.resize(numbers().max().map_or(0, |last| last + 1), None);
    for cpu in cpus {
        if let Some(entry) = table.get_mut(cpu.id.index()) {
            *entry = Some(*cpu);
        }
    }
    CPUS.call_once(|| table);
    let tuning = Tuning::for_frequency(time::frequency());
    let scheduler = Scheduler::new(policy, tuning, &numbers().collect(), MAX_VCPUS)?;
    SCHEDULER.call_once(|| scheduler);
    Ok(())
}

fn scheduler() -> &'static Scheduler<Masking> {
    SCHEDULER
        .get()
        .expect("it is set up before there is a domain")
}

/// Makes a vCPU known, which may run on any CPU.
///
/// # Errors
/// If there is no room for it.
pub fn add() -> Result<SlotId, AddError> {
    scheduler().add(DEFAULT_WEIGHT, CpuSet::ALL, time::now())
}

/// Forgets a vCPU that is off.
pub fn remove(slot: SlotId) {
    if let Err(error) = scheduler().remove(slot) {
        warn!("{error}");
    }
}

/// The vCPUs of a domain can run from now on.
pub fn introduce(domain: &Arc<Domain>) {
    let mut units = UNITS.lock();
    for vcpu in &domain.vcpus {
        let index = vcpu.slot.index();
        if units.len() <= index {
            units.resize(index + 1, None);
        }
        if let Some(entry) = units.get_mut(index) {
            *entry = Some((domain.clone(), vcpu.id));
        }
    }
}

fn unit(slot: SlotId) -> Option<VcpuRef> {
    UNITS.lock().get(slot.index()).cloned().flatten()
}

/// A vCPU is on from now on.
pub fn start(vcpu: &Vcpu) {
    carry_out(&scheduler().start(vcpu.slot, time::now()));
}

/// There is an interrupt for a vCPU: it wakes if it waits, and exits if it runs elsewhere.
pub fn has_news(vcpu: &Vcpu) {
    let scheduler = scheduler();
    match scheduler.wake_running(vcpu.slot) {
        Some(cpu) => kick(cpu),
        None => carry_out(&scheduler.wake(vcpu.slot, time::now())),
    }
}

/// What a vCPU does, and did.
pub fn runstate(vcpu: &Vcpu) -> Option<Runstate> {
    SCHEDULER.get()?.runstate(vcpu.slot)
}

/// What a vCPU does, in words.
pub fn describe(vcpu: &Vcpu) -> &'static str {
    match runstate(vcpu).map(|runstate| runstate.doing) {
        Some(Doing::Running) => "runs",
        Some(Doing::Runnable) => "waits for a CPU",
        Some(Doing::Blocked) => "sleeps",
        Some(Doing::Offline) | None => "is off",
    }
}

fn carry_out(kicks: &Kicks) {
    kicks.iter().for_each(kick);
}

fn kick(cpu: usize) {
    let this = percpu::this();
    if cpu == this.id.index() {
        // It looks before it enters a guest again.
        this.must_look.store(true, Ordering::Relaxed);
    } else if let Some(Some(cpu)) = CPUS.get().and_then(|cpus| cpus.get(cpu)) {
        gic::kick(cpu);
    }
}

/// Whether this CPU is to run something else than what it runs, now that it looks. If not, its
/// timer is set to the time when it has to look again.
pub fn must_switch(cpu: &PerCpu, deadlines: &mut Deadlines) -> bool {
    cpu.must_look.store(false, Ordering::Relaxed);
    let (must_switch, end) = scheduler().look(cpu.id.index());
    if deadlines.slice_end() != end {
        renew_slice(end, deadlines);
    }
    must_switch || end.is_some_and(|end| end <= time::now())
}

fn renew_slice(end: Option<Ticks>, deadlines: &mut Deadlines) {
    let was_shared = deadlines.slice_end().is_some();
    deadlines.set_slice_end(end);
    if was_shared != end.is_some() {
        traps::enter(end.is_some());
    }
}

/// Runs vCPUs on this CPU for ever, and sleeps while there are none to run.
pub fn run_cpu() -> ! {
    let _masked = interrupts::mask();
    interrupts::enable_system_errors();
    let mut this = Cpu {
        cpu: percpu::this(),
        resident: None,
        deadlines: Deadlines::new(),
    };
    let mut leaving = None;
    loop {
        leaving = match this.choose(leaving) {
            Choice::Idle => {
                this.sleep();
                None
            }
            Choice::Evict => {
                this.evict();
                None
            }
            Choice::Same => Some(this.run()),
            Choice::Run(slot) => {
                this.make_resident(slot);
                Some(this.run())
            }
        }
    }
}

/// What the loop of a CPU keeps.
struct Cpu {
    cpu: &'static PerCpu,
    resident: Option<Resident>,
    deadlines: Deadlines,
}

impl Cpu {
    fn choose(&self, leaving: Option<Why>) -> Choice {
        // A CPU that came up early is here before there is a scheduler.
        let Some(scheduler) = SCHEDULER.get() else {
            return Choice::Idle;
        };
        let mut kicks = Kicks::NONE;
        let choice = scheduler.pick(self.cpu.id.index(), leaving, time::now(), &mut kicks);
        carry_out(&kicks);
        choice
    }

    /// Sleeps until there is an interrupt, and handles it.
    fn sleep(&mut self) {
        barrier::wfi();
        gic::handle_irq();
        self.deadlines.take_wish();
        while let Some(due) = self.deadlines.take_due() {
            match &mut self.resident {
                Some(resident) if resident.vcpu().slot == due.slot => resident.is_due(due.what),
                _ => fire(due),
            }
        }
    }

    /// Runs the resident vCPU until it has no more use for the CPU, or another one has more.
    fn run(&mut self) -> Why {
        let (_, end) = scheduler().look(self.cpu.id.index());
        renew_slice(end, &mut self.deadlines);
        let next = match &mut self.resident {
            Some(resident) => run::run(self.cpu, resident, &mut self.deadlines),
            None => Next::Off,
        };
        match next {
            Next::Run | Next::Preempted => Why::Preempted,
            Next::Wait => Why::Block,
            Next::Yield => Why::Yield,
            Next::Off => {
                self.forget();
                Why::Offline
            }
        }
    }

    /// Gives this CPU's registers to another vCPU.
    fn make_resident(&mut self, slot: SlotId) {
        if self.resident.is_some() {
            self.evict();
        }
        let Some((domain, id)) = unit(slot) else {
            return;
        };
        for what in What::ALL {
            self.deadlines.set(slot, what, None);
        }
        self.resident = Resident::enter(self.cpu, domain, id, self.deadlines.slice_end().is_some());
    }

    /// Takes them from the one that has them. Its timers become deadlines.
    fn evict(&mut self) {
        if let Some(resident) = self.resident.take() {
            let slot = resident.vcpu().slot;
            let timer = resident.leave(self.cpu);
            self.deadlines.set(slot, What::Timer(Kind::Virtual), timer);
        }
        carry_out(&scheduler().saved(self.cpu.id.index(), time::now()));
    }

    /// Takes them from one that is switched off, which keeps nothing of what it was.
    fn forget(&mut self) {
        if let Some(resident) = self.resident.take() {
            let slot = resident.vcpu().slot;
            resident.leave(self.cpu);
            for what in What::ALL {
                self.deadlines.set(slot, what, None);
            }
        }
        carry_out(&scheduler().saved(self.cpu.id.index(), time::now()));
    }
}

impl Resident {
    /// What the vCPU waits for is due.
    fn is_due(&mut self, what: What) {
        let Some(vcpu) = self.domain.vcpu(self.id) else {
            return;
        };
        let mut effects = Effects::new();
        match what {
            What::Timer(kind) => {
                let timers = &mut self.state.timers;
                timers.fire(kind, &self.domain, vcpu, &mut effects);
            }
            What::Poll => has_news(vcpu),
        }
        self.domain.carry_out(&mut effects);
    }
}

/// What a vCPU waits for is due that is not resident here. If it is resident elsewhere, that is
/// that CPU's business.
pub fn fire(due: Due) {
    let Some((domain, id)) = unit(due.slot) else {
        return;
    };
    let Some(vcpu) = domain.vcpu(id) else {
        return;
    };
    let What::Timer(kind) = due.what else {
        return has_news(vcpu);
    };
    let mut effects = Effects::new();
    if let Some(state) = vcpu.state.lock().as_mut() {
        state.timers.fire(kind, &domain, vcpu, &mut effects);
    }
    domain.carry_out(&mut effects);
}
