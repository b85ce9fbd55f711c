//! What the guest's commands ask for. A command is checked whole before anything changes.

use super::device::{GuestDeviceId, GuestEventId, Mapping};
use super::job::Job;
use super::{EVENT_BITS, Vits};
use super::{Source, effect::Effect};
use crate::its::command::{Command, Target, TranslationTable, UnknownCommand};
use crate::its::{CollectionId, DeviceId, EventId};
use crate::vgic::CpuId;
use xen_types::Lpi;

/// Why a command was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such command.
    #[error(transparent)]
    Unknown(UnknownCommand),
    /// The domain has no such device, or its table no room for it.
    #[error("device {:#x} is not the domain's", .0.0)]
    Device(GuestDeviceId),
    /// The device has no such event, or its table no room for it, or it is not mapped.
    #[error("event {} of device {:#x} is not there or not mapped", event.0, device.0)]
    Event {
        /// The device.
        device: GuestDeviceId,
        /// The event.
        event: GuestEventId,
    },
    /// The host has no room for a device.
    #[error("the host's ITS has no room for device {:#x}", .0.0)]
    NoRoom(GuestDeviceId),
    /// More bits than an event has.
    #[error("a table for events of {0} bits")]
    EventBits(u8),
    /// It is no LPI, or beyond those that the domain has.
    #[error("INTID {0} is no LPI of the domain")]
    Lpi(u32),
    /// There is no such collection, or it goes nowhere.
    #[error("collection {} is not there or goes nowhere", .0.0)]
    Collection(CollectionId),
    /// There is no such vCPU.
    #[error("there is no redistributor {0:#x}")]
    Cpu(u64),
}

/// What a command came to.
#[derive(Debug)]
pub enum Begun {
    /// Nothing is left to do.
    Nothing,
    /// One thing, and the command is complete with it.
    Effect(Effect),
    /// More.
    Job(Job),
}

impl Vits {
    /// Checks a command and starts it.
    pub(super) fn begin(&mut self, command: Command) -> Result<Begun, Refusal> {
        match command {
            Command::Mapd { device, table } => self.map_device(device, table).map(Begun::Job),
            Command::Mapc { collection, target } => self.map_collection(collection, target),
            Command::Mapti {
                device,
                event,
                intid,
                collection,
            } => self.map_event(device, event, intid, collection),
            Command::Movi {
                device,
                event,
                collection,
            } => self.move_event(device, event, collection),
            Command::Discard { device, event } => {
                let (mapping, source) = self.mapped(device, event)?;
                let event = GuestEventId(event.0);
                self.device_mut(GuestDeviceId(device.0))?.set(event, None);
                Ok(self.attached(mapping, |lpi, _| Effect::Unmap { source, lpi }))
            }
            Command::Int { device, event } => {
                let (mapping, source) = self.mapped(device, event)?;
                Ok(self.attached(mapping, |lpi, _| Effect::Raise { source, lpi }))
            }
            Command::Clear { device, event } => {
                let (mapping, source) = self.mapped(device, event)?;
                Ok(self.attached(mapping, |lpi, _| Effect::Clear { source, lpi }))
            }
            Command::Inv { device, event } => {
                let (mapping, source) = self.mapped(device, event)?;
                Ok(self.attached(mapping, |lpi, _| Effect::Reload { source, lpi }))
            }
            Command::Invall { collection } => {
                let target = self.target(collection);
                target.ok_or(Refusal::Collection(collection))?;
                Ok(Begun::Job(Job::reload_all()))
            }
            Command::Movall { from, to } => {
                let (from, to) = (self.cpu(from)?, self.cpu(to)?);
                Ok(match from == to {
                    true => Begun::Nothing,
                    false => Begun::Job(Job::move_pending(from, to)),
                })
            }
            // Effects are carried out before the next command.
            Command::Sync { target } => self.cpu(target).map(|_| Begun::Nothing),
        }
    }

    /// What a message raises that is as it should be.
    #[inline]
    pub(super) fn message(&self, device: DeviceId, event: EventId) -> Option<Lpi> {
        let device = self.device(GuestDeviceId(device.0)).ok()?;
        let event = GuestEventId(event.0);
        let mapping = device.mapping(event).filter(|_| device.has_room(event))?;
        self.target(mapping.collection).map(|_| mapping.lpi)
    }

