//! Page tables of the VMSAv8-64, 4 KiB granule, 48-bit input addresses, four levels (Arm ARM D8.2).
//!
//! The walker is the same for stage 1 of EL2 and, later, stage 2: what differs is how attributes
//! are spelled in a descriptor ([`Format`]). Table memory lies behind [`TableMemory`], so that the
//! walker runs on the host.
//!
//! Each change of a descriptor is one store after which every address leads where it led before,
//! where it will lead, or nowhere. A valid descriptor that is replaced is first made invalid and
//! removed from TLBs (break-before-make, D8.16.1), unless only permissions change.

mod change;
mod find;
mod geometry;
mod map;
pub mod stage1;
pub mod stage2;
mod unreachable;

use core::marker::PhantomData;

use xen_types::{Hpa, Mfn, PAGE_SIZE};

use self::geometry::Piece;
pub use self::geometry::{ENTRIES, LIMIT};
use self::map::Mapping;
pub use self::unreachable::{Remembered, Unreachable};

const VALID: u64 = 1;
/// At levels 0 to 2 a table, at level 3 a page; without it a block (D8.3.1).
const TABLE_OR_PAGE: u64 = 1 << 1;
/// Where a descriptor leads: bits 47:12, lower ones of which are zero in a block.
const OUTPUT: u64 = 0x0000_ffff_ffff_f000;

/// How the attributes of a mapping are spelled.
pub trait Format {
    /// What a mapping says apart from where it leads.
    type Attributes: Copy + Eq + core::fmt::Debug;

    /// The attribute bits of a block or page descriptor.
    fn encode(attributes: Self::Attributes) -> u64;

    /// The attributes of a block or page descriptor; `None` where [`Format::encode`] did not make
    /// it.
    fn decode(descriptor: u64) -> Option<Self::Attributes>;

    /// Whether the table of level 1 under entry 0 of the root is there from the start and stays when
    /// nothing is mapped by it: hardware may start its walks there.
    const KEEPS_FIRST_TABLE: bool = false;

    /// Whether a valid descriptor may change from one to the other without break-before-make: they
    /// differ in permissions only.
    fn changes_in_place(from: Self::Attributes, to: Self::Attributes) -> bool;
}

/// There is no memory for another table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no memory for page tables")]
pub struct OutOfTables;

/// The memory that tables live in.
pub trait TableMemory {
    /// A frame for a table, filled with zeros.
    fn allocate(&mut self) -> Result<Mfn, OutOfTables>;

    /// Takes a table back.
    fn free(&mut self, table: Unreachable<Mfn>);

    /// Reads entry `index`, below [`ENTRIES`].
    fn read(&self, table: Mfn, index: usize) -> u64;

    /// Writes entry `index` by a single store of 64 bits, and makes walkers see it before what
    /// follows: barriers, and cleaning where walkers are not coherent.
    fn write(&mut self, table: Mfn, index: usize, descriptor: u64);

    /// Removes what TLBs hold of the page or block at `address`, and of the tables on the way to
    /// it (so not only of the last level); complete on all CPUs and IOMMUs when it returns.
    ///
    /// # Errors
    /// [`Remembered`]: what is unmapped may still be reached, and is not freed.
    fn invalidate(&mut self, address: u64) -> Result<(), Remembered>;

    /// Removes all that TLBs hold of the tables, which no hardware walks any more, nor ever will:
    /// [`TableMemory::invalidate`] has nothing to do then. One removal for all that is unmapped later.
    ///
    /// # Errors
    /// [`Remembered`]: something of it may still be reached.
    fn retire(&mut self) -> Result<(), Remembered>;
}

/// Why a range cannot be mapped, unmapped or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// No table.
    #[error(transparent)]
    OutOfTables(#[from] OutOfTables),
    /// The address already leads elsewhere, or with other attributes.
    #[error("{0:#x} is mapped already, in another way")]
    Conflict(u64),
    /// The address leads nowhere any more, but something may still remember where it led.
    #[error("{0:#x} is unmapped, but may still be reached")]
    Remembered(u64),
    /// The address leads nowhere.
    #[error("{0:#x} is not mapped")]
    NotMapped(u64),
    /// Not whole pages, empty, or beyond 48 bits: address and bytes.
    #[error("{0:#x} with {1:#x} bytes is not a range of whole pages below 48 bits")]
    BadRange(u64, u64),
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

/// A block or page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf<A> {
    /// First input address.
    pub input: u64,
    /// Bytes.
    pub size: u64,
    /// Where it leads.
    pub output: Hpa,
    /// Attributes.
    pub attributes: A,
}

