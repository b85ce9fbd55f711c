//! Giving a function to a guest: from quarantine, in an order in which it never reaches more than it
//! should, and back to quarantine if anything fails on the way.

use alloc::vec::Vec;

use pci_host::HostSbdf;
use pci_host::registry::{Entry, Owner, Refusal, RegistryError};
use platform_dt::MappedId;
use vpci::GuestSbdf;
use vpci::bus::BusError;
use xen_abi::{DomId, Errno};
use xen_core::its::DeviceId;

use super::guest::{AddError, GuestBus, Slot, Source};
use super::{PCI, Pci, Progress, intx, messages, resets, streams};
use crate::domain::{Domain, MessagesError};
use crate::iommu::{self, AttachError};
use crate::memory::heap;

/// More than all takes that is kept of a function, the largest table of MSI-X included.
const HEAP: usize = 128 << 10;

/// Why a domain does not get a function.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// The domain cannot have any.
    #[error("{0} was not made for devices")]
    NotForDevices(DomId),
    /// It is being destroyed.
    #[error("{0} is being destroyed")]
    Dying(DomId),
    /// It has it.
    #[error("{sbdf}: {domain} has it already")]
    Twice {
        /// The function.
        sbdf: HostSbdf,
        /// The domain.
        domain: DomId,
    },
    /// The registry refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError<DomId>),
    /// Nothing holds it back.
    #[error("{0}: no IOMMU holds it back: it would reach all memory")]
    NoIommu(HostSbdf),
    /// Its IOMMU refuses.
    #[error("{0}: {1}")]
    Iommu(HostSbdf, AttachError),
    /// IOMMUs do not walk the domain's tables.
    #[error("{0}: the address space of {1} is not one that an IOMMU can use")]
    Space(HostSbdf, DomId),
    /// Its messages cannot be had.
    #[error("{0}: {1}")]
    Messages(HostSbdf, MessagesError),
    /// There is no place for it.
    #[error("{0}: {1}")]
    Add(HostSbdf, AddError),
    /// There is no memory for what is to be known of it.
    #[error("{0}: there is no memory for it")]
    NoMemory(HostSbdf),
}

impl AssignError {
    /// What a toolstack is told.
    pub fn errno(self) -> Errno {
        match self {
            Self::NotForDevices(_) | Self::Space(..) => Errno::Invalid,
            Self::Dying(_) => Errno::NoDomain,
            Self::Twice { .. } => Errno::Exists,
            Self::Registry(error) => registry_errno(error),
            Self::NoIommu(_) => Errno::NotSupported,
            Self::Iommu(..) => Errno::Io,
            Self::Messages(_, error) => error.into(),
            Self::Add(_, AddError::Bus(BusError::Full(_))) => Errno::NoSpace,
            Self::Add(_, AddError::Bus(BusError::Occupied(_))) => Errno::Exists,
            Self::Add(_, AddError::Bus(_)) => Errno::Invalid,
            Self::Add(_, AddError::Map(_)) | Self::NoMemory(_) => Errno::NoMemory,
        }
    }
}

/// What the registry's refusals are to a toolstack.
pub fn registry_errno(error: RegistryError<DomId>) -> Errno {
    match error {
        RegistryError::Unknown(_) => Errno::NoDevice,
        RegistryError::Refused { why, .. } => match why {
            Refusal::Owned(_) | Refusal::Group { .. } | Refusal::NotReset(_) => Errno::Busy,
            Refusal::Broken(_) => Errno::Io,
            _ => Errno::Invalid,
        },
        RegistryError::Owned {
            owner: Owner::Quarantine(_),
            ..
        } => Errno::Io,
        _ => Errno::Busy,
    }
}

/// Whether guests can have functions on this machine.
pub fn can_assign() -> bool {
    PCI.get().is_some() && iommu::translates()
}

/// Whether a domain could have a function now.
///
/// # Errors
/// [`AssignError`].
pub fn test(domain: &Domain, sbdf: HostSbdf) -> Result<(), AssignError> {
    let unknown = AssignError::Registry(RegistryError::Unknown(sbdf));
    check(PCI.get().ok_or(unknown)?, domain, sbdf).map(drop)
}

/// What is in the way of a domain's having a function, but for a reset.
fn check<'a>(
    pci: &'static Pci,
    domain: &'a Domain,
    sbdf: HostSbdf,
) -> Result<&'a GuestBus, AssignError> {
    {
        let registry = pci.registry.lock();
        if registry.get(sbdf)?.owner() == Owner::Domain(domain.id) {
            let domain = domain.id;
            return Err(AssignError::Twice { sbdf, domain });
        }
        if let Some(why) = registry.refusal_after_reset(sbdf, domain.id)? {
            return Err(RegistryError::Refused { sbdf, why }.into());
        }
    }
    let bus = domain.pci.as_ref();
    let bus = bus.ok_or(AssignError::NotForDevices(domain.id))?;
    let streams = streams(sbdf);
    if streams.is_empty() {
        return Err(AssignError::NoIommu(sbdf));
    }
    for stream in streams {
        iommu::check_isolates(stream).map_err(|error| AssignError::Iommu(sbdf, error))?;
    }
    Ok(bus)
}

