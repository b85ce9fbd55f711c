//! An SMMUv3 with stage 2 (IHI 0070): its registers. The numbers are written down a second time
//! here, apart from the driver's.

mod commands;
mod configuration;
mod events;
mod translation;

use std::collections::HashMap;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, mem};

use xen_types::{Gpa, Hpa};

use self::configuration::Configurations;
use self::translation::Translations;
use super::Denied;
use super::memory::Memory;
use crate::{Access, StreamId};

/// The id registers, 0 to 5.
#[derive(Clone, Copy, Debug)]
pub struct Ids(pub [u32; 6]);

impl Default for Ids {
    /// As QEMU's: two levels, little-endian, VMIDs of 16 bits, coherent, stage 1 and 2; queues of up to
    /// 2^19 entries, stream ids of 16 bits; range invalidation; 4, 16 and 64 KiB, 44 bits.
    fn default() -> Self {
        let idr0 =
            1 << 27 | 0b01 << 24 | 0b10 << 21 | 1 << 18 | 1 << 12 | 1 << 4 | 0b10 << 2 | 0b11;
        Self([
            idr0,
            19 << 21 | 19 << 16 | 16,
            0,
            1 << 10,
            0,
            0b111 << 4 | 4,
        ])
    }
}

impl Ids {
    /// The same without sight of caches.
    pub fn incoherent(mut self) -> Self {
        self.0[0] &= !(1 << 4);
        self
    }

    /// The same without range invalidation.
    pub fn without_ranges(mut self) -> Self {
        self.0[3] &= !(1 << 10);
        self
    }

    /// The same without tables of two levels.
    pub fn linear(mut self, stream_bits: u32) -> Self {
        self.0[0] &= !(0b11 << 27);
        self.0[1] = self.0[1] & !0x3f | stream_bits;
        self
    }

    /// The same with queues of at most 2^`commands` commands and 2^`events` events.
    pub fn queues(mut self, commands: u32, events: u32) -> Self {
        self.0[1] = self.0[1] & !(0x3ff << 16) | commands << 21 | events << 16;
        self
    }

    /// The same, but all faults stall.
    pub fn stalling(mut self) -> Self {
        self.0[0] = self.0[0] & !(0b11 << 24) | 0b10 << 24;
        self
    }

    pub(super) fn is_coherent(self) -> bool {
        self.0[0] >> 4 & 1 == 1
    }

    fn has_ranges(self) -> bool {
        self.0[3] >> 10 & 1 == 1
    }

    fn has_two_levels(self) -> bool {
        self.0[0] >> 27 & 0b11 == 1
    }

    fn always_stalls(self) -> bool {
        self.0[0] >> 24 & 0b11 == 0b10
    }

    fn output_bits(self) -> u32 {
        [32, 36, 40, 42, 44, 48][(self.0[5] & 7) as usize]
    }
}

/// How fast commands are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// At once.
    Immediate,
    /// So many each time that software looks.
    PerLook(u32),
    /// None.
    Stuck,
}

const CMDQ_ERR: u32 = 1;
const SMMUEN: u32 = 1;
const EVENTQEN: u32 = 1 << 2;
const CMDQEN: u32 = 1 << 3;

pub(super) struct SmmuV3 {
    ids: Ids,
    cr0: u32,
    cr0_ack: u32,
    gbpa: u32,
    irq_ctrl: u32,
    irq_ctrl_ack: u32,
    gerror: u32,
    gerrorn: u32,
    table: Hpa,
    table_shape: u32,
    /// CR1, CR2.
    others: HashMap<u32, u32>,
    commands: Queue,
    /// `CMDQ_CONS.ERR`.
    command_error: u32,
    events: Queue,
    configurations: Configurations,
    translations: Translations,
    /// Commands whose effect waits for a CMD_SYNC.
    begun: Vec<[u64; 2]>,
    done: Vec<u8>,
    /// Tags of stalled transactions, by stream.
    waiting: Vec<(u32, u16)>,
    next_tag: u16,
    pace: Pace,
    failing_fetches: u32,
    acknowledges: bool,
    present: bool,
    accesses: u64,
    violations: Vec<String>,
}

/// Base and indexes of a queue.
#[derive(Default)]
struct Queue {
    base: u64,
    producer: u32,
    consumer: u32,
}

impl Queue {
    fn log2(&self) -> u32 {
        (self.base & 0x1f) as u32
    }

    fn mask(&self) -> u32 {
        (2 << self.log2()) - 1
    }

