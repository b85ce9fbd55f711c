//! By which stream an IOMMU knows a PCI function: the `iommu-map` of its host bridge.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use platform_dt::{Dtb, MappedId, Node, RequesterMap, TreeError};
use spin::Once;
use xen_core::pci_devices::Function;

/// A host bridge.
struct Bridge {
    path: String,
    segment: u16,
    map: Option<RequesterMap>,
}

static BRIDGES: Once<Vec<Bridge>> = Once::new();

/// Reads the maps of all host bridges.
///
/// # Errors
/// A map is malformed.
pub fn read(tree: &Dtb<'_>) -> Result<(), TreeError> {
    let bridges = tree.nodes().filter(|node| is_host_bridge(*node));
    let bridges = (0..).zip(bridges).map(|(number, node)| {
        Ok(Bridge {
            path: node.to_string(),
            segment: segment(node).unwrap_or(number),
            map: RequesterMap::iommu(node)?,
        })
    });
    let bridges = bridges.collect::<Result<Vec<_>, TreeError>>()?;
    BRIDGES.call_once(|| bridges);
    Ok(())
}

fn is_host_bridge(node: Node<'_>) -> bool {
    let is_pci = |node: Node<'_>| {
        let kind = node.property("device_type");
        kind.and_then(|kind| kind.string()) == Some("pci")
    };
    is_pci(node) && !node.parent().is_some_and(is_pci)
}

/// Linux counts the bridges where the tree does not number them (devicetree binding pci/pci.txt,
/// `linux,pci-domain`).
fn segment(node: Node<'_>) -> Option<u16> {
    let domain = node.property("linux,pci-domain")?.u32()?;
    u16::try_from(domain).ok()
}

/// How an IOMMU knows a function; `None` where none stands behind its host bridge.
pub fn find(function: Function) -> Option<MappedId> {
    let bridges = BRIDGES.get()?.iter();
    let mut bridges = bridges.filter(|bridge| bridge.segment == function.segment());
    bridges.find_map(|bridge| bridge.map.as_ref()?.find(function.requester()))
}

/// The host bridges whose functions no IOMMU holds back.
pub fn unguarded() -> impl Iterator<Item = &'static str> {
    let bridges = BRIDGES.get().into_iter().flatten();
    let unguarded = bridges.filter(|bridge| bridge.map.is_none());
    unguarded.map(|bridge| bridge.path.as_str())
}