    fn map_device(
        &mut self,
        device: DeviceId,
        table: Option<TranslationTable>,
    ) -> Result<Job, Refusal> {
        let id = self.in_table(device)?;
        let event_bits = table.map(|table| table.event_bits);
        if let Some(bits) = event_bits.filter(|bits| *bits > EVENT_BITS) {
            return Err(Refusal::EventBits(bits));
        }
        let is_offered = self.offers.device(id).is_some();
        match self.device_mut(id) {
            // A table that it had is gone, with what was mapped in it.
            Ok(device) => device.unmap(),
            Err(_) if is_offered => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(Job::unmap_all(id, event_bits))
    }

    fn map_collection(
        &mut self,
        collection: CollectionId,
        target: Option<Target>,
    ) -> Result<Begun, Refusal> {
        let to = target.map(|target| self.cpu(target)).transpose()?;
        let in_table = u64::from(collection.0) < self.registers.collection_room();
        let place = self.collections.get_mut(usize::from(collection.0));
        let place = place
            .filter(|_| in_table)
            .ok_or(Refusal::Collection(collection))?;
        let from = core::mem::replace(place, to);
        Ok(match from == to {
            true => Begun::Nothing,
            false => Begun::Job(Job::send_collection(collection, from, to)),
        })
    }

    fn map_event(
        &mut self,
        device: DeviceId,
        event: EventId,
        intid: u32,
        collection: CollectionId,
    ) -> Result<Begun, Refusal> {
        let id = self.checked(device)?;
        let lpis = self.config.lpis;
        let lpi = Lpi::from_intid(intid)
            .filter(|lpi| lpi.number() < lpis)
            .ok_or(Refusal::Lpi(intid))?;
        if self.collections.len() <= usize::from(collection.0) {
            return Err(Refusal::Collection(collection));
        }
        let event = GuestEventId(event.0);
        let device = self.device_mut(id)?;
        let source = device.source(event).filter(|_| device.has_room(event));
        let source = source.ok_or(Refusal::Event { device: id, event })?;
        // What is mapped stays so until it is discarded.
        if device.mapping(event).is_some() {
            return Ok(Begun::Nothing);
        }
        let mapping = Mapping { lpi, collection };
        device.set(event, Some(mapping));
        Ok(self.attached(mapping, |lpi, cpu| Effect::Map { source, lpi, cpu }))
    }

    fn move_event(
        &mut self,
        device: DeviceId,
        event: EventId,
        collection: CollectionId,
    ) -> Result<Begun, Refusal> {
        let (old, source) = self.mapped(device, event)?;
        let cpu = self.target(collection);
        let cpu = cpu.ok_or(Refusal::Collection(collection))?;
        let from = self.target(old.collection);
        let lpi = old.lpi;
        let mapping = Mapping { collection, ..old };
        self.device_mut(GuestDeviceId(device.0))?
            .set(GuestEventId(event.0), Some(mapping));
        let effect = match from {
            None => Effect::Map { source, lpi, cpu },
            Some(from) if from == cpu => return Ok(Begun::Nothing),
            Some(_) => Effect::Move { source, lpi, cpu },
        };
        Ok(Begun::Effect(effect))
    }

    /// A device of the domain, for which its table has room.
    fn checked(&self, device: DeviceId) -> Result<GuestDeviceId, Refusal> {
        let id = self.in_table(device)?;
        self.device(id).map(|_| id)
    }

    /// An id for which the domain's table has room.
    fn in_table(&self, device: DeviceId) -> Result<GuestDeviceId, Refusal> {
        let id = GuestDeviceId(device.0);
        if u64::from(id.0) >= self.registers.device_room() {
            return Err(Refusal::Device(id));
        }
        Ok(id)
    }

    /// What an event is mapped to, and what it is on the host.
    fn mapped(&self, device: DeviceId, event: EventId) -> Result<(Mapping, Source), Refusal> {
        let id = GuestDeviceId(device.0);
        let event = GuestEventId(event.0);
        let device = self.device(id)?;
        let mapping = device.mapping(event).zip(device.source(event));
        mapping
            .filter(|_| device.has_room(event))
            .ok_or(Refusal::Event { device: id, event })
    }

    /// An effect on the LPI of an event, if its collection goes to a vCPU. Elsewhere messages are
    /// lost, and nothing outside knows of the event.
    fn attached(&self, mapping: Mapping, effect: impl FnOnce(Lpi, CpuId) -> Effect) -> Begun {
        match self.target(mapping.collection) {
            Some(cpu) => Begun::Effect(effect(mapping.lpi, cpu)),
            None => Begun::Nothing,
        }
    }

    fn cpu(&self, target: Target) -> Result<CpuId, Refusal> {
        usize::try_from(target.field())
            .ok()
            .filter(|number| *number < self.config.cpus)
            .and_then(CpuId::new)
            .ok_or(Refusal::Cpu(target.field()))
    }
}
