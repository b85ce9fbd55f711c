//! What a driver needs of the machine. The image has one twin of each trait, tests another.

use xen_types::Hpa;

/// An IOMMU's registers. Offsets are in bytes from the start of its region; a driver uses only those
/// that its architecture has, each with its own width.
pub trait Registers {
    /// Reads 32 bits.
    fn read32(&self, offset: u32) -> u32;

    /// Reads 64 bits.
    fn read64(&self, offset: u32) -> u64;

    /// Writes 32 bits.
    fn write32(&mut self, offset: u32, value: u32);

    /// Writes 64 bits.
    fn write64(&mut self, offset: u32, value: u64);
}

/// Memory that the driver and the IOMMU share: tables and queues.
///
/// Reads and writes are of 64 aligned bits, by a single load or store, little-endian, through the
/// cache. They reach an IOMMU that is coherent after [`DmaMemory::barrier`], and one that is not
/// after [`DmaMemory::clean`] and then the barrier.
pub trait DmaMemory {
    /// `bytes` of contiguous memory, a power of two of at least a page, aligned to their number and
    /// filled with zeros; `None` if there are none.
    fn allocate(&mut self, bytes: u64) -> Option<Hpa>;

    /// Takes back what [`DmaMemory::allocate`] gave. Nothing leads there any more.
    fn free(&mut self, start: Hpa, bytes: u64);

    /// Reads a word of memory that this trait gave out.
    fn read(&self, at: Hpa) -> u64;

    /// Writes a word of memory that this trait gave out.
    fn write(&mut self, at: Hpa, word: u64);

    /// Writes what caches hold of `bytes` from `start` to memory.
    fn clean(&mut self, start: Hpa, bytes: u64);

    /// Drops what caches hold of `bytes` from `start`, which the IOMMU has written and this driver
    /// has not.
    fn discard(&mut self, start: Hpa, bytes: u64);

    /// Completes all reads, writes and cleaning before what follows, for all observers (`DSB SY`).
    fn barrier(&mut self);
}

/// The time, for waits that end.
pub trait Clock {
    /// Microseconds from some moment.
    fn microseconds(&self) -> u64;

    /// Called while waiting (`YIELD`).
    fn relax(&self) {}
}

/// All that a driver needs.
pub trait Hardware: Registers + DmaMemory + Clock {}

impl<T: Registers + DmaMemory + Clock> Hardware for T {}
