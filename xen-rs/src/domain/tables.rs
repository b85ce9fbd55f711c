//! The memory of stage 2 tables: frames from the allocator, which go back to it.

use core::ptr;

use log::warn;
use xen_core::paging::{ENTRIES, OutOfTables, TableMemory};
use xen_types::{HpaRange, Mfn, PAGE_SIZE};

use crate::arch::{barrier, cache};
use crate::memory::{frames, ram};

/// Tables for stage 2.
pub struct Stage2Tables;

/// Gives a table's frame back.
pub fn free(table: Mfn) {
    if let Err(error) = frames::free_table(table) {
        warn!("stage 2: {error}");
    }
}

fn entry(table: Mfn, index: usize) -> *mut u64 {
    assert!(index < ENTRIES);
    let base = table.address().expect("tables lie in RAM").get() as *mut u64;
    base.wrapping_add(index)
}

impl TableMemory for Stage2Tables {
    fn allocate(&mut self) -> Result<Mfn, OutOfTables> {
        let frame = frames::allocate_table().map_err(|_| OutOfTables)?;
        let start = frame.address().ok_or(OutOfTables)?;
        let range = HpaRange::new(start, PAGE_SIZE).ok_or(OutOfTables)?;
        // SAFETY: the allocator has just given this frame to this table alone.
        cache::zero_pages(unsafe { ram::exclusive(range) });
        Ok(frame)
    }

    fn free(&mut self, table: Mfn) {
        free(table);
    }

    fn read(&self, table: Mfn, index: usize) -> u64 {
        // SAFETY: tables come from `allocate`: mapped RAM, and the entry lies in the table. The
        // hardware may read at the same time, hence volatile.
        unsafe { ptr::read_volatile(entry(table, index)) }
    }

    fn write(&mut self, table: Mfn, index: usize, descriptor: u64) {
        // SAFETY: as for reading; the owner of the space is its only writer.
        unsafe { ptr::write_volatile(entry(table, index), descriptor) };
        // Walkers are coherent with write-back memory (VTCR_EL2.IRGN0, ORGN0): a barrier is enough.
        barrier::dsb_ish();
        barrier::isb();
    }

    fn invalidate(&mut self, address: u64) {
        // By address for stage 2, then all of stage 1, whose entries may combine both (D8.17.6).
        // SAFETY: removes cached translations of the current VMID; memory does not change.
        unsafe {
            core::arch::asm!(
                "tlbi ipas2e1is, {}", "dsb ish", "tlbi vmalle1is",
                in(reg) address >> 12, options(nostack)
            );
        }
        barrier::dsb_ish();
        barrier::isb();
    }
}
