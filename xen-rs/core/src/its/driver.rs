//! An ITS as a whole: set-up, collections, devices and their events.
//!
//! Every operation is complete when it returns: its commands were executed, and a SYNC made their
//! effects visible. What the ITS may still read after a time-out is not freed.

use super::alloc::vec::Vec;

use xen_types::{Hpa, Lpi};

use super::command::{CollectionId, Command, DeviceId, EventId, Target, TranslationTable};
use super::device::{Device, Mapping};
use super::layout::{GITS_PIDR2, GITS_TYPER, TableKind, Typer, architecture};
use super::queue::{self, Queue};
use super::table::{IdTable, Table, invalidate_all};
use super::{Host, ItsError, Registers};

/// What the platform says about an ITS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Whether it sees the CPUs' caches; false for `dma-noncoherent`. If true, its registers are
    /// asked, too.
    pub coherent: bool,
    /// How many collections are needed: one for each CPU.
    pub collections: u16,
}

/// A redistributor, in both ways in which commands name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redistributor {
    /// `GICR_TYPER.Processor_Number`.
    pub number: u16,
    /// Its first frame.
    pub frames: Hpa,
}

/// Whether something is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// It is.
    Done,
    /// The same call continues it.
    More,
}

/// How many events a call of [`Its::remove_device`] discards.
const DISCARDS: usize = 32;

/// A physical ITS.
#[derive(Debug)]
pub struct Its<R> {
    registers: R,
    typer: Typer,
    queue: Queue,
    devices: IdTable,
    /// Memory that it owns for collections, if it needs any.
    _collections: Option<IdTable>,
    targets: Vec<Option<Target>>,
    /// By id, ascending.
    known: Vec<Device>,
}

impl<R: Registers> Its<R> {
    /// Takes an ITS over from whoever had it, and starts it with no device and no collection.
    ///
    /// # Errors
    /// [`ItsError::NotThere`], [`ItsError::NotQuiescent`], [`ItsError::NoTable`],
    /// [`ItsError::NoMemory`].
    pub fn start(registers: R, host: &mut impl Host, config: Config) -> Result<Self, ItsError> {
        let identification = registers.read32(GITS_PIDR2);
        if !matches!(architecture(identification), 3 | 4) {
            return Err(ItsError::NotThere(identification));
        }
        queue::stop(&registers, host)?;
        invalidate_all(&registers);
        let typer = Typer::decode(registers.read64(GITS_TYPER));
        let coherent = config.coherent;
        let ids = 1 << typer.device_bits;
        let devices = IdTable::set_up(&registers, host, TableKind::Devices, ids, coherent)?;
        let devices = devices.ok_or(ItsError::NoTable("device"))?;
        let collections = set_up_collections(&registers, host, typer, config)?;
        let queue = Queue::set_up(&registers, host, coherent)?;
        queue::start(&registers);
        Ok(Self {
            registers,
            typer,
            queue,
            devices,
            _collections: collections,
            targets: no_targets(config.collections)?,
            known: Vec::new(),
        })
    }

    /// What it says about itself.
    pub const fn typer(&self) -> Typer {
        self.typer
    }

    /// How many device ids it has room for.
    pub const fn device_limit(&self) -> u64 {
        self.devices.limit()
    }

    /// Sends a collection to a redistributor that takes LPIs. What is pending at its former one
    /// stays there ([`Its::move_pending`]).
    ///
    /// # Errors
    /// [`ItsError::UnknownCollection`], [`ItsError::Redistributor`], or the queue's.
    pub fn map_collection(
        &mut self,
        host: &mut impl Host,
        collection: CollectionId,
        to: Redistributor,
    ) -> Result<(), ItsError> {
        let target = self.target_of(to)?;
        let index = usize::from(collection.0);
        let unknown = ItsError::UnknownCollection(collection);
        let old = self.targets.get(index).ok_or(unknown)?.unwrap_or(target);
        let mapped = Command::Mapc {
            collection,
            target: Some(target),
        };
        let sync = |target| Command::Sync { target };
        let reload = Command::Invall { collection };
        self.run(host, &[mapped, sync(old), reload, sync(target)])?;
        if let Some(place) = self.targets.get_mut(index) {
            *place = Some(target);
        }
        Ok(())
    }

    /// Moves what is pending at a redistributor to another.
    ///
    /// # Errors
    /// [`ItsError::Redistributor`], or the queue's.
    pub fn move_pending(
        &mut self,
        host: &mut impl Host,
        from: Redistributor,
        to: Redistributor,
    ) -> Result<(), ItsError> {
        let (from, to) = (self.target_of(from)?, self.target_of(to)?);
        let sync = |target| Command::Sync { target };
        self.run(host, &[Command::Movall { from, to }, sync(from), sync(to)])
    }

