//! The registers that guests reach by loads and stores.
//!
//! An access of a width or at an offset that the architecture does not define reads zero, and
//! writes nothing.

pub(super) mod bank;
pub(super) mod lpi;
pub(super) mod redistributor;
pub(super) mod v2;
pub(super) mod v3;

/// `GICD_IIDR` and `GICR_IIDR`: product 'X', implementer Arm.
const IIDR: u32 = 0x58 << 24 | 0x43b;

/// How many bytes an access has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Width {
    /// One.
    Byte,
    /// Two.
    Half,
    /// Four.
    Word,
    /// Eight.
    Double,
}

impl Width {
    /// In bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }
}

/// A load, or a store with what it stores in the low bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// A load.
    Read,
    /// A store of this value.
    Write(u64),
}

/// A load or store of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// In bytes from the first byte of the region.
    pub offset: u32,
    /// How many bytes.
    pub width: Width,
    /// Load or store.
    pub direction: Direction,
}

impl Access {
    /// The same with another offset.
    const fn at(self, offset: u32) -> Self {
        Self { offset, ..self }
    }

    pub(crate) const fn is_aligned(self) -> bool {
        self.offset.is_multiple_of(self.width.bytes())
    }
}

/// Half of a register of 64 bits that an access of 32 or 64 bits reads.
pub(crate) fn read_part(register: u64, access: Access) -> u64 {
    match (access.width, access.offset & 4) {
        (Width::Double, _) => register,
        (Width::Word, 0) => register & 0xffff_ffff,
        (Width::Word, _) => register >> 32,
        _ => 0,
    }
}

/// A register of 64 bits after an access of 32 or 64 bits has written its part.
pub(crate) fn write_part(register: u64, access: Access, value: u64) -> u64 {
    match (access.width, access.offset & 4) {
        (Width::Double, _) => value,
        (Width::Word, 0) => register & !0xffff_ffff | value & 0xffff_ffff,
        (Width::Word, _) => register & 0xffff_ffff | value << 32,
        _ => register,
    }
}
