//! PCI host bridges (IEEE 1275 bus binding to PCI, 2.1; devicetree bindings pci/pci.txt and
//! pci/host-generic-pci.yaml).

mod interrupts;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xen_types::HpaRange;

pub use self::interrupts::PciInterrupts;
use crate::address::BusRange;
use crate::error::{Path, Word};
use crate::node::Status;
use crate::requester_map::RequesterMap;
use crate::{CellSizes, Dtb, Node, Property, TreeError};

/// How addresses on a PCI bus are written: `phys.hi` says which space, two cells where in it.
const CELLS: CellSizes = CellSizes {
    address: 3,
    size: 2,
};

/// `phys.hi`: the space, 25:24.
const IO: u32 = 1;
const MEMORY: core::ops::RangeInclusive<u32> = 2..=3;
/// `phys.hi`: reading has no side effects.
const PREFETCHABLE: u32 = 1 << 30;

/// A host bridge. What drives it is not said here: `compatible` says what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciBridge {
    /// The path of its node.
    pub path: String,
    /// What it is, the most specific first.
    pub compatible: Vec<String>,
    /// Its registers, or its config space.
    pub registers: Vec<HpaRange>,
    /// The number of its domain (`linux,pci-domain`).
    pub domain: Option<u16>,
    /// The first and the last bus (`bus-range`), the first not above the last.
    pub buses: Option<(u8, u8)>,
    /// What it forwards to its bus.
    pub windows: Vec<PciWindow>,
    /// How IOMMUs know requesters.
    pub iommu_map: Option<RequesterMap>,
    /// How MSI controllers know requesters.
    pub msi_map: Option<RequesterMap>,
    /// The phandle of the MSI controller for all of them, where there is no map.
    pub msi_parent: Option<u32>,
    /// Where INTA to INTD lead.
    pub interrupts: PciInterrupts,
    /// Whether DMA sees the CPUs' caches.
    pub coherent: bool,
}

/// Addresses that a host bridge forwards to its bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PciWindow {
    /// I/O ports; memory otherwise.
    pub io: bool,
    /// Memory of which reading has no side effects.
    pub prefetchable: bool,
    /// The first address on the bus.
    pub bus_address: u64,
    /// Where the CPU has them.
    pub host: HpaRange,
}

impl PciBridge {
    /// The usable host bridges of a tree, or what is wrong with each.
    pub fn all(dtb: &Dtb<'_>) -> Vec<Result<Self, TreeError>> {
        let bridges = dtb.nodes().filter(|&node| is_host_bridge(node));
        bridges.map(Self::read).collect()
    }

    fn read(node: Node<'_>) -> Result<Self, TreeError> {
        if node.cell_sizes() != CELLS {
            return Err(node.malformed("#address-cells", "3, with 2 #size-cells"));
        }
        let compatible = node.property("compatible");
        let compatible = compatible.into_iter().flat_map(Property::strings);
        Ok(Self {
            path: node.to_string(),
            compatible: compatible.map(String::from).collect(),
            registers: registers(node)?,
            domain: domain(node)?,
            buses: buses(node)?,
            windows: windows(node)?,
            iommu_map: RequesterMap::iommu(node)?,
            msi_map: RequesterMap::msi(node)?,
            msi_parent: node.property("msi-parent").and_then(Property::u32),
            interrupts: PciInterrupts::read(node)?,
            coherent: node.property("dma-coherent").is_some(),
        })
    }
}

/// Nodes of bridges behind a host bridge are of the same type.
fn is_host_bridge(node: Node<'_>) -> bool {
    node.has_type("pci")
        && node.property("compatible").is_some()
        && node.status() == Status::Okay
        && !node.parent().is_some_and(|parent| parent.has_type("pci"))
}

fn registers(node: Node<'_>) -> Result<Vec<HpaRange>, TreeError> {
    let ranges = node.reg()?.filter(|range| range.size != 0);
    ranges.map(|range| node.translate(range)).collect()
}

fn domain(node: Node<'_>) -> Result<Option<u16>, TreeError> {
    let Some(domain) = node.property("linux,pci-domain") else {
        return Ok(None);
    };
    let number = domain.u32().and_then(|number| u16::try_from(number).ok());
    let number = number.ok_or_else(|| node.malformed("linux,pci-domain", "one cell up to 0xffff"));
    number.map(Some)
}

fn buses(node: Node<'_>) -> Result<Option<(u8, u8)>, TreeError> {
    let Some(range) = node.property("bus-range") else {
        return Ok(None);
    };
    let malformed = || node.malformed("bus-range", "two bus numbers up to 0xff, in order");
    let numbers = range.u64().filter(|_| range.value.len() == 8);
    let numbers = numbers.ok_or_else(malformed)?;
    let number = |bits: u64| u8::try_from(bits & u64::from(u32::MAX)).map_err(|_| malformed());
    let (first, last) = (number(numbers >> 32)?, number(numbers)?);
    if first > last {
        return Err(malformed());
    }
    Ok(Some((first, last)))
}

/// The windows to I/O ports and memory; a window to config space is no business of anybody.
fn windows(node: Node<'_>) -> Result<Vec<PciWindow>, TreeError> {
    let mut windows = Vec::new();
    for window in node.windows()?.filter(|window| window.size != 0) {
        let kind = (window.child >> 64) as u32;
        let space = kind >> 24 & 3;
        if space != IO && !MEMORY.contains(&space) {
            continue;
        }
        let bus_address = window.child as u64;
        let size = window.size as u64;
        let overflow = || TreeError::NoRange {
            node: Path::new(node),
            property: Word::new("ranges"),
            address: bus_address,
            size,
        };
        bus_address.checked_add(size - 1).ok_or_else(overflow)?;
        windows.push(PciWindow {
            io: space == IO,
            prefetchable: space != IO && kind & PREFETCHABLE != 0,
            bus_address,
            host: node.translate(BusRange {
                address: window.parent,
                size,
            })?,
        });
    }
    Ok(windows)
}

#[cfg(test)]
mod tests;
