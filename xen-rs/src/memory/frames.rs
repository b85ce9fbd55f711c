//! The frames of the machine: one table and one allocator for all CPUs.

use log::warn;
use spin::Once;
use xen_abi::DomId;
use xen_core::memory::buddy::{Block, Buddy, FreeError, MAX_ORDER, OutOfMemory};
use xen_core::memory::frame::{BankError, FrameError, FrameInfo, FrameTable, FrameType, Left};
use xen_core::paging::Unreachable;
use xen_types::{Hpa, HpaRange, Mfn, PAGE_SIZE};

use super::shortage;
use crate::lock::IrqLock;

/// No memory, or none yet.
#[derive(Debug, thiserror::Error)]
pub enum OutOfFrames {
    /// The allocator has no block of that size.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// More than the largest block.
    #[error("{0} bytes are more than a block of memory can have")]
    TooLarge(usize),
    /// There is some, which was refused on purpose.
    #[error("no memory, as the command line wants it (shortage)")]
    Shortage,
    /// Asked for before memory was set up.
    #[error("memory is not set up yet")]
    TooEarly,
}

static TABLE: Once<FrameTable<'static>> = Once::new();
static BUDDY: IrqLock<Option<Buddy<'static>>> = IrqLock::new(None);

/// Bytes of the table for a bank, in whole pages.
pub fn table_size(bank: HpaRange) -> u64 {
    let entries = bank.size() / PAGE_SIZE * size_of::<FrameInfo>() as u64;
    entries.next_multiple_of(PAGE_SIZE)
}

/// Makes the frame table of `banks` in the zeroed memory of `tables`.
pub fn init(banks: &[HpaRange], tables: &[HpaRange]) -> Result<(), BankError> {
    let mut table = FrameTable::new();
    for (bank, memory) in banks.iter().zip(tables) {
        let count = (bank.size() / PAGE_SIZE) as usize;
        // SAFETY: `memory` is zeroed RAM of `table_size` bytes for this table alone, for ever; it
        // is page-aligned, and all zeros are a valid `FrameInfo`.
        let entries =
            unsafe { core::slice::from_raw_parts(memory.start().get() as *const FrameInfo, count) };
        table.add_bank(bank.start().frame(), entries)?;
    }
    *BUDDY.lock() = Some(Buddy::new(TABLE.call_once(|| table)));
    Ok(())
}

/// Hands free memory to the allocator.
pub fn add(range: HpaRange) {
    let added = BUDDY.lock().as_mut().map(|buddy| buddy.add(range));
    if let Some(Err(error)) = added {
        warn!("memory: {error}");
    }
}

/// Free bytes.
pub fn free() -> u64 {
    let frames = BUDDY.lock().as_ref().map_or(0, Buddy::free_frames);
    frames * PAGE_SIZE
}

/// A naturally aligned block of at least `size` bytes for the hypervisor itself. Its contents are
/// whatever was there before.
pub fn allocate_for_hypervisor(size: usize) -> Result<HpaRange, OutOfFrames> {
    let frames = (size as u64).div_ceil(PAGE_SIZE).max(1);
    let order = frames.next_power_of_two().ilog2();
    if order > u32::from(MAX_ORDER) {
        return Err(OutOfFrames::TooLarge(size));
    }
    allocate(order as u8, FrameType::Hypervisor)
}

/// The block that [`allocate_for_hypervisor`] gave for so many bytes.
pub fn block_of(start: Hpa, bytes: u64) -> Option<HpaRange> {
    let size = bytes.max(PAGE_SIZE).checked_next_power_of_two()?;
    HpaRange::new(start, size)
}

/// Gives back what [`allocate_for_domain`] gave, in one piece.
pub fn free_for_domain(ram: Unreachable<HpaRange>) {
    let freed = BUDDY.lock().as_mut().map(|buddy| buddy.free_ram(ram));
    if let Some(Err((_, error))) = freed {
        warn!("memory: {error}");
    }
}

/// Gives back what [`allocate_for_hypervisor`] gave.
pub fn free_for_hypervisor(range: HpaRange) {
    let order = (range.size() / PAGE_SIZE).ilog2() as u8;
    let block = Block::new(range.start().frame(), order);
    if let Some(Err(error)) = block.map(free_block) {
        warn!("memory: {error}");
    }
}

/// Gives back a frame of a page table.
pub fn free_table(table: Unreachable<Mfn>) -> Result<(), FreeError> {
    Block::new(table.release(), 0).map_or(Ok(()), free_block)
}

fn free_block(block: Block) -> Result<(), FreeError> {
    BUDDY
        .lock()
        .as_mut()
        .map_or(Ok(()), |buddy| buddy.free(block))
}

