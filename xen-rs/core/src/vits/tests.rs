//! The virtual ITS with a guest that drives it, right and wrong.

extern crate std;

mod commands;
mod linux;
mod offers;
mod properties;
mod registers;
mod whole;

use std::collections::BTreeMap;
use std::vec::Vec;

use xen_types::{Gpa, Lpi};

use super::{Config, Effect, GuestDeviceId, HostDevice, Progress, Source, Vits};
use crate::its::command::{Command, Target, TranslationTable, Words};
use crate::its::layout::{
    GITS_BASER, GITS_CBASER, GITS_CREADR, GITS_CTLR, GITS_CWRITER, GITS_TYPER,
};
use crate::its::{CollectionId, DeviceId, EventId, LpiAllocator};
use crate::vgic::{Access, BadAddress, CpuId, Direction, GuestMemory, Width};
use xen_types::Hpa;

const QUEUE: u64 = 0x4800_0000;
const QUEUE_BYTES: u64 = 0x1000;

/// Bytes of guest memory that are not zero.
#[derive(Clone, Default)]
pub(super) struct Memory {
    pub bytes: BTreeMap<u64, u8>,
    /// From here on there is none.
    pub end: Option<u64>,
}

impl Memory {
    pub fn write64(&mut self, at: u64, value: u64) {
        for (address, byte) in (at..).zip(value.to_le_bytes()) {
            self.bytes.insert(address, byte);
        }
    }
}

impl GuestMemory for Memory {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), BadAddress> {
        let end = at.get().checked_add(into.len() as u64);
        if end.is_none() || self.end.is_some_and(|limit| end > Some(limit)) {
            return Err(BadAddress(at));
        }
        for (address, byte) in (at.get()..).zip(into) {
            *byte = self.bytes.get(&address).copied().unwrap_or(0);
        }
        Ok(())
    }
}

/// An ITS and a guest's driver of it.
pub(super) struct Guest {
    pub vits: Vits,
    pub memory: Memory,
    writer: u64,
}

fn cpu(number: usize) -> CpuId {
    CpuId::new(number).unwrap()
}

fn lpi(number: u32) -> Lpi {
    Lpi::new(number).unwrap()
}

fn collection(number: u16) -> CollectionId {
    CollectionId(number)
}

impl Guest {
    /// A guest with 4 vCPUs and 8192 LPIs, which has done nothing yet.
    fn unborn() -> Self {
        let config = Config {
            cpus: 4,
            lpis: 8192,
            device_bits: 16,
        };
        Self {
            vits: Vits::new(config).unwrap(),
            memory: Memory::default(),
            writer: 0,
        }
    }

    /// One that has given tables and a queue, and mapped a collection for each vCPU.
    fn new() -> Self {
        let mut guest = Self::unborn();
        guest.set_up();
        for number in 0..4 {
            guest.mapc(number, Some(number));
        }
        guest
    }

    fn set_up(&mut self) {
        self.write(GITS_BASER, 1 << 63 | 0x4900_0000 | 2 << 8 | 7);
        self.write(GITS_BASER + 8, 1 << 63 | 0x4a00_0000 | 2 << 8);
        self.write(GITS_CBASER, 1 << 63 | QUEUE);
        self.write32(GITS_CTLR, 1);
    }

    fn access(&mut self, offset: u32, width: Width, direction: Direction) -> u64 {
        self.vits.access(Access {
            offset,
            width,
            direction,
        })
    }

    pub fn write(&mut self, offset: u32, value: u64) {
        self.access(offset, Width::Double, Direction::Write(value));
    }

    pub fn write32(&mut self, offset: u32, value: u32) {
        self.access(offset, Width::Word, Direction::Write(value.into()));
    }

    pub fn read(&mut self, offset: u32) -> u64 {
        self.access(offset, Width::Double, Direction::Read)
    }

    pub fn read32(&mut self, offset: u32) -> u32 {
        self.access(offset, Width::Word, Direction::Read) as u32
    }

    /// Puts a command into the queue and tells of it.
    pub fn queue(&mut self, words: Words) {
        for (index, word) in (0..).zip(words) {
            self.memory.write64(QUEUE + self.writer + index * 8, word);
        }
        self.writer = (self.writer + 32) % QUEUE_BYTES;
        self.write(GITS_CWRITER, self.writer);
    }

    /// Has all commands executed.
    pub fn finish(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..1_000_000 {
            let carry_out = |effect| effects.push(effect);
            if self.vits.run(&self.memory, 3, carry_out) == Progress::Done {
                assert_eq!(self.read(GITS_CREADR) & 0xf_ffe0, self.writer);
                return effects;
            }
        }
        panic!("commands without end");
    }

    /// Executes a command.
    pub fn run(&mut self, command: Command) -> Vec<Effect> {
        self.queue(command.encode());
        self.finish()
    }

    /// Executes a command that must be refused.
    fn refused(&mut self, command: Command) {
        let before = self.vits.refused();
        assert_eq!(self.run(command), []);
        assert_eq!(self.vits.refused(), before + 1, "{command:?}");
    }

    pub fn mapc(&mut self, number: u16, cpu: Option<u16>) -> Vec<Effect> {
        let target = cpu.map(Target::of_number);
        self.run(Command::Mapc {
            collection: collection(number),
            target,
        })
    }

    pub fn mapd(&mut self, device: u32, event_bits: Option<u8>) -> Vec<Effect> {
        let at = Hpa::new(0x4b00_0000);
        let table = event_bits.map(|event_bits| TranslationTable { at, event_bits });
        let device = DeviceId(device);
        self.run(Command::Mapd { device, table })
    }

    pub fn mapti(&mut self, device: u32, event: u32, number: u32, to: u16) -> Vec<Effect> {
        let (device, event) = (DeviceId(device), EventId(event));
        self.run(Command::map(device, event, lpi(number), collection(to)))
    }
}

/// A device with `count` events, which the host calls otherwise.
pub(super) fn host_device(count: u32) -> HostDevice {
    let mut allocator = LpiAllocator::new(16).unwrap();
    allocator.allocate(1000);
    HostDevice {
        its: 1,
        device: DeviceId(0x3_0208),
        first_event: EventId(16),
        lpis: allocator.allocate(count).unwrap(),
    }
}

/// What an event of [`host_device`] is on the host.
fn source(event: u32) -> Source {
    Source {
        its: 1,
        device: DeviceId(0x3_0208),
        event: EventId(16 + event),
        lpi: lpi(1024 + event),
    }
}

/// A guest that has device 8 with `count` events, and has given it a table for 32.
fn with_device(count: u32) -> Guest {
    let mut guest = Guest::new();
    guest
        .vits
        .add_device(GuestDeviceId(8), host_device(count))
        .unwrap();
    assert_eq!(guest.mapd(8, Some(5)), []);
    guest
}
