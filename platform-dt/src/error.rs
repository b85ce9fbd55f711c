//! What can be wrong with a device tree.

use thiserror::Error;
use xen_types::{Affinity, HpaRange};

use crate::header::{MAGIC, MAX_SIZE};
use crate::nearest::Suggestions;
use crate::node::{MAX_DEPTH, Node};
use crate::text::Text;

/// The path of a node in an error.
pub(crate) type Path = Text<128>;
/// A property's name, or another single word, in an error.
pub(crate) type Word = Text<40>;

/// Why a device tree was refused: one line that names the node and the fault.
///
/// It owns its text, cut to what fits, so that it outlives the blob and needs no heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// There is no blob where one was said to be.
    #[error("device tree: it begins with {found:#010x}, not with the magic number {MAGIC:#010x}")]
    Magic {
        /// The first word.
        found: u32,
    },
    /// The blob is shorter than its header says, or than a header.
    #[error("device tree: truncated: {size} of {needed} bytes")]
    Truncated {
        /// Bytes that there are.
        size: usize,
        /// Bytes that there should be.
        needed: usize,
    },
    /// The blob's format is of another age.
    #[error(
        "device tree: version {version}, compatible back to {last_compatible}: \
         versions 16 and 17 are supported"
    )]
    Version {
        /// Its version.
        version: u32,
        /// The oldest version whose readers can read it.
        last_compatible: u32,
    },
    /// The header gives a size that no blob has.
    #[error("device tree: a size of {size} bytes: it must be 40 to {MAX_SIZE}")]
    Size {
        /// The size in the header.
        size: usize,
    },
    /// A block is not where the header says.
    #[error("device tree: the {block} {fault}")]
    Block {
        /// Which block.
        block: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The structure block is not a sequence of whole tokens that makes a tree.
    #[error("device tree: after {node}, at offset {offset:#x} of the structure block: {fault}")]
    Structure {
        /// The last node that was read.
        node: Path,
        /// Where in the structure block.
        offset: usize,
        /// What is wrong there.
        fault: &'static str,
    },
    /// Nodes are nested too deeply.
    #[error("{node}: has children: nodes may be nested at most {MAX_DEPTH} deep")]
    TooDeep {
        /// The deepest node that is allowed.
        node: Path,
    },
    /// A property of fixed form has another one.
    #[error("{node}: {property} must be {expected}")]
    Malformed {
        /// The node.
        node: Path,
        /// The property.
        property: Word,
        /// What its value should be.
        expected: &'static str,
    },
    /// A property's value has the wrong number of bytes.
    #[error("{node}: {property} is {length} bytes long: it must be {expected} {unit}")]
    Length {
        /// The node.
        node: Path,
        /// The property.
        property: Word,
        /// Bytes that it has.
        length: usize,
        /// How it relates to `unit`: "a multiple of" or "exactly".
        expected: &'static str,
        /// The right number of bytes, or of each record.
        unit: usize,
    },
    /// A node or a property occurs twice in a node.
    #[error("{node}: {name} occurs twice")]
    Twice {
        /// The node that holds both.
        node: Path,
        /// The name that both have.
        name: Word,
    },
    /// A property that is needed is absent.
    #[error("{node}: has no {property}")]
    Missing {
        /// The node.
        node: Path,
        /// The property.
        property: Word,
    },
    /// A node that is needed is absent.
    #[error("/: there is no {what}")]
    NoNode {
        /// What the node would describe, and how it is recognised.
        what: &'static str,
    },
    /// A range is empty or reaches beyond 64 bits.
    #[error("{node}: {property} gives {size:#x} bytes at {address:#x}: no range of addresses")]
    NoRange {
        /// The node.
        node: Path,
        /// The property.
        property: Word,
        /// The range's start.
        address: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// An address cannot be expressed as the processor's.
    #[error("{node}: its address {address:#x} cannot be reached: {bus} has no ranges for it")]
    NotTranslatable {
        /// The node.
        node: Path,
        /// The bus that ends the way to the root.
        bus: Path,
        /// The address on that bus.
        address: u128,
    },
    /// Two things occupy the same addresses.
    #[error("{node}: overlaps {other} at {range}")]
    Overlap {
        /// The node.
        node: Path,
        /// What it overlaps.
        other: Path,
        /// The addresses that both have.
        range: HpaRange,
    },
    /// A boot module is not in memory.
    #[error("{node}: {range} is not all in RAM")]
    OutsideRam {
        /// The module's node.
        node: Path,
        /// Where the module should be.
        range: HpaRange,
    },
    /// There are more of a kind than can be kept.
    #[error("{node}: more than {capacity} {what}")]
    TooMany {
        /// The first node that found no room.
        node: Path,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        capacity: usize,
    },
    /// A path or an alias names no node.
    #[error("{place}: {name} names no node{suggestions}")]
    Unknown {
        /// Where the name was written, or the node it was looked for in.
        place: Path,
        /// The name.
        name: Path,
        /// Names that differ from it by little.
        suggestions: Suggestions,
    },
    /// A device was chosen that the firmware says is not usable.
    #[error("{node}: its status is {status}, so it cannot be used as the console")]
    NotAvailable {
        /// The node.
        node: Path,
        /// Its status.
        status: Word,
    },
    /// There is no driver for the console.
    #[error("{node}: no driver for a console that is {compatible}")]
    UnknownUart {
        /// The node.
        node: Path,
        /// The first string of its `compatible`.
        compatible: Word,
    },
    /// A number is none of those that the property may have.
    #[error("{node}: {property} is {value:#x}: it must be {expected}")]
    Value {
        /// The node.
        node: Path,
        /// The property.
        property: Word,
        /// The number.
        value: u64,
        /// What it should be.
        expected: &'static str,
    },
    /// A word is none of those that the property may have.
    #[error("{node}: {property} is {value}: it must be {expected}")]
    Choice {
        /// The node.
        node: Path,
        /// The property.
        property: Word,
        /// The word.
        value: Word,
        /// What it should be.
        expected: &'static str,
    },
    /// Two processors have the same number.
    #[error("{node}: has the same reg as {other}: {affinity}")]
    SameCpu {
        /// The second node of that number.
        node: Path,
        /// The first.
        other: Path,
        /// The number.
        affinity: Affinity,
    },
    /// An interrupt that is needed is absent or is not the interrupt controller's own.
    #[error("{node}: its {interrupt} interrupt is not one of the GIC's")]
    NoInterrupt {
        /// The node.
        node: Path,
        /// Which interrupt.
        interrupt: &'static str,
    },
}

impl Node<'_> {
    /// The node has no `property`.
    pub(crate) fn missing(self, property: &str) -> TreeError {
        TreeError::Missing {
            node: Path::new(self),
            property: Word::new(property),
        }
    }

    /// The node's `property` is not as it must be.
    pub(crate) fn malformed(self, property: &str, expected: &'static str) -> TreeError {
        TreeError::Malformed {
            node: Path::new(self),
            property: Word::new(property),
            expected,
        }
    }

    /// The node did not fit in a list of `capacity`.
    pub(crate) fn one_too_many(self, what: &'static str, capacity: usize) -> TreeError {
        TreeError::TooMany {
            node: Path::new(self),
            what,
            capacity,
        }
    }
}
