//! Page tables that change while they are used, and lead anywhere: entries of any kind and attributes,
//! tables where registers are, or nothing, or beyond what the guest may name. So the walk of stage 1 itself
//! faults at stage 2, which must become the guest's own abort (Arm ARM D8.15).

use core::cell::UnsafeCell;

use guests::machine::Machine;
use guests::mmu::{self, Loose};
use guests::random::Random;
use guests::{exception, println};
use xen_abi::layout;

use super::gic::{load, store, without_syndrome};
use super::mark;

/// Bytes that the guest's own tables map as one.
const BLOCK: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// Bytes under an entry of level 2.
const PART: u64 = 2 << 20;
/// The bits of a descriptor that are an address.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Valid, and accessed: without these two hardly any entry would lead anywhere.
const USABLE: u64 = 1 | 1 << 10;
/// Entries of level 2 and 3 that are used: so few that changes hit what TLBs remember.
const ENTRIES: u64 = 8;

#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; PAGE as usize]>);

// SAFETY: whoever writes it, nobody reads it for anything.
unsafe impl Sync for Page {}

/// A page of the guest's own that entries may lead to.
static SCRATCH: Page = Page(UnsafeCell::new([0; PAGE as usize]));

pub fn run(_machine: &Machine, random: &mut Random, count: u64) -> u64 {
    exception::tolerate();
    let tables = Loose::hang_in();
    let own = mmu::image().start / BLOCK;
    println!("fuzz: tables at {:#x}", tables.last_table() & ADDRESS);
    for done in 1..=count {
        let level = 2 + random.below(2) as u8;
        let descriptor = descriptor(&tables, random, own, level);
        tables.set(level, random.below(ENTRIES), descriptor);
        if random.once_in(2) {
            tables.forget();
        }
        let page = random.below(ENTRIES) * PART + random.below(ENTRIES) * PAGE;
        // Some accesses reach over the border of the page.
        let address = mmu::UNMAPPED + page + random.below(PAGE);
        match random.below(8) {
            0 => without_syndrome(address & !15, random.next()),
            1..4 => store(address, 1 << random.below(4), random.next()),
            _ => load(address, 1 << random.below(4)),
        };
        mark(done, count);
    }
    count
}

/// An entry that leads neither to a table nor to memory that the guest needs.
fn descriptor(tables: &Loose, random: &mut Random, own: u64, level: u8) -> u64 {
    let attributes = random.next() & !ADDRESS & !0b11;
    let usable = match random.once_in(4) {
        true => attributes,
        false => attributes | USABLE,
    };
    let to = |address: u64| {
        let address = address & ADDRESS;
        // What is said at the serial port is to be read.
        match address / BLOCK == own || address / PART == layout::VPL011.base / PART {
            true => (address + BLOCK) & ADDRESS,
            false => address,
        }
    };
    let anywhere = to(place(random));
    let scratch = SCRATCH.0.get() as u64;
    match (random.below(8), level) {
        (0, _) => 0,
        (1, _) => to(random.next()) | random.next() & !ADDRESS,
        // The table of the last level, which is this or another.
        (2 | 3, 2) => tables.last_table(),
        (4 | 5, 2) => anywhere | 0b11,
        (2..5, 3) => scratch | usable | 0b10,
        (_, 2) => anywhere & !(PART - 1) | usable,
        (_, _) => anywhere | usable | 0b10,
    }
}

/// An address where something is, or is not.
fn place(random: &mut Random) -> u64 {
    let regions = [
        layout::GICD,
        layout::GICR,
        layout::GRANT_TABLE,
        layout::MAGIC,
        layout::VPCI_ECAM,
    ];
    match random.below(4) {
        0 => random.next(),
        // What a host has below its RAM.
        1 => random.below(BLOCK),
        _ => random.pick(&regions).base + random.below(0x2_0000),
    }
}
