//! Calls to the firmware: PSCI (Arm DEN 0022) over SMC or HVC.

use platform_dt::{Conduit, Psci};
use smccc::psci::error::Error;
use smccc::{Call, Hvc, Smc};
use spin::Once;
use xen_types::{Affinity, Hpa};

/// `SYSTEM_RESET` (DEN 0022, 5.10); exists from PSCI 0.2 on.
const SYSTEM_RESET: u32 = 0x8400_0009;

/// `SYSTEM_OFF` (5.9).
const SYSTEM_OFF: u32 = 0x8400_0008;

static PSCI: Once<Psci> = Once::new();

/// Remembers how the firmware is called.
pub fn set_psci(psci: Psci) {
    PSCI.call_once(|| psci);
}

/// Starts the CPU `target` at `entry` with the MMU off; `context` arrives in its x0. Errors are the
/// firmware's, or that there is none.
pub fn cpu_on(target: Affinity, entry: Hpa, context: u64) -> Result<(), Error> {
    let psci = PSCI.get().ok_or(Error::NotSupported)?;
    let mut arguments = [0; 17];
    arguments[..3].copy_from_slice(&[target.get(), entry.get(), context]);
    // W0 holds the result; PSCI 0.1 firmware may leave the upper half as it was.
    let result = match psci.conduit {
        Conduit::Smc => Smc::call64(psci.cpu_on, arguments),
        Conduit::Hvc => Hvc::call64(psci.cpu_on, arguments),
    }[0] as i32;
    if result == 0 {
        Ok(())
    } else {
        Err(Error::from(result))
    }
}

/// Switches the machine off. Returns only where the firmware cannot.
pub fn power_off() {
    call(SYSTEM_OFF);
}

/// Resets the machine. Returns only where the firmware cannot.
pub fn reset() {
    call(SYSTEM_RESET);
}

/// A call without arguments that PSCI has from version 0.2 on.
fn call(function: u32) {
    let Some(psci) = PSCI.get().filter(|psci| psci.version_0_2_or_later) else {
        return;
    };
    match psci.conduit {
        Conduit::Smc => Smc::call32(function, [0; 7]),
        Conduit::Hvc => Hvc::call32(function, [0; 7]),
    };
}
