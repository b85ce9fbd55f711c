//! The frame allocator: free blocks of 2^order frames in a list for each order (the buddy system).
//!
//! The lists run through the frame table, so that the allocator needs no memory of its own. Only
//! the first frame of a free block is marked; handing a range over costs its number of blocks, not
//! of frames. Blocks are aligned to their size and never reach beyond their bank, and two free
//! halves of a block never stay apart: whatever is free and aligned lies in one free block.
//!
//! Nothing else changes reserved and free frames. Where the table contradicts the lists all the
//! same, memory was overwritten: that panics, as going on would hand out memory twice.

mod block;

use arrayvec::ArrayVec;
use xen_abi::DomId;
use xen_types::{HpaRange, Mfn, PAGE_SIZE};

pub use block::{Block, Blocks, MAX_ORDER};

use super::frame::{FrameError, FrameIndex, FrameInfo, FrameState, FrameTable, FrameType, Links};
use crate::paging::Unreachable;

const ORDERS: usize = MAX_ORDER as usize + 1;

/// The most separate ranges that can be handed over.
pub const MAX_RANGES: usize = 256;

/// No block of that size is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no 2^{order} contiguous frames are free ({free} frames are free in all)")]
pub struct OutOfMemory {
    /// log2 of the frames that were asked for.
    pub order: u8,
    /// Free frames, in blocks of any size and place.
    pub free: u64,
}

/// The memory that was asked for by address is not all free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("memory at {0} is not RAM or not free")]
pub struct NotFree(pub HpaRange);

/// Why a range cannot be handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// Part of it was handed over before.
    #[error("memory at {0} was handed to the allocator before, with {1}")]
    Twice(HpaRange, HpaRange),
    /// More separate ranges than are kept track of.
    #[error("memory at {0} stays unused: more than {MAX_RANGES} separate ranges of free memory")]
    TooManyRanges(HpaRange),
}

/// Why a block cannot be freed or split.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FreeError {
    /// A number that no frame has.
    #[error("frame {0} is beyond the address space")]
    NoFrame(Mfn),
    /// Not a block that was allocated with this order, or no longer.
    #[error("memory at {0} is not an allocated block")]
    NotABlock(HpaRange),
    /// A frame in it is referenced.
    #[error("memory at {0} cannot be freed: {1}")]
    Frame(HpaRange, FrameError),
}

/// The allocator over the frames of a table. Used under a lock.
#[derive(Debug)]
pub struct Buddy<'a> {
    table: &'a FrameTable<'a>,
    /// The first block of the list of each order.
    heads: [Option<FrameIndex>; ORDERS],
    /// What was handed over, unsorted; neighbours are joined.
    known: ArrayVec<HpaRange, MAX_RANGES>,
    free: u64,
    total: u64,
}

impl<'a> Buddy<'a> {
    /// An allocator that has nothing to give.
    pub const fn new(table: &'a FrameTable<'a>) -> Self {
        Self {
            table,
            heads: [None; ORDERS],
            known: ArrayVec::new_const(),
            free: 0,
            total: 0,
        }
    }

    /// Free frames.
    pub const fn free_frames(&self) -> u64 {
        self.free
    }

    /// Frames that were handed over, free or not.
    pub const fn total_frames(&self) -> u64 {
        self.total
    }

    /// Hands over the whole frames of `range` that are RAM. The caller knows that nobody uses them.
    ///
    /// # Errors
    /// [`AddError`]; nothing has changed.
    pub fn add(&mut self, range: HpaRange) -> Result<(), AddError> {
        let Some(range) = range.page_aligned_inwards() else {
            return Ok(());
        };
        self.remember(range)?;
        for block in self.blocks(range) {
            self.total += block.frames();
            self.insert_merged(block);
        }
        Ok(())
    }

