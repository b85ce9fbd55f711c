//! Memory: EL2's address space, the frames of the machine, the heap and the stacks.

pub mod device;
pub mod frames;
pub mod heap;
pub mod page;
pub mod ram;
pub mod shortage;
pub mod space;
pub mod stack;
pub mod tables;
pub mod tree;

use arrayvec::ArrayVec;
use log::{info, warn};
use platform_dt::BootInfo;
use xen_core::memory::frame::BankError;
use xen_core::memory::map;
use xen_types::{Hpa, HpaRange, PAGE_SIZE};

use self::space::MapError;
use crate::arch::cache;
use crate::arch::features::Features;
use crate::image;

/// Bytes set aside for the tables that map RAM: one 2 MiB block, of which the rest is free again.
const TABLE_AREA: u64 = 2 << 20;

/// Ranges that are in use before the allocator exists: reserved memory, modules, what is our own,
/// the table area, page 0, and a frame table for each bank.
const MAX_TAKEN: usize = 256;

/// Why memory cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// No free range for what must come first.
    #[error("memory: no {0} KiB of free RAM for {1}")]
    NoRoom(u64, &'static str),
    /// EL2 cannot map it.
    #[error("memory: {0}")]
    Map(#[from] MapError),
    /// The frame table refuses a bank.
    #[error("memory: {0}")]
    Bank(#[from] BankError),
    /// More ranges than are kept track of.
    #[error("memory: more than {MAX_TAKEN} ranges are reserved or in use")]
    TooFragmented,
}

/// How much memory there is and whose it is.
pub struct Usage {
    /// Bytes of the hypervisor: image, frame table, tables, heap, stacks.
    pub used: u64,
    /// Bytes that are free.
    pub free: u64,
}

/// Free memory, as it was when the allocator had just been given all of it.
static AT_START: spin::Once<(u64, u64)> = spin::Once::new();

type Taken = ArrayVec<HpaRange, MAX_TAKEN>;

/// Maps RAM, makes the frame table and hands what is free to the allocator. `own` are the image
/// and the device tree, which are mapped already.
pub fn init(info: &BootInfo<'_>, own: &[HpaRange]) -> Result<(), MemoryError> {
    let banks = usable_banks(&info.ram);
    let mut taken = Taken::new();
    let page_zero = HpaRange::new(Hpa::new(0), PAGE_SIZE);
    let reserved = info.reserved.iter().map(|reserved| reserved.range);
    for range in reserved.chain(own.iter().copied()).chain(page_zero) {
        take(&mut taken, range)?;
    }
    let unmapped = taken.clone();
    for module in &info.modules {
        take(&mut taken, module.range)?;
    }

    let area = map::place(&banks, &taken, TABLE_AREA, TABLE_AREA)
        .ok_or(MemoryError::NoRoom(TABLE_AREA >> 10, "page tables"))?;
    space::use_table_area(area)?;
    map_ram(&banks, &unmapped, area)?;
    take(&mut taken, area)?;

    let tables = frame_tables(&banks, &mut taken)?;
    frames::init(&banks, &tables)?;
    let mut free = 0;
    for range in map::free_ranges(&banks, &taken) {
        free += range.size();
        frames::add(range);
    }
    // What the tables do not need of their area is free too; further tables come from the heap of
    // frames.
    let rest = space::end_table_area();
    if let Some(rest) = rest {
        free += rest.size();
        frames::add(rest);
    }
    let in_tables = area.size() - rest.map_or(0, HpaRange::size);
    remember(&banks, &tables, free, in_tables);
    Ok(())
}

fn take(taken: &mut Taken, range: HpaRange) -> Result<(), MemoryError> {
    taken
        .try_push(range)
        .map_err(|_| MemoryError::TooFragmented)
}

/// The banks that this CPU and this address space reach.
fn usable_banks(ram: &[HpaRange]) -> ArrayVec<HpaRange, 64> {
    let end = (1u64 << Features::detect().physical_address_bits()).min(stack::WINDOW);
    let limit = HpaRange::new(Hpa::new(0), end);
    let mut banks = ArrayVec::new();
    for bank in ram {
        let usable = limit.and_then(|limit| bank.intersection(limit));
        if usable != Some(*bank) {
            warn!("memory: {bank} is not used beyond {end:#x}, which is out of reach");
        }
        banks.extend(usable.filter(|_| !banks.is_full()));
    }
    banks
}

/// Maps what is free or a module; reserved memory stays unmapped, so that nothing is read from it
/// even by speculation.
fn map_ram(banks: &[HpaRange], unmapped: &[HpaRange], area: HpaRange) -> Result<(), MemoryError> {
    let mut unmapped: Taken = unmapped.iter().copied().collect();
    take(&mut unmapped, area)?;
    for range in map::free_ranges(banks, &unmapped) {
        space::map_ram(range)?;
    }
    Ok(())
}

/// Finds and clears room for the entries of each bank's frames.
fn frame_tables(
    banks: &[HpaRange],
    taken: &mut Taken,
) -> Result<ArrayVec<HpaRange, 64>, MemoryError> {
    let mut tables = ArrayVec::new();
    for bank in banks {
        let size = frames::table_size(*bank);
        let place = map::place(core::slice::from_ref(bank), taken, size, PAGE_SIZE)
            .or_else(|| map::place(banks, taken, size, PAGE_SIZE))
            .ok_or(MemoryError::NoRoom(size >> 10, "the frame table"))?;
        take(taken, place)?;
        // SAFETY: the range is free RAM, mapped above, and now taken for this table alone.
        cache::zero_pages(unsafe { ram::exclusive(place) });
        tables.push(place);
    }
    Ok(tables)
}

/// Logs what there is, and keeps the figures for [`usage`].
fn remember(banks: &[HpaRange], tables: &[HpaRange], free: u64, in_tables: u64) {
    let sum = |ranges: &[HpaRange]| ranges.iter().map(|range| range.size()).sum::<u64>();
    let used = image::range().size() + sum(tables) + in_tables;
    AT_START.call_once(|| (free, used));
    info!(
        "memory: {} MiB in {} bank(s), {} MiB free, frame table {} KiB",
        sum(banks) >> 20,
        banks.len(),
        free >> 20,
        sum(tables) >> 10,
    );
}

/// How memory is used now.
pub fn usage() -> Usage {
    let (free_at_start, used_at_start) = AT_START.get().copied().unwrap_or_default();
    let free = frames::free();
    Usage {
        used: used_at_start + free_at_start.saturating_sub(free),
        free,
    }
}
