//! An ITS: registers, command queue, tables in memory and caches of them.

use super::super::alloc::collections::BTreeMap;
use super::super::alloc::format;
use super::super::alloc::vec::Vec;

use xen_types::{Hpa, Lpi};

use super::super::command::{CollectionId, Command, DeviceId, EventId, Target, TranslationTable};
use super::super::layout::{
    Attributes, Baser, CTLR_ENABLED, CTLR_QUIESCENT, Cbaser, GITS_BASER, GITS_CBASER, GITS_CREADR,
    GITS_CTLR, GITS_CWRITER, GITS_PIDR2, GITS_TYPER, QUEUE_FLAG, QUEUE_OFFSET, TableKind,
    level1_page,
};
use super::Kind;
use super::memory::Ram;
use super::redistributor::{FRAMES, RedistributorModel, STRIDE};

/// Entries of all formats: valid.
const VALID: u64 = 1 << 63;

/// An event's entry.
#[derive(Clone, Copy, Debug)]
struct Translation {
    intid: u32,
    collection: CollectionId,
}

#[derive(Debug)]
pub struct ItsModel {
    kind: Kind,
    enabled: bool,
    basers: [u64; 2],
    cbaser: u64,
    creadr: u64,
    cwriter: u64,
    stalled: bool,
    pub hangs: bool,
    pub restless: bool,
    pub stall_next: bool,
    pub executed: Vec<Command>,
    devices: BTreeMap<DeviceId, TranslationTable>,
    translations: BTreeMap<(DeviceId, EventId), Translation>,
    collections: BTreeMap<CollectionId, usize>,
}

/// A command that the ITS does not accept.
struct Wrong;

impl ItsModel {
    pub fn new(kind: Kind) -> Self {
        let baser = |table: TableKind| {
            let baser = Baser {
                kind: table,
                entry_size: 8,
                ..Baser::decode(0)
            };
            baser.encode()
        };
        Self {
            kind,
            enabled: false,
            basers: [baser(TableKind::Devices), baser(TableKind::Collections)],
            cbaser: 0,
            creadr: 0,
            cwriter: 0,
            stalled: false,
            hangs: false,
            restless: false,
            stall_next: false,
            executed: Vec::new(),
            devices: BTreeMap::new(),
            translations: BTreeMap::new(),
            collections: BTreeMap::new(),
        }
    }

    pub fn read32(&self, offset: u32) -> u32 {
        match offset {
            GITS_CTLR if self.enabled => CTLR_ENABLED,
            GITS_CTLR if !self.restless => CTLR_QUIESCENT,
            GITS_PIDR2 => 0x3b,
            _ => 0,
        }
    }

    pub fn write32(&mut self, offset: u32, value: u32) {
        if offset == GITS_CTLR {
            self.enabled = value & CTLR_ENABLED != 0;
        }
    }

    pub fn read64(
        &mut self,
        ram: &mut Ram,
        redistributors: &mut [RedistributorModel],
        offset: u32,
    ) -> u64 {
        match offset {
            GITS_TYPER => self.kind.typer.encode(),
            GITS_CBASER => self.cbaser,
            GITS_CWRITER => self.cwriter,
            GITS_CREADR => {
                for _ in 0..self.kind.speed {
                    self.step(ram, redistributors);
                }
                self.creadr | if self.stalled { QUEUE_FLAG } else { 0 }
            }
            _ => self.baser(offset).copied().unwrap_or(0),
        }
    }

    pub fn write64(&mut self, offset: u32, value: u64) {
        match offset {
            GITS_CBASER if !self.enabled => {
                let mut cbaser = Cbaser::<Hpa>::decode(value);
                cbaser.attributes = self.attributes(cbaser.attributes);
                self.cbaser = cbaser.encode();
                (self.creadr, self.stalled) = (0, false);
            }
            GITS_CWRITER => {
                self.cwriter = value & QUEUE_OFFSET;
                self.stalled &= value & QUEUE_FLAG == 0;
            }
            _ => self.write_baser(offset, value),
        }
    }

    fn baser(&mut self, offset: u32) -> Option<&mut u64> {
        let index = offset.checked_sub(GITS_BASER)? / 8;
        self.basers.get_mut(index as usize)
    }

    fn write_baser(&mut self, offset: u32, value: u64) {
        let kind = self.kind;
        let asked = Baser::decode(value);
        let attributes = self.attributes(asked.attributes);
        if self.enabled {
            return;
        }
        if let Some(register) = self.baser(offset) {
            let fixed = Baser::decode(*register);
            let new = Baser {
                kind: fixed.kind,
                entry_size: fixed.entry_size,
                indirect: asked.indirect && kind.indirect,
                page: kind.only_page.unwrap_or(asked.page),
                attributes,
                ..asked
            };
            *register = new.encode();
        }
    }

    /// What an ITS that does not see caches makes of attributes.
    fn attributes(&self, asked: Attributes) -> Attributes {
        match self.kind.coherent {
            true => asked,
            false => Attributes {
                shareability: 0,
                ..asked
            },
        }
    }

