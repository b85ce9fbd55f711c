//! Maps from PCI requester ids to the ids that an IOMMU or an MSI controller knows devices by
//! (devicetree bindings pci/pci-iommu.txt and pci/pci-msi.txt).

use alloc::vec::Vec;

use crate::{Node, TreeError};

/// Bytes of an entry: first requester id, phandle, first id, count.
const ENTRY: usize = 16;

/// A host bridge's `iommu-map` or `msi-map`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequesterMap {
    mask: u32,
    entries: Vec<Entry>,
}

/// `first..first + count` become `base..base + count` at one controller: at least one, and no last
/// one overflows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    first: u32,
    controller: u32,
    base: u32,
    count: u32,
}

/// How a controller knows a requester.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MappedId {
    /// The controller's phandle.
    pub controller: u32,
    /// The stream id of an IOMMU, the device id of an ITS.
    pub id: u32,
}

impl RequesterMap {
    /// The map to IOMMUs of a host bridge; `None` where no IOMMU stands behind it. An entry has one
    /// cell for an id, whatever `#iommu-cells` says.
    ///
    /// # Errors
    /// The map is malformed, or names what is no IOMMU.
    pub fn iommu(bridge: Node<'_>) -> Result<Option<Self>, TreeError> {
        Self::read(bridge, "iommu-map", "iommu-map-mask", |node| {
            node.property("#iommu-cells").is_some()
        })
    }

    /// The map to MSI controllers of a host bridge; `None` where it has none. Such a controller may
    /// also be the bridge's `msi-parent`, which is no map.
    ///
    /// # Errors
    /// The map is malformed, or names what is no MSI controller.
    pub fn msi(bridge: Node<'_>) -> Result<Option<Self>, TreeError> {
        Self::read(bridge, "msi-map", "msi-map-mask", |node| {
            node.property("msi-controller").is_some()
        })
    }

    fn read(
        bridge: Node<'_>,
        name: &'static str,
        mask: &'static str,
        is_controller: impl Fn(Node<'_>) -> bool,
    ) -> Result<Option<Self>, TreeError> {
        let Some(records) = bridge.records(name, ENTRY)? else {
            return Ok(None);
        };
        let malformed = || {
            let expected =
                "entries of a first requester id, a controller's phandle, a first id and a count";
            bridge.malformed(name, expected)
        };
        let entries: Vec<Entry> = records
            .map(|record| Entry::read(record).ok_or_else(malformed))
            // Layerscape's trees have empty entries, for the boot loader to fill in.
            .filter(|entry| entry.as_ref().map_or(true, |entry| entry.count != 0))
            .collect::<Result<_, _>>()?;
        let mut known = None;
        for entry in &entries {
            // Most maps name one controller only, and looking for it takes a while.
            if known != Some(entry.controller) {
                let controller = bridge.by_phandle(entry.controller);
                controller
                    .filter(|&node| is_controller(node))
                    .ok_or_else(malformed)?;
                known = Some(entry.controller);
            }
        }
        let mask = match bridge.property(mask) {
            Some(property) => property
                .u32()
                .ok_or_else(|| bridge.malformed(mask, "one cell"))?,
            None => u32::MAX,
        };
        Ok(Some(Self { mask, entries }))
    }

    /// How a requester, by its 16 bits, is known to its controller; `None` for those that the map
    /// leaves out. The first entry that has it counts.
    pub fn find(&self, requester: u16) -> Option<MappedId> {
        let requester = u32::from(requester) & self.mask;
        self.entries.iter().find_map(|entry| {
            let offset = requester.checked_sub(entry.first)?;
            (offset < entry.count).then(|| MappedId {
                controller: entry.controller,
                id: entry.base.wrapping_add(offset),
            })
        })
    }

    /// The largest id that a requester can have at this controller.
    pub fn largest_id(&self, controller: u32) -> Option<u32> {
        let reachable = self.mask & u32::from(u16::MAX);
        let largest = |entry: &&Entry| entry.controller == controller && entry.first <= reachable;
        let entries = self.entries.iter().filter(largest);
        let largest = entries.map(|entry| {
            let offset = (entry.count - 1).min(reachable - entry.first);
            entry.base.wrapping_add(offset)
        });
        largest.max()
    }
}

impl Entry {
    fn read(record: &[u8]) -> Option<Self> {
        let (cells, _) = record.as_chunks();
        let &[first, controller, base, count] = cells else {
            return None;
        };
        let [first, controller, base, count] =
            [first, controller, base, count].map(u32::from_be_bytes);
        let last = count.saturating_sub(1);
        first.checked_add(last)?;
        base.checked_add(last)?;
        Some(Self {
            first,
            controller,
            base,
            count,
        })
    }
}

#[cfg(test)]
mod tests;
