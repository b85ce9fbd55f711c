//! Adding to a tree: look for conflicts, make the tables, then write the descriptors. Only making
//! tables can fail, and tables alone map nothing.

use xen_types::{Hpa, Mfn};

use super::geometry::{FIRST_BLOCK, Piece, span};
use super::{
    Entry, Format, MapError, OUTPUT, OutOfTables, TableMemory, allocate_table, leaf_bits,
    table_descriptor,
};

/// What all addresses of one call are mapped to.
pub(super) struct Mapping<F: Format> {
    /// Output minus input, modulo 2^64.
    shift: u64,
    attributes: F::Attributes,
}

impl<F: Format> Mapping<F> {
    pub(super) fn new(input: u64, output: Hpa, attributes: F::Attributes) -> Self {
        Self {
            shift: output.get().wrapping_sub(input),
            attributes,
        }
    }

    fn output(&self, input: u64) -> u64 {
        input.wrapping_add(self.shift)
    }

    /// The descriptor that maps `part` at `level`, if one descriptor can.
    fn descriptor(&self, part: Piece, level: u32) -> Option<u64> {
        let output = self.output(part.input);
        let fits = level >= FIRST_BLOCK
            && part.is_whole_entry(level)
            && output.is_multiple_of(span(level));
        fits.then(|| output | F::encode(self.attributes) | leaf_bits(level))
    }

    /// Whether a block or page of `level` already says what this mapping says of `part`.
    fn agrees(&self, descriptor: u64, part: Piece, level: u32) -> bool {
        let offset = part.input & (span(level) - 1);
        (descriptor & OUTPUT) + offset == self.output(part.input)
            && F::decode(descriptor) == Some(self.attributes)
    }

    /// Whether something in `piece` is mapped in another way.
    pub(super) fn find_conflict(
        &self,
        memory: &impl TableMemory,
        table: Mfn,
        level: u32,
        piece: Piece,
    ) -> Result<(), MapError> {
        for (index, part) in piece.by_entry(level) {
            match Entry::of(memory.read(table, index), level) {
                Entry::Nothing => {}
                Entry::Table(next) => self.find_conflict(memory, next, level + 1, part)?,
                Entry::Leaf(descriptor) if self.agrees(descriptor, part, level) => {}
                Entry::Leaf(_) => return Err(MapError::Conflict(part.input)),
            }
        }
        Ok(())
    }

    /// Makes the tables that [`Mapping::fill`] needs.
    pub(super) fn prepare(
        &self,
        memory: &mut impl TableMemory,
        table: Mfn,
        level: u32,
        piece: Piece,
    ) -> Result<(), OutOfTables> {
        for (index, part) in piece.by_entry(level) {
            let next = match Entry::of(memory.read(table, index), level) {
                Entry::Leaf(_) => continue,
                Entry::Table(next) => next,
                Entry::Nothing if self.descriptor(part, level).is_some() => continue,
                Entry::Nothing => {
                    let next = allocate_table(memory)?;
                    memory.write(table, index, table_descriptor(next));
                    next
                }
            };
            self.prepare(memory, next, level + 1, part)?;
        }
        Ok(())
    }

    /// Writes a descriptor wherever there is none.
    pub(super) fn fill(&self, memory: &mut impl TableMemory, table: Mfn, level: u32, piece: Piece) {
        for (index, part) in piece.by_entry(level) {
            match Entry::of(memory.read(table, index), level) {
                Entry::Leaf(_) => {}
                Entry::Table(next) => self.fill(memory, next, level + 1, part),
                Entry::Nothing => {
                    if let Some(descriptor) = self.descriptor(part, level) {
                        memory.write(table, index, descriptor);
                    }
                }
            }
        }
    }
}
