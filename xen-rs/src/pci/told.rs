//! What the control domain says of the functions that it finds (`PHYSDEVOP_pci_device_add` and its
//! kin), held against what the hypervisor sees itself. A function that it has told of reaches its
//! memory.

use alloc::vec::Vec;

use log::Level;
use pci_host::HostSbdf;
use xen_abi::Errno;
use xen_core::pci_devices::{Devices, Found, Kind};

use super::view::{self, Presence};
use super::{PCI, streams};
use crate::domain::Domain;
use crate::iommu;
use crate::lock::IrqLock;

/// What it has told.
static TOLD: IrqLock<Devices> = IrqLock::new(Devices::new());

/// It has found a function.
///
/// # Errors
/// There is no such function, or not one of that kind, or its IOMMU refuses.
pub fn add(domain: &Domain, sbdf: HostSbdf, kind: Kind) -> Result<(), Errno> {
    // It finds something that stands in a function's place: there is nothing to know of that.
    if view::of(sbdf).is_some_and(|view| view.is_placeholder(sbdf)) {
        return Ok(());
    }
    agree(domain, sbdf, kind)?;
    let found = TOLD.lock().add(sbdf, kind);
    match found {
        Ok(Found::New) => attach(domain, sbdf),
        Ok(Found::Known) => Ok(()),
        Err(error) => {
            domain.complain(format_args!("pci: {error}"));
            Err(error.errno())
        }
    }
}

/// Whether the function is there, is the control domain's, and is of that kind. Of functions behind a
/// host bridge that the control domain drives itself nothing is known.
fn agree(domain: &Domain, sbdf: HostSbdf, kind: Kind) -> Result<(), Errno> {
    let pci = PCI.get().ok_or(Errno::NoDevice)?;
    let Some(view) = view::of(sbdf) else {
        return pci.undriven(sbdf).map(drop).ok_or(Errno::NoDevice);
    };
    if view.look(domain, sbdf) != Presence::Here {
        domain.complain(format_args!("pci: {sbdf} is said to be there, and is not"));
        return Err(Errno::NoDevice);
    }
    let registry = pci.registry.lock();
    let entry = registry.get(sbdf).map_err(|_| Errno::NoDevice)?;
    match kind.agrees(entry.device().physical) {
        true => Ok(()),
        false => {
            domain.complain(format_args!("pci: {sbdf} is not what it is said to be"));
            Err(Errno::Invalid)
        }
    }
}

/// Lets a function reach the memory of the control domain.
fn attach(domain: &Domain, sbdf: HostSbdf) -> Result<(), Errno> {
    let stage2 = domain.space.lock().stage2().ok_or(Errno::Invalid)?;
    let streams = streams(sbdf);
    if streams.is_empty() && !domain.is_direct_mapped {
        domain.complain(format_args!(
            "pci: {sbdf}: no IOMMU holds it back, and the domain is not direct-mapped"
        ));
        withdraw(domain, sbdf);
        return Err(Errno::Io);
    }
    let mut attached = streams.iter();
    match attached.try_for_each(|id| iommu::attach_function(sbdf, *id, domain.id, stage2)) {
        Ok(()) => {
            let guarded = if streams.is_empty() {
                ""
            } else {
                ", behind an IOMMU"
            };
            domain.report(
                Level::Info,
                format_args!("pci: {sbdf} found by the control domain{guarded}"),
            );
            Ok(())
        }
        Err(error) => {
            domain.complain(format_args!("pci: {sbdf}: {error}"));
            withdraw(domain, sbdf);
            Err(Errno::Io)
        }
    }
}

/// It has removed a function.
///
/// # Errors
/// It has not told of such a function.
pub fn remove(domain: &Domain, sbdf: HostSbdf) -> Result<(), Errno> {
    if !TOLD.lock().contains(sbdf) {
        return Err(Errno::NoDevice);
    }
    // One that is somebody else's by now stays so.
    match view::of(sbdf) {
        Some(view) if !view.is_own(sbdf) => {
            TOLD.lock().remove(sbdf);
        }
        Some(view) => {
            withdraw(domain, sbdf);
            view.forget_if_own(domain, sbdf);
        }
        None => withdraw(domain, sbdf),
    }
    domain.report(
        Level::Info,
        format_args!("pci: {sbdf} removed by the control domain"),
    );
    Ok(())
}

/// Whether it has told of a function, and has it.
pub fn is_known(sbdf: HostSbdf) -> bool {
    TOLD.lock().contains(sbdf)
}

/// These functions are not there any more.
pub fn forget(domain: &Domain, gone: &[HostSbdf]) {
    for &sbdf in gone {
        withdraw(domain, sbdf);
    }
}

/// What it has told of a function counts for nothing any more: the function reaches nothing.
fn withdraw(domain: &Domain, sbdf: HostSbdf) {
    suspend(domain, sbdf);
    TOLD.lock().remove(sbdf);
}

/// A function that it may have told of reaches nothing, until [`resume`]. False if an IOMMU does not
/// let go of it.
pub fn suspend(domain: &Domain, sbdf: HostSbdf) -> bool {
    if !is_known(sbdf) {
        return true;
    }
    let others: Vec<HostSbdf> = TOLD.lock().names().filter(|other| *other != sbdf).collect();
    let mut done = true;
    for id in streams(sbdf) {
        // Functions behind a bridge to conventional PCI have streams in common.
        if others.iter().any(|other| streams(*other).contains(&id)) {
            continue;
        }
        if let Err(error) = iommu::detach_function(id) {
            domain.complain(format_args!("pci: {sbdf}: {error}"));
            done = false;
        }
    }
    done
}

/// A function that it has told of is its own again.
pub fn resume(domain: &Domain, sbdf: HostSbdf) {
    if is_known(sbdf) {
        // What went wrong is told.
        let _ = attach(domain, sbdf);
    }
}
