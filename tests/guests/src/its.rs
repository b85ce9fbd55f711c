//! An ITS and LPIs (IHI 0069, chapter 5), driven far enough for events of one device that go to the
//! first CPU.

use core::cell::{Cell, UnsafeCell};
use core::ptr;

use crate::gic::Gic;
use crate::mmio::{read32, read64, write32, write64};

const GITS_CTLR: u64 = 0x0;
const GITS_CBASER: u64 = 0x80;
const GITS_CWRITER: u64 = 0x88;
const GITS_CREADR: u64 = 0x90;
const GITS_BASER: u64 = 0x100;
const GICR_CTLR: u64 = 0x0;
const GICR_PROPBASER: u64 = 0x70;
const GICR_PENDBASER: u64 = 0x78;

const VALID: u64 = 1 << 63;
/// Tables of 64 KiB pages (12.19.1).
const LARGE_PAGES: u64 = 2 << 8;
/// Inner shareable and write-back: tables and queue of an ITS, tables of a redistributor.
const ITS_CACHED: u64 = 7 << 59 | 1 << 10;
const LPI_CACHED: u64 = 1 << 10 | 7 << 7;
/// INTIDs of 14 bits.
const ID_BITS: u64 = 13;
/// The pending table is all zeros.
const ZEROED: u64 = 1 << 62;

/// The LPI that events are mapped to, and its configuration: enabled, of a middle priority.
const LPI: u64 = 8192;
const CONFIGURATION: u8 = 0x81;
/// The device, and the bits of its events less one.
const DEVICE: u64 = 0x18;
const EVENT_BITS: u64 = 3;

const SYNC: u64 = 0x05;
const MAPD: u64 = 0x08;
const MAPC: u64 = 0x09;
const MAPTI: u64 = 0x0a;
const INT: u64 = 0x03;
const DISCARD: u64 = 0x0f;
const COMMAND: u64 = 32;

/// Where each table is in [`TABLES`].
const QUEUE: u64 = 0x4000;
const QUEUE_BYTES: u64 = 0x1000;
const TRANSLATIONS: u64 = 0x8000;
const PENDING: u64 = 0x1_0000;
const DEVICES: u64 = 0x2_0000;
const COLLECTIONS: u64 = 0x3_0000;

#[repr(C, align(0x10000))]
struct Tables(UnsafeCell<[u8; 0x4_0000]>);

// SAFETY: only the first CPU writes it, through `Its`; hardware or a hypervisor reads it.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables(UnsafeCell::new([0; 0x4_0000]));

fn tables() -> u64 {
    TABLES.0.get() as u64
}

/// An ITS in use by the first CPU.
pub struct Its {
    registers: u64,
    writer: Cell<u64>,
}

impl Its {
    /// Sets LPIs of this CPU and the ITS up, for a device without events.
    pub fn set_up(registers: u64, gic: &Gic) -> Self {
        let its = Self {
            registers,
            writer: Cell::new(0),
        };
        // SAFETY: inside the tables, which nothing reads yet.
        unsafe { ptr::write_volatile(TABLES.0.get().cast::<u8>(), CONFIGURATION) };
        let redistributor = gic.redistributor();
        let configuration = tables() | LPI_CACHED | ID_BITS;
        write64(redistributor + GICR_PROPBASER, configuration);
        let pending = (tables() + PENDING) | LPI_CACHED | ZEROED;
        write64(redistributor + GICR_PENDBASER, pending);
        write32(
            redistributor + GICR_CTLR,
            read32(redistributor + GICR_CTLR) | 1,
        );
        for (number, table) in [(0, DEVICES), (1, COLLECTIONS)] {
            let table = VALID | ITS_CACHED | LARGE_PAGES | (tables() + table);
            write64(registers + GITS_BASER + number * 8, table);
        }
        let queue = VALID | ITS_CACHED | (tables() + QUEUE);
        write64(registers + GITS_CBASER, queue);
        write64(registers + GITS_CWRITER, 0);
        write32(registers + GITS_CTLR, 1);
        its.execute([MAPC, 0, VALID, 0]);
        let translations = VALID | (tables() + TRANSLATIONS);
        its.execute([MAPD | DEVICE << 32, EVENT_BITS, translations, 0]);
        its
    }

    /// Maps an event to the LPI. True once that is complete.
    pub fn map(&self, event: u64) -> bool {
        self.execute([MAPTI | DEVICE << 32, event | LPI << 32, 0, 0])
    }

    /// Ends the mapping of an event.
    pub fn discard(&self, event: u64) -> bool {
        self.execute([DISCARD | DEVICE << 32, event, 0, 0])
    }

    /// Has an event happen, without waiting.
    #[inline(always)]
    pub fn raise(&self, event: u64) {
        self.queue([INT | DEVICE << 32, event, 0, 0]);
    }

    /// Waits until all commands were executed. False if they are not, in a long time.
    pub fn wait(&self) -> bool {
        const PATIENCE: u32 = 100_000;
        let done = |_: &u32| read64(self.registers + GITS_CREADR) == self.writer.get();
        (0..PATIENCE).find(done).is_some()
    }

    fn execute(&self, command: [u64; 4]) -> bool {
        self.queue(command);
        self.wait()
    }

    #[inline(always)]
    fn queue(&self, command: [u64; 4]) {
        let offset = self.writer.get();
        let place = (tables() + QUEUE + offset) as *mut [u64; 4];
        // SAFETY: inside the queue, which has room: at most two commands are in it.
        unsafe { ptr::write_volatile(place, command) };
        self.writer.set((offset + COMMAND) % QUEUE_BYTES);
        // SAFETY: orders the command before the write that tells of it.
        unsafe { core::arch::asm!("dsb ishst", options(nostack)) };
        write64(self.registers + GITS_CWRITER, self.writer.get());
    }

    /// Executes a command that waits for the effects of the others.
    pub fn synchronise(&self) -> bool {
        self.execute([SYNC, 0, 0, 0])
    }
}
