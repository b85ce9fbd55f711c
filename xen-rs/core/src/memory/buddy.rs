//! The frame allocator: free blocks of 2^order frames in a list for each order (the buddy system).
//!
//! The lists run through the frame table, so that the allocator needs no memory of its own. Only
//! the first frame of a free block is marked; handing a range over costs its number of blocks, not
//! of frames. Blocks are aligned to their size and never reach beyond their bank.

use xen_abi::DomId;
use xen_types::{Hpa, HpaRange, Mfn, PAGE_SIZE};

use super::frame::{FrameError, FrameState, FrameTable, FrameType, Link};

/// The largest order: 2^18 frames are 1 GiB.
pub const MAX_ORDER: u8 = 18;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// 2^order frames from `first`, which is a multiple of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// First frame.
    pub first: Mfn,
    /// log2 of the number of frames.
    pub order: u8,
}

impl Block {
    /// Frames in it.
    pub const fn frames(self) -> u64 {
        1 << self.order
    }

    /// Its bytes.
    pub fn range(self) -> HpaRange {
        let start = Hpa::new(self.first.get() * PAGE_SIZE);
        HpaRange::new(start, self.frames() * PAGE_SIZE).expect("blocks lie in banks")
    }
}

/// No block of that size is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no {} KiB of contiguous memory are free ({} KiB are free in all)", 4u64 << self.order, 4 * self.free)]
pub struct OutOfMemory {
    /// What was asked for.
    pub order: u8,
    /// Free frames of any size.
    pub free: u64,
}

/// Why a block cannot be freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FreeError {
    /// Not a block that was allocated with this order.
    #[error("frame {0} does not start an allocated block of order {1}")]
    NotABlock(Mfn, u8),
    /// A frame in it is referenced or was taken by someone else.
    #[error("frame {0} cannot be freed: {1}")]
    Frame(Mfn, FrameError),
}

/// The allocator over the frames of a table. Used under a lock.
#[derive(Debug)]
pub struct Buddy<'a> {
    table: &'a FrameTable<'a>,
    heads: [Link; ORDERS],
    free: u64,
}

impl<'a> Buddy<'a> {
    /// An allocator that has nothing to give.
    pub const fn new(table: &'a FrameTable<'a>) -> Self {
        Self {
            table,
            heads: [Link::NONE; ORDERS],
            free: 0,
        }
    }

    /// Free frames.
    pub const fn free_frames(&self) -> u64 {
        self.free
    }

    /// Hands over reserved frames: those of `range` that are RAM. The caller knows that they are
    /// nobody's.
    pub fn add(&mut self, range: HpaRange) {
        let Some(range) = range.page_aligned_inwards() else {
            return;
        };
        let (mut next, end) = (range.start().frame().get(), range.end().frame().get());
        while next < end {
            let first = Mfn::new(next);
            let Some(bank) = self.table.bank_range(first) else {
                next += 1;
                continue;
            };
            let room = end.min(bank.end().frame().get()) - next;
            let order = largest_order(next, room);
            self.insert_merged(Block { first, order });
            next += 1 << order;
        }
    }

