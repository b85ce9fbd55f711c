//! Stage 2: what a guest's physical addresses lead to (Arm ARM D8.3.2, D8.4.2, D24.2 for VTCR_EL2).
//!
//! Input addresses are the guest's. The walker of this crate always has four levels. Where the
//! hardware may not start a walk at level 0 (physical addresses below 44 bits), it starts at the
//! one table of level 1 under entry 0, and input addresses have 39 bits.

use super::{Format, PageTable, TableMemory};
use crate::paging::Entry;
use xen_types::Mfn;

const ACCESS_FLAG: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const READ: u64 = 0b01 << 6;
const WRITE: u64 = 0b10 << 6;
/// Normal memory, write-back in both cache domains.
const WRITE_BACK: u64 = 0b1111 << 2;
/// Device-nGnRE.
const DEVICE: u64 = 0b0001 << 2;
/// Execution is allowed nowhere; bit 53 stays 0, which says the same with and without FEAT_XNX.
const EXECUTE_NEVER: u64 = 1 << 54;

/// Whose the memory is, in bits that are for software (D8.3.2): 0 the domain's own.
const FOREIGN: u64 = 1 << 56;
const GRANTED: u64 = 2 << 56;
const SHARED: u64 = 3 << 56;

/// The bits that tell attributes apart.
const MASK: u64 = 3 << 56 | EXECUTE_NEVER | ACCESS_FLAG | READ | WRITE | 0b1111 << 2;

/// Input address bits that one table of level 1 translates.
const ONE_TABLE_BITS: u32 = 39;

/// What a mapping of a guest can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attributes {
    /// RAM: readable, writable, executable; the guest's stage 1 may restrict it further.
    Ram,
    /// RAM that the guest may only read.
    ReadOnlyRam,
    /// Registers of a device.
    Device,
    /// A register to which devices write their messages, and CPUs cannot: without an access flag a
    /// CPU faults (D8.4.5), and an IOMMU is told not to care.
    Doorbell,
    /// RAM of another domain; the mapping holds a reference to its frame.
    Foreign,
    /// The same for reading only.
    ReadOnlyForeign,
    /// RAM that another domain, or this one, grants; a handle holds the reference to its frame.
    Granted,
    /// The same for reading only.
    ReadOnlyGranted,
    /// A page of the hypervisor that the domain shares.
    Shared,
}

impl Attributes {
    const ALL: [Self; 9] = [
        Self::Ram,
        Self::ReadOnlyRam,
        Self::Device,
        Self::Doorbell,
        Self::Foreign,
        Self::ReadOnlyForeign,
        Self::Granted,
        Self::ReadOnlyGranted,
        Self::Shared,
    ];

    /// Whether it is registers rather than RAM.
    pub const fn is_device(self) -> bool {
        matches!(self, Self::Device | Self::Doorbell)
    }

    const fn bits(self) -> u64 {
        let access_flag = match self {
            Self::Doorbell => 0,
            _ => ACCESS_FLAG,
        };
        access_flag
            | INNER_SHAREABLE
            | match self {
                Self::Ram => WRITE_BACK | READ | WRITE,
                Self::ReadOnlyRam => WRITE_BACK | READ | EXECUTE_NEVER,
                Self::Device => DEVICE | READ | WRITE | EXECUTE_NEVER,
                Self::Doorbell => DEVICE | WRITE | EXECUTE_NEVER,
                Self::Foreign => FOREIGN | WRITE_BACK | READ | WRITE | EXECUTE_NEVER,
                Self::ReadOnlyForeign => FOREIGN | WRITE_BACK | READ | EXECUTE_NEVER,
                Self::Granted => GRANTED | WRITE_BACK | READ | WRITE | EXECUTE_NEVER,
                Self::ReadOnlyGranted => GRANTED | WRITE_BACK | READ | EXECUTE_NEVER,
                Self::Shared => SHARED | WRITE_BACK | READ | WRITE | EXECUTE_NEVER,
            }
    }
}

/// The format of stage 2.
#[derive(Debug)]
pub enum Stage2 {}

impl Format for Stage2 {
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
        !from.is_device() && !to.is_device()
    }
}

/// How the hardware walks stage 2 on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    physical_bits: u32,
    vmid_16: bool,
}

impl Geometry {
    /// For CPUs with physical addresses of `physical_bits` bits, 32 to 48, and VMIDs of 8 or 16 bits.
    pub const fn new(physical_bits: u32, vmid_16: bool) -> Self {
        Self {
            physical_bits,
            vmid_16,
        }
    }

    const fn starts_at_level_0(self) -> bool {
        self.physical_bits >= 44
    }

    /// Bits of an input address.
    pub const fn input_bits(self) -> u32 {
        if self.starts_at_level_0() || self.physical_bits < ONE_TABLE_BITS {
            self.physical_bits
        } else {
            ONE_TABLE_BITS
        }
    }

    /// `VTCR_EL2`: walks through write-back inner shareable memory.
    pub const fn vtcr_el2(self) -> u64 {
        let physical_size: u64 = match self.physical_bits {
            0..=35 => 0,
            36..=39 => 1,
            40..=41 => 2,
            42..=43 => 3,
            44..=47 => 4,
            _ => 5,
        };
        let start_level: u64 = if self.starts_at_level_0() { 2 } else { 1 };
        1 << 31
            | (self.vmid_16 as u64) << 19
            | physical_size << 16
            | 0b11 << 12
            | 0b01 << 10
            | 0b01 << 8
            | start_level << 6
            | (64 - self.input_bits()) as u64
    }

    /// The table where the hardware starts: the root, or the table under its entry 0, which exists
    /// once anything is mapped.
    pub fn hardware_root(
        self,
        table: &PageTable<Stage2>,
        memory: &impl TableMemory,
    ) -> Option<Mfn> {
        if self.starts_at_level_0() {
            return Some(table.root());
        }
        match Entry::of(memory.read(table.root(), 0), 0) {
            Entry::Table(next) => Some(next),
            Entry::Nothing | Entry::Leaf(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_spelled_as_the_arm_arm_says() {
        assert_eq!(Stage2::encode(Attributes::Ram), 0x7fc);
        assert_eq!(Stage2::encode(Attributes::ReadOnlyRam), 0x77c | 1 << 54);
        assert_eq!(Stage2::encode(Attributes::Device), 0x7c4 | 1 << 54);
        assert_eq!(Stage2::encode(Attributes::Doorbell), 0x384 | 1 << 54);
        for attributes in Attributes::ALL {
            assert_eq!(Stage2::decode(Stage2::encode(attributes)), Some(attributes));
        }
    }

    #[test]
    fn walks_start_where_the_hardware_can() {
        // Cortex-A53: 40 bits; the walk starts at level 1 and inputs have 39 bits.
        let small = Geometry::new(40, false);
        assert_eq!(small.input_bits(), 39);
        assert_eq!(small.vtcr_el2(), 0x8002_3559);
        // Cortex-A72: 44 bits, from level 0.
        let large = Geometry::new(44, false);
        assert_eq!(large.input_bits(), 44);
        assert_eq!(large.vtcr_el2(), 0x8004_3594);
        assert_eq!(Geometry::new(48, true).vtcr_el2(), 0x800d_3590);
        assert_eq!(Geometry::new(36, false).input_bits(), 36);
    }
}