/// A tree of tables. It belongs to one [`TableMemory`], which each call takes along.
#[derive(Debug)]
pub struct PageTable<F> {
    root: Mfn,
    format: PhantomData<F>,
}

impl<F: Format> PageTable<F> {
    /// An empty tree.
    ///
    /// # Errors
    /// [`OutOfTables`].
    pub fn new(memory: &mut impl TableMemory) -> Result<Self, OutOfTables> {
        let root = allocate_table(memory)?;
        if F::KEEPS_FIRST_TABLE {
            let first = allocate_table(memory);
            let first = first.inspect_err(|_| memory.free(Unreachable::new(root)))?;
            memory.write(root, 0, table_descriptor(first));
        }
        Ok(Self::adopt(root))
    }

    /// Retires all tables and frees them, whatever they map. No hardware walks them any more, and
    /// nothing but the end of `self` may follow.
    ///
    /// # Errors
    /// [`Remembered`]; the tables are lost.
    pub fn dismantle(&mut self, memory: &mut impl TableMemory) -> Result<(), Remembered> {
        memory.retire()?;
        change::free_tables(memory, self.root, 0);
        Ok(())
    }

    /// The tree whose root is `root`: entries of this format, or zeros.
    pub const fn adopt(root: Mfn) -> Self {
        Self {
            root,
            format: PhantomData,
        }
    }

    /// The root table.
    pub const fn root(&self) -> Mfn {
        self.root
    }

    /// Maps `size` bytes from `input` to `output` with the largest blocks that alignment allows.
    /// What is mapped just so already stays as it is.
    ///
    /// # Errors
    /// [`MapError::BadRange`], [`MapError::Conflict`], [`MapError::OutOfTables`]; nothing is mapped
    /// then that was not before.
    pub fn map(
        &mut self,
        memory: &mut impl TableMemory,
        input: u64,
        output: Hpa,
        size: u64,
        attributes: F::Attributes,
    ) -> Result<(), MapError> {
        let piece = Piece::new(input, size)?;
        Piece::new(output.get(), size)?;
        let mapping = Mapping::<F>::new(input, output, attributes);
        mapping.find_conflict(memory, self.root, 0, piece)?;
        if let Err(error) = mapping.prepare(memory, self.root, 0, piece) {
            change::prune::<F>(memory, self.root, 0, piece);
            return Err(error.into());
        }
        mapping.fill(memory, self.root, 0, piece);
        Ok(())
    }

    /// Maps the page at `input` to `output`, whatever is mapped there; a block that reaches beyond is
    /// split. What lies in it is unmapped for a moment, as is the page.
    ///
    /// # Errors
    /// [`MapError::BadRange`], [`MapError::OutOfTables`]; the page leads where it led before.
    /// [`MapError::Remembered`]; it leads nowhere.
    pub fn replace(
        &mut self,
        memory: &mut impl TableMemory,
        input: u64,
        output: Hpa,
        attributes: F::Attributes,
    ) -> Result<(), MapError> {
        let piece = Piece::new(input, PAGE_SIZE)?;
        Piece::new(output.get(), PAGE_SIZE)?;
        self.split_at_ends(memory, piece)?;
        let mapping = Mapping::<F>::new(input, output, attributes);
        if let Err(error) = mapping.prepare(memory, self.root, 0, piece) {
            change::prune::<F>(memory, self.root, 0, piece);
            return Err(error.into());
        }
        let cleared = change::clear(memory, self.root, 0, piece);
        cleared.map_err(|Remembered| MapError::Remembered(input))?;
        mapping.fill(memory, self.root, 0, piece);
        Ok(())
    }

    /// Removes what is mapped in `size` bytes from `input`, and tables that become empty. A block
    /// that reaches beyond is split; what lies in it is unmapped for a moment.
    ///
    /// # Errors
    /// [`MapError::BadRange`], [`MapError::OutOfTables`] if there is none to split a block; nothing
    /// is unmapped then. [`MapError::Remembered`]; all is unmapped, and must not be freed.
    pub fn unmap(
        &mut self,
        memory: &mut impl TableMemory,
        input: u64,
        size: u64,
    ) -> Result<(), MapError> {
        let piece = Piece::new(input, size)?;
        self.split_at_ends(memory, piece)?;
        let cleared = change::clear(memory, self.root, 0, piece);
        change::prune::<F>(memory, self.root, 0, piece);
        cleared.map_err(|Remembered| MapError::Remembered(input))
    }

