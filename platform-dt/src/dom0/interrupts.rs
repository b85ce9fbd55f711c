//! All interrupts of the GIC that a node's device raises, also through interrupt nexus (DTSpec
//! 2.4).

use alloc::vec::Vec;

use xen_types::Interrupt;

use super::index::{Id, Index};
use crate::interrupt::decode;
use crate::node::MAX_DEPTH;
use crate::property::Property;

/// Controllers that stand before the GIC, to wake the system, and take the GIC's own specifiers.
const STACKED: &[&str] = &[
    "allwinner,sun6i-a31-r-intc",
    "allwinner,sun50i-h6-r-intc",
    "fsl,imx8mq-gpc",
    "mediatek,mt6577-sysirq",
    "nvidia,tegra30-ictlr",
    "nvidia,tegra210-ictlr",
];

/// An interrupt at a controller or nexus.
#[derive(Clone)]
struct Line {
    controller: Id,
    /// The unit address of the device, in the cells of the nexus; it tells devices apart whose
    /// specifiers are the same.
    address: Vec<u32>,
    specifier: Vec<u32>,
}

/// The ways that interrupts take to the GIC at `gic`.
#[derive(Clone, Copy)]
pub(super) struct Interrupts<'t, 'a> {
    pub index: &'t Index<'a>,
    pub gic: Id,
}

impl Interrupts<'_, '_> {
    /// The interrupts that the node names, and if it is a nexus, those of its map. What does not
    /// end at the GIC is left out.
    pub(super) fn of(self, id: Id) -> Vec<Interrupt> {
        let mapped = self.map(id).into_iter().map(|entry| entry.to);
        self.lines(id)
            .into_iter()
            .chain(mapped)
            .filter_map(|line| self.follow(line))
            .collect()
    }

    /// What the node's own `interrupts-extended` or `interrupts` name.
    fn lines(self, id: Id) -> Vec<Line> {
        let node = self.index.node(id);
        if let Some(extended) = node.property("interrupts-extended") {
            return self.extended(id, extended);
        }
        let (Some(interrupts), Some(controller)) = (node.property("interrupts"), self.parent(id))
        else {
            return Vec::new();
        };
        let count = self.cells(controller).filter(|&count| count != 0);
        let cells: Vec<u32> = interrupts.cells().collect();
        cells
            .chunks_exact(count.unwrap_or(usize::MAX))
            .map(|specifier| self.line(id, controller, specifier))
            .collect()
    }

    fn extended(self, id: Id, extended: Property<'_>) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut cells = extended.cells();
        while let Some(phandle) = cells.next() {
            // Without the controller, nobody knows where the next entry begins.
            let Some(controller) = self.index.by_phandle(phandle) else {
                break;
            };
            let Some(count) = self.cells(controller) else {
                break;
            };
            let specifier: Vec<u32> = cells.by_ref().take(count).collect();
            lines.push(self.line(id, controller, &specifier));
        }
        lines
    }

    fn line(self, id: Id, controller: Id, specifier: &[u32]) -> Line {
        let reg = self.index.node(id).property("reg");
        let reg = reg.into_iter().flat_map(Property::cells);
        let count = self.nexus_address_cells(controller);
        Line {
            controller,
            address: reg.chain(core::iter::repeat(0)).take(count).collect(),
            specifier: specifier.to_vec(),
        }
    }

    /// Where the line ends, if that is the GIC.
    fn follow(self, mut line: Line) -> Option<Interrupt> {
        // Each nexus passes a line on once; a loop of maps ends here.
        for _ in 0..MAX_DEPTH {
            if line.controller == self.gic {
                return decode(self.index.node(self.gic), line.specifier.iter().copied());
            }
            let node = self.index.node(line.controller);
            if node.is_compatible(STACKED) {
                line.controller = self.parent(line.controller)?;
                continue;
            }
            if node.property("interrupt-controller").is_some() {
                return None;
            }
            let entries = self.map(line.controller);
            line = entries.into_iter().find(|entry| entry.matches(&line))?.to;
        }
        None
    }

    /// The nearest controller or nexus that takes the node's interrupts.
    fn parent(self, id: Id) -> Option<Id> {
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            id = match self.index.node(id).property("interrupt-parent") {
                Some(phandle) => self.index.by_phandle(phandle.u32()?)?,
                None => self.index.parent(id)?,
            };
            if self.cells(id).is_some() {
                return Some(id);
            }
        }
        None
    }

    fn cells(self, id: Id) -> Option<usize> {
        self.index.node(id).interrupt_cells()
    }

    /// How many cells a unit address has at a nexus: as the nearest node says that says it.
    fn nexus_address_cells(self, id: Id) -> usize {
        let nodes = core::iter::once(id).chain(self.index.ancestors(id));
        let mut said = nodes.filter_map(|id| self.own_address_cells(id));
        said.next().unwrap_or(2)
    }

    fn own_address_cells(self, id: Id) -> Option<usize> {
        let cells = self.index.node(id).property("#address-cells")?;
        Some(cells.u32()? as usize)
    }

    /// The node's `interrupt-map`; empty where it has none, and it ends where it is not whole.
    fn map(self, id: Id) -> Vec<MapEntry> {
        let node = self.index.node(id);
        let mut entries = Vec::new();
        let Some(map) = node.property("interrupt-map") else {
            return entries;
        };
        let mask = node.property("interrupt-map-mask");
        let mask = mask.into_iter().flat_map(Property::cells);
        let mask = mask.chain(core::iter::repeat(u32::MAX));
        let own_cells = self.nexus_address_cells(id) + self.cells(id).unwrap_or(0);
        let mask: Vec<u32> = mask.take(own_cells).collect();
        let mut cells = map.cells();
        let mut take = |count: usize| {
            let taken: Vec<u32> = cells.by_ref().take(count).collect();
            (taken.len() == count).then_some(taken)
        };
        let mut entry = || {
            let from = take(own_cells)?;
            let controller = self.index.by_phandle(*take(1)?.first()?)?;
            // Here, unlike elsewhere, a controller that does not say has no address.
            let address = take(self.own_address_cells(controller).unwrap_or(0))?;
            let specifier = take(self.cells(controller)?)?;
            let to = Line {
                controller,
                address,
                specifier,
            };
            let mask = mask.clone();
            Some(MapEntry { from, mask, to })
        };
        while let Some(entry) = entry() {
            entries.push(entry);
        }
        entries
    }
}

/// An entry of an `interrupt-map`.
struct MapEntry {
    /// Address and specifier at the nexus.
    from: Vec<u32>,
    /// Which bits of them count.
    mask: Vec<u32>,
    to: Line,
}

impl MapEntry {
    fn matches(&self, line: &Line) -> bool {
        let cells = line.address.iter().chain(&line.specifier);
        let pairs = self.from.iter().zip(cells).zip(&self.mask);
        pairs.fold(true, |same, ((from, cell), mask)| {
            same && (from ^ cell) & mask == 0
        })
    }
}
