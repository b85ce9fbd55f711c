//! Resets of functions in quarantine, each a part at a time: one takes a tenth of a second at least.

use alloc::vec::Vec;

use log::warn;
use pci_host::registry::{Condition, Owner, RegistryError, ResetOutcome};
use pci_host::reset::{Progress as Waits, Reset};
use pci_host::{HostSbdf, Time as _};
use xen_abi::DomId;

use super::registers::Clock;
use super::{Pci, Progress};
use crate::lock::IrqLock;

/// Those that are under way and that nobody is at. Taken with no other lock.
static RESETS: IrqLock<Vec<(HostSbdf, Reset)>> = IrqLock::new(Vec::new());

/// Goes on with the reset of a function, or begins one if it needs one. When it is done the function is
/// clean.
///
/// # Errors
/// [`RegistryError`]: it stays in quarantine as it is.
pub fn go_on(pci: &Pci, sbdf: HostSbdf) -> Result<Progress<()>, RegistryError<DomId>> {
    let owner = pci.registry.lock().get(sbdf)?.owner();
    if owner == Owner::Quarantine(Condition::Clean) {
        return Ok(Progress::Done(()));
    }
    let Some(mut reset) = begin(pci, sbdf)? else {
        // Another CPU is at it.
        return Ok(Progress::Again);
    };
    let result = match reset.step(&pci.bridges, Clock.now()) {
        Ok(Waits::Wait(_)) => {
            RESETS.lock().push((sbdf, reset));
            return Ok(Progress::Again);
        }
        Ok(Waits::Done) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        warn!("pci: {error}");
    }
    let mut registry = pci.registry.lock();
    match registry.end_reset(sbdf, result)? {
        ResetOutcome::Clean => Ok(Progress::Done(())),
        ResetOutcome::TryAgain => Ok(Progress::Again),
        ResetOutcome::Broken => {
            let owner = registry.get(sbdf)?.owner();
            Err(RegistryError::Owned { sbdf, owner })
        }
    }
}

/// The reset that is under way, or a new one; `None` if another CPU is at it.
fn begin(pci: &Pci, sbdf: HostSbdf) -> Result<Option<Reset>, RegistryError<DomId>> {
    let waiting = {
        let mut resets = RESETS.lock();
        let place = resets.iter().position(|(other, _)| *other == sbdf);
        place.map(|place| resets.swap_remove(place).1)
    };
    if waiting.is_some() {
        return Ok(waiting);
    }
    let mut registry = pci.registry.lock();
    match registry.get(sbdf)?.owner() {
        Owner::Quarantine(Condition::Resetting) => Ok(None),
        _ => registry.begin_reset(sbdf, &pci.bridges).map(Some),
    }
}
