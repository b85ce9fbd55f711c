//! Extended regions: addresses where the host has nothing, for Dom0 to map others' pages at.
//!
//! Linux takes struct pages for them by whole memory sections of its linear map, which begins at
//! its RAM: a region that is none of these, or below RAM, is worse than none, because Linux then
//! does not fall back to pages of its own (drivers/xen/unpopulated-alloc.c).

use alloc::vec::Vec;

use xen_types::{Gpa, GpaRange, Hpa, HpaRange};

use super::check::identical;
use super::index::Index;
use super::owned::Owned;
use super::plan::Dom0Plan;
use super::ranges::{merged, without};
use super::registers::registers;
use crate::CellSizes;

/// A memory section of Linux on arm64 with 4 KiB pages (`SECTION_SIZE_BITS`).
const SECTION: u64 = 128 << 20;
/// A smaller hole is not worth an entry.
const SMALLEST: u64 = 1 << 30;
/// The most regions: the largest holes of a machine are few.
const MOST: usize = 4;

/// The regions that the plan names, or those that there are in the space where it has them looked
/// for.
pub(super) fn regions(index: &Index<'_>, owned: &Owned, plan: &Dom0Plan<'_>) -> Vec<GpaRange> {
    let named = plan.hypervisor.extended_regions;
    if !named.is_empty() {
        return named.to_vec();
    }
    let top = plan.memory.iter().map(|bank| bank.end()).max();
    let space = plan.hypervisor.extended_space.zip(top);
    let Some(space) = space.and_then(|(space, top)| above(space, top)) else {
        return Vec::new();
    };
    let mut used: Vec<HpaRange> = owned.pages.clone();
    used.extend(index.ids().flat_map(|id| registers(index, id)));
    used.extend(host(plan.hypervisor.grant_window));
    let holes = without(space, &merged(used));
    let bus = index.node(index.root()).cell_sizes();
    let whole = holes.into_iter().filter_map(whole_sections);
    let written = whole.filter_map(|hole| fitting(hole, bus));
    written.filter_map(identical).take(MOST).collect()
}

/// Where in the host the same addresses are.
fn host(range: GpaRange) -> Option<HpaRange> {
    HpaRange::new(Hpa::new(range.start().get()), range.size())
}

/// The part of a space that is above an address.
fn above(space: GpaRange, address: Gpa) -> Option<HpaRange> {
    let start = space.start().max(address);
    host(GpaRange::between(start, space.end())?)
}

/// The part of a hole whose address and size the cells of the tree's root can say.
fn fitting(hole: HpaRange, bus: CellSizes) -> Option<HpaRange> {
    let one_cell = HpaRange::new(Hpa::new(0), 1 << 32)?;
    let hole = if bus.address < 2 {
        hole.intersection(one_cell)?
    } else {
        hole
    };
    let most = if bus.size < 2 {
        (1 << 32) - SECTION
    } else {
        u64::MAX
    };
    HpaRange::new(hole.start(), hole.size().min(most))
}

/// The sections that lie in a hole, if they are worth it.
fn whole_sections(hole: HpaRange) -> Option<HpaRange> {
    let start = hole.start().get().checked_next_multiple_of(SECTION)?;
    let end = hole.end().get() & !(SECTION - 1);
    HpaRange::between(Hpa::new(start), Hpa::new(end)).filter(|hole| hole.size() >= SMALLEST)
}