    /// Takes a block for `owner`.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub fn allocate(
        &mut self,
        order: u8,
        owner: DomId,
        kind: FrameType,
    ) -> Result<Block, OutOfMemory> {
        let found = (order..=MAX_ORDER).find_map(|size| {
            let first = self.first_free(size)?;
            Some(Block { first, order: size })
        });
        let from = found.ok_or(self.out_of_memory(order))?;
        Ok(self.take(from, Block { order, ..from }, owner, kind))
    }

    /// Takes a block that lies in `within`: below 4 GiB, say. Looks through the free lists.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub fn allocate_within(
        &mut self,
        order: u8,
        within: HpaRange,
        owner: DomId,
        kind: FrameType,
    ) -> Result<Block, OutOfMemory> {
        let found = (order..=MAX_ORDER).find_map(|size| self.find_within(size, order, within));
        let (from, block) = found.ok_or(self.out_of_memory(order))?;
        Ok(self.take(from, block, owner, kind))
    }

    /// Gives a block back. It joins with its free neighbours.
    ///
    /// # Errors
    /// [`FreeError`]; nothing has changed.
    pub fn free(&mut self, block: Block) -> Result<(), FreeError> {
        let wrong = FreeError::NotABlock(block.first, block.order);
        let entries = self
            .table
            .entries(block.first, block.frames())
            .ok_or(wrong)?;
        let head = entries.first().ok_or(wrong)?.state();
        if matches!(head.kind, FrameType::Free | FrameType::Reserved) || head.order() != block.order
        {
            return Err(wrong);
        }
        for (number, entry) in entries.iter().enumerate() {
            if let Err(error) = entry.reclaim() {
                // Give those before it back to their owner, as they were.
                for (earlier, entry) in entries.iter().take(number).enumerate() {
                    let order = if earlier == 0 { block.order } else { 0 };
                    entry.set(FrameState::owned(head.owner, head.kind, order));
                }
                let frame = Mfn::new(block.first.get() + number as u64);
                return Err(FreeError::Frame(frame, error));
            }
        }
        self.insert_merged(block);
        Ok(())
    }

    fn out_of_memory(&self, order: u8) -> OutOfMemory {
        OutOfMemory {
            order,
            free: self.free,
        }
    }

    fn first_free(&self, order: u8) -> Option<Mfn> {
        let head = self.heads.get(usize::from(order))?;
        self.table.frame_at(head.index()?)
    }

    /// A free block of order `size` with an aligned block of `order` inside `within`.
    fn find_within(&self, size: u8, order: u8, within: HpaRange) -> Option<(Block, Block)> {
        let mut link = *self.heads.get(usize::from(size))?;
        while let Some(index) = link.index() {
            let first = self.table.frame_at(index)?;
            let from = Block { first, order: size };
            let start = within.start().max(from.range().start());
            let aligned = start.frame().get() + u64::from(start.offset_in_page() != 0);
            let block = Block {
                first: Mfn::new(aligned.next_multiple_of(1 << order)),
                order,
            };
            let common = from.range().intersection(within);
            if common.is_some_and(|common| common.contains_range(block.range())) {
                return Some((from, block));
            }
            link = self.table.lookup(first)?.links().1;
        }
        None
    }

    /// Cuts `block` out of the free block `from` and marks its frames.
    fn take(&mut self, from: Block, block: Block, owner: DomId, kind: FrameType) -> Block {
        self.remove(from);
        let mut rest = from;
        while rest.order > block.order {
            let order = rest.order - 1;
            let upper = Mfn::new(rest.first.get() + (1 << order));
            let (keep, release) = if block.first < upper {
                (rest.first, upper)
            } else {
                (upper, rest.first)
            };
            self.insert(Block {
                first: release,
                order,
            });
            rest = Block { first: keep, order };
        }
        let entries = self.table.entries(block.first, block.frames());
        for (number, entry) in entries.into_iter().flatten().enumerate() {
            let order = if number == 0 { block.order } else { 0 };
            entry.set(FrameState::owned(owner, kind, order));
        }
        block
    }

    /// Adds a block, joined with its buddy for as long as that is free.
    fn insert_merged(&mut self, mut block: Block) {
        while block.order < MAX_ORDER {
            let buddy = Block {
                first: Mfn::new(block.first.get() ^ block.frames()),
                order: block.order,
            };
            let joined = Block {
                first: block.first.min(buddy.first),
                order: block.order + 1,
            };
            let in_one_bank = self.table.entries(joined.first, joined.frames()).is_some();
            let is_free = self
                .table
                .lookup(buddy.first)
                .is_some_and(|entry| entry.state() == FrameState::free(buddy.order));
            if !in_one_bank || !is_free {
                break;
            }
            self.remove(buddy);
            block = joined;
        }
        self.insert(block);
    }

    fn insert(&mut self, block: Block) {
        let (Some(entry), Some(index), Some(head)) = (
            self.table.lookup(block.first),
            self.table.index_of(block.first),
            self.heads.get_mut(usize::from(block.order)),
        ) else {
            return;
        };
        let next = *head;
        *head = Link::to(index);
        entry.set_links(Link::NONE, next);
        entry.set(FrameState::free(block.order));
        self.relink(next, |_, after| (Link::to(index), after));
        self.free += block.frames();
    }

    fn remove(&mut self, block: Block) {
        let Some(entry) = self.table.lookup(block.first) else {
            return;
        };
        let (previous, next) = entry.links();
        if previous == Link::NONE {
            if let Some(head) = self.heads.get_mut(usize::from(block.order)) {
                *head = next;
            }
        }
        self.relink(previous, |before, _| (before, next));
        self.relink(next, |_, after| (previous, after));
        entry.reserve();
        self.free -= block.frames();
    }

    fn relink(&self, link: Link, change: impl FnOnce(Link, Link) -> (Link, Link)) {
        let frame = link.index().and_then(|index| self.table.frame_at(index));
        if let Some(entry) = frame.and_then(|frame| self.table.lookup(frame)) {
            let (previous, next) = entry.links();
            let (previous, next) = change(previous, next);
            entry.set_links(previous, next);
        }
    }
}

/// The largest block that may start at frame `first` and has at most `room` frames.
fn largest_order(first: u64, room: u64) -> u8 {
    let by_alignment = first.trailing_zeros();
    let by_room = room.ilog2();
    by_alignment.min(by_room).min(u32::from(MAX_ORDER)) as u8
}