    /// Gives a device a translation table for `events` events.
    ///
    /// # Errors
    /// [`ItsError::Known`], [`ItsError::Events`], [`ItsError::DeviceId`], [`ItsError::NoMemory`],
    /// or the queue's.
    pub fn add_device(
        &mut self,
        host: &mut impl Host,
        id: DeviceId,
        events: u32,
    ) -> Result<(), ItsError> {
        let Err(place) = self.place_of(id) else {
            return Err(ItsError::Known(id));
        };
        let event_bits = self.event_bits(id, events)?;
        let no_memory = ItsError::NoMemory {
            what: "devices",
            size: 1,
        };
        self.known.try_reserve(1).map_err(|_| no_memory)?;
        self.devices.make_room(host, id)?;
        let size = (u64::from(self.typer.entry_size) << event_bits).next_multiple_of(256);
        let table = Table::allocate(host, "translation table", size, 256)?;
        let at = table.at();
        let device = Device::new(id, events, table).map_err(|(error, table)| {
            table.free(host);
            error
        })?;
        let table = TranslationTable { at, event_bits };
        let map = Command::Mapd {
            device: id,
            table: Some(table),
        };
        let mapped = self.run_and_sync_any(host, map);
        match mapped {
            Err(ItsError::Refused(_)) => device.table.free(host),
            Err(_) => {}
            Ok(()) => self.known.insert(place, device),
        }
        mapped
    }

    /// Discards a device's events, some at a time, then takes its translation table away.
    ///
    /// # Errors
    /// [`ItsError::UnknownDevice`], or the queue's.
    pub fn remove_device(
        &mut self,
        host: &mut impl Host,
        id: DeviceId,
    ) -> Result<Progress, ItsError> {
        let mut from = EventId(0);
        for _ in 0..DISCARDS {
            let Some((event, _)) = self.device(id)?.next_mapped(from) else {
                return self.unmap_device(host, id).map(|()| Progress::Done);
            };
            self.discard_event(host, id, event)?;
            from = event;
        }
        Ok(Progress::More)
    }

    fn unmap_device(&mut self, host: &mut impl Host, id: DeviceId) -> Result<(), ItsError> {
        let place = self.place_of(id).map_err(|_| ItsError::UnknownDevice(id))?;
        let unmap = Command::Mapd {
            device: id,
            table: None,
        };
        self.run_and_sync_any(host, unmap)?;
        self.known.remove(place).table.free(host);
        Ok(())
    }

    /// Maps an event of a device to an LPI, with its configuration as it stands.
    ///
    /// # Errors
    /// [`ItsError::UnknownDevice`], [`ItsError::UnknownEvent`], [`ItsError::Mapped`],
    /// [`ItsError::UnknownCollection`], or the queue's.
    pub fn map_event(
        &mut self,
        host: &mut impl Host,
        device: DeviceId,
        event: EventId,
        lpi: Lpi,
        collection: CollectionId,
    ) -> Result<(), ItsError> {
        self.device(device)?.check_free(event)?;
        let target = self.target(collection)?;
        let map = Command::map(device, event, lpi, collection);
        let reload = Command::Inv { device, event };
        self.run(host, &[map, reload, Command::Sync { target }])?;
        let mapping = Mapping { lpi, collection };
        self.set(device, event, Some(mapping));
        Ok(())
    }

    /// Sends an event to another collection, with what is pending.
    ///
    /// # Errors
    /// [`ItsError::UnknownDevice`], [`ItsError::UnknownEvent`], [`ItsError::UnknownCollection`],
    /// or the queue's.
    pub fn move_event(
        &mut self,
        host: &mut impl Host,
        device: DeviceId,
        event: EventId,
        collection: CollectionId,
    ) -> Result<(), ItsError> {
        let mapping = self.device(device)?.mapping(event)?;
        if mapping.collection == collection {
            return Ok(());
        }
        let from = self.target(mapping.collection)?;
        let to = self.target(collection)?;
        let movi = Command::Movi {
            device,
            event,
            collection,
        };
        let sync = |target| Command::Sync { target };
        self.run(host, &[movi, sync(from), sync(to)])?;
        let mapping = Mapping {
            collection,
            ..mapping
        };
        self.set(device, event, Some(mapping));
        Ok(())
    }

    /// Ends the mapping of an event; its LPI is not pending any more, and can be given to others.
    ///
    /// # Errors
    /// [`ItsError::UnknownDevice`], [`ItsError::UnknownEvent`], or the queue's.
    pub fn discard_event(
        &mut self,
        host: &mut impl Host,
        device: DeviceId,
        event: EventId,
    ) -> Result<(), ItsError> {
        self.run_for_event(host, device, event, Command::Discard { device, event })?;
        self.set(device, event, None);
        Ok(())
    }

    /// Makes an event's LPI pending.
    ///
    /// # Errors
    /// As [`Its::discard_event`].
    pub fn raise(
        &mut self,
        host: &mut impl Host,
        device: DeviceId,
        event: EventId,
    ) -> Result<(), ItsError> {
        self.run_for_event(host, device, event, Command::Int { device, event })
    }

