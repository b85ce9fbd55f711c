//! Stage 1: the lower half of the guest's 39-bit address space mapped to itself, the upper half not
//! mapped at all.
//!
//! Devices are mapped as Normal memory that is not cached. No driver does that; here it lets accesses
//! of any alignment through to the hypervisor, which a device mapping would stop at EL1. It is good
//! for machines that do not speculate, which QEMU's do not.

use core::arch::asm;
use core::cell::UnsafeCell;

use crate::{read_sysreg, write_sysreg};

/// Bytes of a level 1 block.
const BLOCK: u64 = 1 << 30;
/// Where the address space that is not mapped starts.
pub const UNMAPPED: u64 = 256 * BLOCK;

/// `MAIR_EL1`: 0 is Normal, not cacheable; 1 is Normal, write-back (D24.2.109).
const MAIR: u64 = 0xff44;
/// `TCR_EL1`: 39 bits by TTBR0 with 4 KiB pages, tables in write-back, inner shareable memory;
/// nothing by TTBR1 (EPD1); 40 bits out (D24.2.195).
const TCR: u64 = 25 | 0b01 << 8 | 0b01 << 10 | 0b11 << 12 | 1 << 23 | 25 << 16 | 0b010 << 32;
/// `SCTLR_EL1`: MMU and caches on, and what is RES1.
const SCTLR: u64 = 0x30d0_0800 | 1 << 12 | 1 << 2 | 1;
/// A block descriptor: valid, accessed, inner shareable; by [`MAIR`], not cacheable.
const VALID: u64 = 1 | 1 << 10 | 0b11 << 8;
const WRITE_BACK: u64 = 1 << 2;
const NEVER_EXECUTE: u64 = 1 << 54 | 1 << 53;
/// A descriptor of a table, or of a page.
const TABLE_DESCRIPTOR: u64 = 0b11;

/// Entries of a table.
const ENTRIES: u64 = 512;

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; ENTRIES as usize]>);

// SAFETY: the first CPU writes it before its MMU is on and before another CPU runs; later it is only
// read, by hardware.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([0; ENTRIES as usize]));

/// Switches the MMU of this CPU on.
pub fn enable() {
    let table = TABLE.0.get();
    let own = enable as *const () as u64 / BLOCK;
    for number in 0..UNMAPPED / BLOCK {
        let kind = if number == own {
            WRITE_BACK
        } else {
            NEVER_EXECUTE
        };
        // SAFETY: the table has 512 entries; a second CPU writes what is there already.
        unsafe {
            (*table)[number as usize] = (number * BLOCK) | VALID | kind;
        }
    }
    write_sysreg!("mair_el1", MAIR);
    write_sysreg!("tcr_el1", TCR);
    write_sysreg!("ttbr0_el1", table as u64);
    // SAFETY: invalidates what the tables before may have left; only this CPU uses its TLB.
    unsafe {
        asm!("dsb sy", "tlbi vmalle1", "dsb sy", "isb", options(nostack));
    }
    write_sysreg!("sctlr_el1", SCTLR);
}

/// Maps the block that an address is in, if the address space reaches there: nothing was.
pub fn map(address: u64) {
    let number = address / BLOCK;
    if number >= ENTRIES {
        return;
    }
    let table = TABLE.0.get();
    // SAFETY: the table has so many entries; this CPU alone writes it, and uses the address after the
    // barriers. Nothing is remembered of an entry that was not valid (D8.16.1).
    unsafe {
        (*table)[number as usize] = (number * BLOCK) | VALID | NEVER_EXECUTE;
        asm!("dsb sy", "isb", options(nostack));
    }
}

/// Tables under the first gigabyte that is not mapped: of level 2, and one of level 3.
static LOOSE: [Table; 2] = [const { Table(UnsafeCell::new([0; ENTRIES as usize])) }; 2];

/// Entries of tables that may be anything, for addresses from [`UNMAPPED`] on. Nothing that the guest
/// itself needs is mapped by them.
pub struct Loose(());

impl Loose {
    /// Hangs the tables in. This CPU alone may do so.
    pub fn hang_in() -> Self {
        let entry = UNMAPPED / BLOCK;
        // SAFETY: as in `map`.
        unsafe {
            (*TABLE.0.get())[entry as usize] = Self::table();
            asm!("dsb sy", "isb", options(nostack));
        }
        let loose = Self(());
        loose.set(2, 0, LOOSE[1].0.get() as u64 | TABLE_DESCRIPTOR);
        loose
    }

    /// A descriptor of the table of level 2.
    fn table() -> u64 {
        LOOSE[0].0.get() as u64 | TABLE_DESCRIPTOR
    }

    /// A descriptor of the table of level 3.
    pub fn last_table(&self) -> u64 {
        LOOSE[1].0.get() as u64 | TABLE_DESCRIPTOR
    }

    /// Writes an entry of the table of level 2 or 3. What TLBs remember stays.
    pub fn set(&self, level: u8, index: u64, descriptor: u64) {
        let table = LOOSE[usize::from(level == 3)].0.get();
        // SAFETY: the index is within the table, which only this CPU writes and only hardware reads.
        unsafe {
            (&raw mut (*table)[(index % ENTRIES) as usize]).write_volatile(descriptor);
            asm!("dsb ish", options(nostack));
        }
    }

    /// Has TLBs forget all.
    pub fn forget(&self) {
        // SAFETY: what they forget they find in the tables again.
        unsafe {
            asm!(
                "dsb ish",
                "tlbi vmalle1is",
                "dsb ish",
                "isb",
                options(nostack)
            );
        }
    }
}

/// Physical, and so virtual, addresses of the guest's own image.
pub fn image() -> core::ops::Range<u64> {
    unsafe extern "C" {
        static _image_start: u8;
        static _image_end: u8;
    }
    (&raw const _image_start) as u64..(&raw const _image_end) as u64
}

/// Makes code that was just written executable (B2.7.4.2).
pub fn publish_code(start: u64, bytes: u64) {
    // CTR_EL0.IminLine is at least DminLine nowhere; the smallest step is safe.
    let step = 4 << (read_sysreg!("ctr_el0") & 0xf).min(read_sysreg!("ctr_el0") >> 16 & 0xf);
    for address in (start..start + bytes).step_by(step) {
        // SAFETY: maintenance of the guest's own memory.
        unsafe {
            asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", in(reg) address, options(nostack));
        }
    }
    // SAFETY: as above.
    unsafe {
        asm!("dsb ish", "isb", options(nostack));
    }
}
