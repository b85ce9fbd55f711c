//! What the driver of an ITS reaches: registers, tables in memory, time.

use core::ptr;

use xen_core::its::{Clock, Memory, Registers as ItsRegisters};
use xen_types::{Hpa, HpaRange};

use crate::arch::{barrier, cache, time};
use crate::memory::device::Registers;
use crate::memory::{frames, ram};

/// The registers of an ITS, or of a redistributor's first frame.
#[derive(Clone, Copy)]
pub struct Frames(pub Registers);

impl ItsRegisters for Frames {
    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset as usize)
    }

    fn write32(&self, offset: u32, value: u32) {
        barrier::dsb_sy();
        self.0.write32(offset as usize, value);
    }

    fn read64(&self, offset: u32) -> u64 {
        self.0.read64(offset as usize)
    }

    fn write64(&self, offset: u32, value: u64) {
        // The tables and commands that it is about are in memory before it.
        barrier::dsb_sy();
        self.0.write64(offset as usize, value);
    }
}

/// Tables in memory, and time.
pub struct Tables;

impl Memory for Tables {
    fn allocate(&mut self, size: u64, align: u64) -> Option<Hpa> {
        // Blocks are aligned to their size.
        let range = frames::allocate_for_hypervisor(size.max(align) as usize).ok()?;
        // SAFETY: the allocator has just given the block to this table alone.
        cache::zero_pages(unsafe { ram::exclusive(range) });
        Some(range.start())
    }

    fn free(&mut self, at: Hpa, size: u64) {
        if let Some(range) = frames::block_of(at, size) {
            frames::free_for_hypervisor(range);
        }
    }

    fn write8(&mut self, at: Hpa, value: u8) {
        // SAFETY: the driver writes inside what `allocate` gave it (`Memory`), which has no Rust
        // object and is mapped at its own address.
        unsafe { ptr::write_volatile(at.get() as *mut u8, value) }
    }

    fn write64(&mut self, at: Hpa, value: u64) {
        // SAFETY: as for bytes; offsets in tables are multiples of 8.
        unsafe { ptr::write_volatile(at.get() as *mut u64, value.to_le()) }
    }

    fn clean(&mut self, at: Hpa, size: u64) {
        if let Some(range) = HpaRange::new(at, size) {
            cache::clean_and_invalidate(range);
        }
    }
}

impl Clock for Tables {
    fn microseconds(&mut self) -> u64 {
        // Patience is all that it is for: a microsecond may be a little longer.
        time::now() / time::ticks(1)
    }
}
