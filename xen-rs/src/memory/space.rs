//! EL2's address space: identity mapped, but for the window of stacks.
//!
//! Mapped are the image with the permissions of its regions, the device tree, RAM that is not
//! reserved, and device registers that a driver asked for. Nothing is ever writable and executable.

pub use xen_core::paging::MapError;
use xen_core::paging::PageTable;
use xen_core::paging::stage1::{Attributes, Stage1};
use xen_types::{Hpa, HpaRange, PAGE_SIZE};

use super::tables::Tables;
use crate::lock::IrqLock;
use crate::{entry, image};

struct Space {
    tables: Tables,
    root: PageTable<Stage1>,
}

static SPACE: IrqLock<Option<Space>> = IrqLock::new(None);

fn with<T>(action: impl FnOnce(&mut Space) -> Result<T, MapError>) -> Result<T, MapError> {
    let mut space = SPACE.lock();
    action(
        space
            .as_mut()
            .expect("taken over before anything is mapped"),
    )
}

impl Space {
    /// Maps the pages that hold `range` to themselves.
    fn identity(&mut self, range: HpaRange, attributes: Attributes) -> Result<(), MapError> {
        let bad = MapError::BadRange(range.start().get(), range.size());
        let pages = range.page_aligned_outwards().ok_or(bad)?;
        self.map(pages.start().get(), pages, attributes)
    }

    fn map(&mut self, at: u64, to: HpaRange, attributes: Attributes) -> Result<(), MapError> {
        self.root
            .map(&mut self.tables, at, to.start(), to.size(), attributes)
    }
}

/// Goes on with the tables that `entry.S` made, which map the linked image: adds the symbol table
/// behind it and takes the guard of the boot stack out.
pub fn take_over() -> Result<(), MapError> {
    let mut space = Space {
        tables: Tables::in_image(),
        root: PageTable::adopt(entry::root_table().frame()),
    };
    let guard = image::boot_stack_guard();
    space
        .root
        .unmap(&mut space.tables, guard.start().get(), guard.size())?;
    if let Some(symbols) = image::symbol_table() {
        space.identity(symbols, Attributes::Constant)?;
    }
    *SPACE.lock() = Some(space);
    Ok(())
}

/// Maps what the boot loader left and nobody changes.
pub fn map_read_only(range: HpaRange) -> Result<(), MapError> {
    with(|space| space.identity(range, Attributes::Constant))
}

/// Maps RAM.
pub fn map_ram(range: HpaRange) -> Result<(), MapError> {
    with(|space| space.identity(range, Attributes::Data))
}

/// Maps device registers.
pub fn map_device(range: HpaRange) -> Result<(), MapError> {
    with(|space| space.identity(range, Attributes::Device))
}

/// Maps the frames of a stack at `bottom` in the window of stacks.
pub fn map_stack(bottom: u64, frames: HpaRange) -> Result<(), MapError> {
    with(|space| space.map(bottom, frames, Attributes::Data))
}

/// Takes further tables from `area`, which it maps: free RAM.
pub fn use_table_area(area: HpaRange) -> Result<(), MapError> {
    with(|space| {
        space.identity(area, Attributes::Data)?;
        space.tables.use_area(area);
        Ok(())
    })
}

/// Takes further tables from the frame allocator; returns what is left of the area.
pub fn end_table_area() -> Option<HpaRange> {
    SPACE
        .lock()
        .as_mut()
        .and_then(|space| space.tables.use_frames())
}

/// Writes a word of memory that a CPU without caches polls: the release address of a spin table.
/// The page is mapped, uncached, for this one write, unless it is RAM that is mapped anyway.
pub fn write_uncached(address: Hpa, value: u64) -> Result<(), MapError> {
    let page = HpaRange::new(Hpa::new(address.get() & !(PAGE_SIZE - 1)), PAGE_SIZE)
        .ok_or(MapError::BadRange(address.get(), 8))?;
    with(|space| {
        let mapped = space.root.lookup(&space.tables, address.get());
        let is_data = mapped.is_some_and(|found| found.attributes == Attributes::Data);
        if mapped.is_none() {
            space.identity(page, Attributes::Uncached)?;
        } else if !is_data {
            return Err(MapError::Conflict(address.get()));
        }
        let word = address.get() as *mut u64;
        // SAFETY: mapped writable just now; the device tree says that the word is there for this,
        // and that memory is reserved from the allocator by the tree, too.
        unsafe { core::ptr::write_volatile(word, value) };
        // SAFETY: the word stays mapped while it is cleaned, under the lock.
        crate::arch::cache::clean_to_memory(unsafe { &*word });
        if mapped.is_none() {
            space
                .root
                .unmap(&mut space.tables, page.start().get(), page.size())?;
        }
        Ok(())
    })
}