    /// Takes 2^`order` frames for `owner`.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub fn allocate(
        &mut self,
        order: u8,
        owner: DomId,
        kind: FrameType,
    ) -> Result<Block, OutOfMemory> {
        let from = (order..=MAX_ORDER).find_map(|size| self.list(size).next());
        let (from, block) = from
            .and_then(|from| Some((from, Block::around(from.first(), order)?)))
            .ok_or(self.out_of_memory(order))?;
        self.take(from, block, owner, kind);
        Ok(block)
    }

    /// Takes 2^`order` frames that lie in `within`: below 4 GiB, say. Looks through the free lists.
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
        let (from, block) = (order..=MAX_ORDER)
            .flat_map(|size| self.list(size))
            .find_map(|from| Some((from, Block::first_within(from.range(), within, order)?)))
            .ok_or(self.out_of_memory(order))?;
        self.take(from, block, owner, kind);
        Ok(block)
    }

    /// Takes 2^`order` frames as RAM of a domain, inside `within` if that is given. Nothing leads there
    /// yet.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub fn allocate_ram(
        &mut self,
        order: u8,
        within: Option<HpaRange>,
        owner: DomId,
    ) -> Result<Unreachable<HpaRange>, OutOfMemory> {
        let block = match within {
            Some(within) => self.allocate_within(order, within, owner, FrameType::DomainRam),
            None => self.allocate(order, owner, FrameType::DomainRam),
        };
        Ok(Unreachable::new(block?.range()))
    }

    /// Gives back RAM of a domain in one piece, if it is a block, or lies in one.
    ///
    /// # Errors
    /// [`FreeError`]: it is no block, or somebody refers to a frame of it. The token comes back.
    pub fn free_ram(
        &mut self,
        ram: Unreachable<HpaRange>,
    ) -> Result<(), (Unreachable<HpaRange>, FreeError)> {
        let range = *ram.held();
        let order = (range.size() / PAGE_SIZE).max(1).ilog2() as u8;
        let part = Block::new(range.start().frame(), order);
        let part = part.filter(|part| part.range() == range);
        part.ok_or(FreeError::NotABlock(range))
            .and_then(|part| self.cut_out(part))
            .and_then(|block| self.free(block))
            .map_err(|error| (ram, error))
    }

    /// Takes the frames of `range`, all or none. The result are the blocks that it was taken as,
    /// each to be freed by itself.
    ///
    /// # Errors
    /// [`NotFree`] with the part that is not to be had; nothing has changed.
    pub fn allocate_at(
        &mut self,
        range: HpaRange,
        owner: DomId,
        kind: FrameType,
    ) -> Result<Blocks<'a>, NotFree> {
        let range = range.page_aligned_outwards().ok_or(NotFree(range))?;
        let blocks = self.blocks(range);
        let mut start = range.start();
        for block in blocks.clone() {
            if let Some(hole) = HpaRange::between(start, block.range().start()) {
                return Err(NotFree(hole));
            }
            self.enclosing_free(block).ok_or(NotFree(block.range()))?;
            start = block.range().end();
        }
        if let Some(hole) = HpaRange::between(start, range.end()) {
            return Err(NotFree(hole));
        }
        for block in blocks.clone() {
            if let Some(from) = self.enclosing_free(block) {
                self.take(from, block, owner, kind);
            }
        }
        Ok(blocks)
    }

    /// Gives a block back. It joins with its free neighbours. While it is being freed its frames
    /// cannot be referenced any more, even if it turns out that one is and the block stays.
    ///
    /// # Errors
    /// [`FreeError`]; nothing has changed.
    pub fn free(&mut self, block: Block) -> Result<(), FreeError> {
        let (head, entries) = self.owned(block)?;
        let as_allocated = |number| FrameState::owned(head.owner, head.kind, block.order(), number);
        for (number, entry) in entries.iter().enumerate() {
            if let Err(error) = entry.release(as_allocated(number)) {
                for (number, entry) in entries.iter().take(number).enumerate() {
                    let restored = entry.allocate(as_allocated(number));
                    debug_assert_eq!(restored, Ok(()), "nobody else takes reserved frames");
                }
                return Err(FreeError::Frame(block.range(), error));
            }
        }
        self.insert_merged(block);
        Ok(())
    }

    /// Makes blocks of `order` of an allocated block, so that each can be freed by itself: RAM is
    /// allocated for a domain in large blocks and given back in pages.
    ///
    /// # Errors
    /// [`FreeError::NotABlock`], also if the block is smaller than that; nothing has changed.
    pub fn split(&mut self, block: Block, order: u8) -> Result<(), FreeError> {
        let (_, entries) = self.owned(block)?;
        if order > block.order() {
            return Err(FreeError::NotABlock(block.range()));
        }
        for entry in entries.iter().step_by(1 << order) {
            entry
                .start_block(order)
                .map_err(|error| FreeError::Frame(block.range(), error))?;
        }
        Ok(())
    }

    /// Makes a frame of an allocated block a block of its own, in as many steps as the block has
    /// orders.
    ///
    /// # Errors
    /// [`FreeError::NoFrame`], [`FreeError::NotABlock`] if it is in no allocated block; nothing has
    /// changed.
    pub fn single_out(&mut self, frame: Mfn) -> Result<Block, FreeError> {
        let single = Block::new(frame, 0).ok_or(FreeError::NoFrame(frame))?;
        self.cut_out(single)
    }

    /// Makes a part of an allocated block a block of its own, in as many steps as the block has more
    /// orders.
    ///
    /// # Errors
    /// [`FreeError::NotABlock`] if it does not lie in one allocated block; nothing has changed.
    pub fn cut_out(&mut self, part: Block) -> Result<Block, FreeError> {
        let whole = (part.order()..=MAX_ORDER)
            .filter_map(|order| Block::around(part.first(), order))
            .find(|block| self.owned(*block).is_ok())
            .ok_or(FreeError::NotABlock(part.range()))?;
        for order in (part.order() + 1..=whole.order()).rev() {
            if let Some(half) = Block::around(part.first(), order) {
                self.split(half, order - 1)?;
            }
        }
        Ok(part)
    }

    /// The frames of an allocated block, and the state of the first.
    fn owned(&self, block: Block) -> Result<(FrameState, &'a [FrameInfo]), FreeError> {
        let entries = self.table.entries(block.first(), block.frames());
        entries
            .and_then(|entries| Some((entries.first()?.state(), entries)))
            .filter(|(head, _)| head.starts_block(block.order()))
            .ok_or(FreeError::NotABlock(block.range()))
    }

    fn out_of_memory(&self, order: u8) -> OutOfMemory {
        OutOfMemory {
            order,
            free: self.free,
        }
    }

    fn blocks(&self, range: HpaRange) -> Blocks<'a> {
        Blocks::new(self.table, range)
    }

    /// Keeps note of a range that is handed over, so that it is handed over once.
    fn remember(&mut self, range: HpaRange) -> Result<(), AddError> {
        if let Some(known) = self.known.iter().find(|known| known.overlaps(range)) {
            return Err(AddError::Twice(range, *known));
        }
        let mut whole = range;
        self.known.retain(|known| match join(*known, whole) {
            Some(joined) => {
                whole = joined;
                false
            }
            None => true,
        });
        self.known
            .try_push(whole)
            .map_err(|_| AddError::TooManyRanges(range))
    }

    /// The free blocks of one order.
    fn list(&self, order: u8) -> impl Iterator<Item = Block> + use<'a> {
        let table = self.table;
        let head = self.heads.get(usize::from(order)).copied().flatten();
        let frame = move |index: Option<FrameIndex>| table.frame(index?);
        core::iter::successors(frame(head), move |first| {
            frame(table.lookup(*first)?.links().next)
        })
        .filter_map(move |first| Block::new(first, order))
    }

    /// The free block that all of `block` lies in.
    fn enclosing_free(&self, block: Block) -> Option<Block> {
        (block.order()..=MAX_ORDER)
            .filter_map(|order| Block::around(block.first(), order))
            .find(|around| self.is_free(*around))
    }

    fn is_free(&self, block: Block) -> bool {
        self.table
            .lookup(block.first())
            .is_some_and(|entry| entry.state().starts_free_block(block.order()))
    }

    /// Cuts `block` out of the free block `from` and marks its frames.
    fn take(&mut self, from: Block, block: Block, owner: DomId, kind: FrameType) {
        self.remove(from);
        for order in (block.order()..from.order()).rev() {
            let rest = Block::around(block.first(), order).and_then(Block::buddy);
            if let Some(rest) = rest {
                self.insert(rest);
            }
        }
        let entries = self.table.entries(block.first(), block.frames());
        for (number, entry) in entries.into_iter().flatten().enumerate() {
            let state = FrameState::owned(owner, kind, block.order(), number);
            if let Err(error) = entry.allocate(state) {
                panic!("frame table: in free memory at {}: {error}", block.range());
            }
        }
    }

    /// Adds a block, joined with its buddy for as long as that is free.
    fn insert_merged(&mut self, mut block: Block) {
        while let Some((buddy, joined)) = self.joinable(block) {
            self.remove(buddy);
            block = joined;
        }
        self.insert(block);
    }

    /// The free buddy of a block and what the two make, if that lies in one bank.
    fn joinable(&self, block: Block) -> Option<(Block, Block)> {
        let buddy = block.buddy()?;
        let joined = Block::around(block.first(), block.order() + 1)?;
        self.table.entries(joined.first(), joined.frames())?;
        self.is_free(buddy).then_some((buddy, joined))
    }

    /// Puts a block of reserved frames into the list of its order.
    fn insert(&mut self, block: Block) {
        let (Some(entry), Some(index), Some(head)) = (
            self.table.lookup(block.first()),
            self.table.index(block.first()),
            self.heads.get_mut(usize::from(block.order())),
        ) else {
            return;
        };
        if let Err(error) = entry.mark_free(block.order()) {
            panic!("frame table: freed memory at {}: {error}", block.range());
        }
        let next = head.replace(index);
        entry.set_links(Links {
            previous: None,
            next,
        });
        self.relink(next, |links| links.previous = Some(index));
        self.free += block.frames();
    }

    /// Takes a free block out of its list; its frames are reserved then.
    fn remove(&mut self, block: Block) {
        let Some(entry) = self.table.lookup(block.first()) else {
            return;
        };
        if let Err(error) = entry.unmark_free(block.order()) {
            panic!("frame table: free memory at {}: {error}", block.range());
        }
        let Links { previous, next } = entry.links();
        if previous.is_none()
            && let Some(head) = self.heads.get_mut(usize::from(block.order()))
        {
            *head = next;
        }
        self.relink(previous, |links| links.next = next);
        self.relink(next, |links| links.previous = previous);
        self.free -= block.frames();
    }

    fn relink(&self, of: Option<FrameIndex>, change: impl FnOnce(&mut Links)) {
        let frame = of.and_then(|index| self.table.frame(index));
        if let Some(entry) = frame.and_then(|frame| self.table.lookup(frame)) {
            let mut links = entry.links();
            change(&mut links);
            entry.set_links(links);
        }
    }
}

/// One range of two that touch.
fn join(a: HpaRange, b: HpaRange) -> Option<HpaRange> {
    let touch = a.end() == b.start() || b.end() == a.start();
    HpaRange::between(a.start().min(b.start()), a.end().max(b.end())).filter(|_| touch)
}

#[cfg(test)]
mod tests;
