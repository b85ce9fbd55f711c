//! Where EL2's page tables live: first in the image, then in an area found at boot, then in frames
//! from the allocator. EL2 is identity mapped, so a table is where its frame number says.

use core::cell::UnsafeCell;
use core::ptr;

use arrayvec::ArrayVec;
use xen_core::paging::{ENTRIES, OutOfTables, Remembered, TableMemory, Unreachable};
use xen_types::{Hpa, HpaRange, Mfn, PAGE_SIZE};

use super::{frames, ram};
use crate::arch::{barrier, cache};

/// Tables for what is mapped before memory is known: the image beyond its entry tables, the device
/// tree (in two 512 GiB, 1 GiB and 2 MiB regions at worst), the console, the table area.
const IN_IMAGE: usize = 16;

#[repr(C, align(4096))]
struct ImageTables(UnsafeCell<[[u64; ENTRIES]; IN_IMAGE]>);

// SAFETY: reached through `Tables` only, which lives behind the lock of `space`.
unsafe impl Sync for ImageTables {}

static IMAGE_TABLES: ImageTables = ImageTables(UnsafeCell::new([[0; ENTRIES]; IN_IMAGE]));

/// The memory of EL2's tables. There is one, behind the lock of `space`.
pub struct Tables {
    source: Source,
    /// Tables that nothing leads to any more, used again before others. EL2's space changes little:
    /// what does not fit here is not worth more.
    returned: ArrayVec<Mfn, 16>,
}

enum Source {
    /// Tables of the image; so many are used.
    Image(usize),
    /// What is left of an area.
    Area(Option<HpaRange>),
    /// The frame allocator.
    Frames,
}

impl Tables {
    /// The source that needs no memory map. Called once, for the one `Tables`.
    pub const fn in_image() -> Self {
        Self {
            source: Source::Image(0),
            returned: ArrayVec::new_const(),
        }
    }

    /// Takes tables from `area` from now on: mapped RAM that is nobody else's.
    pub fn use_area(&mut self, area: HpaRange) {
        self.source = Source::Area(Some(area));
    }

    /// Takes tables from the frame allocator from now on; returns what is left of the area.
    pub fn use_frames(&mut self) -> Option<HpaRange> {
        match core::mem::replace(&mut self.source, Source::Frames) {
            Source::Area(rest) => rest,
            Source::Image(_) | Source::Frames => None,
        }
    }

    /// A frame that nobody uses and that is mapped.
    fn frame(&mut self) -> Result<Mfn, OutOfTables> {
        if let Some(table) = self.returned.pop() {
            return Ok(table);
        }
        match &mut self.source {
            Source::Image(used) if *used < IN_IMAGE => {
                let first = Hpa::new(IMAGE_TABLES.0.get() as u64).frame();
                *used += 1;
                first.checked_add(*used as u64 - 1).ok_or(OutOfTables)
            }
            Source::Image(_) => Err(OutOfTables),
            Source::Area(rest) => {
                let area = rest.ok_or(OutOfTables)?;
                let next = area.start().checked_add(PAGE_SIZE).ok_or(OutOfTables)?;
                *rest = HpaRange::between(next, area.end());
                Ok(area.start().frame())
            }
            Source::Frames => frames::allocate_table().map_err(|_| OutOfTables),
        }
    }
}

/// Fills a frame that was just taken for a table with zeros.
///
/// # Safety
/// The frame is mapped RAM that its taker alone uses.
pub unsafe fn clear(table: Mfn) -> Result<(), OutOfTables> {
    let start = table.address().ok_or(OutOfTables)?;
    let range = HpaRange::new(start, PAGE_SIZE).ok_or(OutOfTables)?;
    // SAFETY: the caller's promise.
    cache::zero_pages(unsafe { ram::exclusive(range) });
    Ok(())
}

/// Reads an aligned word of memory that a device reads and writes as well.
///
/// # Safety
/// It is mapped RAM of whoever calls.
pub unsafe fn read_word(at: Hpa) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { ptr::read_volatile(at.get() as *const u64) }
}

/// Writes an aligned word of memory that a device reads and writes as well.
///
/// # Safety
/// It is mapped RAM of whoever calls.
pub unsafe fn write_word(at: Hpa, word: u64) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_volatile(at.get() as *mut u64, word) }
}

fn entry(table: Mfn, index: usize) -> *mut u64 {
    assert!(index < ENTRIES);
    let base = table.address().expect("tables lie in RAM").get() as *mut u64;
    base.wrapping_add(index)
}

/// Reads an entry of a table.
///
/// # Safety
/// The frame is a table: RAM that is mapped.
pub unsafe fn read(table: Mfn, index: usize) -> u64 {
    // SAFETY: the caller's promise; the entry lies in the frame and is aligned. The hardware may
    // read at the same time, hence volatile.
    unsafe { ptr::read_volatile(entry(table, index)) }
}

/// Writes an entry by one store that the walkers of all CPUs see before what follows (D8.2.6,
/// D8.16): they are coherent with write-back memory, so that barriers are enough.
///
/// # Safety
/// As for reading, and the caller is the table's only writer.
pub unsafe fn write(table: Mfn, index: usize, descriptor: u64) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_volatile(entry(table, index), descriptor) };
    barrier::dsb_ish();
    barrier::isb();
}

impl TableMemory for Tables {
    fn allocate(&mut self) -> Result<Mfn, OutOfTables> {
        let frame = self.frame()?;
        // SAFETY: `frame` has just been taken for this table alone, and is mapped.
        unsafe { clear(frame) }?;
        Ok(frame)
    }

    fn free(&mut self, table: Unreachable<Mfn>) {
        let _ = self.returned.try_push(table.release());
    }

    fn read(&self, table: Mfn, index: usize) -> u64 {
        // SAFETY: tables come from `allocate` or are the entry tables of the image.
        unsafe { read(table, index) }
    }

    fn write(&mut self, table: Mfn, index: usize, descriptor: u64) {
        // SAFETY: as for reading; the lock of `space` keeps other writers out. What the descriptor
        // maps is the concern of `space`, whose functions say who may use the memory.
        unsafe { write(table, index, descriptor) }
    }

    fn invalidate(&mut self, address: u64) -> Result<(), Remembered> {
        // SAFETY: removes translations that are invalid in the tables already.
        unsafe {
            core::arch::asm!("tlbi vae2is, {}", in(reg) address >> 12, options(nostack));
        }
        barrier::dsb_ish();
        barrier::isb();
        // No IOMMU walks these tables.
        Ok(())
    }

    fn retire(&mut self) -> Result<(), Remembered> {
        // This CPU walks them.
        Err(Remembered)
    }
}
