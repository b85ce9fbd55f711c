//! Addresses in `reg` and their way through the `ranges` of each bus up to the processor
//! (DTSpec 2.3.5, 2.3.6, 2.3.8).

use core::slice::ChunksExact;

use xen_types::{Hpa, HpaRange};

use crate::TreeError;
use crate::error::{Path, Word};
use crate::node::Node;
use crate::property::Property;

/// The most cells that an address, a size or an interrupt specifier may have.
pub(crate) const MAX_CELLS: u32 = 4;
/// Bytes of a cell.
const CELL: usize = 4;

/// How many 32-bit cells an address and a size take on a bus, 0 to 4 each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CellSizes {
    /// Cells of an address.
    pub address: u8,
    /// Cells of a size.
    pub size: u8,
}

impl Default for CellSizes {
    /// What the specification assumes of a bus that does not say.
    fn default() -> Self {
        Self {
            address: 2,
            size: 1,
        }
    }
}

impl CellSizes {
    fn address_bytes(self) -> usize {
        usize::from(self.address) * CELL
    }

    fn size_bytes(self) -> usize {
        usize::from(self.size) * CELL
    }
}

/// A range of addresses as a `reg` gives it, on the bus of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BusRange {
    pub address: u128,
    /// 0 on a bus whose devices have no size.
    pub size: u64,
}

/// A record of a `ranges`: the same bytes on the bus that a node is and on the one that it is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    /// Where it begins on the bus that the node is.
    pub child: u128,
    /// Where it begins on the bus that the node is on.
    pub parent: u128,
    /// Bytes.
    pub size: u128,
}

impl Window {
    /// How far into the window `range` begins, if it lies in the window that begins at `start`.
    fn offset(self, start: u128, range: BusRange) -> Option<u128> {
        let offset = range.address.checked_sub(start)?;
        let end = offset.checked_add(u128::from(range.size))?;
        (offset < self.size && end <= self.size).then_some(offset)
    }
}

impl<'a> Node<'a> {
    /// How the addresses of the node's children are written.
    pub fn cell_sizes(self) -> CellSizes {
        self.cell_sizes_over(CellSizes::default())
    }

    /// How the addresses of the node's children are written, where a node that does not say goes by
    /// the one that holds it. This is not DTSpec's rule but Xen's for boot modules, and boot loaders
    /// rely on it: they put modules into a `/chosen` that has no cell properties.
    pub(crate) fn inherited_cell_sizes(self) -> CellSizes {
        let lineage = self.lineage();
        let over = |cells, node: &Node<'_>| node.cell_sizes_over(cells);
        lineage.iter().fold(CellSizes::default(), over)
    }

    fn cell_sizes_over(self, mut cells: CellSizes) -> CellSizes {
        for property in self.properties() {
            let count = || property.u32().unwrap_or(0).min(MAX_CELLS) as u8;
            match property.name {
                "#address-cells" => cells.address = count(),
                "#size-cells" => cells.size = count(),
                _ => {}
            }
        }
        cells
    }

