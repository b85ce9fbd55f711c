//! Interrupt specifiers (DTSpec 2.4) as far as the GIC's own bindings go
//! (devicetree bindings interrupt-controller/arm,gic.yaml and arm,gic-v3.yaml).

use xen_types::{IntId, Interrupt, Ppi, Spi, Trigger};

use crate::host::is_gic;
use crate::node::{MAX_DEPTH, Node};
use crate::property::Property;

/// The first cell: which kind of interrupt.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
/// The third cell, bits 3:0: what makes it pending. Anything else is a level.
const TRIGGER: u32 = 0xf;
const EDGES: core::ops::RangeInclusive<u32> = 1..=3;

impl<'a> Node<'a> {
    /// The node's interrupt `index`, if it is one of the GIC's own lines: `None` where there is no
    /// such interrupt or it goes through another controller.
    pub fn interrupt(self, index: usize) -> Option<Interrupt> {
        if let Some(extended) = self.property("interrupts-extended") {
            return self.extended_interrupt(extended, index);
        }
        let controller = self.interrupt_parent()?;
        let cells = controller.interrupt_cells()?;
        let start = index.checked_mul(cells)?;
        decode(controller, self.property("interrupts")?.cells().skip(start))
    }

    /// The place of `name` in `interrupt-names`.
    pub(crate) fn interrupt_named(self, name: &str) -> Option<usize> {
        let names = self.property("interrupt-names")?;
        names.strings().position(|other| other == name)
    }

    fn extended_interrupt(self, extended: Property<'a>, index: usize) -> Option<Interrupt> {
        let mut cells = extended.cells();
        for _ in 0..index {
            let controller = self.by_phandle(cells.next()?)?;
            let count = controller.interrupt_cells()?;
            cells.by_ref().take(count).for_each(drop);
        }
        let controller = self.by_phandle(cells.next()?)?;
        decode(controller, cells)
    }

    /// The nearest node that takes this one's interrupts: named by the node or an ancestor, or an
    /// ancestor that is itself a controller or a map.
    fn interrupt_parent(self) -> Option<Node<'a>> {
        let mut node = self;
        // Each step goes up or follows a phandle once per level: a loop of phandles ends here.
        for _ in 0..MAX_DEPTH {
            node = match node.property("interrupt-parent") {
                Some(phandle) => self.by_phandle(phandle.u32()?)?,
                None => node.parent()?,
            };
            if node.interrupt_cells().is_some() {
                return Some(node);
            }
        }
        None
    }

    /// How many cells name an interrupt of this controller or map; `None` for other nodes.
    pub(crate) fn interrupt_cells(self) -> Option<usize> {
        Some(self.property("#interrupt-cells")?.u32()? as usize)
    }
}

/// The interrupt that the first cells name at `controller`.
pub(crate) fn decode(
    controller: Node<'_>,
    mut cells: impl Iterator<Item = u32>,
) -> Option<Interrupt> {
    if !is_gic(controller) || controller.interrupt_cells()? < 3 {
        return None;
    }
    let (kind, number, flags) = (cells.next()?, cells.next()?, cells.next()?);
    let id: IntId = match kind {
        SHARED => Spi::new(number)?.into(),
        PRIVATE => Ppi::new(number)?.into(),
        _ => return None,
    };
    let trigger = if EDGES.contains(&(flags & TRIGGER)) {
        Trigger::Edge
    } else {
        Trigger::Level
    };
    Some(Interrupt { id, trigger })
}