    /// Executes a command, if there is one.
    fn step(&mut self, ram: &mut Ram, redistributors: &mut [RedistributorModel]) {
        let queue = Cbaser::<Hpa>::decode(self.cbaser);
        let idle = !self.enabled || !queue.valid || self.creadr == self.cwriter;
        if idle || self.stalled || self.hangs {
            return;
        }
        let coherent = queue.attributes.is_coherent();
        let words = [0, 8, 16, 24].map(|offset| {
            let at = Hpa::new(queue.at.get() + self.creadr + offset);
            ram.read64(at, coherent)
        });
        let result = match Command::decode(words) {
            _ if core::mem::take(&mut self.stall_next) => Err(Wrong),
            Ok(command) => {
                let result = self.execute(ram, redistributors, command);
                if result.is_ok() {
                    self.executed.push(command);
                }
                result
            }
            Err(_) => Err(Wrong),
        };
        if result.is_err() && self.kind.stalls {
            self.stalled = true;
        } else {
            self.creadr = (self.creadr + 32) % queue.bytes();
        }
    }

    fn execute(
        &mut self,
        ram: &mut Ram,
        redistributors: &mut [RedistributorModel],
        command: Command,
    ) -> Result<(), Wrong> {
        match command {
            Command::Mapd { device, table } => self.map_device(ram, device, table),
            Command::Mapc { collection, target } => {
                let target = match target {
                    Some(target) => Some(self.place_of(redistributors, target)?),
                    None => None,
                };
                self.map_collection(ram, collection, target)
            }
            Command::Mapti {
                device,
                event,
                intid,
                collection,
            } => {
                Lpi::from_intid(intid).ok_or(Wrong)?;
                self.target(ram, collection)?;
                let at = self.entry_of(ram, device, event)?;
                let entry = VALID | u64::from(collection.0) << 32 | u64::from(intid);
                ram.write64(at, entry);
                self.translations.remove(&(device, event));
                Ok(())
            }
            Command::Movi {
                device,
                event,
                collection,
            } => {
                let old = self.translate(ram, device, event)?;
                let from = self.target(ram, old.collection)?;
                let to = self.target(ram, collection)?;
                let at = self.entry_of(ram, device, event)?;
                let entry = VALID | u64::from(collection.0) << 32 | u64::from(old.intid);
                ram.write64(at, entry);
                self.translations.remove(&(device, event));
                if redistributors[from].pending.remove(&old.intid) {
                    redistributors[to].raise(ram, old.intid);
                }
                Ok(())
            }
            Command::Discard { device, event } => {
                let (intid, target) = self.resolve(ram, device, event)?;
                redistributors[target].pending.remove(&intid);
                let at = self.entry_of(ram, device, event)?;
                ram.write64(at, 0);
                self.translations.remove(&(device, event));
                Ok(())
            }
            Command::Int { device, event } => {
                let (intid, target) = self.resolve(ram, device, event)?;
                redistributors[target].raise(ram, intid);
                Ok(())
            }
            Command::Clear { device, event } => {
                let (intid, target) = self.resolve(ram, device, event)?;
                redistributors[target].pending.remove(&intid);
                Ok(())
            }
            Command::Inv { device, event } => {
                let (intid, target) = self.resolve(ram, device, event)?;
                redistributors[target].invalidate(intid);
                Ok(())
            }
            Command::Invall { collection } => {
                let target = self.target(ram, collection)?;
                redistributors[target].invalidate_all();
                Ok(())
            }
            Command::Movall { from, to } => {
                let from = self.place_of(redistributors, from)?;
                let to = self.place_of(redistributors, to)?;
                for intid in core::mem::take(&mut redistributors[from].pending) {
                    redistributors[to].raise(ram, intid);
                }
                Ok(())
            }
            Command::Sync { target } => self.place_of(redistributors, target).map(drop),
        }
    }

    pub fn message(
        &mut self,
        ram: &mut Ram,
        redistributors: &mut [RedistributorModel],
        device: DeviceId,
        event: EventId,
    ) {
        if self.enabled
            && let Ok((intid, target)) = self.resolve(ram, device, event)
        {
            redistributors[target].raise(ram, intid);
        }
    }

    fn place_of(
        &self,
        redistributors: &[RedistributorModel],
        target: Target,
    ) -> Result<usize, Wrong> {
        let number = if self.kind.typer.targets_are_addresses {
            let offset = (target.field() << 16).checked_sub(FRAMES).ok_or(Wrong)?;
            if offset % STRIDE != 0 {
                return Err(Wrong);
            }
            offset / STRIDE
        } else {
            target.field()
        };
        let place = number as usize;
        (place < redistributors.len()).then_some(place).ok_or(Wrong)
    }

    fn map_device(
        &mut self,
        ram: &mut Ram,
        device: DeviceId,
        table: Option<TranslationTable>,
    ) -> Result<(), Wrong> {
        if let Some(table) = table
            && table.event_bits > self.kind.typer.event_bits
        {
            return Err(Wrong);
        }
        let at = self.device_entry(ram, device)?;
        let entry = table.map_or(0, |table| {
            VALID | table.at.get() | u64::from(table.event_bits - 1)
        });
        ram.write64(at, entry);
        self.devices.remove(&device);
        self.translations.retain(|(of, _), _| *of != device);
        Ok(())
    }

