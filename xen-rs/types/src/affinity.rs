//! Which processor: the affinity fields of `MPIDR_EL1` (Arm ARM D24.2.122).

use core::fmt;

/// The four affinity levels of a CPU, each 8 bits, in the places that `MPIDR_EL1`, PSCI and the
/// `reg` of a `cpu@` node give them: Aff3 in bits 39:32, Aff2 to Aff0 in bits 23:0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Affinity(u64);

impl Affinity {
    const FIELDS: u64 = 0xff_00ff_ffff;

    /// From a value that must hold affinity fields only; `None` where another bit is set.
    pub const fn new(value: u64) -> Option<Self> {
        if value & !Self::FIELDS == 0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The affinity fields of an `MPIDR_EL1` value; the flags in it (U, MT) are dropped.
    pub const fn from_mpidr(mpidr: u64) -> Self {
        Self(mpidr & Self::FIELDS)
    }

    /// The fields in their `MPIDR_EL1` places.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Affinity level 0 to 3; higher levels read 0.
    pub const fn level(self, level: u32) -> u8 {
        match level {
            0..=2 => (self.0 >> (8 * level)) as u8,
            3 => (self.0 >> 32) as u8,
            _ => 0,
        }
    }

    /// The 32-bit form of `GICR_TYPER.Affinity_Value` (GICv3 specification 12.11.38): Aff3 in the
    /// top byte.
    pub const fn packed(self) -> u32 {
        ((self.level(3) as u32) << 24) | (self.0 & 0xff_ffff) as u32
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}.{}",
            self.level(3),
            self.level(2),
            self.level(1),
            self.level(0)
        )
    }
}

impl fmt::Debug for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Affinity({self})")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn fields_keep_their_places() {
        let affinity = Affinity::from_mpidr(0x0000_0012_c134_5678);
        assert_eq!(affinity.to_string(), "18.52.86.120");
        assert_eq!(affinity.packed(), 0x1234_5678);
        assert_eq!(Affinity::new(affinity.get()), Some(affinity));
    }

    #[test]
    fn flags_are_not_affinity() {
        assert_eq!(Affinity::new(1 << 31), None);
        assert_eq!(Affinity::from_mpidr(1 << 31 | 3), Affinity::new(3).unwrap());
    }
}