/// A block of 2^order frames as RAM of a domain, inside `within` if that is given. Its contents are
/// whatever was there before.
pub fn allocate_for_domain(
    order: u8,
    within: Option<HpaRange>,
    owner: DomId,
) -> Result<Unreachable<HpaRange>, OutOfFrames> {
    not_refused()?;
    let mut buddy = BUDDY.lock();
    let buddy = buddy.as_mut().ok_or(OutOfFrames::TooEarly)?;
    Ok(buddy.allocate_ram(order, within, owner)?)
}

/// A frame of the hypervisor's that a domain shares. Its contents are whatever was there before.
pub fn allocate_shared(owner: DomId) -> Result<HpaRange, OutOfFrames> {
    not_refused()?;
    let mut buddy = BUDDY.lock();
    let buddy = buddy.as_mut().ok_or(OutOfFrames::TooEarly)?;
    Ok(buddy.allocate(0, owner, FrameType::Shared)?.range())
}

/// The domain whose RAM a frame is.
pub fn owner_of_ram(mfn: Mfn) -> Option<DomId> {
    let state = table()?.lookup(mfn)?.state();
    (state.kind == FrameType::DomainRam).then_some(state.owner)
}

/// Takes a reference to a frame of a domain's RAM: until [`put`] it stays that.
///
/// # Errors
/// [`FrameError`], also if the frame is not RAM at all.
pub fn get(mfn: Mfn, owner: DomId) -> Result<(), FrameError> {
    let entry = table().and_then(|table| table.lookup(mfn));
    entry
        .ok_or(FrameError::NotOwned)?
        .get(owner, FrameType::DomainRam)
}

/// Takes a reference to a frame that a domain shares: until [`put`] it stays that.
///
/// # Errors
/// [`FrameError`], also if the frame is not RAM at all.
pub fn get_shared(mfn: Mfn, owner: DomId) -> Result<(), FrameError> {
    let entry = table().and_then(|table| table.lookup(mfn));
    entry
        .ok_or(FrameError::NotOwned)?
        .get(owner, FrameType::Shared)
}

/// Gives back the reference that a mapping held.
pub fn put_mapped(frame: Unreachable<Mfn>) {
    put(frame.release());
}

/// Gives back a reference that no mapping holds: the hypervisor's own, or that for a mapping which was
/// not made.
pub fn put(mfn: Mfn) {
    let entry = table().and_then(|table| table.lookup(mfn));
    free_if_left(mfn, entry.map(FrameInfo::put));
}

/// The hypervisor gives a frame up that a domain shares: it is free when no mapping refers to it, nor
/// anybody else.
pub fn give_up_shared(mfn: Mfn, owner: DomId) {
    give_up_frame(mfn, owner);
}

/// A domain gives RAM up: a page, a part of a block, or all of it. What nobody else refers to is free,
/// in one piece if it can be.
pub fn give_up(ram: Unreachable<HpaRange>, owner: DomId) {
    let range = *ram.held();
    if range.size() > PAGE_SIZE {
        let freed = BUDDY.lock().as_mut().map(|buddy| buddy.free_ram(ram));
        if let Some(Ok(())) = freed {
            return;
        }
    }
    for frame in 0..range.size() / PAGE_SIZE {
        if let Some(mfn) = range.start().frame().checked_add(frame) {
            give_up_frame(mfn, owner);
        }
    }
}

fn give_up_frame(mfn: Mfn, owner: DomId) {
    let single = BUDDY.lock().as_mut().map(|buddy| buddy.single_out(mfn));
    if let Some(Err(error)) = single {
        warn!("memory: {error}");
        return;
    }
    let entry = table().and_then(|table| table.lookup(mfn));
    free_if_left(mfn, entry.map(|entry| entry.give_up(owner)));
}

fn free_if_left(mfn: Mfn, left: Option<Result<Left, FrameError>>) {
    match left {
        Some(Ok(Left::Nothing)) => {
            if let Some(Err(error)) = Block::new(mfn, 0).map(free_block) {
                warn!("memory: {error}");
            }
        }
        Some(Ok(Left::Held)) => {}
        Some(Err(error)) => warn!("memory: frame {mfn}: {error}"),
        None => warn!("memory: frame {mfn} is not RAM"),
    }
}

/// The frame table, once memory is set up.
pub fn table() -> Option<&'static FrameTable<'static>> {
    TABLE.get()
}

/// A frame for a page table.
pub fn allocate_table() -> Result<Mfn, OutOfFrames> {
    not_refused()?;
    allocate(0, FrameType::PageTable).map(|range| range.start().frame())
}

fn not_refused() -> Result<(), OutOfFrames> {
    match shortage::refuses() {
        true => Err(OutOfFrames::Shortage),
        false => Ok(()),
    }
}

fn allocate(order: u8, kind: FrameType) -> Result<HpaRange, OutOfFrames> {
    let mut buddy = BUDDY.lock();
    let buddy = buddy.as_mut().ok_or(OutOfFrames::TooEarly)?;
    Ok(buddy.allocate(order, DomId::XEN, kind)?.range())
}
