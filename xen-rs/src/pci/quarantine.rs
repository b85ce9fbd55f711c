//! Functions that the hardware domain does not have: the assignable ones.
//!
//! To the hardware domain they are absent. They make no requests, and IOMMUs let none of theirs pass.

use alloc::vec::Vec;

use log::{info, warn};
use pci_host::HostSbdf;
use pci_host::config::Function;
use pci_host::registry::{Entry, Owner, RegistryError};
use pci_host::reset::quiesce;
use xen_abi::{DomId, Errno};

use super::{PCI, messages, told, view};
use crate::domain::Domain;

/// Why a function does not come to quarantine, or not back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The registry refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError<DomId>),
    /// Its virtual functions are there.
    #[error("{0}: its virtual functions are enabled: disable them first")]
    HasVirtualFunctions(HostSbdf),
    /// An ITS may still let its messages pass.
    #[error("{0}: its ITS does not let go of it")]
    Its(HostSbdf),
    /// An IOMMU may still let its requests pass.
    #[error("{0}: its IOMMU does not let go of it")]
    Iommu(HostSbdf),
}

impl QuarantineError {
    /// What a toolstack is told.
    pub const fn errno(self) -> Errno {
        match self {
            Self::Registry(RegistryError::Unknown(_)) => Errno::NoDevice,
            Self::Registry(RegistryError::Refused { .. }) => Errno::Invalid,
            Self::Registry(_) | Self::HasVirtualFunctions(_) => Errno::Busy,
            Self::Its(_) | Self::Iommu(_) => Errno::Io,
        }
    }
}

/// Hides functions before there is a domain. What cannot be hidden is told.
pub fn hide(functions: impl IntoIterator<Item = HostSbdf>) {
    for sbdf in functions {
        match quarantine(None, sbdf) {
            Ok(()) => info!("pci: {sbdf} is assignable: the control domain does not have it"),
            Err(error) => warn!("pci: assignable: {error}"),
        }
    }
}

/// A domain is made, which is the hardware domain: what is hidden from it sends it no messages.
pub fn mute_hidden(domain: &Domain) {
    let Some(pci) = PCI.get() else {
        return;
    };
    let hidden: Vec<HostSbdf> = {
        let registry = pci.registry.lock();
        let all = registry.iter();
        all.filter(|entry| entry.owner() != Owner::HardwareDomain)
            .map(Entry::sbdf)
            .collect()
    };
    for sbdf in hidden {
        if let Err(error) = messages::revoke(domain, sbdf) {
            warn!("pci: {sbdf}: {error}");
        }
    }
}

/// Whether somebody else than the hardware domain has a function.
pub fn hides_any() -> bool {
    let Some(pci) = PCI.get() else {
        return false;
    };
    let registry = pci.registry.lock();
    registry
        .iter()
        .any(|entry| entry.owner() != Owner::HardwareDomain)
}

/// Takes a function from the hardware domain, which must have let go of it. It reaches nothing any
/// more, and nobody reaches it.
///
/// # Errors
/// [`QuarantineError`].
pub fn quarantine(domain: Option<&Domain>, sbdf: HostSbdf) -> Result<(), QuarantineError> {
    let unknown = QuarantineError::Registry(RegistryError::Unknown(sbdf));
    let (pci, view) = PCI.get().zip(view::of(sbdf)).ok_or(unknown)?;
    {
        let mut registry = pci.registry.lock();
        let owner = registry.get(sbdf)?.owner();
        match owner {
            Owner::Quarantine(_) => return Ok(()),
            Owner::Domain(_) => return Err(RegistryError::Owned { sbdf, owner }.into()),
            Owner::HardwareDomain => {}
        }
        let mut devices = registry.iter().map(Entry::device);
        if devices.any(|device| device.physical == Some(sbdf)) {
            return Err(QuarantineError::HasVirtualFunctions(sbdf));
        }
        // From here on the domain does not find it any more.
        registry.take(sbdf)?;
    }
    view.withdraw(domain, sbdf);
    {
        let mut registry = pci.registry.lock();
        registry.note_addresses(sbdf, &pci.bridges)?;
        quiesce(
            Function::new(&pci.bridges, sbdf),
            registry.get(sbdf)?.device(),
        );
    }
    view.owners_changed();
    let Some(domain) = domain else {
        return Ok(());
    };
    let muted = messages::revoke(domain, sbdf);
    if let Err(error) = muted {
        domain.complain(format_args!("pci: {sbdf}: {error}"));
    }
    match (told::suspend(domain, sbdf), muted) {
        (false, _) => Err(QuarantineError::Iommu(sbdf)),
        (true, Err(_)) => Err(QuarantineError::Its(sbdf)),
        (true, Ok(())) => Ok(()),
    }
}

/// Gives a function in quarantine back to the hardware domain, which finds it when it looks.
///
/// # Errors
/// [`QuarantineError`].
pub fn release(domain: &Domain, sbdf: HostSbdf) -> Result<(), QuarantineError> {
    let unknown = QuarantineError::Registry(RegistryError::Unknown(sbdf));
    let (pci, view) = PCI.get().zip(view::of(sbdf)).ok_or(unknown)?;
    pci.registry.lock().give_back(sbdf)?;
    view.owners_changed();
    messages::restore(domain, sbdf);
    told::resume(domain, sbdf);
    Ok(())
}

/// Whose a function is; `None` for one that is not there.
pub fn owner(sbdf: HostSbdf) -> Option<Owner<DomId>> {
    let registry = PCI.get()?.registry.lock();
    registry.get(sbdf).ok().map(Entry::owner)
}
