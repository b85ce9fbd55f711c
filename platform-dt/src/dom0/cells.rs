//! Numbers as the cells of a property.

use alloc::vec::Vec;

use dtoolkit::model::DeviceTreeProperty;
use xen_types::GpaRange;

use super::error::Dom0Error;
use crate::CellSizes;
use crate::error::{Path, Word};

/// A property whose value is a list of numbers of one or more cells.
pub(super) struct Cells<'a> {
    node: &'a str,
    property: &'a str,
    cells: Vec<u32>,
}

impl<'a> Cells<'a> {
    /// An empty list; `node` is the path that errors name.
    pub(super) fn new(node: &'a str, property: &'a str) -> Self {
        Self {
            node,
            property,
            cells: Vec::new(),
        }
    }

    /// Adds `value` in `count` cells.
    pub(super) fn number(&mut self, value: u64, count: u8) -> Result<(), Dom0Error> {
        let bits = 32 * u32::from(count);
        if value.checked_shr(bits).unwrap_or(0) != 0 {
            return Err(Dom0Error::DoesNotFit {
                node: Path::new(self.node),
                property: Word::new(self.property),
                value,
                cells: count,
            });
        }
        for place in (0..u32::from(count)).rev() {
            let cell = value.checked_shr(32 * place).unwrap_or(0);
            self.cells.push(cell as u32);
        }
        Ok(())
    }

    /// Adds a range as an address and a size.
    pub(super) fn range(&mut self, range: GpaRange, sizes: CellSizes) -> Result<(), Dom0Error> {
        self.number(range.start().get(), sizes.address)?;
        self.number(range.size(), sizes.size)
    }

    /// The property.
    pub(super) fn finish(self) -> DeviceTreeProperty {
        DeviceTreeProperty::new_unchecked(self.property, self.cells.as_slice())
    }
}
