//! Page tables of the VMSAv8-64, 4 KiB granule, 48-bit input addresses, four levels (Arm ARM D8.2).
//!
//! The walker is the same for stage 1 of EL2 and, later, stage 2: what differs is how attributes
//! are spelled in a descriptor ([`Format`]). Table memory lies behind [`TableMemory`], so that the
//! walker runs on the host.

pub mod stage1;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

use xen_types::{Hpa, Mfn, PAGE_SIZE};

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// Levels of a walk: 0 is the root, 3 holds pages.
const LEVELS: u32 = 4;
/// First address that cannot be mapped.
pub const LIMIT: u64 = 1 << 48;

const VALID: u64 = 1;
/// At levels 0 to 2 a table, at level 3 a page; without it a block (D8.3.1).
const TABLE_OR_PAGE: u64 = 1 << 1;
const OUTPUT: u64 = 0x0000_ffff_ffff_f000;

/// How the attributes of a mapping are spelled.
pub trait Format {
    /// What a mapping says apart from where it leads.
    type Attributes: Copy + Eq + core::fmt::Debug;
    /// The attribute bits of a block or page descriptor.
    fn encode(attributes: Self::Attributes) -> u64;
    /// The attributes of a descriptor that [`Format::encode`] made.
    fn decode(descriptor: u64) -> Option<Self::Attributes>;
}

/// There is no memory for another table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no memory for page tables")]
pub struct OutOfTables;

/// The memory that tables live in.
pub trait TableMemory {
    /// A frame for a table, filled with zeros.
    fn allocate(&mut self) -> Result<Mfn, OutOfTables>;
    /// Reads an entry.
    fn read(&self, table: Mfn, index: usize) -> u64;
    /// Writes an entry by one store that the walker sees whole, and has it take effect.
    fn write(&mut self, table: Mfn, index: usize, descriptor: u64);
    /// Removes what a TLB may hold of the page or block at `address`; done when it returns.
    fn invalidate(&mut self, address: u64);
}

/// Why a range cannot be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// No table.
    #[error(transparent)]
    OutOfTables(#[from] OutOfTables),
    /// The address already leads elsewhere, or with other attributes.
    #[error("{0:#x} is mapped already, in another way")]
    Conflict(u64),
    /// Not whole pages, empty, or beyond 48 bits.
    #[error("{0:#x} with {1:#x} bytes is not a range of whole pages below 48 bits")]
    BadRange(u64, u64),
}

/// A tree of tables.
#[derive(Debug)]
pub struct PageTable<F> {
    root: Mfn,
    format: PhantomData<F>,
}

/// Where an address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation<A> {
    /// The output address of this very input address.
    pub output: Hpa,
    /// Attributes.
    pub attributes: A,
    /// Level of the descriptor: 1 for 1 GiB, 2 for 2 MiB, 3 for 4 KiB.
    pub level: u32,
}

/// Bytes that an entry of a level covers.
const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (LEVELS - 1 - level))
}

const fn index(address: u64, level: u32) -> usize {
    (address / span(level)) as usize % ENTRIES
}

const fn is_table(descriptor: u64, level: u32) -> bool {
    level < LEVELS - 1 && descriptor & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE
}

const fn next_table(descriptor: u64) -> Mfn {
    Hpa::new(descriptor & OUTPUT).frame()
}

/// The address field of a descriptor. All tables and outputs lie below 48 bits.
fn field(frame: Mfn) -> u64 {
    (frame.get() << xen_types::PAGE_SHIFT) & OUTPUT
}

/// What a map or unmap walks over.
#[derive(Clone, Copy)]
struct Piece {
    input: u64,
    size: u64,
}

impl<F: Format> PageTable<F> {
    /// An empty tree.
    pub fn new(memory: &mut impl TableMemory) -> Result<Self, OutOfTables> {
        Ok(Self::adopt(memory.allocate()?))
    }

    /// The tree whose root is `root`: entries of this format, or zeros.
    pub fn adopt(root: Mfn) -> Self {
        Self {
            root,
            format: PhantomData,
        }
    }

    /// The root table.
    pub fn root(&self) -> Mfn {
        self.root
    }

    /// Maps `size` bytes from `input` to `output` with the largest blocks that alignment allows.
    /// What is mapped so already stays; a mapping that differs is a conflict, found before anything
    /// is changed. If tables run out, what was mapped until then remains.
    pub fn map(
        &mut self,
        memory: &mut impl TableMemory,
        input: u64,
        output: Hpa,
        size: u64,
        attributes: F::Attributes,
    ) -> Result<(), MapError> {
        let piece = Self::check(input, size)?;
        if !output.is_aligned(PAGE_SIZE)
            || output.get().checked_add(size).is_none_or(|end| end > LIMIT)
        {
            return Err(MapError::BadRange(output.get(), size));
        }
        let leaf = Leaf::<F> {
            shift: output.get().wrapping_sub(input),
            attributes,
        };
        leaf.find_conflict(memory, self.root, 0, piece)?;
        leaf.fill(memory, self.root, 0, piece)
    }

    /// Removes what is mapped in `size` bytes from `input`; blocks that reach beyond are split.
    pub fn unmap(
        &mut self,
        memory: &mut impl TableMemory,
        input: u64,
        size: u64,
    ) -> Result<(), MapError> {
        let piece = Self::check(input, size)?;
        Self::clear(memory, self.root, 0, piece)
    }

