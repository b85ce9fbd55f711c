//! Running a vCPU: into the guest, out again, and what its exits mean.

use core::sync::atomic::Ordering;

use log::{error, info, warn};
use xen_core::psci::Effect;
use xen_core::smccc::{self, Reply};
use xen_core::vgic::Effects;

use super::context::{Context, Exit};
use super::deadlines::{Deadlines, What};
use super::interrupts::Interface;
use super::timer::{Kind, Timers};
use super::vcpu::{Resident, Vcpu};
use super::{Domain, hypercall, mmio, schedule, system_registers};
use crate::arch::firmware;
use crate::arch::percpu::PerCpu;
use crate::arch::time::Ticks;
use crate::{gic, report};

/// Exception classes (Arm ARM D24.2.41).
const WAIT: u8 = 0x01;
const HVC: u8 = 0x16;
const SMC: u8 = 0x17;
const SYSTEM_REGISTER: u8 = 0x18;
const INSTRUCTION_ABORT: u8 = 0x20;
const DATA_ABORT: u8 = 0x24;

/// A vCPU while it is on a CPU, as the handlers of its exits see it.
pub struct Running<'a> {
    /// Whose it is.
    pub domain: &'a Domain,
    /// Which.
    pub vcpu: &'a Vcpu,
    /// Its registers.
    pub context: &'a mut Context,
    /// Its list registers.
    pub interface: &'a mut Interface,
    /// Its timers.
    pub timers: &'a mut Timers,
    /// How far maintenance of caches is: see `set_way`.
    pub cleaned: &'a mut u64,
    /// What its interrupt controller asks for.
    pub effects: Effects,
    deadlines: &'a mut Deadlines,
}

/// Whether the vCPU goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It does.
    Run,
    /// It waits for an interrupt or an event.
    Wait,
    /// It lets others run.
    Yield,
    /// Another one shall run.
    Preempted,
    /// It was switched off.
    Off,
}

/// Runs the vCPU until it has no more use for the CPU, or another one has more.
pub fn run(cpu: &PerCpu, resident: &mut Resident, deadlines: &mut Deadlines) -> Next {
    let state = &mut *resident.state;
    let Some(vcpu) = resident.domain.vcpu(resident.id) else {
        return Next::Off;
    };
    let mut running = Running {
        domain: &resident.domain,
        vcpu,
        context: &mut state.context,
        interface: &mut state.interface,
        timers: &mut state.timers,
        cleaned: &mut state.cleaned,
        effects: Effects::new(),
        deadlines,
    };
    running.due_changed();
    if vcpu.polls.swap(false, Ordering::Relaxed) {
        running.deadlines.set(vcpu.slot, What::Poll, None);
    }
    cpu.running.store(true, Ordering::Relaxed);
    let next = loop {
        match running.step(cpu) {
            Next::Run => (),
            Next::Wait if running.has_interrupt() || running.domain.messages.has_work() => (),
            next => break next,
        }
    };
    cpu.running.store(false, Ordering::Relaxed);
    next
}

