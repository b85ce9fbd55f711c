//! `physdev_op`: the control domain tells which PCI devices it has found.

use log::Level;
use xen_abi::Errno;
use xen_abi::physdev::{
    ManagePci, ManagePciExt, PCI_DEV_EXTFN, PCI_DEV_PXM, PCI_DEV_VIRTFN, PciDevice, PciDeviceAdd,
    PciDeviceReset, PhysdevOp,
};
use xen_core::pci_devices::{Devices, Found, Function, Kind};

use super::Outcome;
use crate::domain::Domain;
use crate::domain::memory::read;
use crate::domain::run::Running;
use crate::iommu;
use crate::lock::IrqLock;

/// What the control domain has told.
static DEVICES: IrqLock<Devices> = IrqLock::new(Devices::new());

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
            let function = Function::new(request.seg, request.bus, request.devfn);
            let physical = Function::new(request.seg, request.physfn_bus, request.physfn_devfn);
            let is_virtual = request.flags & PCI_DEV_VIRTFN != 0;
            let is_extended = request.flags & PCI_DEV_EXTFN != 0;
            add(
                domain,
                function,
                Kind::of(is_virtual, is_extended, physical),
            )
        }
        Some(PhysdevOp::ManagePciAdd) => {
            let request: ManagePci = read(domain, buffer)?;
            let function = Function::new(0, request.bus, request.devfn);
            add(domain, function, Kind::Function)
        }
        Some(PhysdevOp::ManagePciAddExt) => {
            let request: ManagePciExt = read(domain, buffer)?;
            let function = Function::new(0, request.bus, request.devfn);
            let physical = Function::new(0, request.physfn_bus, request.physfn_devfn);
            let (is_virtual, is_extended) = (request.is_virtfn != 0, request.is_extfn != 0);
            add(
                domain,
                function,
                Kind::of(is_virtual, is_extended, physical),
            )
        }
        Some(PhysdevOp::PciDeviceRemove) => {
            let request: PciDevice = read(domain, buffer)?;
            remove(
                domain,
                Function::new(request.seg, request.bus, request.devfn),
            )
        }
        Some(PhysdevOp::ManagePciRemove) => {
            let request: ManagePci = read(domain, buffer)?;
            remove(domain, Function::new(0, request.bus, request.devfn))
        }
        Some(PhysdevOp::PciDeviceReset) => {
            let request: PciDeviceReset = read(domain, buffer)?;
            let PciDevice { seg, bus, devfn } = request.dev;
            known(Function::new(seg, bus, devfn))
        }
        Some(PhysdevOp::PrepareMsix | PhysdevOp::ReleaseMsix) => {
            let request: PciDevice = read(domain, buffer)?;
            known(Function::new(request.seg, request.bus, request.devfn))
        }
        _ => Err(Errno::NoCall.into()),
    }
}

fn add(domain: &Domain, function: Function, kind: Kind) -> Outcome {
    let found = DEVICES.lock().add(function, kind);
    match found {
        Ok(Found::New) => attach(domain, function),
        Ok(Found::Known) => Ok(0),
        Err(error) => {
            domain.complain(format_args!("pci: {error}"));
            Err(error.errno().into())
        }
    }
}

/// Lets a function reach the memory of the control domain, which found it.
fn attach(domain: &Domain, function: Function) -> Outcome {
    let stage2 = domain.space.lock().stage2().ok_or(Errno::Invalid)?;
    match iommu::attach_function(function, domain.id, stage2) {
        Ok(guarded) => {
            let guarded = if guarded { ", behind an IOMMU" } else { "" };
            domain.report(
                Level::Info,
                format_args!("pci: {function} found by the control domain{guarded}"),
            );
            Ok(0)
        }
        Err(error) => {
            DEVICES.lock().remove(function);
            domain.complain(format_args!("pci: {function}: {error}"));
            Err(Errno::Io.into())
        }
    }
}

fn remove(domain: &Domain, function: Function) -> Outcome {
    let removed = DEVICES.lock().remove(function);
    if !removed {
        return Err(Errno::NoDevice.into());
    }
    if let Err(error) = iommu::detach_function(function) {
        domain.complain(format_args!("pci: {function}: {error}"));
    }
    domain.report(
        Level::Info,
        format_args!("pci: {function} removed by the control domain"),
    );
    Ok(0)
}

/// A function that the control domain has reset, or is about to use: nothing is kept here that would
/// have to follow, but it has to be one.
fn known(function: Function) -> Outcome {
    if DEVICES.lock().contains(function) {
        Ok(0)
    } else {
        Err(Errno::NoDevice.into())
    }
}
