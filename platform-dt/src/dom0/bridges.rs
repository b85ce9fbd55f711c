//! PCI host bridges: what the plan says of those of the host's tree.

use alloc::string::ToString;

use super::index::{Id, Index};
use super::plan::{Dom0Plan, GuestBridge};

/// What the plan says of a node; `None` where it is no host bridge of the plan's.
pub(super) fn find<'p>(
    index: &Index<'_>,
    plan: &Dom0Plan<'p>,
    id: Id,
) -> Option<&'p GuestBridge<'p>> {
    let node = index.node(id);
    if plan.bridges.is_empty() || !node.has_type("pci") {
        return None;
    }
    let path = node.to_string();
    plan.bridges.iter().find(|bridge| bridge.path == path)
}