impl Running<'_> {
    /// Into the guest and out again.
    fn step(&mut self, cpu: &PerCpu) -> Next {
        if self.domain.messages.has_work() {
            self.domain.go_on_with_messages(&mut self.effects);
        }
        self.interface.refresh(&self.domain.vgic, &mut self.effects);
        self.carry_out();
        if cpu.must_look.load(Ordering::Relaxed) && schedule::must_switch(cpu, self.deadlines) {
            return Next::Preempted;
        }
        let next = match self.context.run() {
            Exit::Irq => self.interrupted(cpu),
            Exit::Synchronous => self.synchronous(),
            Exit::SystemError => {
                self.domain.complain(format_args!(
                    "{}: SError in the guest: {}",
                    self.domain.id,
                    self.context.syndrome()
                ));
                self.context.inject_system_error();
                Next::Run
            }
            Exit::Fiq => {
                warn!("{}: an FIQ that nobody asked for", self.domain.id);
                Next::Run
            }
        };
        self.carry_out();
        next
    }

    /// Does what the interrupt controller asks for. The vCPU itself need not be told: it looks at its
    /// interrupts before it goes on, and before it waits.
    #[inline]
    fn carry_out(&mut self) {
        if !self.effects.is_empty() {
            self.effects.unkick(self.vcpu.id);
            self.domain.carry_out(&mut self.effects);
        }
    }

    fn interrupted(&mut self, cpu: &PerCpu) -> Next {
        self.interface.tend(&self.domain.vgic, &mut self.effects);
        gic::handle_irq();
        self.deadlines.take_wish();
        while let Some(due) = self.deadlines.take_due() {
            if due.slot == self.vcpu.slot {
                if let What::Timer(kind) = due.what {
                    let (domain, vcpu) = (self.domain, self.vcpu);
                    self.timers.fire(kind, domain, vcpu, &mut self.effects);
                }
            } else {
                schedule::fire(due);
            }
        }
        if schedule::must_switch(cpu, self.deadlines) {
            return Next::Preempted;
        }
        Next::Run
    }

    /// Whether there is an interrupt for the vCPU to take.
    fn has_interrupt(&mut self) -> bool {
        self.interface.sync(&self.domain.vgic, &mut self.effects);
        self.carry_out();
        self.domain.vgic.has_deliverable(self.vcpu.id)
    }

    /// The vCPU polls ports until then, for ever without a deadline: an event of its domain wakes it.
    pub fn poll_until(&mut self, deadline: Option<Ticks>) {
        self.deadlines.set(self.vcpu.slot, What::Poll, deadline);
    }

    /// A timer of the vCPU that is not in the hardware was set.
    pub fn due_changed(&mut self) {
        let deadline = self.timers.deadline(Kind::Physical);
        let what = What::Timer(Kind::Physical);
        self.deadlines.set(self.vcpu.slot, what, deadline);
    }

    fn synchronous(&mut self) -> Next {
        let syndrome = self.context.syndrome();
        match syndrome.class() {
            HVC if syndrome.get() & 0xffff == xen_abi::hypercall::HVC_TAG.into() => {
                return hypercall::call(self);
            }
            HVC if syndrome.get() & 0xffff == 0 => return self.firmware_call(),
            SMC => {
                // The trap leaves the return address at the instruction.
                self.context.skip_instruction();
                return self.firmware_call();
            }
            SYSTEM_REGISTER => system_registers::access(self),
            DATA_ABORT => mmio::access(self),
            INSTRUCTION_ABORT => mmio::fetch(self),
            WAIT => {
                self.context.skip_instruction();
                // WFI, WFE, and both with a timeout, which may end at any time (C6.2.398).
                return match syndrome.get() & 0b11 {
                    0 => Next::Wait,
                    1 => Next::Yield,
                    _ => Next::Run,
                };
            }
            _ => {
                self.unhandled();
                self.context.inject_undefined();
            }
        }
        Next::Run
    }

    /// Says once in a while what nobody handles.
    pub fn unhandled(&self) {
        self.domain.complain(format_args!(
            "{} vcpu{}: {} at {:#x}, address {:#x}",
            self.domain.id,
            self.vcpu.id.get(),
            self.context.syndrome(),
            self.context.program_counter(),
            self.context.fault_address(),
        ));
    }

    /// PSCI and the calls of SMCCC.
    fn firmware_call(&mut self) -> Next {
        let function = self.context.register(0) as u32;
        let arguments = [1, 2, 3].map(|number| self.context.register(number));
        if smccc::concerns_workarounds(function)
            && let Some(reply) = firmware::workarounds().reply(function, arguments[0])
        {
            return self.worked_around(reply);
        }
        let domain = self.domain;
        let answer = domain
            .power
            .lock()
            .call(self.vcpu.id.get(), function, arguments, |address| {
                domain.is_ram(address)
            });
        let Some(answer) = answer else {
            // SMCCC: an unknown function returns NOT_SUPPORTED.
            self.context.set_register(0, u64::MAX);
            return Next::Run;
        };
        match answer.effect {
            Effect::None => self.context.set_register(0, answer.value as u64),
            Effect::Start {
                vcpu,
                entry,
                context,
            } => {
                if let Some(id) = xen_core::vgic::CpuId::new(vcpu) {
                    domain.start(id, entry, context);
                    domain.power.lock().started(vcpu);
                }
                self.context.set_register(0, 0);
            }
            Effect::Wait => {
                self.context.set_register(0, 0);
                return Next::Wait;
            }
            Effect::StopCaller => return Next::Off,
            Effect::PowerOff => power_off(),
            Effect::Reset => reset(),
        }
        Next::Run
    }

    /// A call about what CPUs speculate.
    fn worked_around(&mut self, reply: Reply) -> Next {
        let value = match reply {
            Reply::Value(value) => value,
            Reply::Forward(workaround) => {
                firmware::work_around(workaround);
                0
            }
        };
        self.context.set_register(0, value as u64);
        Next::Run
    }
}

/// The control domain switches the machine off.
pub fn power_off() -> ! {
    info!("dom0: power off");
    firmware::power_off();
    warn!("the firmware cannot switch the machine off");
    report::halt()
}

/// The control domain resets the machine.
pub fn reset() -> ! {
    info!("dom0: reset");
    firmware::reset();
    warn!("the firmware cannot reset the machine");
    report::halt()
}

/// The control domain's kernel has failed: without it there is nothing to run.
pub fn crashed(domain: &Domain) -> ! {
    error!("{}: the kernel has crashed", domain.id);
    report::end()
}
