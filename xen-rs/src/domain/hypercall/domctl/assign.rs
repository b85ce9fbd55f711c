//! PCI functions for guests: Xen's calls, and one of our own that says where on its bus a guest finds a
//! function. What `DOMID_IO` gets and loses is in [`assignable`](crate::domain::hypercall::assignable).

use alloc::sync::Arc;

use log::Level;
use pci_host::{HostSbdf, RequesterId};
use vpci::GuestSbdf;
use xen_abi::Errno;
use xen_abi::domctl::{ANY_SLOT, AssignDevice, AssignFunction, DEVICE_PCI};

use super::{Call, NoValue, Outcome};
use crate::domain::Domain;
use crate::pci::{self, Progress, Slot};

/// Flag of an assignment: reserved memory does not matter (`XEN_DOMCTL_DEV_RDM_RELAXED`).
const RELAXED: u32 = 1;

/// The function that a call names.
fn function(number: u32) -> HostSbdf {
    HostSbdf::new((number >> 16) as u16, RequesterId::from_bits(number as u16))
}

/// What Xen's calls say.
fn request(call: &Call<'_>, allowed: u32) -> Result<(Arc<Domain>, HostSbdf), NoValue> {
    let request: AssignDevice = call.payload()?;
    if request.dev != DEVICE_PCI || request.flags & !allowed != 0 {
        return Err(Errno::Invalid.into());
    }
    Ok((call.other()?, function(request.sbdf_or_size)))
}

/// Gives a function to a domain: the call is made again until it is done.
fn give(
    call: &Call<'_>,
    target: &Domain,
    sbdf: HostSbdf,
    slot: Option<Slot>,
) -> Result<GuestSbdf, NoValue> {
    match pci::assign(target, sbdf, slot) {
        Ok(Progress::Done(place)) => {
            target.report(
                Level::Info,
                format_args!("pci: {sbdf} is assigned to {} as {place}", target.id),
            );
            Ok(place)
        }
        Ok(Progress::Again) => Err(call.again()),
        Err(error) => {
            call.caller.complain(format_args!("pci: {error}"));
            Err(error.errno().into())
        }
    }
}

/// Gives a function to a domain, at any place.
pub fn device(call: &Call<'_>) -> Outcome {
    let (target, sbdf) = request(call, RELAXED)?;
    give(call, &target, sbdf, None)?;
    Ok(0)
}

/// The same at a place of the caller's choice, who is told where.
pub fn at_slot(call: &Call<'_>) -> Outcome {
    let mut request: AssignFunction = call.payload()?;
    let slot = match request.slot {
        ANY_SLOT => None,
        number => Some(Slot::new(number).ok_or(Errno::Invalid)?),
    };
    if request.pad != 0 {
        return Err(Errno::Invalid.into());
    }
    let target = call.other()?;
    let place = give(call, &target, function(request.sbdf), slot)?;
    request.virtual_bdf = place.0.requester().bits();
    call.answer(&request)
}

/// Whether a domain could have a function.
pub fn test(call: &Call<'_>) -> Outcome {
    let (target, sbdf) = request(call, 0)?;
    pci::test(&target, sbdf).map_err(|error| {
        call.caller.complain(format_args!("pci: {error}"));
        error.errno()
    })?;
    Ok(0)
}

/// Takes a function from a domain: the call is made again until the function is assignable, or stays
/// where it is.
pub fn take_back(call: &Call<'_>) -> Outcome {
    let (target, sbdf) = request(call, 0)?;
    match pci::take_back(&target, sbdf) {
        Ok(Progress::Done(())) => Ok(0),
        Ok(Progress::Again) => Err(call.again()),
        Err(error) => {
            call.caller.complain(format_args!("pci: {error}"));
            Err(error.errno().into())
        }
    }
}
