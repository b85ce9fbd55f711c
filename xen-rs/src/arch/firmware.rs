//! Calls to the firmware: PSCI (Arm DEN 0022) and SMCCC (DEN 0028) over SMC or HVC.

use platform_dt::{Conduit, Psci};
use smccc::psci::error::Error;
use smccc::{Call, Hvc, Smc};
use spin::Once;
use xen_core::smccc::{ARCH_FEATURES, Need, Workaround, Workarounds};
use xen_types::{Affinity, Hpa};

use crate::lock::IrqLock;

/// `SYSTEM_RESET` (DEN 0022, 5.10); exists from PSCI 0.2 on.
const SYSTEM_RESET: u32 = 0x8400_0009;

/// `SYSTEM_OFF` (5.9).
const SYSTEM_OFF: u32 = 0x8400_0008;

/// `PSCI_VERSION`, and the version from which on there is `PSCI_FEATURES`.
const PSCI_VERSION: u32 = 0x8400_0000;
const PSCI_1_0: u32 = 0x1_0000;
const PSCI_FEATURES: u32 = 0x8400_000a;

/// `SMCCC_VERSION`, and the version from which on there is `SMCCC_ARCH_FEATURES`.
const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_1_1: u32 = 0x1_0001;

static PSCI: Once<Psci> = Once::new();

/// What the CPUs' firmware works around.
static WORKAROUNDS: IrqLock<Workarounds> = IrqLock::new(Workarounds::new());

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

/// Asks the firmware of this CPU what it works around.
pub fn note_workarounds() {
    if !has_arch_features() {
        return;
    }
    let mut workarounds = WORKAROUNDS.lock();
    for workaround in Workaround::ALL {
        let answer = call_with(ARCH_FEATURES, workaround.function());
        let answer = answer.map_or(-1, |answer| answer as i32);
        workarounds.note(workaround, Need::from_answer(answer));
    }
}

/// What the firmware of all CPUs works around.
pub fn workarounds() -> Workarounds {
    *WORKAROUNDS.lock()
}

/// Has the firmware work around what this CPU has speculated.
pub fn work_around(workaround: Workaround) {
    call(workaround.function());
}

/// Whether the firmware can be asked for functions: which is to be found out step by step (DEN 0028,
/// appendix B).
fn has_arch_features() -> bool {
    let is_psci_1_0 = call(PSCI_VERSION).is_some_and(|version| version >= PSCI_1_0);
    let has_version = || {
        let answer = call_with(PSCI_FEATURES, SMCCC_VERSION);
        answer.is_some_and(|answer| answer as i32 >= 0)
    };
    let is_smccc_1_1 = || call(SMCCC_VERSION).is_some_and(|version| version >= SMCCC_1_1);
    is_psci_1_0 && has_version() && is_smccc_1_1()
}

/// A call without arguments; `None` if the firmware is older than PSCI 0.2.
fn call(function: u32) -> Option<u32> {
    call_with(function, 0)
}

fn call_with(function: u32, argument: u32) -> Option<u32> {
    let psci = PSCI.get().filter(|psci| psci.version_0_2_or_later)?;
    let mut arguments = [0; 7];
    arguments[0] = argument;
    let [value, ..] = match psci.conduit {
        Conduit::Smc => Smc::call32(function, arguments),
        Conduit::Hvc => Hvc::call32(function, arguments),
    };
    Some(value)
}
