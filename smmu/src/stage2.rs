//! What an IOMMU has to know of a domain's stage 2: where it is, how it is walked, how what comes of
//! it is tagged in TLBs.
//!
//! The description is that of `VTCR_EL2` (Arm ARM D24.2), from which all three SMMU architectures
//! took theirs: a domain's devices walk the same tables in the same way as its CPUs.

use core::fmt;

use xen_types::Hpa;

/// The number that tags a domain's translations in TLBs, of CPUs and of IOMMUs alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vmid(u16);

impl Vmid {
    /// The VMID of that number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether `bits` bits, 8 or 16, can hold it.
    pub const fn fits(self, bits: u32) -> bool {
        bits >= u16::BITS || self.0 >> bits == 0
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VMID {}", self.0)
    }
}

/// How stage 2 is walked: 4 KiB granule, one table at the start level (none concatenated).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    start_level: u32,
    input_bits: u32,
    output_bits: u32,
}

/// Why an IOMMU cannot walk a domain's stage 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stage2Refused {
    /// No walk of one table with the 4 KiB granule.
    #[error("stage 2 with {input_bits} bits from level {start_level} is no walk from one table")]
    NoWalk {
        /// Level of the first table.
        start_level: u32,
        /// Bits of an input address.
        input_bits: u32,
    },
    /// VTCR_EL2 asks for something else than this project's stage 2.
    #[error("stage 2 with VTCR_EL2 {0:#x}: only little 4 KiB granules from level 0, 1 or 2")]
    Vtcr(u64),
    /// The root is not a table's address.
    #[error("stage 2 with its root at {0}: it must be aligned to 4 KiB and below 48 bits")]
    Root(Hpa),
    /// The IOMMU cannot reach the root.
    #[error("stage 2 with its root at {root}: this IOMMU's addresses have {limit} bits")]
    Address {
        /// The root.
        root: Hpa,
        /// Bits of the IOMMU's addresses.
        limit: u32,
    },
    /// The walk begins above what the IOMMU's address size allows.
    #[error("stage 2 starts at level 0, which this IOMMU, with {limit} bits, does not allow")]
    StartLevel {
        /// Bits of the IOMMU's addresses.
        limit: u32,
    },
    /// The IOMMU has VMIDs of 8 bits.
    #[error("{0}: this IOMMU has only 8 bits for it")]
    Vmid(Vmid),
}

/// Sizes that `PS` can say, by its value (Arm ARM D24.2, `VTCR_EL2.PS`).
const SIZES: [u32; 6] = [32, 36, 40, 42, 44, 48];

/// `PS` for physical addresses of `bits` bits: the largest size that is not larger.
pub(crate) fn size_code(bits: u32) -> u64 {
    let code = SIZES.iter().rposition(|&size| size <= bits);
    code.unwrap_or(0) as u64
}

impl Walk {
    /// A walk of input addresses of `input_bits` bits that begins at `start_level`, to physical
    /// addresses of `output_bits` bits.
    ///
    /// # Errors
    /// [`Stage2Refused::NoWalk`] where one table of that level does not translate just these bits.
    pub fn new(start_level: u32, input_bits: u32, output_bits: u32) -> Result<Self, Stage2Refused> {
        // One table of 512 entries translates 9 bits and leaves the rest to the levels below; the
        // architecture's smallest input has 25 bits (Arm ARM D8.2.2).
        let is_walk = match start_level {
            0 => (40..=48).contains(&input_bits),
            1 => (31..=39).contains(&input_bits),
            2 => (25..=30).contains(&input_bits),
            _ => false,
        };
        if !is_walk {
            return Err(Stage2Refused::NoWalk {
                start_level,
                input_bits,
            });
        }
        Ok(Self {
            start_level,
            input_bits,
            output_bits: output_bits.clamp(32, 48),
        })
    }

    /// The walk that CPUs do with this `VTCR_EL2`.
    ///
    /// # Errors
    /// [`Stage2Refused::Vtcr`] for other granules and sizes than this project's,
    /// [`Stage2Refused::NoWalk`] for concatenated tables.
    pub fn from_vtcr_el2(vtcr: u64) -> Result<Self, Stage2Refused> {
        let granule = vtcr >> 14 & 0b11;
        let start_level = match vtcr >> 6 & 0b11 {
            0b00 => 2,
            0b01 => 1,
            0b10 => 0,
            _ => return Err(Stage2Refused::Vtcr(vtcr)),
        };
        let output_bits = SIZES.get((vtcr >> 16 & 0b111) as usize);
        match (granule, output_bits) {
            (0, Some(&output_bits)) => {
                Self::new(start_level, 64 - (vtcr as u32 & 0x3f), output_bits)
            }
            _ => Err(Stage2Refused::Vtcr(vtcr)),
        }
    }

