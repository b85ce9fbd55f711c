//! Commands that have many effects, one after the other.

use super::command::Refusal;
use super::device::{GuestDeviceId, GuestEventId};
use super::effect::Effect;
use super::{EVENT_BITS, Vits};
use crate::its::CollectionId;
use crate::vgic::{CpuId, LPI_PART};

/// How many events a step looks at.
const LOOKS: usize = 64;

/// A command under way.
#[derive(Clone, Copy, Debug)]
pub struct Job(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// All events of a device are unmapped; then it may have a table.
    UnmapAll {
        device: GuestDeviceId,
        next: u32,
        event_bits: Option<u8>,
    },
    /// A device that is there for its table only goes with it.
    Detach {
        device: GuestDeviceId,
        event_bits: Option<u8>,
    },
    /// It comes with a table.
    Attach {
        device: GuestDeviceId,
        event_bits: u8,
    },
    GiveTable {
        device: GuestDeviceId,
        event_bits: u8,
    },
    /// A collection goes elsewhere, with all of its events.
    SendCollection {
        collection: CollectionId,
        from: Option<CpuId>,
        to: Option<CpuId>,
        device: GuestDeviceId,
        event: u32,
    },
    ReloadAll {
        first: u32,
    },
    MovePending {
        first: u32,
        from: CpuId,
        to: CpuId,
    },
    Done,
}

impl Job {
    pub const fn unmap_all(device: GuestDeviceId, event_bits: Option<u8>) -> Self {
        Self(Kind::UnmapAll {
            device,
            next: 0,
            event_bits,
        })
    }

    pub const fn send_collection(
        collection: CollectionId,
        from: Option<CpuId>,
        to: Option<CpuId>,
    ) -> Self {
        Self(Kind::SendCollection {
            collection,
            from,
            to,
            device: GuestDeviceId(0),
            event: 0,
        })
    }

    pub const fn reload_all() -> Self {
        Self(Kind::ReloadAll { first: 0 })
    }

    pub const fn move_pending(from: CpuId, to: CpuId) -> Self {
        Self(Kind::MovePending { first: 0, from, to })
    }

    pub const fn is_done(&self) -> bool {
        matches!(self.0, Kind::Done)
    }
}

impl Vits {
    /// Does a bounded part of a job.
    pub(super) fn advance_job(&mut self, job: &mut Job) -> Option<Effect> {
        match core::mem::replace(&mut job.0, Kind::Done) {
            Kind::Done => None,
            Kind::UnmapAll {
                device,
                mut next,
                event_bits,
            } => {
                let effect = self.unmap_some(device, &mut next);
                job.0 = match next {
                    0 => Kind::Detach { device, event_bits },
                    next => Kind::UnmapAll {
                        device,
                        next,
                        event_bits,
                    },
                };
                effect
            }
            Kind::Detach { device, event_bits } => {
                if let Some(event_bits) = event_bits {
                    job.0 = Kind::Attach { device, event_bits };
                }
                self.detach(device)
            }
            Kind::Attach { device, event_bits } => {
                job.0 = Kind::GiveTable { device, event_bits };
                self.attach(device, event_bits)
            }
            Kind::GiveTable { device, event_bits } => {
                match self.device_mut(device) {
                    Ok(device) => device.give_table(event_bits),
                    Err(_) => self.refuse(Refusal::NoRoom(device)),
                }
                None
            }
            Kind::SendCollection {
                collection,
                from,
                to,
                device,
                event,
            } => {
                let mut place = Some((device, event));
                let effect = self.send_some(collection, from, to, &mut place);
                if let Some((device, event)) = place {
                    job.0 = Kind::SendCollection {
                        collection,
                        from,
                        to,
                        device,
                        event,
                    };
                }
                effect
            }
            Kind::ReloadAll { first } => {
                if let Some(first) = self.part_after(first) {
                    job.0 = Kind::ReloadAll { first };
                }
                Some(Effect::ReloadPart { first })
            }
            Kind::MovePending { first, from, to } => {
                if let Some(first) = self.part_after(first) {
                    job.0 = Kind::MovePending { first, from, to };
                }
                Some(Effect::MovePart { first, from, to })
            }
        }
    }

    fn part_after(&self, first: u32) -> Option<u32> {
        let next = first.checked_add(LPI_PART)?;
        (next < self.config.lpis).then_some(next)
    }

    /// Unmaps the next event, or sets `next` to 0 after the last.
    fn unmap_some(&mut self, id: GuestDeviceId, next: &mut u32) -> Option<Effect> {
        let start = core::mem::take(next);
        let device = self.device(id).ok()?;
        let count = device.events();
        for number in (start..count).take(LOOKS) {
            let event = GuestEventId(number);
            let device = self.device_mut(id).ok()?;
            let Some(mapping) = device.mapping(event) else {
                continue;
            };
            device.set(event, None);
            let source = device.source(event);
            if let (Some(source), Some(_)) = (source, self.target(mapping.collection)) {
                *next = number + 1;
                let lpi = mapping.lpi;
                return Some(Effect::Unmap { source, lpi });
            }
        }
        let reached = start.saturating_add(LOOKS as u32);
        if reached < count {
            *next = reached;
        }
        None
    }

    /// Takes a device away that came of an offer.
    fn detach(&mut self, id: GuestDeviceId) -> Option<Effect> {
        self.offers.device(id)?;
        let host = self.remove_device(id).ok()?;
        Some(Effect::Detach(host))
    }

    /// Asks for a device of which an id is offered.
    fn attach(&self, id: GuestDeviceId, event_bits: u8) -> Option<Effect> {
        if self.device(id).is_ok() {
            return None;
        }
        let (its, device) = self.offers.device(id)?;
        let events = 1 << event_bits.min(EVENT_BITS);
        Some(Effect::Attach {
            id,
            its,
            device,
            events,
        })
    }

    /// Sends the next event of a collection where that goes now. `place` is where to look, and
    /// `None` after the last.
    fn send_some(
        &mut self,
        collection: CollectionId,
        from: Option<CpuId>,
        to: Option<CpuId>,
        place: &mut Option<(GuestDeviceId, u32)>,
    ) -> Option<Effect> {
        let (mut id, mut number) = place.take()?;
        for _ in 0..LOOKS {
            let index = self.place_of(id).unwrap_or_else(|next| next);
            let device = self.devices.get(index)?;
            if device.id() != id || number >= device.events() || !device.has_mapped() {
                // The next device that has events, from its first on.
                let skip = device.id() == id;
                let next = self.devices.get(index + usize::from(skip))?;
                (id, number) = (next.id(), 0);
                continue;
            }
            let event = GuestEventId(number);
            number += 1;
            let mapping = device.mapping(event).zip(device.source(event));
            let Some((mapping, source)) = mapping.filter(|(m, _)| m.collection == collection)
            else {
                continue;
            };
            let lpi = mapping.lpi;
            *place = Some((id, number));
            return match (from, to) {
                (_, None) => Some(Effect::Unmap { source, lpi }),
                (None, Some(cpu)) => Some(Effect::Map { source, lpi, cpu }),
                (Some(_), Some(cpu)) => Some(Effect::Move { source, lpi, cpu }),
            };
        }
        *place = Some((id, number));
        None
    }
}