    /// Where `input` leads.
    pub fn lookup(
        &self,
        memory: &impl TableMemory,
        input: u64,
    ) -> Option<Translation<F::Attributes>> {
        if input >= LIMIT {
            return None;
        }
        let mut table = self.root;
        for level in 0..LEVELS {
            let descriptor = memory.read(table, index(input, level));
            if descriptor & VALID == 0 {
                return None;
            }
            if is_table(descriptor, level) {
                table = next_table(descriptor);
                continue;
            }
            let offset = input & (span(level) - 1);
            return Some(Translation {
                output: Hpa::new((descriptor & OUTPUT) + offset),
                attributes: F::decode(descriptor)?,
                level,
            });
        }
        None
    }

    fn check(input: u64, size: u64) -> Result<Piece, MapError> {
        let end = input.checked_add(size);
        let aligned = input.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE);
        if size == 0 || !aligned || end.is_none_or(|end| end > LIMIT) {
            return Err(MapError::BadRange(input, size));
        }
        Ok(Piece { input, size })
    }

    fn clear(
        memory: &mut impl TableMemory,
        table: Mfn,
        level: u32,
        piece: Piece,
    ) -> Result<(), MapError> {
        for part in piece.by_entry(level) {
            let slot = index(part.input, level);
            let descriptor = memory.read(table, slot);
            if descriptor & VALID == 0 {
                continue;
            }
            if is_table(descriptor, level) {
                Self::clear(memory, next_table(descriptor), level + 1, part)?;
            } else if part.size == span(level) {
                memory.write(table, slot, 0);
                memory.invalidate(part.input);
            } else {
                let smaller = Self::split(memory, table, level, part.input)?;
                Self::clear(memory, smaller, level + 1, part)?;
            }
        }
        Ok(())
    }

    /// Replaces the block that holds `input` by a table that says the same, with the entry invalid
    /// in between and gone from TLBs (break-before-make, D8.16.1). Returns the table.
    fn split(
        memory: &mut impl TableMemory,
        table: Mfn,
        level: u32,
        input: u64,
    ) -> Result<Mfn, MapError> {
        let slot = index(input, level);
        let block = memory.read(table, slot);
        let smaller = memory.allocate()?;
        let kind = if level + 1 == LEVELS - 1 {
            TABLE_OR_PAGE
        } else {
            0
        };
        for (entry, offset) in (0..ENTRIES).zip((0..).step_by(span(level + 1) as usize)) {
            memory.write(smaller, entry, (block + offset) | kind);
        }
        memory.write(table, slot, 0);
        memory.invalidate(input & !(span(level) - 1));
        memory.write(table, slot, field(smaller) | VALID | TABLE_OR_PAGE);
        Ok(smaller)
    }
}

impl Piece {
    /// The parts of this piece that fall into one entry of `level` each.
    fn by_entry(self, level: u32) -> impl Iterator<Item = Piece> {
        let mut rest = self;
        core::iter::from_fn(move || {
            if rest.size == 0 {
                return None;
            }
            let room = span(level) - (rest.input & (span(level) - 1));
            let size = room.min(rest.size);
            let part = Piece {
                input: rest.input,
                size,
            };
            rest = Piece {
                input: rest.input + size,
                size: rest.size - size,
            };
            Some(part)
        })
    }
}

/// What all addresses of one call are mapped to.
struct Leaf<F: Format> {
    /// Output minus input, modulo 2^64.
    shift: u64,
    attributes: F::Attributes,
}

impl<F: Format> Leaf<F> {
    /// The descriptor that maps the entry at `input` of `level`, if one descriptor can.
    fn descriptor(&self, part: Piece, level: u32) -> Option<u64> {
        let output = part.input.wrapping_add(self.shift);
        let blocks = level >= 1;
        if !blocks || part.size != span(level) || !output.is_multiple_of(span(level)) {
            return None;
        }
        let kind = if level == LEVELS - 1 {
            TABLE_OR_PAGE
        } else {
            0
        };
        Some(output | F::encode(self.attributes) | kind | VALID)
    }

    /// Whether a block or page at `part` already says what this call would.
    fn agrees(&self, descriptor: u64, part: Piece, level: u32) -> bool {
        let offset = part.input & (span(level) - 1);
        let leads_to = (descriptor & OUTPUT) + offset;
        leads_to == part.input.wrapping_add(self.shift)
            && F::decode(descriptor) == Some(self.attributes)
    }

    fn find_conflict(
        &self,
        memory: &impl TableMemory,
        table: Mfn,
        level: u32,
        piece: Piece,
    ) -> Result<(), MapError> {
        for part in piece.by_entry(level) {
            let descriptor = memory.read(table, index(part.input, level));
            if descriptor & VALID == 0 {
                continue;
            }
            if is_table(descriptor, level) {
                self.find_conflict(memory, next_table(descriptor), level + 1, part)?;
            } else if !self.agrees(descriptor, part, level) {
                return Err(MapError::Conflict(part.input));
            }
        }
        Ok(())
    }

    fn fill(
        &self,
        memory: &mut impl TableMemory,
        table: Mfn,
        level: u32,
        piece: Piece,
    ) -> Result<(), MapError> {
        for part in piece.by_entry(level) {
            let slot = index(part.input, level);
            let present = memory.read(table, slot);
            if is_table(present, level) {
                self.fill(memory, next_table(present), level + 1, part)?;
            } else if present & VALID != 0 {
                // The conflict check has seen that it says the same.
            } else if let Some(descriptor) = self.descriptor(part, level) {
                memory.write(table, slot, descriptor);
            } else {
                let next = memory.allocate()?;
                self.fill(memory, next, level + 1, part)?;
                memory.write(table, slot, field(next) | VALID | TABLE_OR_PAGE);
            }
        }
        Ok(())
    }
}