    /// The level of the first table, 0 to 2.
    pub const fn start_level(self) -> u32 {
        self.start_level
    }

    /// Bits of an input address, 25 to 48.
    pub const fn input_bits(self) -> u32 {
        self.input_bits
    }

    /// Bits of an output address, 32 to 48.
    pub const fn output_bits(self) -> u32 {
        self.output_bits
    }

    /// The same walk, of input addresses of at most `bits` bits, which must be 32 or more, and 40
    /// where the walk starts at level 0.
    pub(crate) const fn limited_to(self, bits: u32) -> Self {
        let input_bits = if self.input_bits < bits {
            self.input_bits
        } else {
            bits
        };
        Self { input_bits, ..self }
    }

    /// `T0SZ` and `SL0` as `VTCR_EL2` has them in bits 7:0.
    pub(crate) const fn start_and_size(self) -> u64 {
        (64 - self.input_bits) as u64 | ((2 - self.start_level) as u64) << 6
    }
}

/// A domain's stage 2 as an IOMMU needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stage2 {
    root: Hpa,
    walk: Walk,
    vmid: Vmid,
}

impl Stage2 {
    /// The stage 2 whose first table is at `root`.
    ///
    /// # Errors
    /// [`Stage2Refused::Root`].
    pub fn new(root: Hpa, walk: Walk, vmid: Vmid) -> Result<Self, Stage2Refused> {
        if root.is_aligned(xen_types::PAGE_SIZE) && root.get() >> 48 == 0 {
            Ok(Self { root, walk, vmid })
        } else {
            Err(Stage2Refused::Root(root))
        }
    }

    /// The first table.
    pub const fn root(self) -> Hpa {
        self.root
    }

    /// How it is walked.
    pub const fn walk(self) -> Walk {
        self.walk
    }

    /// What tags its translations.
    pub const fn vmid(self) -> Vmid {
        self.vmid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_read_off_vtcr() {
        // Cortex-A53, 40 bits, from level 1; Cortex-A72, 44 bits, from level 0; 48 bits.
        for (vtcr, expected) in [
            (0x8002_3559, (1, 39, 40)),
            (0x8004_3594, (0, 44, 44)),
            (0x800d_3590, (0, 48, 48)),
        ] {
            let walk = Walk::from_vtcr_el2(vtcr).unwrap();
            assert_eq!(
                (walk.start_level(), walk.input_bits(), walk.output_bits()),
                expected
            );
            assert_eq!(walk.start_and_size(), vtcr & 0xff);
        }
        // 64 KiB granule; SL0 of 3; PS of 7.
        for vtcr in [0x8002_7559, 0x8002_35d9, 0x8007_3559] {
            assert_eq!(Walk::from_vtcr_el2(vtcr), Err(Stage2Refused::Vtcr(vtcr)));
        }
    }

    #[test]
    fn only_walks_from_one_table_exist() {
        for (level, bits) in [
            (0, 39),
            (0, 49),
            (1, 40),
            (1, 30),
            (2, 31),
            (2, 24),
            (3, 20),
        ] {
            let refused = Stage2Refused::NoWalk {
                start_level: level,
                input_bits: bits,
            };
            assert_eq!(Walk::new(level, bits, 48), Err(refused));
        }
    }

    #[test]
    fn a_root_is_a_tables_address() {
        let walk = Walk::new(1, 39, 40).unwrap();
        for root in [0x1008, 1 << 48] {
            let root = Hpa::new(root);
            assert_eq!(
                Stage2::new(root, walk, Vmid::new(1)),
                Err(Stage2Refused::Root(root))
            );
        }
    }

    #[test]
    fn sizes_are_rounded_down() {
        assert_eq!(
            [32, 39, 40, 43, 47, 48, 52].map(size_code),
            [0, 1, 2, 3, 4, 5, 5]
        );
    }
}
