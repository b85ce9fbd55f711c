//! Running vCPUs: into the guest, out again, and what its exits mean.

use log::{error, info, warn};
use xen_core::psci::Effect;
use xen_core::vgic::{Effects, SgiRegister};
use xen_types::Gpa;

use super::context::{Context, EL1H_MASKED, Exit};
use super::interrupts::Interface;
use super::{Domain, Vcpu, hypercall, id_registers, mmio};
use crate::arch::sysreg::{read_sysreg, write_sysreg};
use crate::arch::{barrier, firmware, interrupts};
use crate::{gic, report};

/// `SCTLR_EL1`: RES1 bits; MMU and caches off (D24.2.175).
const SCTLR_EL1: u64 = 0x30d0_0800;
/// `HCR_EL2` for a guest: EL1 is AArch64 (RW), SMC and reads of identification registers trap (TSC,
/// TID3), maintenance is broadcast (FB), interrupts and errors come here (AMO, IMO, FMO), invalidation
/// by set and way cleans (SWIO), stage 2 is on (VM).
const HCR_GUEST: u64 = 1 << 31 | 1 << 19 | 1 << 18 | 1 << 9 | 1 << 5 | 1 << 4 | 1 << 3 | 1 << 1 | 1;

/// Exception classes (Arm ARM D24.2.41).
const HVC: u8 = 0x16;
const SMC: u8 = 0x17;
const SYSTEM_REGISTER: u8 = 0x18;
const DATA_ABORT: u8 = 0x24;

/// A vCPU while it is on a CPU.
pub struct Running<'a> {
    /// Whose it is.
    pub domain: &'a Domain,
    /// Which.
    pub vcpu: &'a Vcpu,
    /// Its registers.
    pub context: Context,
    /// Its list registers.
    pub interface: Interface,
    /// What its interrupt controller asks for.
    pub effects: Effects,
}

/// Whether the vCPU goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It does.
    Run,
    /// It was switched off.
    Off,
}

/// Runs `vcpu` from `entry` until it is switched off.
pub fn run(domain: &Domain, vcpu: &Vcpu, entry: Gpa, argument: u64) {
    let masked = interrupts::mask();
    let mut running = Running {
        domain,
        vcpu,
        context: Context::at(entry.get(), EL1H_MASKED),
        interface: Interface::new(vcpu.id),
        effects: Effects::new(),
    };
    running.context.set_register(0, argument);
    prepare(domain, vcpu);
    while running.step() == Next::Run {}
    write_sysreg!("hcr_el2", crate::entry::HCR);
    barrier::isb();
    drop(masked);
}

/// Sets this CPU up for the guest: the registers that it does not share with the hypervisor.
fn prepare(domain: &Domain, vcpu: &Vcpu) {
    let affinity = xen_core::vgic::affinity_of(vcpu.id);
    write_sysreg!("vmpidr_el2", 1 << 31 | affinity.get());
    write_sysreg!("vpidr_el2", read_sysreg!("midr_el1"));
    write_sysreg!("sctlr_el1", SCTLR_EL1);
    write_sysreg!("cpacr_el1", 0);
    write_sysreg!("cntkctl_el1", 0);
    write_sysreg!("cntv_ctl_el0", 0);
    write_sysreg!("hcr_el2", HCR_GUEST);
    barrier::isb();
    domain.space.lock().activate();
}

impl Running<'_> {
    /// Into the guest and out again.
    fn step(&mut self) -> Next {
        self.interface.load(&self.domain.vgic, &mut self.effects);
        self.domain.carry_out(&mut self.effects);
        let exit = self.context.run();
        self.interface.save();
        let next = match exit {
            Exit::Irq => {
                gic::handle_irq();
                Next::Run
            }
            Exit::Synchronous => self.synchronous(),
            Exit::SystemError => {
                warn!(
                    "{}: SError in the guest: {}",
                    self.domain.id,
                    self.context.syndrome()
                );
                self.context.inject_system_error();
                Next::Run
            }
            Exit::Fiq => {
                warn!("{}: an FIQ that nobody asked for", self.domain.id);
                Next::Run
            }
        };
        self.domain.carry_out(&mut self.effects);
        next
    }

    fn synchronous(&mut self) -> Next {
        let syndrome = self.context.syndrome();
        match syndrome.class() {
            HVC if syndrome.get() & 0xffff == 0 => return self.firmware_call(),
            HVC if syndrome.get() & 0xffff == xen_abi::hypercall::HVC_TAG.into() => {
                hypercall::call(self);
            }
            SMC => {
                // The trap leaves the return address at the instruction.
                self.context.skip_instruction();
                return self.firmware_call();
            }
            SYSTEM_REGISTER => self.system_register(),
            DATA_ABORT => mmio::access(self),
            _ => {
                self.unhandled();
                self.context.inject_undefined();
            }
        }
        Next::Run
    }

    /// Says once in a while what nobody handles.
    pub fn unhandled(&self) {
        log::debug!(
            "{} vcpu{}: {} at {:#x}, address {:#x}",
            self.domain.id,
            self.vcpu.id.get(),
            self.context.syndrome(),
            self.context.program_counter(),
            self.context.fault_address(),
        );
    }

    /// Identification registers, and those by which the guest sends SGIs; others do not exist for it.
    fn system_register(&mut self) {
        let Some(access) = self.context.syndrome().system_register() else {
            return;
        };
        if let (3, 0, 0, crm, op2) = access.register
            && access.read
            && let Some(value) = id_registers::read(crm, op2)
        {
            self.context.set_register(access.general, value);
            self.context.skip_instruction();
            return;
        }
        let sgi = match access.register {
            (3, 0, 12, 11, 5) => Some(SgiRegister::Sgi1),
            (3, 0, 12, 11, 6) => Some(SgiRegister::Asgi1),
            (3, 0, 12, 11, 7) => Some(SgiRegister::Sgi0),
            _ => None,
        };
        match sgi {
            Some(register) if !access.read => {
                let value = self.context.register(access.general);
                self.interface.sync(&self.domain.vgic, &mut self.effects);
                self.domain
                    .vgic
                    .send_sgi(self.vcpu.id, register, value, &mut self.effects);
                self.context.skip_instruction();
            }
            _ => {
                self.unhandled();
                self.context.inject_undefined();
            }
        }
    }

    /// PSCI and the calls of SMCCC.
    fn firmware_call(&mut self) -> Next {
        let function = self.context.register(0) as u32;
        let arguments = [1, 2, 3].map(|number| self.context.register(number));
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
                self.wait();
                self.context.set_register(0, 0);
            }
            Effect::StopCaller => return Next::Off,
            Effect::PowerOff => power_off(),
            Effect::Reset => reset(),
        }
        Next::Run
    }

    /// Sleeps until there is an interrupt for the vCPU.
    pub fn wait(&mut self) {
        self.interface.sync(&self.domain.vgic, &mut self.effects);
        while !self.domain.vgic.has_deliverable(self.vcpu.id) {
            self.domain.carry_out(&mut self.effects);
            barrier::wfi();
            gic::handle_irq();
        }
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
