//! The machine as an IOMMU's driver needs it.

use core::sync::atomic::{AtomicU64, Ordering};

use smmu::{Clock, DmaMemory};
use xen_types::{Hpa, HpaRange};

use crate::arch::{barrier, cache, time};
use crate::memory::device::Registers;
use crate::memory::{frames, ram, tables};

/// Bytes that tables and queues of all IOMMUs take.
static MEMORY: AtomicU64 = AtomicU64::new(0);

/// Bytes that tables and queues of all IOMMUs take.
pub fn memory() -> u64 {
    MEMORY.load(Ordering::Relaxed)
}

/// An IOMMU's registers, with the machine's memory and time.
#[derive(Clone, Copy, Debug)]
pub struct Machine(pub Registers);

impl smmu::Registers for Machine {
    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset as usize)
    }

    fn read64(&self, offset: u32) -> u64 {
        self.0.read64(offset as usize)
    }

    fn write32(&mut self, offset: u32, value: u32) {
        self.0.write32(offset as usize, value);
    }

    fn write64(&mut self, offset: u32, value: u64) {
        self.0.write64(offset as usize, value);
    }
}

impl DmaMemory for Machine {
    fn allocate(&mut self, bytes: u64) -> Option<Hpa> {
        let range = frames::allocate_for_hypervisor(bytes as usize).ok()?;
        // SAFETY: the allocator has just given this memory to the driver alone.
        cache::zero_pages(unsafe { ram::exclusive(range) });
        MEMORY.fetch_add(range.size(), Ordering::Relaxed);
        Some(range.start())
    }

    fn free(&mut self, start: Hpa, bytes: u64) {
        if let Some(range) = frames::block_of(start, bytes) {
            MEMORY.fetch_sub(range.size(), Ordering::Relaxed);
            frames::free_for_hypervisor(range);
        }
    }

    fn read(&self, at: Hpa) -> u64 {
        // SAFETY: drivers read what `allocate` gave them.
        unsafe { tables::read_word(at) }
    }

    fn write(&mut self, at: Hpa, word: u64) {
        // SAFETY: drivers write what `allocate` gave them, and nobody else does.
        unsafe { tables::write_word(at, word) }
    }

    fn clean(&mut self, start: Hpa, bytes: u64) {
        if let Some(range) = HpaRange::new(start, bytes) {
            cache::clean_range(range);
        }
    }

    fn discard(&mut self, start: Hpa, bytes: u64) {
        // Nothing of it is dirty, so that writing back is harmless, and a line that it shares with
        // something else keeps what that has.
        if let Some(range) = HpaRange::new(start, bytes) {
            cache::clean_and_invalidate(range);
        }
    }

    fn barrier(&mut self) {
        barrier::dsb_sy();
    }
}

impl Clock for Machine {
    fn microseconds(&self) -> u64 {
        let (now, frequency) = (u128::from(time::now()), time::frequency().max(1));
        (now * 1_000_000 / u128::from(frequency)) as u64
    }

    fn relax(&self) {
        barrier::yield_hint();
    }
}
