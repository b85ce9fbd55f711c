//! The list of assignable PCI functions: a sysctl of our own, and the domctls by which Xen's tools give
//! functions to `DOMID_IO` and take them back.

use pci_host::registry::{Condition, Owner};
use pci_host::{HostSbdf, RequesterId};
use xen_abi::assignable::{
    Assignable, AssignableCommand, AssignableEntry, FunctionState, SYSCTL_ASSIGNABLE,
};
use xen_abi::domctl::{self, AssignDevice, DEVICE_PCI, DomctlHeader, DomctlOp};
use xen_abi::sysctl::{self, SysctlHeader};
use xen_abi::{DomId, Errno};

use super::Outcome;
use crate::domain::Domain;
use crate::domain::memory::{read, write};
use crate::domain::run::Running;
use crate::pci;

/// Most entries that one call writes: the caller goes on from there.
const BATCH: u32 = 64;
/// Flag of an assignment: reserved memory does not matter (`XEN_DOMCTL_DEV_RDM_RELAXED`).
const RELAXED: u32 = 1;

/// `sysctl`, as far as it is about the list; `None` for all others.
pub fn sysctl(running: &Running<'_>, buffer: u64) -> Option<Outcome> {
    let domain = running.domain;
    let header: SysctlHeader = match read(domain, buffer) {
        Ok(header) => header,
        Err(error) => return Some(Err(error.into())),
    };
    if header.cmd != SYSCTL_ASSIGNABLE {
        return None;
    }
    let outcome = match (domain.is_control(), header.interface_version) {
        (false, _) => Err(Errno::NotPermitted),
        (true, sysctl::INTERFACE_VERSION) => {
            assignable(domain, buffer.wrapping_add(sysctl::PAYLOAD_OFFSET))
        }
        (true, _) => Err(Errno::Access),
    };
    Some(outcome.map(|()| 0).map_err(Into::into))
}

fn assignable(domain: &Domain, at: u64) -> Result<(), Errno> {
    let mut request: Assignable = read(domain, at)?;
    let sbdf = function(request.sbdf);
    match AssignableCommand::from_number(request.command) {
        Some(AssignableCommand::Set) => set(domain, sbdf, request.state),
        Some(AssignableCommand::Get) => {
            request.state = pci::owner(sbdf).map(state).ok_or(Errno::NoDevice)?.number();
            Ok(write(domain, at, &request)?)
        }
        Some(AssignableCommand::List) => {
            list(domain, &mut request)?;
            Ok(write(domain, at, &request)?)
        }
        None => Err(Errno::Invalid),
    }
}

fn set(domain: &Domain, sbdf: HostSbdf, state: u32) -> Result<(), Errno> {
    match FunctionState::from_number(state) {
        Some(FunctionState::Assignable) => quarantine(domain, sbdf),
        Some(FunctionState::ControlDomain) => release(domain, sbdf),
        _ => Err(Errno::Invalid),
    }
}

fn list(domain: &Domain, request: &mut Assignable) -> Result<(), Errno> {
    let mut total = 0;
    let room = request.count.min(BATCH);
    let start = request.entries.get();
    for (number, (sbdf, owner)) in (0..).zip(pci::owners()) {
        total += 1;
        let Some(place) = u32::checked_sub(number, request.first) else {
            continue;
        };
        if place < room && start != 0 {
            let entry = AssignableEntry {
                sbdf: number_of(sbdf),
                state: state(owner).number(),
            };
            let at = start.wrapping_add(u64::from(place) * size_of::<AssignableEntry>() as u64);
            write(domain, at, &entry)?;
        }
    }
    request.count = total;
    Ok(())
}

/// `domctl`, as far as it is about devices of `DOMID_IO`; `None` for all others.
pub fn domctl(running: &Running<'_>, buffer: u64) -> Option<Outcome> {
    let domain = running.domain;
    let header: DomctlHeader = match read(domain, buffer) {
        Ok(header) => header,
        Err(error) => return Some(Err(error.into())),
    };
    let operation = DomctlOp::from_number(header.cmd)?;
    let concerned = matches!(
        operation,
        DomctlOp::AssignDevice | DomctlOp::TestAssignDevice | DomctlOp::DeassignDevice
    );
    if !concerned || header.domain != DomId::IO {
        return None;
    }
    let outcome = match (domain.is_control(), header.interface_version) {
        (false, _) => Err(Errno::NotPermitted),
        (true, domctl::INTERFACE_VERSION) => {
            let at = buffer.wrapping_add(domctl::PAYLOAD_OFFSET);
            read(domain, at)
                .map_err(Errno::from)
                .and_then(|request| assign(domain, operation, request))
        }
        (true, _) => Err(Errno::Access),
    };
    Some(outcome.map(|()| 0).map_err(Into::into))
}

fn assign(domain: &Domain, operation: DomctlOp, request: AssignDevice) -> Result<(), Errno> {
    if request.dev != DEVICE_PCI {
        return Err(Errno::Invalid);
    }
    let sbdf = function(request.sbdf_or_size);
    let allowed = match operation {
        DomctlOp::AssignDevice => RELAXED,
        _ => 0,
    };
    if request.flags & !allowed != 0 {
        return Err(Errno::Invalid);
    }
    match operation {
        DomctlOp::AssignDevice => quarantine(domain, sbdf),
        DomctlOp::DeassignDevice => release(domain, sbdf),
        _ => match pci::owner(sbdf) {
            None => Err(Errno::NoDevice),
            Some(Owner::Domain(_)) => Err(Errno::Busy),
            Some(_) => Ok(()),
        },
    }
}

fn quarantine(domain: &Domain, sbdf: HostSbdf) -> Result<(), Errno> {
    pci::quarantine(Some(domain), sbdf).map_err(|error| {
        domain.complain(format_args!("pci: {error}"));
        error.errno()
    })
}

fn release(domain: &Domain, sbdf: HostSbdf) -> Result<(), Errno> {
    pci::release(domain, sbdf).map_err(|error| {
        domain.complain(format_args!("pci: {error}"));
        error.errno()
    })
}

fn function(number: u32) -> HostSbdf {
    HostSbdf::new((number >> 16) as u16, RequesterId::from_bits(number as u16))
}

fn number_of(sbdf: HostSbdf) -> u32 {
    u32::from(sbdf.segment()) << 16 | u32::from(sbdf.requester().bits())
}

fn state(owner: Owner<DomId>) -> FunctionState {
    match owner {
        Owner::HardwareDomain => FunctionState::ControlDomain,
        Owner::Quarantine(Condition::Broken(_)) => FunctionState::Broken,
        Owner::Quarantine(_) => FunctionState::Assignable,
        Owner::Domain(_) => FunctionState::Guest,
    }
}
