//! Dom0's tree as a blob.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, Property as _};
use xen_types::GpaRange;

use super::check::identical;
use super::claims::Dom0Resources;
use super::error::Dom0Error;
use super::fate::{Fate, Fates};
use super::index::{Id, Index};
use super::made::{Made, psci, set};
use super::owned::Owned;
use super::references::{cools_lost, dangling};
use crate::Dtb;
use crate::property::Property;

/// What `/chosen` says to the hypervisor, or about a boot that is not Dom0's: a console and a
/// ramdisk of the host, and memory that another kernel left.
const NOT_CHOSEN: &[&str] = &[
    "bootargs",
    "stdout-path",
    "linux,stdout-path",
    "linux,initrd-start",
    "linux,initrd-end",
    "linux,usable-memory-range",
    "linux,elfcorehdr",
    "linux,ima-kexec-buffer",
];
/// How the names of further such properties begin. What is left of UEFI would make Linux call its
/// services.
const NOT_CHOSEN_PREFIXES: &[&str] = &["xen,", "linux,uefi-"];

/// Nodes whose properties are paths by name.
const NAME_LISTS: &[&str] = &["aliases", "__symbols__"];

/// The parts of the reserved memory that are RAM.
pub(super) fn reserved_ram(resources: &Dom0Resources, owned: &Owned) -> Vec<GpaRange> {
    let in_ram = |range: &xen_types::HpaRange| {
        let range = *range;
        let parts = owned
            .ram
            .iter()
            .filter_map(move |ram| ram.intersection(range));
        parts.filter_map(identical)
    };
    resources.reserved.iter().flat_map(in_ram).collect()
}

/// Writes the tree; `reserved` is memory beside the plan's.
pub(super) fn write(
    index: &Index<'_>,
    fates: &Fates,
    made: &Made<'_, '_>,
    reserved: &[GpaRange],
) -> Result<Vec<u8>, Dom0Error> {
    let writer = Writer { index, fates, made };
    let mut tree = DeviceTree::new();
    tree.root = writer.copy(index.root())?;
    writer.complete_root(&mut tree.root, reserved)?;
    for list in NAME_LISTS {
        prune(&mut tree, list);
    }
    let blob = tree.to_dtb();
    match blob.len() > Dtb::MAX_SIZE {
        true => Err(Dom0Error::TooLarge {
            size: blob.len(),
            max: Dtb::MAX_SIZE,
        }),
        false => Ok(blob),
    }
}

struct Writer<'w, 'a> {
    index: &'w Index<'a>,
    fates: &'w Fates,
    made: &'w Made<'w, 'a>,
}

impl Writer<'_, '_> {
    /// The node and what Dom0 sees below it.
    fn copy(&self, id: Id) -> Result<DeviceTreeNode, Dom0Error> {
        let node = self.index.node(id);
        let mut copy = DeviceTreeNode::new_unchecked(node.name());
        let dangling = dangling(self.index, self.fates, id);
        let is_chosen = self.is_chosen(id);
        for Property { name, value } in node.properties() {
            let dropped = name == "xen,passthrough"
                || dangling.contains(&name)
                || is_chosen && is_not_chosen(name);
            if !dropped {
                copy.add_property(DeviceTreeProperty::new_unchecked(name, value));
            }
        }
        self.made.complete(id, &mut copy);
        if matches!(self.fates.of(id), Fate::Assigned | Fate::Withheld) {
            set(&mut copy, "status", "disabled");
        }
        for child in self.index.children(id) {
            match self.fates.of(child) {
                Fate::Dropped => {}
                Fate::Gic => copy.add_child(self.made.gic()?),
                _ if cools_lost(self.index, self.fates, child) => {}
                _ => copy.add_child(self.copy(child)?),
            }
        }
        Ok(copy)
    }

    fn is_chosen(&self, id: Id) -> bool {
        let at_root = self.index.parent(id) == Some(self.index.root());
        at_root && self.index.node(id).name() == "chosen"
    }

    /// Adds what the host's tree does not have, or not so.
    fn complete_root(
        &self,
        root: &mut DeviceTreeNode,
        reserved: &[GpaRange],
    ) -> Result<(), Dom0Error> {
        let bus = self.index.node(self.index.root()).cell_sizes();
        // Readers differ in what they assume where these are absent.
        set(root, "#address-cells", u32::from(bus.address));
        set(root, "#size-cells", u32::from(bus.size));
        if root.child_mut("chosen").is_none() {
            root.add_child(DeviceTreeNode::new_unchecked("chosen"));
        }
        if let Some(chosen) = root.child_mut("chosen") {
            self.made.complete_chosen(chosen);
        }
        root.add_child(self.made.hypervisor(bus)?);
        root.add_child(psci());
        root.add_child(self.made.cpus());
        root.add_child(self.made.timer());
        for memory in self.made.memory(reserved, bus)? {
            root.add_child(memory);
        }
        Ok(())
    }
}

fn is_not_chosen(name: &str) -> bool {
    let has_prefix = |prefix: &&str| name.starts_with(*prefix);
    NOT_CHOSEN.contains(&name) || NOT_CHOSEN_PREFIXES.iter().any(has_prefix)
}

/// Removes the names of nodes that the tree does not have.
fn prune(tree: &mut DeviceTree, list: &str) {
    let Some(names) = tree.root.child(list) else {
        return;
    };
    let leads_nowhere = |name: &&DeviceTreeProperty| {
        let (name, value) = (name.name(), name.value());
        let path = Property { name, value }.string().unwrap_or("");
        path.starts_with('/') && tree.find_node(path).is_none()
    };
    let lost: Vec<String> = names
        .properties()
        .filter(leads_nowhere)
        .map(|name| name.name().to_string())
        .collect();
    if let Some(names) = tree.root.child_mut(list) {
        for name in &lost {
            names.remove_property(name);
        }
    }
}