    fn entry(&self, index: u32, bytes: u64) -> Hpa {
        let slot = index & (self.mask() >> 1);
        Hpa::new((self.base & 0x000f_ffff_ffff_ffe0) + u64::from(slot) * bytes)
    }

    fn is_empty(&self) -> bool {
        (self.producer ^ self.consumer) & self.mask() == 0
    }

    fn is_full(&self) -> bool {
        (self.producer ^ self.consumer) & self.mask() == 1 << self.log2()
    }
}

impl SmmuV3 {
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            cr0: 0,
            cr0_ack: 0,
            gbpa: 0x1000,
            irq_ctrl: 0,
            irq_ctrl_ack: 0,
            gerror: 0,
            gerrorn: 0,
            table: Hpa::new(0),
            table_shape: 0,
            others: HashMap::new(),
            commands: Queue::default(),
            command_error: 0,
            events: Queue::default(),
            configurations: Configurations::default(),
            translations: Translations::default(),
            begun: Vec::new(),
            done: Vec::new(),
            waiting: Vec::new(),
            next_tag: 0,
            pace: Pace::Immediate,
            failing_fetches: 0,
            acknowledges: true,
            present: true,
            accesses: 0,
            violations: Vec::new(),
        }
    }

    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    pub(super) fn fail_fetches(&mut self, count: u32) {
        self.failing_fetches = count;
    }

    pub(super) fn stop_acknowledging(&mut self) {
        self.acknowledges = false;
    }

    pub(super) fn remove(&mut self) {
        self.present = false;
    }

    pub(super) fn raise(&mut self, errors: u32) {
        let inactive = !(self.gerror ^ self.gerrorn);
        self.gerror ^= errors & inactive;
    }

    pub(super) fn wants_service(&self) -> bool {
        let errors = (self.gerror ^ self.gerrorn) & !CMDQ_ERR != 0;
        let events = !self.events.is_empty();
        errors && self.irq_ctrl & 1 != 0 || events && self.irq_ctrl >> 2 & 1 != 0
    }

    pub(super) fn stalled(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn take_commands(&mut self) -> Vec<u8> {
        mem::take(&mut self.done)
    }

    pub(super) fn take_accesses(&mut self) -> u64 {
        mem::take(&mut self.accesses)
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }

    fn violation(&mut self, what: &str) {
        self.violations.push(what.to_string());
    }

    pub(super) fn read32(&mut self, memory: &mut Memory, offset: u32) -> u32 {
        self.accesses += 1;
        if !self.present {
            return u32::MAX;
        }
        match offset {
            0..0x18 => self.ids.0[offset as usize / 4],
            0x20 => self.cr0,
            0x24 => self.cr0_ack,
            0x44 => self.gbpa,
            0x50 => self.irq_ctrl,
            0x54 => self.irq_ctrl_ack,
            0x60 => self.gerror,
            0x64 => self.gerrorn,
            0x98 => self.commands.producer,
            0x9c => {
                if let Pace::PerLook(count) = self.pace {
                    self.consume(memory, count);
                }
                self.commands.consumer & self.commands.mask() | self.command_error << 24
            }
            0x1_00a8 => self.events.producer,
            0x1_00ac => self.events.consumer,
            other => {
                self.violation(&format!("32 bits are read at {other:#x}"));
                0
            }
        }
    }

    pub(super) fn write32(&mut self, memory: &mut Memory, offset: u32, value: u32) {
        self.accesses += 1;
        if !self.present {
            return;
        }
        let off = |bit: u32, cr0: u32| cr0 & bit == 0;
        let cr0 = self.cr0 | self.cr0_ack;
        let allowed = match offset {
            0x28 | 0x2c => cr0 & 0xf == 0,
            0x88 => off(SMMUEN, cr0),
            0x9c => off(CMDQEN, cr0),
            0x1_00a8 => off(EVENTQEN, cr0),
            _ => true,
        };
        if !allowed {
            self.violation(&format!("{offset:#x} is written with CR0 {cr0:#x}"));
        }
        match offset {
            0x20 => self.write_cr0(value),
            0x28 | 0x2c => {
                self.others.insert(offset, value);
            }
            0x44 => self.write_gbpa(value),
            0x50 => {
                self.irq_ctrl = value;
                if self.acknowledges {
                    self.irq_ctrl_ack = value;
                }
            }
            0x64 => {
                self.gerrorn = value;
                self.consume_at_once(memory);
            }
            0x88 => self.table_shape = value,
            0x98 => {
                self.commands.producer = value;
                self.consume_at_once(memory);
            }
            0x9c => self.commands.consumer = value,
            0x1_00a8 => self.events.producer = value,
            0x1_00ac => self.events.consumer = value,
            other => self.violation(&format!("32 bits are written at {other:#x}")),
        }
    }

    fn write_cr0(&mut self, value: u32) {
        if value & SMMUEN != 0 && self.others.len() < 2 {
            self.violation("CR1 or CR2 was not written before SMMUEN");
        }
        self.cr0 = value;
        if self.acknowledges {
            self.cr0_ack = value;
        }
    }

    fn write_gbpa(&mut self, value: u32) {
        if value >> 31 == 0 {
            return self.violation("GBPA is written without UPDATE");
        }
        self.gbpa = if self.acknowledges {
            value & !(1 << 31)
        } else {
            self.gbpa | 1 << 31
        };
    }

    pub(super) fn write64(&mut self, offset: u32, value: u64) {
        self.accesses += 1;
        let cr0 = self.cr0 | self.cr0_ack;
        let (bit, place) = match offset {
            0x80 => {
                self.table = Hpa::new(value & 0x000f_ffff_ffff_ffc0);
                (SMMUEN, None)
            }
            0x90 => (CMDQEN, Some(&mut self.commands.base)),
            0xa0 => (EVENTQEN, Some(&mut self.events.base)),
            // Messages: none.
            0x68 | 0xb0 if value == 0 => (0, None),
            other => return self.violation(&format!("{value:#x} is written at {other:#x}")),
        };
        if let Some(place) = place {
            *place = value;
        }
        if cr0 & bit != 0 {
            self.violation(&format!("{offset:#x} is written with CR0 {cr0:#x}"));
        }
    }

    /// A transaction of a device.
    pub(super) fn transaction(
        &mut self,
        memory: &mut Memory,
        stream: StreamId,
        address: Gpa,
        access: Access,
    ) -> Result<Hpa, Denied> {
        if self.cr0_ack & SMMUEN == 0 {
            let aborts = self.gbpa >> 20 & 1 == 1;
            let passes = Hpa::new(address.get());
            return if aborts {
                Err(Denied::Aborted)
            } else {
                Ok(passes)
            };
        }
        let entry = match self.configurations.find(memory, &self.shape(), stream) {
            Ok(entry) => entry,
            Err(event) => return self.fault(memory, event, stream, None, false),
        };
        let translation = match configuration::decode(&entry, self.ids) {
            Ok(configuration::Meaning::Abort) => return Err(Denied::Aborted),
            Ok(configuration::Meaning::Bypass) => return Ok(Hpa::new(address.get())),
            Ok(configuration::Meaning::Stage2(translation)) => translation,
            Err(event) => return self.fault(memory, event, stream, None, false),
        };
        let output_bits = self.ids.output_bits();
        let found = self
            .translations
            .translate(memory, &translation, address, access, output_bits);
        match found {
            Ok(output) => Ok(output),
            Err(event) => {
                let where_and_what = Some((address, access));
                self.fault(memory, event, stream, where_and_what, translation.stalls)
            }
        }
    }

    fn shape(&self) -> configuration::Shape {
        configuration::Shape {
            base: self.table,
            register: self.table_shape,
            two_levels: self.ids.has_two_levels(),
        }
    }

    pub(super) fn note_write(&mut self, at: Hpa, former: u64) {
        self.configurations.note_write(at, former);
    }

    pub(super) fn possible_translations(
        &self,
        memory: &Memory,
        stream: StreamId,
    ) -> Vec<(u16, Hpa)> {
        let entries = self.configurations.possible(memory, &self.shape(), stream);
        let meanings = entries
            .iter()
            .map(|entry| configuration::decode(entry, self.ids));
        meanings
            .filter_map(|meaning| match meaning {
                Ok(configuration::Meaning::Stage2(found)) => Some((found.vmid, found.root)),
                Ok(configuration::Meaning::Bypass) => panic!("{stream} may pass"),
                Ok(configuration::Meaning::Abort) | Err(_) => None,
            })
            .collect()
    }

    /// What of `bytes` from `start` could still be used.
    pub(super) fn remembers(&self, start: Hpa, bytes: u64) -> Option<String> {
        self.configurations
            .remembers(start, bytes)
            .or_else(|| self.translations.remembers(start, bytes))
    }
}
