//! RAM and what is reserved in it (DTSpec 3.4, 3.5, 5.3).

use core::fmt;

use arrayvec::ArrayVec;
use xen_types::HpaRange;

use super::{MAX_BANKS, MAX_RESERVED, Module};
use crate::error::Path;
use crate::node::Status;
use crate::{Dtb, Node, TreeError};

/// A range of RAM in whole pages.
pub type RamBank = HpaRange;

/// The name of an entry in the memory reservation block. No node can have it.
const RESERVATION: &str = "/memreserve/";

/// A range that is not free to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserved<'a> {
    /// The node's name, or `/memreserve/` for an entry of the memory reservation block.
    pub name: &'a str,
    /// The range, as the tree gives it: not rounded to pages.
    pub range: HpaRange,
    /// Whether the range must not even be mapped, so that nothing is read from it by speculation.
    pub no_map: bool,
}

impl Reserved<'_> {
    /// Whether this is how boot loaders reserve `module` itself: an entry of the memory
    /// reservation block for the same pages.
    pub(super) fn is_for(&self, module: &Module<'_>) -> bool {
        self.name == RESERVATION
            && self.range.page_aligned_outwards() == module.range.page_aligned_outwards()
    }
}

impl fmt::Display for Reserved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name == RESERVATION {
            f.write_str(RESERVATION)
        } else {
            write!(f, "/reserved-memory/{}", self.name)
        }
    }
}

/// The RAM that the memory nodes describe, which must not overlap each other.
pub(super) fn ram(dtb: &Dtb<'_>) -> Result<ArrayVec<RamBank, MAX_BANKS>, TreeError> {
    let mut ranges: ArrayVec<(HpaRange, Node<'_>), MAX_BANKS> = ArrayVec::new();
    let nodes = dtb.root().children().filter(|node| node.has_type("memory"));
    for node in nodes.filter(|node| node.status() == Status::Okay) {
        for range in node.memory_ranges()? {
            ranges
                .try_push((range?, node))
                .map_err(|_| node.one_too_many("ranges of RAM", MAX_BANKS))?;
        }
    }
    ranges.sort_unstable_by_key(|(range, _)| range.start());
    for ((lower, other), (upper, node)) in ranges.iter().zip(ranges.iter().skip(1)) {
        if let Some(range) = lower.intersection(*upper) {
            return Err(TreeError::Overlap {
                node: Path::new(node),
                other: Path::new(other),
                range,
            });
        }
    }
    let banks = merged(ranges.iter().map(|(range, _)| *range));
    if banks.is_empty() {
        return Err(TreeError::NoNode {
            what: "RAM: no node with device_type = \"memory\" describes a page",
        });
    }
    Ok(banks)
}

/// The whole pages of sorted ranges, of which those that touch become one.
fn merged(sorted: impl Iterator<Item = HpaRange>) -> ArrayVec<RamBank, MAX_BANKS> {
    let mut ranges: ArrayVec<HpaRange, MAX_BANKS> = ArrayVec::new();
    for range in sorted {
        let touched = ranges.last_mut().filter(|last| last.end() == range.start());
        match touched.and_then(|last| Some((HpaRange::between(last.start(), range.end())?, last))) {
            Some((both, last)) => *last = both,
            // There are no more ranges than went in.
            None => ranges.extend(Some(range)),
        }
    }
    let banks = ranges.into_iter();
    banks.filter_map(HpaRange::page_aligned_inwards).collect()
}

/// Adds all reserved ranges that have a place.
pub(super) fn add_reserved<'a>(
    dtb: &Dtb<'a>,
    reserved: &mut ArrayVec<Reserved<'a>, MAX_RESERVED>,
) -> Result<(), TreeError> {
    let nodes = dtb.node("/reserved-memory").into_iter();
    let placed = nodes
        .flat_map(Node::children)
        .filter(|node| node.status() == Status::Okay && node.property("reg").is_some());
    for node in placed {
        for range in node.memory_ranges()? {
            let entry = Reserved {
                name: node.name(),
                range: range?,
                no_map: node.property("no-map").is_some(),
            };
            reserved
                .try_push(entry)
                .map_err(|_| node.one_too_many("reserved ranges", MAX_RESERVED))?;
        }
    }
    for range in dtb.reservations() {
        let entry = Reserved {
            name: RESERVATION,
            range,
            no_map: false,
        };
        reserved.try_push(entry).map_err(|_| TreeError::TooMany {
            node: Path::new(RESERVATION),
            what: "reserved ranges",
            capacity: MAX_RESERVED,
        })?;
    }
    Ok(())
}
