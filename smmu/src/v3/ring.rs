//! Indexes of a circular queue (IHI 0070, 3.5.1): the low bits are a slot, the next one, the wrap
//! bit, changes with each round.

use xen_types::Hpa;

use super::bus::offset;

/// A queue of 2 to the power of `log2` entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ring {
    base: Hpa,
    log2: u32,
    entry_bytes: u64,
}

impl Ring {
    /// The queue at `base`; `log2` is at most 19.
    pub const fn new(base: Hpa, log2: u32, entry_bytes: u64) -> Self {
        Self {
            base,
            log2,
            entry_bytes,
        }
    }

    /// What the base register holds: address and size.
    pub const fn base_register(self) -> u64 {
        super::registers::BASE_ALLOCATE | self.base.get() | self.log2 as u64
    }

    /// The bits of a register that are slot and wrap bit.
    pub const fn mask(self) -> u32 {
        (2 << self.log2) - 1
    }

    /// The index after `index`.
    pub const fn next(self, index: u32) -> u32 {
        index.wrapping_add(1) & self.mask()
    }

    /// Entries from `consumer` up to `producer`; `None` where there cannot be so many.
    pub const fn waiting(self, producer: u32, consumer: u32) -> Option<u32> {
        let waiting = producer.wrapping_sub(consumer) & self.mask();
        if waiting <= 1 << self.log2 {
            Some(waiting)
        } else {
            None
        }
    }

    /// Whether so many entries leave no room.
    pub const fn is_full(self, waiting: u32) -> bool {
        waiting >= 1 << self.log2
    }

    /// Where the entry of `index` is.
    pub fn entry(self, index: u32) -> Hpa {
        let slot = index & ((1 << self.log2) - 1);
        offset(self.base, u64::from(slot) * self.entry_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_empty_fills_and_wraps() {
        for log2 in [0, 1, 3, 8, 19] {
            let ring = Ring::new(Hpa::new(0x10_0000), log2, 16);
            let size = 1 << log2;
            let mut start = 0;
            for _ in 0..4 {
                let mut end = start;
                for count in 0..size {
                    assert_eq!(ring.waiting(end, start), Some(count));
                    assert!(!ring.is_full(count));
                    end = ring.next(end);
                }
                assert_eq!(ring.waiting(end, start), Some(size));
                assert!(ring.is_full(size));
                assert_eq!(ring.entry(end), ring.entry(start));
                if log2 > 0 {
                    assert_eq!(ring.waiting(ring.next(end), start), None);
                }
                start = end;
            }
        }
    }
}