/// Goes on with giving a function to a domain, at a slot of its bus or any that is free. Returns where
/// it is.
///
/// # Errors
/// [`AssignError`]: the function is in quarantine, as far as it was.
pub fn assign(
    domain: &Domain,
    sbdf: HostSbdf,
    slot: Option<Slot>,
) -> Result<Progress<GuestSbdf>, AssignError> {
    let unknown = AssignError::Registry(RegistryError::Unknown(sbdf));
    let pci = PCI.get().ok_or(unknown)?;
    let bus = check(pci, domain, sbdf)?;
    bus.check_slot(slot)
        .map_err(|error| AssignError::Add(sbdf, error.into()))?;
    heap::ensure(HEAP).map_err(|_| AssignError::NoMemory(sbdf))?;
    let _arrival = bus.expect().ok_or(AssignError::Dying(domain.id))?;
    if resets::go_on(pci, sbdf)? == Progress::Again {
        return Ok(Progress::Again);
    }
    pci.registry.lock().assign(sbdf, domain.id)?;
    let given = attach(pci, domain, sbdf).and_then(|()| {
        let given = connect(pci, domain, bus, sbdf, slot);
        given.inspect_err(|_| detach(pci, domain, sbdf))
    });
    if given.is_err() {
        // It has been the domain's a moment ago.
        let _ = pci.registry.lock().release(sbdf, domain.id);
    }
    given.map(Progress::Done)
}

/// Connects a function's messages, and puts it on the bus.
fn connect(
    pci: &'static Pci,
    domain: &Domain,
    bus: &GuestBus,
    sbdf: HostSbdf,
    slot: Option<Slot>,
) -> Result<GuestSbdf, AssignError> {
    let device = pci.registry.lock().get(sbdf)?.device().clone();
    let refused = |error: BusError| AssignError::Add(sbdf, error.into());
    let place = bus.place_for(&device, slot).map_err(refused)?;
    let guest = guest_device(place);
    let source = connect_messages(pci, domain, sbdf, guest)?;
    let line = intx::line_for(pci, domain, sbdf);
    let added = bus.add(pci, place, device, source, line.is_some());
    if let Err(error) = added {
        mute(domain, sbdf, place);
        return Err(AssignError::Add(sbdf, error));
    }
    if let Some(line) = line
        && let Err(error) = intx::connect(domain, place, line)
    {
        domain.complain(format_args!("pci: {sbdf}: no INTx: {error}"));
    }
    Ok(place)
}

/// What the domain's ITS calls a function.
fn guest_device(place: GuestSbdf) -> DeviceId {
    DeviceId(place.0.requester().bits().into())
}

/// Has a function's messages arrive for the domain. `None` where they have no way there.
fn connect_messages(
    pci: &Pci,
    domain: &Domain,
    sbdf: HostSbdf,
    guest: DeviceId,
) -> Result<Option<Source>, AssignError> {
    if let Some(vectors) = domain.vectors() {
        return Ok(Some(Source::V2m(vectors.frame())));
    }
    let events = messages::events(pci, sbdf);
    let source = messages::source(pci, sbdf);
    let (Some((its, device)), 1..) = (source, events) else {
        return Ok(None);
    };
    let Some(doorbell) = domain.doorbell(its) else {
        return Ok(None);
    };
    domain
        .give_device((its, device), guest, events)
        .map_err(|error| AssignError::Messages(sbdf, error))?;
    Ok(Some(Source::Its { doorbell }))
}

/// No interrupt of a function arrives for the domain any more.
pub fn mute(domain: &Domain, sbdf: HostSbdf, place: GuestSbdf) {
    intx::disconnect(domain, place);
    if let Err(error) = domain.take_device(guest_device(place)) {
        domain.complain(format_args!("pci: {sbdf}: {error}"));
    }
}

/// Lets a function reach the domain's memory, by all streams that its requests may have, or by none.
fn attach(pci: &Pci, domain: &Domain, sbdf: HostSbdf) -> Result<(), AssignError> {
    let stage2 = domain.space.lock().stage2();
    let stage2 = stage2.ok_or(AssignError::Space(sbdf, domain.id))?;
    let mut own = own_streams(pci, domain, sbdf).into_iter();
    let attached = own.try_for_each(|id| iommu::attach_function(sbdf, id, domain.id, stage2));
    attached.map_err(|error| {
        detach(pci, domain, sbdf);
        AssignError::Iommu(sbdf, error)
    })
}

/// A function reaches nothing any more.
pub fn detach(pci: &Pci, domain: &Domain, sbdf: HostSbdf) {
    for stream in own_streams(pci, domain, sbdf) {
        if let Err(error) = iommu::detach_function(stream) {
            domain.complain(format_args!("pci: {sbdf}: {error}"));
        }
    }
}

/// The streams of a function that no other function of the domain has as well.
fn own_streams(pci: &Pci, domain: &Domain, sbdf: HostSbdf) -> Vec<MappedId> {
    let others: Vec<HostSbdf> = {
        let registry = pci.registry.lock();
        let others = registry
            .iter()
            .filter(|entry| entry.owner() == Owner::Domain(domain.id) && entry.sbdf() != sbdf);
        others.map(Entry::sbdf).collect()
    };
    let mut own = streams(sbdf);
    for other in others {
        let theirs = streams(other);
        own.retain(|stream| !theirs.contains(stream));
    }
    own
}
