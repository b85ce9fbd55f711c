//! Changing what a tree maps. Blocks that reach beyond what is to change are split first, which
//! alone needs tables; the rest cannot fail.

use xen_types::Mfn;

use super::geometry::{ENTRIES, Piece, index, span};
use super::{
    Entry, Format, LIMIT, MapError, OUTPUT, OutOfTables, Remembered, TableMemory, Unreachable,
    allocate_table, leaf_bits, table_descriptor,
};

/// Splits blocks until none reaches across `border`.
pub(super) fn split_at(
    memory: &mut impl TableMemory,
    root: Mfn,
    border: u64,
) -> Result<(), OutOfTables> {
    if border >= LIMIT {
        return Ok(());
    }
    let (mut table, mut level) = (root, 0);
    while !border.is_multiple_of(span(level)) {
        table = match Entry::of(memory.read(table, index(border, level)), level) {
            Entry::Nothing => return Ok(()),
            Entry::Table(next) => next,
            Entry::Leaf(block) => split(memory, table, level, border, block)?,
        };
        level += 1;
    }
    Ok(())
}

/// Replaces `block`, which holds `input`, by a table that says the same. Returns the table.
fn split(
    memory: &mut impl TableMemory,
    table: Mfn,
    level: u32,
    input: u64,
    block: u64,
) -> Result<Mfn, OutOfTables> {
    let parts = allocate_table(memory)?;
    let attributes = block & !OUTPUT & !leaf_bits(level);
    let first = block & OUTPUT;
    for part in 0..ENTRIES {
        let output = first + part as u64 * span(level + 1);
        memory.write(parts, part, output | attributes | leaf_bits(level + 1));
    }
    let slot = index(input, level);
    // Who remembers the block, remembers what the parts say; it is invalidated with each of them.
    let _ = break_before_make(memory, table, slot, input, table_descriptor(parts));
    Ok(parts)
}

/// Replaces a valid entry by another (D8.16.1): no TLB ever holds both.
fn break_before_make(
    memory: &mut impl TableMemory,
    table: Mfn,
    slot: usize,
    input: u64,
    descriptor: u64,
) -> Result<(), Remembered> {
    memory.write(table, slot, 0);
    let invalidated = memory.invalidate(input);
    memory.write(table, slot, descriptor);
    invalidated
}

/// Removes the blocks and pages of `piece`, at whose ends no block is split: all of them, whether or not
/// one is remembered.
pub(super) fn clear(
    memory: &mut impl TableMemory,
    table: Mfn,
    level: u32,
    piece: Piece,
) -> Result<(), Remembered> {
    let mut outcome = Ok(());
    for (slot, part) in piece.by_entry(level) {
        let cleared = match Entry::of(memory.read(table, slot), level) {
            Entry::Nothing => Ok(()),
            Entry::Table(next) => clear(memory, next, level + 1, part),
            Entry::Leaf(_) => {
                memory.write(table, slot, 0);
                memory.invalidate(part.input)
            }
        };
        outcome = outcome.and(cleared);
    }
    outcome
}

/// Removes tables below `table` that hold nothing in reach of `piece`, nor elsewhere.
pub(super) fn prune<F: Format>(
    memory: &mut impl TableMemory,
    table: Mfn,
    level: u32,
    piece: Piece,
) {
    for (slot, part) in piece.by_entry(level) {
        let Entry::Table(next) = Entry::of(memory.read(table, slot), level) else {
            continue;
        };
        prune::<F>(memory, next, level + 1, part);
        let stays = F::KEEPS_FIRST_TABLE && level == 0 && slot == 0;
        if !stays && (0..ENTRIES).all(|entry| memory.read(next, entry) == 0) {
            memory.write(table, slot, 0);
            // One that is remembered is lost.
            if memory.invalidate(part.input).is_ok() {
                memory.free(Unreachable::new(next));
            }
        }
    }
}

/// Frees a table and those below it, whatever they map.
pub(super) fn free_tables(memory: &mut impl TableMemory, table: Mfn, level: u32) {
    for slot in 0..ENTRIES {
        if let Entry::Table(next) = Entry::of(memory.read(table, slot), level) {
            free_tables(memory, next, level + 1);
        }
    }
    memory.free(Unreachable::new(table));
}

/// Whether something in `piece` is not mapped.
pub(super) fn find_unmapped(
    memory: &impl TableMemory,
    table: Mfn,
    level: u32,
    piece: Piece,
) -> Result<(), MapError> {
    for (slot, part) in piece.by_entry(level) {
        match Entry::of(memory.read(table, slot), level) {
            Entry::Nothing => return Err(MapError::NotMapped(part.input)),
            Entry::Table(next) => find_unmapped(memory, next, level + 1, part)?,
            Entry::Leaf(_) => {}
        }
    }
    Ok(())
}

/// Gives the blocks and pages of `piece`, at whose ends no block is split, other attributes.
pub(super) fn protect<F: Format>(
    memory: &mut impl TableMemory,
    table: Mfn,
    level: u32,
    piece: Piece,
    attributes: F::Attributes,
) -> Result<(), Remembered> {
    let mut outcome = Ok(());
    for (slot, part) in piece.by_entry(level) {
        let old = match Entry::of(memory.read(table, slot), level) {
            Entry::Nothing => continue,
            Entry::Table(next) => {
                let protected = protect::<F>(memory, next, level + 1, part, attributes);
                outcome = outcome.and(protected);
                continue;
            }
            Entry::Leaf(descriptor) => descriptor,
        };
        let new = old & OUTPUT | F::encode(attributes) | leaf_bits(level);
        let changed = match F::decode(old) {
            Some(same) if same == attributes => Ok(()),
            Some(other) if F::changes_in_place(other, attributes) => {
                memory.write(table, slot, new);
                memory.invalidate(part.input)
            }
            _ => break_before_make(memory, table, slot, part.input, new),
        };
        outcome = outcome.and(changed);
    }
    outcome
}
