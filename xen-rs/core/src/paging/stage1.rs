//! Stage 1 of EL2 without host extensions: descriptors and the registers that they rely on.
//!
//! One range of addresses and one privilege level, so there is one execute-never bit, bit 54 (`XN`;
//! `PXN` is RES0), and `AP[1]`, bit 6, is RES1 (Arm ARM D8.3 on descriptor fields, D8.4 on the
//! permissions of a regime with one exception level).

use super::Format;

/// Index of Device-nGnRnE in [`MAIR_EL2`].
const DEVICE_NGNRNE: u64 = 0;
/// Index of Device-nGnRE.
const DEVICE_NGNRE: u64 = 1;
/// Index of Normal, inner and outer non-cacheable.
const NORMAL_NON_CACHEABLE: u64 = 2;
/// Index of Normal, inner and outer write-back non-transient, read- and write-allocating.
const NORMAL: u64 = 3;

/// The memory types that descriptors name by index (Arm ARM D24.2, `MAIR_EL2`).
pub const MAIR_EL2: u64 = 0x00 << (8 * DEVICE_NGNRNE)
    | 0x04 << (8 * DEVICE_NGNRE)
    | 0x44 << (8 * NORMAL_NON_CACHEABLE)
    | 0xff << (8 * NORMAL);

/// `TCR_EL2` with `HCR_EL2.E2H` clear (Arm ARM D24.2), but for PS, which the CPU decides: 48-bit
/// addresses (T0SZ, bits 5:0), walks through write-back (IRGN0, ORGN0), inner shareable (SH0)
/// memory, 4 KiB granule (TG0 0); bits 23 and 31 are RES1.
pub const TCR_EL2: u64 = 1 << 31 | 1 << 23 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | 16;

/// The largest `PARange` without 52-bit addresses (FEAT_LPA2): 48 bits.
const PA_RANGE_48_BITS: u64 = 0b0101;

/// [`TCR_EL2`] for a CPU: its output addresses (PS, bits 18:16) are as large as
/// `ID_AA64MMFR0_EL1.PARange` (bits 3:0 of `mmfr0`) says, but at most 48 bits.
pub const fn tcr_el2(mmfr0: u64) -> u64 {
    let range = mmfr0 & 0xf;
    let size = if range < PA_RANGE_48_BITS {
        range
    } else {
        PA_RANGE_48_BITS
    };
    TCR_EL2 | size << 16
}

const ACCESS_FLAG: u64 = 1 << 10;
/// What Device and non-cacheable memory says here is ignored: those are outer shareable (D8.6).
const INNER_SHAREABLE: u64 = 0b11 << 8;
/// `AP[2]`.
const READ_ONLY: u64 = 1 << 7;
/// `AP[1]`.
const AP1_RES1: u64 = 1 << 6;
const EXECUTE_NEVER: u64 = 1 << 54;

/// `AttrIndx`.
const fn memory_type(index: u64) -> u64 {
    index << 2
}

const PERMISSIONS: u64 = EXECUTE_NEVER | READ_ONLY;
/// The bits that tell attributes apart.
const MASK: u64 = PERMISSIONS | memory_type(0b111);

/// What a mapping of EL2 can be. Writable and executable cannot be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attributes {
    /// Normal memory, read-only, executable.
    Code,
    /// Normal memory, read-only.
    Constant,
    /// Normal memory, writable.
    Data,
    /// Normal memory that is not cached, writable: shared with what does not snoop.
    Uncached,
    /// Registers of a device (nGnRE): a write may be acknowledged before it arrives.
    Device,
    /// Registers whose writes have arrived when they complete (nGnRnE): PCI configuration space.
    DeviceNgnrne,
}

impl Attributes {
    const ALL: [Self; 6] = [
        Self::Code,
        Self::Constant,
        Self::Data,
        Self::Uncached,
        Self::Device,
        Self::DeviceNgnrne,
    ];

    /// The attribute bits of a descriptor.
    pub const fn bits(self) -> u64 {
        let specific = match self {
            Self::Code => memory_type(NORMAL) | READ_ONLY,
            Self::Constant => memory_type(NORMAL) | READ_ONLY | EXECUTE_NEVER,
            Self::Data => memory_type(NORMAL) | EXECUTE_NEVER,
            Self::Uncached => memory_type(NORMAL_NON_CACHEABLE) | EXECUTE_NEVER,
            Self::Device => memory_type(DEVICE_NGNRE) | EXECUTE_NEVER,
            Self::DeviceNgnrne => memory_type(DEVICE_NGNRNE) | EXECUTE_NEVER,
        };
        specific | ACCESS_FLAG | INNER_SHAREABLE | AP1_RES1
    }

    /// The page descriptor (level 3) of these attributes, but for its address.
    pub const fn page(self) -> u64 {
        self.bits() | 0b11
    }
}

/// The format of EL2's stage 1.
#[derive(Debug)]
pub enum Stage1 {}

impl Format for Stage1 {
    type Attributes = Attributes;

    fn encode(attributes: Attributes) -> u64 {
        attributes.bits()
    }

    fn decode(descriptor: u64) -> Option<Attributes> {
        Attributes::ALL
            .into_iter()
            .find(|attributes| attributes.bits() & MASK == descriptor & MASK)
    }

    fn changes_in_place(from: Attributes, to: Attributes) -> bool {
        (from.bits() ^ to.bits()) & !PERMISSIONS == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_spelled_as_the_architecture_says() {
        for (attributes, page) in [
            (Attributes::Code, 0x0000_0000_0000_07cf),
            (Attributes::Constant, 0x0040_0000_0000_07cf),
            (Attributes::Data, 0x0040_0000_0000_074f),
            (Attributes::Uncached, 0x0040_0000_0000_074b),
            (Attributes::Device, 0x0040_0000_0000_0747),
            (Attributes::DeviceNgnrne, 0x0040_0000_0000_0743),
        ] {
            assert_eq!(attributes.page(), page, "{attributes:?}");
            assert_eq!(Stage1::decode(page | 0xffff_ffff_f000), Some(attributes));
        }
        assert_eq!(MAIR_EL2, 0xff44_0400);
    }

    #[test]
    fn nothing_is_writable_and_executable() {
        for attributes in Attributes::ALL {
            assert_ne!(attributes.bits() & PERMISSIONS, 0, "{attributes:?}");
        }
        assert_eq!(
            Stage1::decode(Attributes::Data.page() & !EXECUTE_NEVER),
            None
        );
    }

    #[test]
    fn only_permissions_change_in_place() {
        let normal = [Attributes::Code, Attributes::Constant, Attributes::Data];
        for from in Attributes::ALL {
            for to in Attributes::ALL {
                let in_place = from == to || normal.contains(&from) && normal.contains(&to);
                assert_eq!(
                    Stage1::changes_in_place(from, to),
                    in_place,
                    "{from:?} {to:?}"
                );
            }
        }
    }

    #[test]
    fn addresses_are_as_large_as_the_cpu_has_them_up_to_48_bits() {
        assert_eq!(tcr_el2(0b0010), 0x8082_3510);
        assert_eq!(tcr_el2(0b0101), 0x8085_3510);
        assert_eq!(tcr_el2(0b0110), 0x8085_3510);
        assert_eq!(tcr_el2(0xffff_fff0), TCR_EL2);
    }
}
