//! The host's tree written anew, for readers that are not as careful as this room.

use alloc::vec::Vec;

use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use crate::error::{Path, Word};
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

/// A re-encoded blob: version 17, no NOPs, no node or property twice, every value with its padding.
///
/// The `fdt` crate reads it without panicking, but for its accessors of nodes and properties that
/// the specification demands and a tree may lack all the same: `chosen()`, `cpus()`, `memory()`,
/// `root().model()`, `root().compatible()`, and what reads values of any length (`clock_frequency()`,
/// `ids()`). Look these up with `find_node` and `property`.
#[derive(Clone)]
pub struct HostTree {
    blob: Vec<u8>,
}

impl HostTree {
    /// Writes the tree anew. Needs the heap for the tree and the copy: for real trees less than
    /// 1 MiB.
    pub fn reencode(dtb: &Dtb<'_>) -> Result<Self, TreeError> {
        let mut tree = DeviceTree::new();
        let reservations = dtb.raw_reservations();
        tree.memory_reservations
            .extend(reservations.map(|(address, size)| MemoryReservation::new(address, size)));
        tree.root = copy(dtb.root())?;
        let blob = tree.to_dtb();
        // The copy can be larger: an original may share the ends of its strings.
        Dtb::parse(&blob)?;
        Ok(Self { blob })
    }

    /// The blob.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The tree for this room's readers.
    pub fn dtb(&self) -> Dtb<'_> {
        Dtb::parse(&self.blob).expect("reencode has parsed the same bytes")
    }

    /// The tree for the `fdt` crate.
    pub fn fdt(&self) -> fdt::Fdt<'_> {
        fdt::Fdt::new(&self.blob).expect("the header was written by to_dtb")
    }
}

/// A copy of `node` and all below it; at most 15 levels deep, as `node` is of a validated tree.
fn copy(node: Node<'_>) -> Result<DeviceTreeNode, TreeError> {
    let twice = |name: &str| TreeError::Twice {
        node: Path::new(node),
        name: Word::new(name),
    };
    let mut copy = DeviceTreeNode::new_unchecked(node.name());
    for Property { name, value } in node.properties() {
        if copy.property_mut(name).is_some() {
            return Err(twice(name));
        }
        copy.add_property(DeviceTreeProperty::new_unchecked(name, value));
    }
    for child in node.children() {
        if copy.child_mut(child.name()).is_some() {
            return Err(twice(child.name()));
        }
        copy.add_child(self::copy(child)?);
    }
    Ok(copy)
}

#[cfg(test)]
mod tests;