    fn map_collection(
        &mut self,
        ram: &mut Ram,
        collection: CollectionId,
        target: Option<usize>,
    ) -> Result<(), Wrong> {
        self.collections.remove(&collection);
        if collection.0 < self.kind.typer.held_collections.into() {
            if let Some(target) = target {
                self.collections.insert(collection, target);
            }
            return Ok(());
        }
        let at = self.collection_entry(collection)?;
        ram.write64(at, target.map_or(0, |target| VALID | target as u64));
        Ok(())
    }

    /// Where a collection goes.
    fn target(&mut self, ram: &mut Ram, collection: CollectionId) -> Result<usize, Wrong> {
        if let Some(target) = self.collections.get(&collection) {
            return Ok(*target);
        }
        if collection.0 < self.kind.typer.held_collections.into() {
            return Err(Wrong);
        }
        let at = self.collection_entry(collection)?;
        let table = Baser::decode(self.basers[1]);
        let entry = ram.read64(at, table.attributes.is_coherent());
        if entry & VALID == 0 {
            return Err(Wrong);
        }
        let target = (entry & !VALID) as usize;
        if target > 0xffff {
            ram.violate(format!(
                "garbage in the entry of collection {}",
                collection.0
            ));
            return Err(Wrong);
        }
        self.collections.insert(collection, target);
        Ok(target)
    }

    fn collection_entry(&self, collection: CollectionId) -> Result<Hpa, Wrong> {
        let table = Baser::decode(self.basers[1]);
        let index = u64::from(collection.0);
        let fits = table.valid && index < table.capacity();
        fits.then(|| Hpa::new(table.at.get() + index * 8))
            .ok_or(Wrong)
    }

    fn device_entry(&self, ram: &mut Ram, device: DeviceId) -> Result<Hpa, Wrong> {
        let table = Baser::decode(self.basers[0]);
        let index = u64::from(device.0);
        let known = index >> self.kind.typer.device_bits == 0;
        if !known || !table.valid || index >= table.capacity() {
            return Err(Wrong);
        }
        if !table.indirect {
            return Ok(Hpa::new(table.at.get() + index * 8));
        }
        let (page, place) = (
            index / table.entries_of_page(),
            index % table.entries_of_page(),
        );
        let level1 = Hpa::new(table.at.get() + page * 8);
        let page = level1_page(ram.read64(level1, table.attributes.is_coherent()));
        Ok(Hpa::new(page.ok_or(Wrong)?.get() + place * 8))
    }

    fn table_of(&mut self, ram: &mut Ram, device: DeviceId) -> Result<TranslationTable, Wrong> {
        if let Some(table) = self.devices.get(&device) {
            return Ok(*table);
        }
        let at = self.device_entry(ram, device)?;
        let coherent = Baser::decode(self.basers[0]).attributes.is_coherent();
        let entry = ram.read64(at, coherent);
        if entry & VALID == 0 {
            return Err(Wrong);
        }
        let table = TranslationTable {
            at: Hpa::new(entry & 0x000f_ffff_ffff_ff00),
            event_bits: (entry & 0x1f) as u8 + 1,
        };
        self.devices.insert(device, table);
        Ok(table)
    }

    fn entry_of(&mut self, ram: &mut Ram, device: DeviceId, event: EventId) -> Result<Hpa, Wrong> {
        let table = self.table_of(ram, device)?;
        let index = u64::from(event.0);
        if index >> table.event_bits != 0 {
            return Err(Wrong);
        }
        let size = u64::from(self.kind.typer.entry_size);
        Ok(Hpa::new(table.at.get() + index * size))
    }

    fn translate(
        &mut self,
        ram: &mut Ram,
        device: DeviceId,
        event: EventId,
    ) -> Result<Translation, Wrong> {
        if let Some(known) = self.translations.get(&(device, event)) {
            return Ok(*known);
        }
        let at = self.entry_of(ram, device, event)?;
        // Translation tables have the attributes of the device table.
        let coherent = Baser::decode(self.basers[0]).attributes.is_coherent();
        let entry = ram.read64(at, coherent);
        if entry & VALID == 0 {
            return Err(Wrong);
        }
        let translation = Translation {
            intid: entry as u32,
            collection: CollectionId((entry >> 32) as u16),
        };
        if Lpi::from_intid(translation.intid).is_none() {
            ram.violate(format!("garbage in the entry of event {}", event.0));
            return Err(Wrong);
        }
        self.translations.insert((device, event), translation);
        Ok(translation)
    }

    fn resolve(
        &mut self,
        ram: &mut Ram,
        device: DeviceId,
        event: EventId,
    ) -> Result<(u32, usize), Wrong> {
        let translation = self.translate(ram, device, event)?;
        let target = self.target(ram, translation.collection)?;
        Ok((translation.intid, target))
    }
}
