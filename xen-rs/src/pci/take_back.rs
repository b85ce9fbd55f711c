//! Taking a function from a guest that had it: because its control domain says so, or because the guest
//! ends, in whatever state it is.
//!
//! 1. The guest does not find it any more; it makes no requests, and nothing of it is mapped.
//! 2. Its messages are off, and none is on its way.
//! 3. It is reset; what it has begun ends in the guest's memory, which is the guest's until then.
//! 4. Its IOMMU lets nothing of it pass.
//!
//! Then it is assignable again, or stays in quarantine with the reason.

use alloc::vec::Vec;

use log::Level;
use pci_host::HostSbdf;
use pci_host::registry::{Condition, Owner};
use vpci::bus::BusError;
use xen_abi::{DomId, Errno};

use super::assign::{detach, mute};
use super::{PCI, Pci, Progress, resets};
use crate::domain::Domain;
use crate::lock::IrqLock;

/// Functions that are no guest's any more, and whose they were, until their IOMMU knows. Taken with no
/// other lock.
static LEAVING: IrqLock<Vec<(HostSbdf, DomId)>> = IrqLock::new(Vec::new());

/// Why a function is not taken from a domain.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The domain does not have it.
    #[error("{sbdf} is not assigned to {domain}")]
    NotAssigned {
        /// The function.
        sbdf: HostSbdf,
        /// The domain.
        domain: DomId,
    },
    /// Others go first.
    #[error("{0}: {1}")]
    Bus(HostSbdf, BusError),
}

impl TakeError {
    /// What a toolstack is told.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NotAssigned { .. } => Errno::NoDevice,
            Self::Bus(..) => Errno::Busy,
        }
    }
}

/// Goes on with taking a function from a domain.
///
/// # Errors
/// [`TakeError`].
pub fn take_back(domain: &Domain, sbdf: HostSbdf) -> Result<Progress<()>, TakeError> {
    let id = domain.id;
    let none = TakeError::NotAssigned { sbdf, domain: id };
    let (Some(pci), Some(bus)) = (PCI.get(), domain.pci.as_ref()) else {
        return Err(none);
    };
    if let Some(place) = bus.find_function(sbdf) {
        let withdrawn = bus.withdraw(domain, place);
        if !withdrawn.map_err(|error| TakeError::Bus(sbdf, error))? {
            return Ok(Progress::Again);
        }
        mute(domain, sbdf, place);
        // Before anybody sees that it is gone from the bus.
        let mut leaving = LEAVING.lock();
        if !leaving.contains(&(sbdf, id)) {
            leaving.push((sbdf, id));
        }
        drop(leaving);
        if bus.remove(place) {
            // It was the domain's until now.
            let _ = pci.registry.lock().release(sbdf, id);
        }
    }
    if !LEAVING.lock().contains(&(sbdf, id)) {
        return Err(none);
    }
    Ok(clean(pci, domain, sbdf))
}

/// Resets a function that has left, and has its IOMMU let nothing of it pass.
fn clean(pci: &Pci, domain: &Domain, sbdf: HostSbdf) -> Progress<()> {
    let reset = resets::go_on(pci, sbdf);
    if matches!(reset, Ok(Progress::Again)) {
        return Progress::Again;
    }
    detach(pci, domain, sbdf);
    LEAVING
        .lock()
        .retain(|leaving| *leaving != (sbdf, domain.id));
    let owner = pci.registry.lock().get(sbdf).map(|entry| entry.owner());
    match (reset, owner) {
        (_, Ok(Owner::Quarantine(Condition::Clean))) => domain.report(
            Level::Info,
            format_args!("pci: {sbdf} comes back from {}, reset", domain.id),
        ),
        (Err(error), Ok(owner)) => domain.complain(format_args!(
            "pci: {sbdf} comes back from {} and stays with {owner}: {error}",
            domain.id
        )),
        _ => {}
    }
    Progress::Done(())
}

/// Goes on with taking all functions from a domain that is being destroyed, none of whose vCPUs runs.
pub fn take_back_all(domain: &Domain) -> Progress<()> {
    let Some(bus) = &domain.pci else {
        return Progress::Done(());
    };
    if !bus.close() {
        return Progress::Again;
    }
    let leaving = || {
        let leaving = LEAVING.lock();
        let mut own = leaving.iter().filter(|(_, id)| *id == domain.id);
        own.next().map(|(sbdf, _)| *sbdf)
    };
    match bus.last().or_else(leaving) {
        None => Progress::Done(()),
        Some(sbdf) => {
            if let Err(error) = take_back(domain, sbdf) {
                domain.complain(format_args!("pci: {error}"));
            }
            Progress::Again
        }
    }
}
