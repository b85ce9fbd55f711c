//! Why Dom0's tree cannot be made.

use thiserror::Error;
use xen_types::{GpaRange, Ppi};

use crate::TreeError;
use crate::error::{Path, Word};

/// Why Dom0's device tree cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Dom0Error {
    /// The host's tree is at fault, or a path names none of its nodes.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A node cannot be hidden or given to a guest.
    #[error("{node}: cannot be {what}: {why}")]
    NotAssignable {
        /// The node.
        node: Path,
        /// What was asked for it.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A node that should lie below the interrupt controller does not.
    #[error("{node}: is not a part of the interrupt controller {gic}")]
    NotInGic {
        /// The node.
        node: Path,
        /// The controller.
        gic: Path,
    },
    /// The node that holds the interrupt controller is one that Dom0 does not get.
    #[error(
        "{node}: Dom0 cannot be without the interrupt controller, which is in a node it does not get"
    )]
    GicDropped {
        /// The interrupt controller.
        node: Path,
    },
    /// The number of processors is impossible.
    #[error("Dom0: {vcpus} virtual processors: it must be 1 to {max}")]
    Vcpus {
        /// The number.
        vcpus: u32,
        /// The most that the interrupt controller allows.
        max: u32,
    },
    /// Dom0 has no memory, or its interrupt controller no redistributor.
    #[error("Dom0: has no {what}")]
    Nothing {
        /// What is lacking.
        what: &'static str,
    },
    /// Two ranges of Dom0's addresses are in each other's way.
    #[error("Dom0: {what} {range} overlaps {other} {other_range}")]
    Overlap {
        /// What the first is.
        what: &'static str,
        /// The first.
        range: GpaRange,
        /// What the second is.
        other: &'static str,
        /// The second.
        other_range: GpaRange,
    },
    /// The ramdisk is not in Dom0's memory.
    #[error("Dom0: the ramdisk {range} is not in its memory")]
    RamdiskOutside {
        /// Where it is.
        range: GpaRange,
    },
    /// The extended regions are not in order.
    #[error("Dom0: the extended regions must ascend: {range} comes too late")]
    RegionOrder {
        /// The first that begins below the one before it.
        range: GpaRange,
    },
    /// The event interrupt is one of the timer's.
    #[error("Dom0: PPI {} cannot be the event interrupt: the timer has it", ppi.number())]
    EventPpi {
        /// The interrupt.
        ppi: Ppi,
    },
    /// A number needs more cells than the tree has for it.
    #[error("{node}: {property}: {value:#x} does not fit in {cells} cells")]
    DoesNotFit {
        /// The node of Dom0's tree.
        node: Path,
        /// The property.
        property: Word,
        /// The number.
        value: u64,
        /// The cells.
        cells: u8,
    },
    /// An address of Dom0 cannot be expressed on the bus of a node.
    #[error("{node}: {range} cannot be expressed on its bus: no ranges leads there")]
    NotOnBus {
        /// The node.
        node: Path,
        /// The addresses.
        range: GpaRange,
    },
    /// The tree has no number left by which a node could be named.
    #[error("/: no phandle is free")]
    NoPhandle,
    /// The tree is larger than a kernel accepts.
    #[error("Dom0: its device tree has {size} bytes: it must have at most {max}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most.
        max: usize,
    },
}
