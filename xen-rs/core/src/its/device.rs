//! What the driver knows of a device: its translation table and what its events are mapped to.

use super::alloc::vec::Vec;

use xen_types::Lpi;

use super::ItsError;
use super::command::{CollectionId, DeviceId, EventId};
use super::table::Table;

/// What an event is mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub lpi: Lpi,
    pub collection: CollectionId,
}

/// A device with a translation table.
#[derive(Debug)]
pub struct Device {
    pub id: DeviceId,
    pub table: Table,
    events: Vec<Option<Mapping>>,
}

impl Device {
    /// A device none of whose events is mapped.
    pub fn new(id: DeviceId, events: u32, table: Table) -> Result<Self, (ItsError, Table)> {
        let mut mappings = Vec::new();
        if mappings.try_reserve_exact(events as usize).is_err() {
            let error = ItsError::NoMemory {
                what: "events",
                size: events.into(),
            };
            return Err((error, table));
        }
        mappings.resize(events as usize, None);
        Ok(Self {
            id,
            table,
            events: mappings,
        })
    }

    /// What an event is mapped to.
    pub fn mapping(&self, event: EventId) -> Result<Mapping, ItsError> {
        let mapping = self.events.get(event.0 as usize).copied().flatten();
        mapping.ok_or(self.unknown(event))
    }

    /// Whether an event can be mapped.
    pub fn check_free(&self, event: EventId) -> Result<(), ItsError> {
        match self.events.get(event.0 as usize) {
            None => Err(self.unknown(event)),
            Some(Some(_)) => Err(ItsError::Mapped {
                device: self.id,
                event,
            }),
            Some(None) => Ok(()),
        }
    }

    /// Maps an event, or takes its mapping away.
    pub fn set(&mut self, event: EventId, mapping: Option<Mapping>) {
        if let Some(place) = self.events.get_mut(event.0 as usize) {
            *place = mapping;
        }
    }

    /// The first event from `from` on that is mapped.
    pub fn next_mapped(&self, from: EventId) -> Option<(EventId, Mapping)> {
        let events = (from.0..).zip(self.events.get(from.0 as usize..)?);
        let mut mapped = events.filter_map(|(event, mapping)| Some((EventId(event), (*mapping)?)));
        mapped.next()
    }

    const fn unknown(&self, event: EventId) -> ItsError {
        ItsError::UnknownEvent {
            device: self.id,
            event,
        }
    }
}
