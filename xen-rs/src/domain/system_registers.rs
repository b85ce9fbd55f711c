//! Accesses of a guest to system registers that trap, but for the identification registers.
//!
//! Registers of features that the identification registers deny do not exist: their instructions
//! are undefined. The few that the architecture does not let a CPU be without (debug, timers,
//! auxiliary control) read as zero and ignore writes, or are emulated.

use xen_core::vgic::SgiRegister;

use super::run::Running;
use super::timer::Register as TimerRegister;
use super::{id_registers, set_way};

/// op0, op1, CRn, CRm, op2.
type Encoding = (u8, u8, u8, u8, u8);

/// `ICC_SGI1R_EL1` (IHI 0069, 12.2.20).
const SGI1R: Encoding = (3, 0, 12, 11, 5);

/// What an encoding is.
enum Kind {
    /// Reads as this value and ignores writes.
    Constant(u64),
    /// A write sends an SGI.
    Sgi(SgiRegister),
    /// The physical timer.
    Timer(TimerRegister),
    /// Maintenance of caches by set and way.
    SetWay,
    /// There is no such register.
    Undefined,
}

/// `OSLSR_EL1.OSLM`: there is an OS lock (D24.3.23); it is never locked.
const OS_LOCK_IMPLEMENTED: u64 = 1 << 3;
/// `ICC_SRE_EL1`: the system registers are in use, nothing is bypassed (IHI 0069, 12.2.23).
const SRE: u64 = 0b111;

impl Kind {
    const fn of(encoding: Encoding) -> Self {
        match encoding {
            (1, 0, 7, 6 | 10 | 14, 2) => Self::SetWay,
            SGI1R => Self::Sgi(SgiRegister::Sgi1),
            (3, 0, 12, 11, 6) => Self::Sgi(SgiRegister::Asgi1),
            (3, 0, 12, 11, 7) => Self::Sgi(SgiRegister::Sgi0),
            (3, 0, 12, 12, 5) => Self::Constant(SRE),
            (3, 3, 14, 2, 0) => Self::Timer(TimerRegister::Value),
            (3, 3, 14, 2, 1) => Self::Timer(TimerRegister::Control),
            (3, 3, 14, 2, 2) => Self::Timer(TimerRegister::Compare),
            // ACTLR_EL1.
            (3, 0, 1, 0, 1) => Self::Constant(0),
            // Error records: there are none (ERRIDR_EL1 is 0), the others ignore writes.
            (3, 0, 5, 3..=5, _) => Self::Constant(0),
            (2, 0, 1, 1, 4) => Self::Constant(OS_LOCK_IMPLEMENTED),
            // Breakpoints, watchpoints, the debug communication channel, the OS lock.
            (2, 0, ..) | (2, 3, 0, ..) => Self::Constant(0),
            _ => Self::Undefined,
        }
    }
}

/// Carries out the access that took the vCPU out, or gives it the exception of an instruction that
/// does not exist.
pub fn access(running: &mut Running<'_>) {
    if emulate(running).is_none() {
        running.unhandled();
        running.context.inject_undefined();
    }
}

fn emulate(running: &mut Running<'_>) -> Option<()> {
    let syndrome = running.context.syndrome();
    // What guests write most.
    if let Some(general) = syndrome.register_written(SGI1R) {
        send_sgi(running, SgiRegister::Sgi1, general);
        running.context.skip_instruction();
        return Some(());
    }
    let access = syndrome.system_register()?;
    let general = access.general;
    if let (3, 0, 0, crm, op2) = access.register {
        let value = id_registers::read(crm, op2).filter(|_| access.read)?;
        running.context.set_register(general, value);
        running.context.skip_instruction();
        return Some(());
    }
    match (Kind::of(access.register), access.read) {
        (Kind::Constant(value), true) => running.context.set_register(general, value),
        (Kind::Constant(_), false) => (),
        (Kind::Sgi(register), false) => send_sgi(running, register, general),
        (Kind::Timer(register), true) => {
            let value = running.timers.physical.read(register);
            running.context.set_register(general, value);
        }
        (Kind::Timer(register), false) => {
            let value = running.context.register(general);
            running.timers.physical.write(register, value);
            running.due_changed();
        }
        // Comes back to the same instruction until all is done.
        (Kind::SetWay, false) if !set_way::clean_some(running) => return Some(()),
        (Kind::SetWay, false) => (),
        (Kind::Sgi(_) | Kind::SetWay, true) | (Kind::Undefined, _) => return None,
    }
    running.context.skip_instruction();
    Some(())
}

fn send_sgi(running: &mut Running<'_>, register: SgiRegister, general: u8) {
    let value = running.context.register(general);
    running
        .domain
        .vgic
        .send_sgi(running.vcpu.id, register, value, &mut running.effects);
}
