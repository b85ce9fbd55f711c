//! The registers that the guest sees (12.19), and its command queue.

use xen_types::{Gpa, Hpa};

use super::ENTRY_SIZE;
use crate::its::command::{SIZE, Words};
use crate::its::layout::{
    Attributes, Baser, CTLR_ENABLED, CTLR_QUIESCENT, Cbaser, GITS_BASER, GITS_CBASER, GITS_CREADR,
    GITS_CTLR, GITS_CWRITER, GITS_IIDR, GITS_PIDR2, GITS_TYPER, PageSize, QUEUE_FLAG, QUEUE_OFFSET,
    TableKind, Typer,
};
use crate::vgic::{Access, Direction, GuestMemory, Width, read_part, write_part};

/// `GITS_IIDR`: product 'X', implementer Arm, as the redistributors say.
const IIDR_VALUE: u32 = 0x58 << 24 | 0x43b;
/// Architecture version 3.
const PIDR2_VALUE: u32 = 0x3b;

/// Bytes of the control frame.
const CONTROL_FRAME: u32 = 0x1_0000;

#[derive(Debug)]
pub struct Registers {
    enabled: bool,
    queue: Cbaser<Gpa>,
    cwriter: u64,
    creadr: u64,
    /// The queue could not be read.
    stalled: bool,
    devices: u64,
    collections: u64,
}

/// A register of 64 bits.
#[derive(Clone, Copy)]
enum Wide {
    Typer,
    Cbaser,
    Cwriter,
    Creadr,
    Devices,
    Collections,
}

impl Wide {
    const fn at(offset: u32) -> Option<Self> {
        const COLLECTIONS: u32 = GITS_BASER + 8;
        match offset & !7 {
            GITS_TYPER => Some(Self::Typer),
            GITS_CBASER => Some(Self::Cbaser),
            GITS_CWRITER => Some(Self::Cwriter),
            GITS_CREADR => Some(Self::Creadr),
            GITS_BASER => Some(Self::Devices),
            COLLECTIONS => Some(Self::Collections),
            _ => None,
        }
    }
}

/// A table that the guest may give, with what it cannot change.
fn table(kind: TableKind) -> Baser {
    Baser {
        valid: false,
        indirect: false,
        kind,
        entry_size: ENTRY_SIZE,
        attributes: Attributes::COHERENT,
        at: Hpa::new(0),
        page: PageSize::Large,
        pages: 1,
    }
}

impl Registers {
    /// After reset.
    pub fn new() -> Self {
        Self {
            enabled: false,
            queue: Cbaser::decode(0),
            cwriter: 0,
            creadr: 0,
            stalled: false,
            devices: table(TableKind::Devices).encode(),
            collections: table(TableKind::Collections).encode(),
        }
    }

    /// A load or store, while a command is being executed if `busy`.
    pub fn access(&mut self, typer: Typer, busy: bool, access: Access) -> u64 {
        if !access.is_aligned() || access.offset >= CONTROL_FRAME {
            return 0;
        }
        match (access.offset, access.width) {
            (GITS_CTLR, Width::Word) => self.control(busy, access.direction).into(),
            (GITS_IIDR, Width::Word) => IIDR_VALUE.into(),
            (GITS_PIDR2, Width::Word) => PIDR2_VALUE.into(),
            (offset, Width::Word | Width::Double) => {
                let Some(register) = Wide::at(offset) else {
                    return 0;
                };
                let old = self.wide(typer, register);
                match access.direction {
                    Direction::Read => read_part(old, access),
                    Direction::Write(value) => {
                        self.set_wide(register, busy, write_part(old, access, value));
                        0
                    }
                }
            }
            _ => 0,
        }
    }

    /// `GITS_CTLR`. It is quiescent when nothing is executed and nothing will be.
    fn control(&mut self, busy: bool, direction: Direction) -> u32 {
        match direction {
            Direction::Read if self.enabled => CTLR_ENABLED,
            Direction::Read if busy => 0,
            Direction::Read => CTLR_QUIESCENT,
            Direction::Write(value) => {
                self.enabled = value as u32 & CTLR_ENABLED != 0;
                0
            }
        }
    }

    fn wide(&self, typer: Typer, register: Wide) -> u64 {
        match register {
            Wide::Typer => typer.encode(),
            Wide::Cbaser => self.queue.encode(),
            Wide::Cwriter => self.cwriter,
            Wide::Creadr => self.creadr | if self.stalled { QUEUE_FLAG } else { 0 },
            Wide::Devices => self.devices,
            Wide::Collections => self.collections,
        }
    }

    /// Tables and queue stay as they are while the ITS is at work.
    fn set_wide(&mut self, register: Wide, busy: bool, value: u64) {
        let at_rest = !self.enabled && !busy;
        match register {
            Wide::Cbaser if at_rest => self.set_queue(value),
            Wide::Cwriter => self.set_cwriter(value),
            Wide::Devices if at_rest => self.devices = written(TableKind::Devices, value),
            Wide::Collections if at_rest => {
                self.collections = written(TableKind::Collections, value);
            }
            _ => {}
        }
    }

    fn set_queue(&mut self, value: u64) {
        self.queue = Cbaser {
            attributes: Attributes::COHERENT,
            ..Cbaser::decode(value)
        };
        (self.creadr, self.cwriter, self.stalled) = (0, 0, false);
    }

    /// An offset beyond the queue is ignored.
    fn set_cwriter(&mut self, value: u64) {
        let offset = value & QUEUE_OFFSET;
        if offset < self.queue.bytes() {
            self.cwriter = offset;
        }
        if value & QUEUE_FLAG != 0 {
            self.stalled = false;
        }
    }

    /// Whether no command waits.
    #[inline]
    pub const fn is_idle(&self) -> bool {
        !self.enabled || self.stalled || !self.queue.valid || self.creadr == self.cwriter
    }

    /// Copies the next command, if there is one. A queue that cannot be read stalls.
    #[inline(always)]
    pub fn next_command(&mut self, memory: &impl GuestMemory) -> Option<Words> {
        if self.is_idle() {
            return None;
        }
        let at = self.queue.at.checked_add(self.creadr);
        let words = at.and_then(|at| memory.read_words(at).ok());
        self.stalled = words.is_none();
        words
    }

    /// The command is complete.
    pub const fn advance(&mut self) {
        let next = self.creadr + SIZE as u64;
        self.creadr = if next < self.queue.bytes() { next } else { 0 };
    }

    /// How many devices the guest's table has room for.
    pub fn device_room(&self) -> u64 {
        room(self.devices)
    }

    /// How many collections.
    pub fn collection_room(&self) -> u64 {
        room(self.collections)
    }
}

/// What becomes of a table's register when it is written.
fn written(kind: TableKind, value: u64) -> u64 {
    let asked = Baser::decode(value);
    let fixed = table(kind);
    let baser = Baser {
        kind: fixed.kind,
        entry_size: fixed.entry_size,
        attributes: fixed.attributes,
        indirect: asked.indirect && kind == TableKind::Devices,
        ..asked
    };
    baser.encode()
}

fn room(register: u64) -> u64 {
    let baser = Baser::decode(register);
    if baser.valid { baser.capacity() } else { 0 }
}
