//! References to nodes that Dom0 does not have, and who was behind an IOMMU.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::fate::{Fate, Fates, is_iommu};
use super::index::{Id, Index};
use crate::property::Property;

/// A device that the host's tree puts behind an IOMMU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Master {
    /// The path of its node.
    pub path: String,
    /// The phandle of the IOMMU.
    pub iommu: u32,
    /// The numbers by which the IOMMU knows it.
    pub ids: MasterIds,
}

/// The numbers by which an IOMMU knows a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MasterIds {
    /// The cells of an entry of `iommus`, whose meaning is the IOMMU's.
    Cells(Vec<u32>),
    /// An entry of a host bridge's `iommu-map` (devicetree binding pci/pci-iommu.txt): requester
    /// ids `first..first + count`, after `mask`, become numbers from `base` on.
    Map {
        /// The first requester id.
        first: u32,
        /// How many.
        count: u32,
        /// The number of the first.
        base: u32,
        /// The `iommu-map-mask`: all ones where there is none.
        mask: u32,
    },
}

/// An entry of a property that refers to other nodes.
struct Reference {
    phandle: u32,
    arguments: Vec<u32>,
}

/// The entries of a list of phandles, each with as many arguments as its node's `count` property
/// says. The list ends where a phandle names no node, as nobody knows how many follow it.
fn references(index: &Index<'_>, list: Property<'_>, count: &str) -> Vec<Reference> {
    let mut cells = list.cells();
    let next = || {
        let phandle = cells.next()?;
        let node = index.node(index.by_phandle(phandle)?);
        let count = node.property(count).and_then(Property::u32).unwrap_or(0);
        let arguments = cells.by_ref().take(count as usize).collect();
        Some(Reference { phandle, arguments })
    };
    core::iter::from_fn(next).collect()
}

/// The entries of a map from requester ids: four cells each, the second a phandle.
fn map_entries(map: Property<'_>) -> Vec<[u32; 4]> {
    let cells: Vec<u32> = map.cells().collect();
    let (entries, _) = cells.as_chunks();
    entries.to_vec()
}

/// Properties that refer to nodes and are of no use, or do harm, where a node is lost; each with
/// the property that says how many arguments follow, and the one that goes with it.
const LISTS: &[(&str, &str, &str)] = &[
    ("iommus", "#iommu-cells", ""),
    ("msi-parent", "#msi-cells", ""),
    ("power-domains", "#power-domain-cells", "power-domain-names"),
];
/// The same for maps from requester ids.
const MAPS: &[(&str, &str)] = &[("iommu-map", "iommu-map-mask"), ("msi-map", "msi-map-mask")];

/// The properties of the node that Dom0's tree must not have, because they refer to what is lost.
pub(super) fn dangling<'a>(index: &Index<'a>, fates: &Fates, id: Id) -> Vec<&'static str> {
    let node = index.node(id);
    let mut dangling = Vec::new();
    for &(name, count, with) in LISTS {
        let list = node.property(name);
        let list = list.map(|list| references(index, list, count));
        let mut phandles = list.into_iter().flatten().map(|entry| entry.phandle);
        if phandles.any(|phandle| is_lost(index, fates, name, phandle)) {
            dangling.extend([name, with]);
        }
    }
    for &(name, with) in MAPS {
        let entries = node.property(name).map(map_entries);
        let mut entries = entries.into_iter().flatten();
        if entries.any(|[_, phandle, ..]| is_lost(index, fates, name, phandle)) {
            dangling.extend([name, with]);
        }
    }
    dangling
}

/// Whether what `property` wants of the node with this phandle is lost. Messages can no longer go
/// to the interrupt controller itself.
fn is_lost(index: &Index<'_>, fates: &Fates, property: &str, phandle: u32) -> bool {
    let to_gic = property.starts_with("msi-") && index.by_phandle(phandle) == Some(fates.gic);
    fates.lost.contains(&phandle) || to_gic
}

/// Whether the node is of no use because it cools a processor of the host.
pub(super) fn cools_lost(index: &Index<'_>, fates: &Fates, id: Id) -> bool {
    let device = index.node(id).property("cooling-device");
    let devices = device.map(|list| references(index, list, "#cooling-cells"));
    let mut devices = devices.into_iter().flatten();
    devices.any(|device| fates.lost.contains(&device.phandle))
}

/// The devices that Dom0 gets and that are behind an IOMMU which it does not.
pub(super) fn masters(index: &Index<'_>, fates: &Fates) -> Vec<Master> {
    let kept = index.ids().filter(|&id| fates.of(id) == Fate::Kept);
    kept.flat_map(|id| of_node(index, id)).collect()
}

fn of_node(index: &Index<'_>, id: Id) -> Vec<Master> {
    let node = index.node(id);
    let direct = node.property("iommus");
    let direct = direct.map(|list| references(index, list, "#iommu-cells"));
    let direct = direct.into_iter().flatten();
    let direct = direct.map(|entry| (entry.phandle, MasterIds::Cells(entry.arguments)));
    let mask = node.property("iommu-map-mask").and_then(Property::u32);
    let mask = mask.unwrap_or(u32::MAX);
    let mapped = node.property("iommu-map").map(map_entries);
    let mapped = mapped.into_iter().flatten();
    let mapped = mapped.map(|[first, iommu, base, count]| {
        let ids = MasterIds::Map {
            first,
            count,
            base,
            mask,
        };
        (iommu, ids)
    });
    let is_ours = |phandle| {
        index
            .by_phandle(phandle)
            .is_some_and(|id| is_iommu(index.node(id)))
    };
    let ours = direct.chain(mapped).filter(|&(iommu, _)| is_ours(iommu));
    ours.map(|(iommu, ids)| Master {
        path: node.to_string(),
        iommu,
        ids,
    })
    .collect()
}
