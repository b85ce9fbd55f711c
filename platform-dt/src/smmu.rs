//! SMMUv3s of the host, and the streams of its devices (devicetree bindings
//! iommu/arm,smmu-v3.yaml and iommu/iommu.txt).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xen_types::{HpaRange, Interrupt};

use crate::error::{Path, Word};
use crate::node::Status;
use crate::requester_map::RequesterMap;
use crate::{Dtb, Node, TreeError};

const SMMU_V3: &[&str] = &["arm,smmu-v3"];
/// Two register pages of 64 KiB (IHI 0070, 6.1).
const REGISTERS: u64 = 0x2_0000;

/// An SMMUv3.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SmmuV3 {
    /// The path of its node.
    pub path: String,
    /// Its registers: two pages of 64 KiB or more.
    pub registers: HpaRange,
    /// Its phandle, by which devices and host bridges name it.
    pub phandle: Option<u32>,
    /// Whether it sees the CPUs' caches (`dma-coherent`).
    pub coherent: bool,
    /// The interrupt for events.
    pub events: Option<Interrupt>,
    /// The interrupt for errors; the same as [`SmmuV3::events`] where there is one for all.
    pub errors: Option<Interrupt>,
}

/// An entry of a device's `iommus`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IommuReference {
    /// The IOMMU's phandle.
    pub iommu: u32,
    /// As many cells as the IOMMU's `#iommu-cells` says. For an SMMUv3 that is one, the stream id.
    pub cells: Vec<u32>,
}

impl SmmuV3 {
    /// The usable SMMUv3s of a tree.
    ///
    /// # Errors
    /// One has no registers that the CPU reaches, or too few.
    pub fn all(dtb: &Dtb<'_>) -> Result<Vec<Self>, TreeError> {
        let usable = |node: &Node<'_>| node.is_compatible(SMMU_V3) && node.status() == Status::Okay;
        dtb.nodes().filter(usable).map(Self::read).collect()
    }

    fn read(node: Node<'_>) -> Result<Self, TreeError> {
        let registers = node.registers(0)?.ok_or_else(|| node.missing("reg"))?;
        if registers.size() < REGISTERS {
            return Err(TreeError::Value {
                node: Path::new(node),
                property: Word::new("reg"),
                value: registers.size(),
                expected: "at least 0x20000 bytes, two register pages",
            });
        }
        let interrupt = |name| {
            let place = node.interrupt_named(name);
            node.interrupt(place.or_else(|| node.interrupt_named("combined"))?)
        };
        Ok(Self {
            path: node.to_string(),
            registers,
            phandle: node.phandle(),
            coherent: node.property("dma-coherent").is_some(),
            events: interrupt("eventq"),
            errors: interrupt("gerror"),
        })
    }

    /// Bits of the largest stream id that a device of the tree has at this SMMU.
    ///
    /// # Errors
    /// An `iommu-map` or an `iommus` is malformed.
    pub fn stream_bits(&self, dtb: &Dtb<'_>) -> Result<u32, TreeError> {
        let Some(phandle) = self.phandle else {
            return Ok(0);
        };
        let mut largest = 0;
        for node in dtb.nodes() {
            if node.property("iommu-map").is_some() {
                let map = RequesterMap::iommu(node)?;
                let id = map.and_then(|map| map.largest_id(phandle));
                largest = largest.max(id.unwrap_or(0));
            }
            let references = IommuReference::of(node)?;
            let own = references.iter().filter(|entry| entry.iommu == phandle);
            let ids = own.filter_map(IommuReference::stream);
            largest = ids.fold(largest, u32::max);
        }
        Ok(u32::BITS - largest.leading_zeros())
    }
}

impl IommuReference {
    /// The entries of the node's `iommus`; none where it has none.
    ///
    /// # Errors
    /// One names no IOMMU, or has too few cells.
    pub fn of(node: Node<'_>) -> Result<Vec<Self>, TreeError> {
        let mut entries = Vec::new();
        let Some(list) = node.property("iommus") else {
            return Ok(entries);
        };
        let expected = "phandles of IOMMUs, each with the cells that its #iommu-cells wants";
        let mut cells = list.cells();
        while let Some(iommu) = cells.next() {
            let entry = Self::read(node, iommu, &mut cells);
            entries.push(entry.ok_or_else(|| node.malformed("iommus", expected))?);
        }
        Ok(entries)
    }

    fn read(node: Node<'_>, iommu: u32, cells: &mut impl Iterator<Item = u32>) -> Option<Self> {
        let count = node.by_phandle(iommu)?.property("#iommu-cells")?.u32()? as usize;
        let cells: Vec<u32> = cells.by_ref().take(count).collect();
        (cells.len() == count).then_some(Self { iommu, cells })
    }

    /// The stream id, where the IOMMU has one cell for it.
    pub fn stream(&self) -> Option<u32> {
        match *self.cells {
            [stream] => Some(stream),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