    /// Makes an event's LPI not pending.
    ///
    /// # Errors
    /// As [`Its::discard_event`].
    pub fn clear(
        &mut self,
        host: &mut impl Host,
        device: DeviceId,
        event: EventId,
    ) -> Result<(), ItsError> {
        self.run_for_event(host, device, event, Command::Clear { device, event })
    }

    /// Has the configuration of an event's LPI read again, after [`super::Lpis::configure`].
    ///
    /// # Errors
    /// As [`Its::discard_event`].
    pub fn reload(
        &mut self,
        host: &mut impl Host,
        device: DeviceId,
        event: EventId,
    ) -> Result<(), ItsError> {
        self.run_for_event(host, device, event, Command::Inv { device, event })
    }

    /// The LPI and the collection of an event.
    ///
    /// # Errors
    /// [`ItsError::UnknownDevice`], [`ItsError::UnknownEvent`].
    pub fn mapping(
        &self,
        device: DeviceId,
        event: EventId,
    ) -> Result<(Lpi, CollectionId), ItsError> {
        let mapping = self.device(device)?.mapping(event)?;
        Ok((mapping.lpi, mapping.collection))
    }

    fn run_for_event(
        &mut self,
        host: &mut impl Host,
        device: DeviceId,
        event: EventId,
        command: Command,
    ) -> Result<(), ItsError> {
        let mapping = self.device(device)?.mapping(event)?;
        let target = self.target(mapping.collection)?;
        self.run(host, &[command, Command::Sync { target }])
    }

    /// A command that concerns no redistributor, and a SYNC as the architecture knows no other
    /// barrier.
    fn run_and_sync_any(&mut self, host: &mut impl Host, command: Command) -> Result<(), ItsError> {
        match self.any_target() {
            Some(target) => self.run(host, &[command, Command::Sync { target }]),
            None => self.run(host, &[command]),
        }
    }

    fn run(&mut self, host: &mut impl Host, commands: &[Command]) -> Result<(), ItsError> {
        let harmless = self.any_target();
        self.queue
            .execute(&self.registers, host, commands, harmless)
    }

    fn any_target(&self) -> Option<Target> {
        self.targets.iter().copied().flatten().next()
    }

    fn target(&self, collection: CollectionId) -> Result<Target, ItsError> {
        let target = self.targets.get(usize::from(collection.0)).copied();
        target
            .flatten()
            .ok_or(ItsError::UnknownCollection(collection))
    }

    fn target_of(&self, redistributor: Redistributor) -> Result<Target, ItsError> {
        if self.typer.targets_are_addresses {
            let frames = redistributor.frames;
            Target::of_address(frames).ok_or(ItsError::Redistributor(frames))
        } else {
            Ok(Target::of_number(redistributor.number))
        }
    }

    /// The bits that tell `events` events apart: one at least.
    fn event_bits(&self, device: DeviceId, events: u32) -> Result<u8, ItsError> {
        let most = 1 << self.typer.event_bits;
        if events == 0 || u64::from(events) > most {
            return Err(ItsError::Events {
                device,
                events,
                most,
            });
        }
        let bits = u32::BITS - (events - 1).leading_zeros();
        Ok(bits.max(1) as u8)
    }

    fn place_of(&self, id: DeviceId) -> Result<usize, usize> {
        self.known.binary_search_by_key(&id, |device| device.id)
    }

    fn device(&self, id: DeviceId) -> Result<&Device, ItsError> {
        let place = self.place_of(id).ok();
        place
            .and_then(|place| self.known.get(place))
            .ok_or(ItsError::UnknownDevice(id))
    }

    fn set(&mut self, device: DeviceId, event: EventId, mapping: Option<Mapping>) {
        if let Ok(place) = self.place_of(device)
            && let Some(device) = self.known.get_mut(place)
        {
            device.set(event, mapping);
        }
    }
}

/// Memory for as many collections as are needed, where the ITS does not hold them itself.
fn set_up_collections(
    registers: &impl Registers,
    host: &mut impl Host,
    typer: Typer,
    config: Config,
) -> Result<Option<IdTable>, ItsError> {
    let needed = u64::from(config.collections);
    let no_table = Err(ItsError::NoTable("collection"));
    if needed > 1 << typer.collection_bits {
        return no_table;
    }
    // Ids below HCC are held whether or not there is memory (12.19.12).
    if needed <= typer.held_collections.into() {
        return Ok(None);
    }
    let kind = TableKind::Collections;
    match IdTable::set_up(registers, host, kind, needed, config.coherent)? {
        None => no_table,
        table => Ok(table),
    }
}

fn no_targets(count: u16) -> Result<Vec<Option<Target>>, ItsError> {
    let mut targets = Vec::new();
    targets
        .try_reserve_exact(count.into())
        .map_err(|_| ItsError::NoMemory {
            what: "collections",
            size: count.into(),
        })?;
    targets.resize(count.into(), None);
    Ok(targets)
}