    /// The records of `unit` bytes that `property` holds; `None` where the node does not have it.
    pub(crate) fn records(
        self,
        property: &str,
        unit: usize,
    ) -> Result<Option<ChunksExact<'a, u8>>, TreeError> {
        let Some(Property { value, .. }) = self.property(property) else {
            return Ok(None);
        };
        if unit == 0 || value.len() % unit != 0 {
            return Err(TreeError::Length {
                node: Path::new(self),
                property: Word::new(property),
                length: value.len(),
                expected: "a multiple of",
                unit,
            });
        }
        Ok(Some(value.chunks_exact(unit)))
    }

    /// The ranges of the node's `reg`, on its bus. An absent `reg` is an error.
    pub(crate) fn reg(self) -> Result<impl Iterator<Item = BusRange> + use<'a>, TreeError> {
        let (address, size) = (self.bus().address_bytes(), self.bus().size_bytes());
        let records = self
            .records("reg", address + size)?
            .ok_or_else(|| self.missing("reg"))?;
        Ok(records.filter_map(move |record| {
            let (address, size) = record.split_at_checked(address)?;
            Some(BusRange {
                address: number(address),
                size: number(size) as u64,
            })
        }))
    }

    /// The ranges of `reg` of a node that stands for memory itself: no bus translates them. Empty
    /// ones are left out.
    pub(crate) fn memory_ranges(
        self,
    ) -> Result<impl Iterator<Item = Result<HpaRange, TreeError>>, TreeError> {
        let ranges = self.reg()?.filter(|range| range.size != 0);
        Ok(ranges.map(move |range| self.host_range(range)))
    }

    /// The registers that entry `index` of `reg` gives, as the processor addresses them; `None`
    /// where `reg` has no such entry.
    pub fn registers(self, index: usize) -> Result<Option<HpaRange>, TreeError> {
        let Some(range) = self.reg()?.nth(index) else {
            return Ok(None);
        };
        self.translate(range).map(Some)
    }

    /// `range` of this node's bus as the processor addresses it.
    pub(crate) fn translate(self, range: BusRange) -> Result<HpaRange, TreeError> {
        let lineage = self.lineage();
        let buses = lineage.get(1..lineage.len().saturating_sub(1));
        let mut range = range;
        for bus in buses.unwrap_or(&[]).iter().rev() {
            range = bus
                .translate_once(range)?
                .ok_or_else(|| TreeError::NotTranslatable {
                    node: Path::new(self),
                    bus: Path::new(bus),
                    address: range.address,
                })?;
        }
        self.host_range(range)
    }

    /// `range` of the bus that this node is, on the bus that it is on; `None` where the node has
    /// no window for it.
    pub(crate) fn translate_once(self, range: BusRange) -> Result<Option<BusRange>, TreeError> {
        if self.is_transparent() {
            return Ok(Some(range));
        }
        Ok(self.windows()?.find_map(|window| {
            let offset = window.offset(window.child, range)?;
            let address = window.parent.checked_add(offset)?;
            Some(BusRange { address, ..range })
        }))
    }

    /// `range` of the bus that this node is on, on the bus that it is: the way back of
    /// [`Node::translate_once`].
    pub(crate) fn translate_back(self, range: BusRange) -> Result<Option<BusRange>, TreeError> {
        if self.is_transparent() {
            return Ok(Some(range));
        }
        Ok(self.windows()?.find_map(|window| {
            let offset = window.offset(window.parent, range)?;
            let address = window.child.checked_add(offset)?;
            Some(BusRange { address, ..range })
        }))
    }

    /// Whether the node's bus has the addresses of the bus that it is on: its `ranges` is empty.
    fn is_transparent(self) -> bool {
        self.property("ranges").is_some_and(|p| p.value.is_empty())
    }

    /// The windows of the node's `ranges`; none where it has no `ranges`.
    pub(crate) fn windows(self) -> Result<impl Iterator<Item = Window> + use<'a>, TreeError> {
        let own = self.cell_sizes();
        let (child, parent) = (own.address_bytes(), self.bus().address_bytes());
        let records = self.records("ranges", child + parent + own.size_bytes())?;
        Ok(records.into_iter().flatten().filter_map(move |window| {
            let (child, rest) = window.split_at_checked(child)?;
            let (parent, size) = rest.split_at_checked(parent)?;
            Some(Window {
                child: number(child),
                parent: number(parent),
                size: number(size),
            })
        }))
    }

    /// `range` of the root bus, if it is a range of 64-bit addresses.
    pub(crate) fn host_range(self, range: BusRange) -> Result<HpaRange, TreeError> {
        u64::try_from(range.address)
            .ok()
            .and_then(|address| HpaRange::new(Hpa::new(address), range.size))
            .ok_or_else(|| TreeError::NoRange {
                node: Path::new(self),
                property: Word::new("reg"),
                address: range.address as u64,
                size: range.size,
            })
    }
}

/// Big-endian cells as a number: at most 16 bytes.
fn number(cells: &[u8]) -> u128 {
    cells
        .iter()
        .fold(0, |number, &byte| number << 8 | u128::from(byte))
}
