//! Where the interrupt pins of a root bus lead (IEEE 1275 recommended practice: interrupt mapping;
//! DTSpec 2.4.3).

use alloc::vec::Vec;

use xen_types::Interrupt;

use super::CELLS;
use crate::interrupt::decode;
use crate::property::Property;
use crate::{Node, TreeError};

/// Cells of an entry before its controller: an address and a pin.
const OWN_CELLS: usize = CELLS.address as usize + 1;
/// Bits of `phys.hi` below the 16 that name a requester.
const REQUESTER_SHIFT: u32 = 8;

/// A host bridge's `interrupt-map`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciInterrupts {
    mask: Pin,
    entries: Vec<Entry>,
}

/// A pin of a function: the first cell of its address, and the pin's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pin {
    address: u32,
    number: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    from: Pin,
    /// `None` for what does not lead straight to the GIC.
    to: Option<Interrupt>,
}

impl PciInterrupts {
    pub(super) fn read(node: Node<'_>) -> Result<Self, TreeError> {
        let mask = mask(node)?;
        let Some(map) = node.property("interrupt-map") else {
            return Ok(Self {
                mask,
                entries: Vec::new(),
            });
        };
        let malformed = || {
            let expected = "entries of an address, a pin, a controller and its interrupt";
            node.malformed("interrupt-map", expected)
        };
        let mut cells = map.cells();
        let mut entries = Vec::new();
        let mut known = None;
        while cells.clone().next().is_some() {
            let mut next = || cells.next().ok_or_else(malformed);
            let address = next()?;
            // Where in config space: nothing, in a map.
            let _ = (next()?, next()?);
            let number = next()?;
            let phandle = next()?;
            // Most maps name one controller only, and looking for it takes a while.
            let controller = match known {
                Some((known, controller)) if known == phandle => controller,
                _ => node.by_phandle(phandle).ok_or_else(malformed)?,
            };
            known = Some((phandle, controller));
            for _ in 0..address_cells(controller) {
                next()?;
            }
            let count = controller.interrupt_cells().ok_or_else(malformed)?;
            let specifier: Vec<u32> = cells.by_ref().take(count).collect();
            if specifier.len() != count {
                return Err(malformed());
            }
            entries.push(Entry {
                from: Pin { address, number },
                to: decode(controller, specifier.into_iter()),
            });
        }
        Ok(Self { mask, entries })
    }

    /// The interrupt of a pin of a function on the root bus: `requester` is its 16 bits, `pin` 1 for
    /// INTA to 4 for INTD. `None` where the map leads nowhere, or not straight to the GIC. A pin of a
    /// function behind bridges has to be followed to the root bus first.
    pub fn find(&self, requester: u16, pin: u8) -> Option<Interrupt> {
        let wanted = Pin {
            address: u32::from(requester) << REQUESTER_SHIFT,
            number: pin.into(),
        };
        let entry = self.entries.iter().find(|entry| {
            (entry.from.address ^ wanted.address) & self.mask.address == 0
                && (entry.from.number ^ wanted.number) & self.mask.number == 0
        });
        entry?.to
    }
}

/// `interrupt-map-mask`: all ones where there is none.
fn mask(node: Node<'_>) -> Result<Pin, TreeError> {
    let Some(mask) = node.property("interrupt-map-mask") else {
        return Ok(Pin {
            address: u32::MAX,
            number: u32::MAX,
        });
    };
    let cells: Vec<u32> = mask.cells().collect();
    match cells.as_slice() {
        &[address, _, _, number] if mask.value.len() == OWN_CELLS * 4 => {
            Ok(Pin { address, number })
        }
        _ => Err(node.malformed("interrupt-map-mask", "four cells")),
    }
}

/// Here, unlike elsewhere, a controller that does not say has no address.
fn address_cells(controller: Node<'_>) -> u32 {
    let cells = controller.property("#address-cells");
    cells.and_then(Property::u32).unwrap_or(0)
}
