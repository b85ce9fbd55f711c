//! The registers of a vCPU as its toolstack sees and sets them (`vcpu_guest_context`).

use xen_abi::Errno;
use xen_abi::domctl::{self, CONTEXT_ONLINE};
use xen_core::psci;

use super::context::Context;
use super::registers::Settable;
use super::{Domain, Vcpu, schedule};

/// Bits of a processor state that a toolstack may set: flags, masks and the mode.
const CPSR_SETTABLE: u64 = 0xf000_03df;
/// EL0, EL1 with SP_EL0, EL1 with SP_EL1.
const MODES: [u64; 3] = [0b00000, 0b00100, 0b00101];

/// Sets the registers of a vCPU that is on no CPU, and whether it is on.
///
/// # Errors
/// `EINVAL` for a mode that a guest has not, `EBUSY` while a CPU has its registers.
pub fn set(domain: &Domain, vcpu: &Vcpu, from: &domctl::Context) -> Result<(), Errno> {
    let cpsr = from.cpsr & CPSR_SETTABLE;
    if from.cpsr & 1 << 4 != 0 || !MODES.contains(&(cpsr & 0x1f)) {
        return Err(Errno::Invalid);
    }
    if !schedule::is_off_cpus(vcpu) {
        return Err(Errno::Busy);
    }
    {
        let mut place = vcpu.state.lock();
        let state = place.as_mut().ok_or(Errno::Busy)?;
        state.context = context_of(from, cpsr);
        state.registers.set(&Settable {
            sctlr: from.sctlr,
            tcr: from.ttbcr,
            ttbr0: from.ttbr0,
            ttbr1: from.ttbr1,
            sp_el0: from.sp_el0,
            sp_el1: from.sp_el1,
            elr: from.elr_el1,
            spsr: from.spsr_el1,
        });
    }
    *vcpu.start.lock() = None;
    let (on, number) = (from.flags & CONTEXT_ONLINE != 0, vcpu.id.get());
    let power = if on {
        psci::State::On
    } else {
        psci::State::Off
    };
    domain.power.lock().set(number, power);
    if on {
        schedule::start(vcpu);
    } else {
        schedule::stop(vcpu);
    }
    Ok(())
}

fn context_of(from: &domctl::Context, cpsr: u64) -> Context {
    let mut context = Context::at(from.pc, cpsr);
    for (number, value) in (0..).zip(from.x) {
        context.set_register(number, value);
    }
    context
}

/// Reads the registers of a vCPU that is on no CPU.
///
/// # Errors
/// `EBUSY` while a CPU has them.
pub fn get(domain: &Domain, vcpu: &Vcpu) -> Result<domctl::Context, Errno> {
    let on = domain.power.lock().state(vcpu.id.get()) != psci::State::Off;
    let start = *vcpu.start.lock();
    let state = vcpu.state.lock();
    let state = state.as_ref().ok_or(Errno::Busy)?;
    let mut x = [0; 31];
    for (number, value) in (0..).zip(&mut x) {
        *value = state.context.register(number);
    }
    let settable = state.registers.settable();
    let mut context = domctl::Context {
        flags: if on { CONTEXT_ONLINE } else { 0 },
        pad: 0,
        x,
        pc: state.context.program_counter(),
        cpsr: state.context.processor_state(),
        spsr_el1: settable.spsr,
        spsr_fiq: 0,
        spsr_irq: 0,
        spsr_und: 0,
        spsr_abt: 0,
        sp_el0: settable.sp_el0,
        sp_el1: settable.sp_el1,
        elr_el1: settable.elr,
        sctlr: settable.sctlr,
        ttbcr: settable.tcr,
        ttbr0: settable.ttbr0,
        ttbr1: settable.ttbr1,
    };
    if let Some((entry, argument)) = start {
        // It has been started and has not run yet.
        context.pc = entry.get();
        context.x = [0; 31];
        if let Some(first) = context.x.first_mut() {
            *first = argument;
        }
    }
    Ok(context)
}
