//! Walking through what a tree maps.

use xen_types::{Hpa, Mfn};

use super::geometry::{Piece, span};
use super::{Entry, Format, Leaf, OUTPUT, TableMemory};

/// The first block or page that has a part in `piece`.
pub(super) fn next<F: Format>(
    memory: &impl TableMemory,
    table: Mfn,
    level: u32,
    piece: Piece,
) -> Option<Leaf<F::Attributes>> {
    piece.by_entry(level).find_map(|(slot, part)| {
        match Entry::of(memory.read(table, slot), level) {
            Entry::Nothing => None,
            Entry::Table(below) => next::<F>(memory, below, level + 1, part),
            Entry::Leaf(descriptor) => Some(Leaf {
                input: part.input & !(span(level) - 1),
                size: span(level),
                output: Hpa::new(descriptor & OUTPUT),
                attributes: F::decode(descriptor)?,
            }),
        }
    })
}
