//! Aligned blocks of frames, the currency of the allocator.

use xen_types::{HpaRange, Mfn};

use crate::memory::frame::FrameTable;

/// The largest order: 2^18 frames are 1 GiB.
pub const MAX_ORDER: u8 = 18;

/// 2^order frames, the number of the first of which is a multiple of that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    range: HpaRange,
    order: u8,
}

impl Block {
    /// The block of `order` at `first`; `None` if it is misaligned, larger than [`MAX_ORDER`] or
    /// beyond the address space.
    pub fn new(first: Mfn, order: u8) -> Option<Self> {
        let block = Self::around(first, order)?;
        (block.first() == first).then_some(block)
    }

    /// The block of `order` that holds `frame`.
    pub(super) fn around(frame: Mfn, order: u8) -> Option<Self> {
        if order > MAX_ORDER {
            return None;
        }
        let frames = 1 << order;
        let first = Mfn::new(frame.get() & !(frames - 1));
        let end = first.checked_add(frames)?;
        let range = HpaRange::between(first.address()?, end.address()?)?;
        Some(Self { range, order })
    }

    /// The lowest block of `order` in what two ranges have in common.
    pub(super) fn first_within(free: HpaRange, limits: HpaRange, order: u8) -> Option<Self> {
        let common = free.intersection(limits)?.page_aligned_inwards()?;
        let block = Self::around(common.start().frame(), order)?;
        let block = if block.first() < common.start().frame() {
            Self::new(block.range.end().frame(), order)?
        } else {
            block
        };
        common.contains_range(block.range).then_some(block)
    }

    /// The largest block that starts at `first` and has at most `room` frames; `None` if that is 0.
    fn largest(first: Mfn, room: u64) -> Option<Self> {
        let order = first.get().trailing_zeros().min(room.checked_ilog2()?);
        Self::new(first, order.min(u32::from(MAX_ORDER)) as u8)
    }

    /// The other half of the block that is twice as large.
    pub(super) fn buddy(self) -> Option<Self> {
        Self::new(Mfn::new(self.first().get() ^ self.frames()), self.order)
    }

    /// First frame.
    pub fn first(self) -> Mfn {
        self.range.start().frame()
    }

    /// log2 of the number of frames.
    pub const fn order(self) -> u8 {
        self.order
    }

    /// Number of frames.
    pub const fn frames(self) -> u64 {
        1 << self.order
    }

    /// Its bytes.
    pub const fn range(self) -> HpaRange {
        self.range
    }
}

/// The RAM of a range as the fewest blocks, lowest first.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    table: &'a FrameTable<'a>,
    next: Mfn,
    end: Mfn,
}

impl<'a> Blocks<'a> {
    /// Of a range of whole pages.
    pub(super) fn new(table: &'a FrameTable<'a>, range: HpaRange) -> Self {
        Self {
            table,
            next: range.start().frame(),
            end: range.end().frame(),
        }
    }
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let bank = self.table.bank_from(self.next)?;
        let first = self.next.max(bank.start().frame());
        let end = self.end.min(bank.end().frame());
        let block = Block::largest(first, end.get().checked_sub(first.get())?)?;
        self.next = block.range().end().frame();
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use xen_types::Hpa;

    use super::*;

    #[test]
    fn only_aligned_blocks_of_a_known_order_exist() {
        assert!(Block::new(Mfn::new(8), 3).is_some());
        assert!(Block::new(Mfn::new(4), 3).is_none());
        assert!(Block::new(Mfn::new(0), MAX_ORDER).is_some());
        for order in MAX_ORDER + 1..=u8::MAX {
            assert!(Block::new(Mfn::new(0), order).is_none());
        }
        assert!(Block::new(Mfn::new(u64::MAX >> 12), 0).is_none());
        assert!(Block::new(Mfn::new(u64::MAX), 0).is_none());
    }

    #[test]
    fn the_buddy_of_the_buddy_is_the_block() {
        let block = Block::new(Mfn::new(0x40), 4).unwrap();
        let buddy = block.buddy().unwrap();
        assert_eq!(buddy.first(), Mfn::new(0x50));
        assert_eq!(buddy.buddy(), Some(block));
    }

    #[test]
    fn the_first_block_within_limits_is_aligned_upwards() {
        let range = |start, end| HpaRange::between(Hpa::new(start), Hpa::new(end)).unwrap();
        let free = range(0x10000, 0x20000);
        let first = |limits, order| {
            Block::first_within(free, limits, order).map(|block| block.first().get())
        };
        assert_eq!(first(range(0x11001, 0x20000), 0), Some(0x12));
        assert_eq!(first(range(0x11000, 0x20000), 2), Some(0x14));
        assert_eq!(first(range(0x11000, 0x17fff), 2), None);
        assert_eq!(first(range(0, 0x10000), 0), None);
        assert_eq!(first(range(0, u64::MAX), 4), Some(0x10));
    }
}