    /// Gives `size` bytes from `input`, all of them mapped, other attributes. A block that reaches
    /// beyond is split; what lies in it is unmapped for a moment. So is each page whose memory type
    /// changes, but not one that changes permissions only.
    ///
    /// # Errors
    /// [`MapError::BadRange`], [`MapError::NotMapped`], [`MapError::OutOfTables`] if there is none
    /// to split a block; no attribute has changed then. [`MapError::Remembered`]; all have, but the
    /// former ones may still count.
    pub fn protect(
        &mut self,
        memory: &mut impl TableMemory,
        input: u64,
        size: u64,
        attributes: F::Attributes,
    ) -> Result<(), MapError> {
        let piece = Piece::new(input, size)?;
        change::find_unmapped(memory, self.root, 0, piece)?;
        self.split_at_ends(memory, piece)?;
        let protected = change::protect::<F>(memory, self.root, 0, piece, attributes);
        protected.map_err(|Remembered| MapError::Remembered(input))
    }

    /// Where `input` leads; `None` where nowhere.
    pub fn lookup(
        &self,
        memory: &impl TableMemory,
        input: u64,
    ) -> Option<Translation<F::Attributes>> {
        if input >= LIMIT {
            return None;
        }
        let (mut table, mut level) = (self.root, 0);
        loop {
            let index = geometry::index(input, level);
            match Entry::of(memory.read(table, index), level) {
                Entry::Nothing => return None,
                Entry::Table(next) => (table, level) = (next, level + 1),
                Entry::Leaf(descriptor) => {
                    let offset = input & (geometry::span(level) - 1);
                    return Some(Translation {
                        output: Hpa::new((descriptor & OUTPUT) + offset),
                        attributes: F::decode(descriptor)?,
                        level,
                    });
                }
            }
        }
    }

    /// The first block or page that ends above `from`; `None` if nothing is mapped from there on.
    pub fn next(&self, memory: &impl TableMemory, from: u64) -> Option<Leaf<F::Attributes>> {
        let size = LIMIT.checked_sub(from).filter(|size| *size > 0)?;
        find::next::<F>(memory, self.root, 0, Piece { input: from, size })
    }

    fn split_at_ends(
        &mut self,
        memory: &mut impl TableMemory,
        piece: Piece,
    ) -> Result<(), OutOfTables> {
        change::split_at(memory, self.root, piece.input)?;
        change::split_at(memory, self.root, piece.input + piece.size)
    }
}

/// What an entry of a table is.
#[derive(Clone, Copy)]
enum Entry {
    /// Invalid.
    Nothing,
    /// Leads to the table of the next level.
    Table(Mfn),
    /// The descriptor of a block or page.
    Leaf(u64),
}

impl Entry {
    const fn of(descriptor: u64, level: u32) -> Self {
        if descriptor & VALID == 0 {
            Self::Nothing
        } else if level < geometry::LAST && descriptor & TABLE_OR_PAGE != 0 {
            Self::Table(Hpa::new(descriptor & OUTPUT).frame())
        } else {
            Self::Leaf(descriptor)
        }
    }
}

/// What makes a descriptor of `level` that of a valid block or page.
const fn leaf_bits(level: u32) -> u64 {
    if level == geometry::LAST {
        VALID | TABLE_OR_PAGE
    } else {
        VALID
    }
}

/// The descriptor that leads to a table. No attributes: those of the last level decide (D8.3.1).
const fn table_descriptor(table: Mfn) -> u64 {
    (table.get() << xen_types::PAGE_SHIFT) & OUTPUT | VALID | TABLE_OR_PAGE
}

/// A table that a descriptor can lead to: below 48 bits.
fn allocate_table(memory: &mut impl TableMemory) -> Result<Mfn, OutOfTables> {
    let table = memory.allocate()?;
    if table.address().is_none_or(|address| address.get() >= LIMIT) {
        // Nothing has ever led there.
        memory.free(Unreachable::new(table));
        return Err(OutOfTables);
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
