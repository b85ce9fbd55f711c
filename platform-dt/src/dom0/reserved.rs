//! Memory that is reserved at a fixed place (DTSpec 3.5).

use alloc::vec::Vec;

use xen_types::HpaRange;

use super::index::{Id, Index};
use crate::TreeError;
use crate::node::Status;

/// The usable children of `/reserved-memory` that have a place.
pub(super) struct ReservedMemory {
    /// Memory that Dom0's kernel reserves for the devices that use it.
    pub usable: Vec<HpaRange>,
    /// Memory that must not be mapped, so that nothing is read from it by speculation.
    pub no_map: Vec<(Id, HpaRange)>,
    /// The node that holds them.
    pub node: Option<Id>,
}

impl ReservedMemory {
    pub(super) fn read(index: &Index<'_>) -> Result<Self, TreeError> {
        let node = index.child(index.root(), "reserved-memory");
        let mut reserved = Self {
            usable: Vec::new(),
            no_map: Vec::new(),
            node,
        };
        for id in node.into_iter().flat_map(|node| index.children(node)) {
            let node = index.node(id);
            if node.status() != Status::Okay || node.property("reg").is_none() {
                continue;
            }
            let no_map = node.property("no-map").is_some();
            for range in node.memory_ranges()? {
                match no_map {
                    true => reserved.no_map.push((id, range?)),
                    false => reserved.usable.push(range?),
                }
            }
        }
        Ok(reserved)
    }
}
