//! A device as the guest knows it, and what its events are mapped to.

use super::Source;
use super::VitsError;
use super::alloc::vec::Vec;
use crate::its::{CollectionId, DeviceId, EventId, LpiRange};
use xen_types::Lpi;

/// What a guest calls a device by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GuestDeviceId(pub u32);

/// What a guest calls an event of a device by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GuestEventId(pub u32);

/// A device of the host, or the part of one, that a guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostDevice {
    /// Which of the host's ITSs its messages go to.
    pub its: usize,
    /// What that ITS calls it.
    pub device: DeviceId,
    /// The event that the guest's event 0 is; devices behind a bridge can share an id.
    pub first_event: EventId,
    /// The host's LPIs, one for each event: as many as its MSI or MSI-X capability has.
    pub lpis: LpiRange,
}

/// What an event is mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mapping {
    /// The guest's LPI.
    pub lpi: Lpi,
    pub collection: CollectionId,
}

/// Most events of a device.
const MOST_EVENTS: u32 = 1 << super::EVENT_BITS;

/// A device that a guest has.
#[derive(Debug)]
pub struct GuestDevice {
    id: GuestDeviceId,
    host: HostDevice,
    /// How many events the guest's table has room for; `None` while it has given no table.
    room: Option<u32>,
    /// It is being taken away: no table is accepted.
    revoked: bool,
    events: Vec<Option<Mapping>>,
    /// How many are mapped, and none before the first.
    mapped: u32,
    first: u32,
}

impl GuestDevice {
    pub(super) fn new(id: GuestDeviceId, host: HostDevice) -> Result<Self, VitsError> {
        let count = host.lpis.count();
        let last = host.first_event.0.checked_add(count);
        if count == 0 || count > MOST_EVENTS || last.is_none() {
            return Err(VitsError::Events(count));
        }
        let mut events = Vec::new();
        events
            .try_reserve_exact(count as usize)
            .map_err(|_| VitsError::OutOfMemory)?;
        events.resize(count as usize, None);
        Ok(Self {
            id,
            host,
            room: None,
            revoked: false,
            events,
            mapped: 0,
            first: 0,
        })
    }

    pub(super) const fn id(&self) -> GuestDeviceId {
        self.id
    }

    pub(super) const fn host(&self) -> HostDevice {
        self.host
    }

    /// How many events it has, mapped or not.
    pub(super) fn events(&self) -> u32 {
        self.events.len() as u32
    }

    /// The guest has given a table for events of this many bits.
    pub(super) fn give_table(&mut self, event_bits: u8) {
        let room = 1 << event_bits.min(super::EVENT_BITS);
        self.room = Some(room).filter(|_| !self.revoked);
    }

    /// It is being taken away.
    pub(super) const fn revoke(&mut self) {
        (self.room, self.revoked) = (None, true);
    }

    /// The guest has taken its table away.
    pub(super) const fn unmap(&mut self) {
        self.room = None;
    }

    /// Whether an event exists and the guest's table has room for it.
    pub(super) fn has_room(&self, event: GuestEventId) -> bool {
        event.0 < self.events() && self.room.is_some_and(|room| event.0 < room)
    }

    pub(super) fn mapping(&self, event: GuestEventId) -> Option<Mapping> {
        self.events.get(event.0 as usize).copied().flatten()
    }

    pub(super) fn set(&mut self, event: GuestEventId, mapping: Option<Mapping>) {
        let Some(place) = self.events.get_mut(event.0 as usize) else {
            return;
        };
        let old = core::mem::replace(place, mapping);
        match (old.is_some(), mapping.is_some()) {
            (false, true) => self.mapped += 1,
            (true, false) => self.mapped = self.mapped.saturating_sub(1),
            _ => {}
        }
        if mapping.is_some() {
            self.first = self.first.min(event.0);
        }
    }

    pub(super) const fn has_mapped(&self) -> bool {
        self.mapped != 0
    }

    /// Ends the mapping of the first event that has one.
    pub(super) fn take_next_mapped(&mut self) -> Option<(GuestEventId, Mapping)> {
        while self.has_mapped() && self.first < self.events() {
            let event = GuestEventId(self.first);
            if let Some(mapping) = self.mapping(event) {
                self.set(event, None);
                return Some((event, mapping));
            }
            self.first += 1;
        }
        None
    }

    /// What an event is on the host.
    pub(super) fn source(&self, event: GuestEventId) -> Option<Source> {
        Some(Source {
            its: self.host.its,
            device: self.host.device,
            event: EventId(self.host.first_event.0.checked_add(event.0)?),
            lpi: self.host.lpis.get(event.0)?,
        })
    }
}
