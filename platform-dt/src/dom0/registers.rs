//! Which addresses of the processor a node's device answers to.

use alloc::vec::Vec;

use xen_types::HpaRange;

use super::index::{Id, Index};
use crate::Node;
use crate::address::BusRange;

/// The registers of the node's `reg`, and for a PCI host bridge its windows too, as the processor
/// addresses them. What it cannot address is left out, and so is a `reg` whose length does not fit
/// its bus: Linux can use neither.
pub(super) fn registers(index: &Index<'_>, id: Id) -> Vec<HpaRange> {
    let below_pci = index.ancestors(id).any(|bus| is_pci(index.node(bus)));
    if below_pci || id == index.root() {
        // Below a PCI bus, `reg` holds configuration addresses; the root has no bus.
        return Vec::new();
    }
    let mut ranges = own_registers(index, id);
    if is_pci(index.node(id)) {
        ranges.extend(windows(index, id));
    }
    ranges
}

fn own_registers(index: &Index<'_>, id: Id) -> Vec<HpaRange> {
    let node = index.node(id);
    // Most nodes have none; the error that names the node would take a walk through the tree.
    if node.property("reg").is_none() {
        return Vec::new();
    }
    let Ok(ranges) = node.reg() else {
        return Vec::new();
    };
    ranges
        .filter(|range| range.size != 0)
        .filter_map(|range| index.translate(id, range))
        .collect()
}

/// The windows through which a host bridge passes on memory and I/O space.
fn windows(index: &Index<'_>, id: Id) -> Vec<HpaRange> {
    let Ok(windows) = index.node(id).windows() else {
        return Vec::new();
    };
    windows
        .filter_map(|window| {
            let size = u64::try_from(window.size).ok().filter(|&size| size != 0)?;
            let range = BusRange {
                address: window.parent,
                size,
            };
            index.translate(id, range)
        })
        .collect()
}

fn is_pci(node: Node<'_>) -> bool {
    node.has_type("pci") || node.has_type("pciex")
}
