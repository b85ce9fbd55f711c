//! Stage 1 of EL2 without host extensions: descriptors and the registers that they rely on.
//!
//! One range of addresses, one privilege level: `AP[1]` is RES1 and there is a single
//! execute-never bit (Arm ARM D8.3.2, D8.4.1.2).

use super::Format;

/// The memory types that descriptors name by index (`MAIR_EL2`, D24.2.110): 0 Device-nGnRnE,
/// 1 Device-nGnRE, 2 Normal non-cacheable, 3 Normal write-back.
pub const MAIR_EL2: u64 = 0xff_44_04_00;

/// `TCR_EL2` (D24.2.187) but for PS, which the CPU's address size decides: 48-bit addresses, 4 KiB
/// granule, walks through write-back inner shareable memory.
pub const TCR_EL2: u64 = 1 << 31 | 1 << 23 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | 16;

const ACCESS_FLAG: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const READ_ONLY: u64 = 1 << 7;
const AP1_RES1: u64 = 1 << 6;
const EXECUTE_NEVER: u64 = 1 << 54;

const fn memory_type(index: u64) -> u64 {
    index << 2
}

/// The bits that tell attributes apart.
const MASK: u64 = EXECUTE_NEVER | READ_ONLY | 0b111 << 2;

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
    /// Registers of a device (nGnRE).
    Device,
}

impl Attributes {
    const ALL: [Self; 5] = [
        Self::Code,
        Self::Constant,
        Self::Data,
        Self::Uncached,
        Self::Device,
    ];

    /// The attribute bits of a descriptor.
    pub const fn bits(self) -> u64 {
        let specific = match self {
            Self::Code => memory_type(3) | READ_ONLY,
            Self::Constant => memory_type(3) | READ_ONLY | EXECUTE_NEVER,
            Self::Data => memory_type(3) | EXECUTE_NEVER,
            Self::Uncached => memory_type(2) | EXECUTE_NEVER,
            Self::Device => memory_type(1) | EXECUTE_NEVER,
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
}
