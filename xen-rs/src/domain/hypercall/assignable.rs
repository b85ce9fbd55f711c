//! The list of assignable PCI functions: a sysctl of our own, and the domctls by which Xen's tools give
//! functions to `DOMID_IO` and take them back.

use core::fmt::{self, Write as _};

use pci_host::registry::{Condition, Owner};
use pci_host::reset::Method;
use pci_host::{HostSbdf, RequesterId};
use xen_abi::assignable::{
    Assignable, AssignableCommand, AssignableEntry, FunctionState, REASON, ResetMethod,
    SYSCTL_ASSIGNABLE,
};
use xen_abi::domctl::{self, AssignDevice, DEVICE_PCI, DomctlHeader, DomctlOp};
use xen_abi::sysctl::{self, SysctlHeader};
use xen_abi::{DomId, Errno};

use super::Outcome;
use crate::domain::memory::{read, write};
use crate::domain::run::Running;
use crate::domain::{Domain, table};
use crate::pci::{self, Listed, QuarantineError};

/// Most entries that one call writes: the caller goes on from there.
const BATCH: u32 = 16;
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
        Some(AssignableCommand::Set) => set(domain, sbdf, &request),
        Some(AssignableCommand::Get) => {
            request.state = pci::owner(sbdf).map(state).ok_or(Errno::NoDevice)?.number();
            describe(domain, sbdf, &request, None)?;
            Ok(write(domain, at, &request)?)
        }
        Some(AssignableCommand::List) => {
            list(domain, &mut request)?;
            Ok(write(domain, at, &request)?)
        }
        None => Err(Errno::Invalid),
    }
}

fn set(domain: &Domain, sbdf: HostSbdf, request: &Assignable) -> Result<(), Errno> {
    let outcome = match FunctionState::from_number(request.state) {
        Some(FunctionState::Assignable) => pci::quarantine(Some(domain), sbdf),
        Some(FunctionState::ControlDomain) => pci::release(domain, sbdf),
        _ => return Err(Errno::Invalid),
    };
    describe(domain, sbdf, request, outcome.err())?;
    told(domain, outcome)
}

/// Writes what is known of a function to where a call wants it; `why` is what went wrong.
fn describe(
    domain: &Domain,
    sbdf: HostSbdf,
    request: &Assignable,
    why: Option<QuarantineError>,
) -> Result<(), Errno> {
    let Some(listed) = pci::look_up(sbdf).filter(|_| !request.entries.is_null()) else {
        return Ok(());
    };
    let mut entry = entry(&listed);
    if let Some(why) = why {
        entry.reason = text(format_args!("{why}"));
    }
    Ok(write(domain, request.entries.get(), &entry)?)
}

fn list(domain: &Domain, request: &mut Assignable) -> Result<(), Errno> {
    let room = match request.entries.is_null() {
        true => 0,
        false => request.count.min(BATCH),
    };
    let (some, total) = pci::list(request.first, room);
    for (place, listed) in (0_u64..).zip(&some) {
        let offset = place.wrapping_mul(size_of::<AssignableEntry>() as u64);
        let at = request.entries.get().wrapping_add(offset);
        write(domain, at, &entry(listed))?;
    }
    request.count = total;
    Ok(())
}

fn entry(listed: &Listed) -> AssignableEntry {
    let (reset, bridge) = match listed.reset {
        None => (ResetMethod::None, None),
        Some(Method::FunctionLevel) => (ResetMethod::FunctionLevel, None),
        Some(Method::AdvancedFeatures) => (ResetMethod::AdvancedFeatures, None),
        Some(Method::PowerState) => (ResetMethod::PowerState, None),
        Some(Method::SecondaryBus(bridge)) => (ResetMethod::SecondaryBus, Some(bridge)),
    };
    let owner = match listed.owner {
        Owner::Domain(id) => id,
        Owner::Quarantine(_) => DomId::IO,
        Owner::HardwareDomain => pci::HARDWARE_DOMAIN,
    };
    let reason = listed
        .refusal
        .map(|refusal| text(format_args!("{refusal}")));
    AssignableEntry {
        sbdf: number_of(listed.sbdf),
        state: state(listed.owner).number(),
        domain: owner,
        vendor: listed.vendor,
        device: listed.device,
        virtual_bdf: place(listed),
        class: listed.class,
        group: number_of(listed.group),
        reset: reset.number(),
        bridge: bridge.map_or(0, number_of),
        reason: reason.unwrap_or([0; REASON]),
    }
}

/// Where the guest that has a function sees it.
fn place(listed: &Listed) -> u16 {
    let Owner::Domain(id) = listed.owner else {
        return 0;
    };
    let guest = table::lookup(id);
    let bus = guest.as_ref().and_then(|guest| guest.pci.as_ref());
    let place = bus.and_then(|bus| bus.find_function(listed.sbdf));
    place.map_or(0, |place| place.0.requester().bits())
}

/// A text with zeros behind it, and at least one; what is too long ends before.
fn text(arguments: fmt::Arguments<'_>) -> [u8; REASON] {
    struct Line {
        bytes: [u8; REASON],
        length: usize,
    }
    impl fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                match self.bytes.get_mut(self.length) {
                    Some(place) if self.length < REASON - 1 => *place = byte,
                    _ => return Err(fmt::Error),
                }
                self.length += 1;
            }
            Ok(())
        }
    }
    let mut line = Line {
        bytes: [0; REASON],
        length: 0,
    };
    // What fits is there.
    let _ = line.write_fmt(arguments);
    line.bytes
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
        DomctlOp::AssignDevice => told(domain, pci::quarantine(Some(domain), sbdf)),
        DomctlOp::DeassignDevice => told(domain, pci::release(domain, sbdf)),
        _ => match pci::owner(sbdf) {
            None => Err(Errno::NoDevice),
            Some(Owner::Domain(_)) => Err(Errno::Busy),
            Some(_) => Ok(()),
        },
    }
}

/// Tells in the log what went wrong.
fn told(domain: &Domain, outcome: Result<(), QuarantineError>) -> Result<(), Errno> {
    outcome.map_err(|error| {
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
