//! `physdev_op`: the control domain tells which PCI devices it has found.

use pci_host::{HostSbdf, RequesterId};
use xen_abi::Errno;
use xen_abi::physdev::{
    ManagePci, ManagePciExt, PCI_DEV_EXTFN, PCI_DEV_PXM, PCI_DEV_VIRTFN, PciDevice, PciDeviceAdd,
    PciDeviceReset, PhysdevOp,
};
use xen_core::pci_devices::Kind;

use super::Outcome;
use crate::domain::Domain;
use crate::domain::memory::read;
use crate::domain::run::Running;
use crate::pci::told;

/// `physdev_op`.
pub fn physdev_op(running: &Running<'_>, operation: u64, buffer: u64) -> Outcome {
    let domain = running.domain;
    if !domain.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    match PhysdevOp::from_number(operation) {
        Some(PhysdevOp::PciDeviceAdd) => {
            let request: PciDeviceAdd = read(domain, buffer)?;
            let known = PCI_DEV_EXTFN | PCI_DEV_VIRTFN | PCI_DEV_PXM;
            if request.flags & !known != 0 {
                return Err(Errno::Invalid.into());
            }
            let name = function(request.seg, request.bus, request.devfn);
            let physical = function(request.seg, request.physfn_bus, request.physfn_devfn);
            let is_virtual = request.flags & PCI_DEV_VIRTFN != 0;
            let is_extended = request.flags & PCI_DEV_EXTFN != 0;
            add(domain, name, Kind::of(is_virtual, is_extended, physical))
        }
        Some(PhysdevOp::ManagePciAdd) => {
            let request: ManagePci = read(domain, buffer)?;
            let name = function(0, request.bus, request.devfn);
            add(domain, name, Kind::Function)
        }
        Some(PhysdevOp::ManagePciAddExt) => {
            let request: ManagePciExt = read(domain, buffer)?;
            let name = function(0, request.bus, request.devfn);
            let physical = function(0, request.physfn_bus, request.physfn_devfn);
            let (is_virtual, is_extended) = (request.is_virtfn != 0, request.is_extfn != 0);
            add(domain, name, Kind::of(is_virtual, is_extended, physical))
        }
        Some(PhysdevOp::PciDeviceRemove) => {
            let request: PciDevice = read(domain, buffer)?;
            remove(domain, function(request.seg, request.bus, request.devfn))
        }
        Some(PhysdevOp::ManagePciRemove) => {
            let request: ManagePci = read(domain, buffer)?;
            remove(domain, function(0, request.bus, request.devfn))
        }
        Some(PhysdevOp::PciDeviceReset) => {
            let request: PciDeviceReset = read(domain, buffer)?;
            let PciDevice { seg, bus, devfn } = request.dev;
            known(function(seg, bus, devfn))
        }
        Some(PhysdevOp::PrepareMsix | PhysdevOp::ReleaseMsix) => {
            let request: PciDevice = read(domain, buffer)?;
            known(function(request.seg, request.bus, request.devfn))
        }
        _ => Err(Errno::NoCall.into()),
    }
}

fn function(segment: u16, bus: u8, devfn: u8) -> HostSbdf {
    HostSbdf::new(segment, RequesterId::ari(bus, devfn))
}

fn add(domain: &Domain, function: HostSbdf, kind: Kind) -> Outcome {
    told::add(domain, function, kind)?;
    Ok(0)
}

fn remove(domain: &Domain, function: HostSbdf) -> Outcome {
    told::remove(domain, function)?;
    Ok(0)
}

/// A function that the control domain has reset, or is about to use: nothing is kept here that would
/// have to follow, but it has to be one.
fn known(function: HostSbdf) -> Outcome {
    match told::is_known(function) {
        true => Ok(0),
        false => Err(Errno::NoDevice.into()),
    }
}
