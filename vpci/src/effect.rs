//! What must happen because of a guest's write.

use xen_types::{GpaRange, HpaRange};

/// Something that the caller has to carry out before the guest goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Registers of the device appear in the guest's memory.
    Map(Piece),
    /// They disappear. When this is done, no processor can reach them there any more.
    Unmap(Piece),
    /// Messages of MSI change.
    Msi(crate::guest::MsiState),
    /// A vector of MSI-X changes.
    MsiX(crate::guest::VectorState),
    /// The guest has asked for a function level reset.
    Reset,
}

/// A part of a BAR: of the same size on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Piece {
    /// Which BAR; 6 is the ROM.
    pub bar: u8,
    /// Where the guest has it.
    pub guest: GpaRange,
    /// Where the host has it.
    pub host: HpaRange,
    /// Reading it has no side effects, and writes may be merged. It is device memory all the same, and
    /// never cached (XSA-154).
    pub prefetchable: bool,
}
