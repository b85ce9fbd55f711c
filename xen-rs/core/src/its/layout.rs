//! The registers of an ITS and of LPIs in a redistributor, as their specification lays them out
//! (IHI 0069, 12.19 and 12.11): offsets, fields, and what describes a table in memory.

use xen_types::{Hpa, PhysicalAddress};

/// `GITS_CTLR` (12.19.5).
pub const GITS_CTLR: u32 = 0x0000;
/// `GITS_IIDR`.
pub const GITS_IIDR: u32 = 0x0004;
/// `GITS_TYPER`, 64 bits.
pub const GITS_TYPER: u32 = 0x0008;
/// `GITS_CBASER`, 64 bits.
pub const GITS_CBASER: u32 = 0x0080;
/// `GITS_CWRITER`, 64 bits.
pub const GITS_CWRITER: u32 = 0x0088;
/// `GITS_CREADR`, 64 bits.
pub const GITS_CREADR: u32 = 0x0090;
/// `GITS_BASER0`, 64 bits; the others follow.
pub const GITS_BASER: u32 = 0x0100;
/// How many `GITS_BASER<n>` there are.
pub const BASERS: usize = 8;
/// `GITS_PIDR2`.
pub const GITS_PIDR2: u32 = 0xffe8;
/// `GITS_TRANSLATER`, where messages go, in the second frame.
pub const GITS_TRANSLATER: u32 = 0x1_0040;

/// `GITS_CTLR`: it translates and executes.
pub const CTLR_ENABLED: u32 = 1;
/// `GITS_CTLR`: it has come to rest.
pub const CTLR_QUIESCENT: u32 = 1 << 31;

/// `GITS_CREADR.Stalled` and `GITS_CWRITER.Retry`.
pub const QUEUE_FLAG: u64 = 1;
/// The offset in `GITS_CREADR` and `GITS_CWRITER`: bits 19:5.
pub const QUEUE_OFFSET: u64 = 0xf_ffe0;

/// `GICR_CTLR` (12.11.2).
pub const GICR_CTLR: u32 = 0x0000;
/// `GICR_TYPER`, 64 bits.
pub const GICR_TYPER: u32 = 0x0008;
/// `GICR_PROPBASER`, 64 bits: the configuration of LPIs.
pub const GICR_PROPBASER: u32 = 0x0070;
/// `GICR_PENDBASER`, 64 bits: what is pending.
pub const GICR_PENDBASER: u32 = 0x0078;

/// `GICR_CTLR.EnableLPIs`.
pub const CTLR_ENABLE_LPIS: u32 = 1;
/// `GICR_CTLR.CES`: EnableLPIs can be cleared.
pub const CTLR_CLEARABLE: u32 = 1 << 1;
/// `GICR_CTLR.RWP`: a write is still taking effect.
pub const CTLR_RWP: u32 = 1 << 3;
/// `GICR_TYPER.PLPIS`: there are LPIs.
pub const TYPER_LPIS: u64 = 1;

/// Architecture version in `GITS_PIDR2`: 3 for GICv3, 4 for GICv4.
pub const fn architecture(pidr2: u32) -> u32 {
    pidr2 >> 4 & 0xf
}

/// Takes the `bits` bits of `register` from `shift` on.
pub const fn field(register: u64, shift: u32, bits: u32) -> u64 {
    register >> shift & ((1 << bits) - 1)
}

/// What an ITS says about itself: `GITS_TYPER` (12.19.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Typer {
    /// Bytes of an entry of a device's translation table, 1 to 16.
    pub entry_size: u8,
    /// Bits of an event id, 1 to 32.
    pub event_bits: u8,
    /// Bits of a device id, 1 to 32.
    pub device_bits: u8,
    /// Whether redistributors are named by address rather than by number.
    pub targets_are_addresses: bool,
    /// Collections that it holds without memory.
    pub held_collections: u8,
    /// Bits of a collection id, 1 to 16.
    pub collection_bits: u8,
}

const PHYSICAL: u64 = 1;
const TARGETS_ARE_ADDRESSES: u64 = 1 << 19;
const COLLECTIONS_LIMITED: u64 = 1 << 36;

impl Typer {
    /// What the register says.
    pub const fn decode(register: u64) -> Self {
        Self {
            entry_size: field(register, 4, 4) as u8 + 1,
            event_bits: field(register, 8, 5) as u8 + 1,
            device_bits: field(register, 13, 5) as u8 + 1,
            targets_are_addresses: register & TARGETS_ARE_ADDRESSES != 0,
            held_collections: field(register, 24, 8) as u8,
            collection_bits: if register & COLLECTIONS_LIMITED != 0 {
                field(register, 32, 4) as u8 + 1
            } else {
                16
            },
        }
    }

    /// The register, of an ITS with physical LPIs and nothing more.
    pub fn encode(self) -> u64 {
        let less_one = |count: u8, mask: u64| u64::from(count).wrapping_sub(1) & mask;
        let targets = if self.targets_are_addresses {
            TARGETS_ARE_ADDRESSES
        } else {
            0
        };
        let collections = if self.collection_bits < 16 {
            COLLECTIONS_LIMITED | less_one(self.collection_bits, 0xf) << 32
        } else {
            0
        };
        PHYSICAL
            | less_one(self.entry_size, 0xf) << 4
            | less_one(self.event_bits, 0x1f) << 8
            | less_one(self.device_bits, 0x1f) << 13
            | targets
            | u64::from(self.held_collections) << 24
            | collections
    }
}

/// How accesses to memory are cached and shared, in the encoding of all these registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// 0 device, 1 not cacheable, 7 write-back with read and write allocation.
    pub inner: u8,
    /// 0 as `inner`, otherwise like it.
    pub outer: u8,
    /// 0 not shareable, 1 inner, 2 outer shareable.
    pub shareability: u8,
}

impl Attributes {
    /// Coherent with the CPUs' caches.
    pub const COHERENT: Self = Self {
        inner: 7,
        outer: 0,
        shareability: 1,
    };
    /// Past the caches.
    pub const NON_CACHEABLE: Self = Self {
        inner: 1,
        outer: 0,
        shareability: 0,
    };

    /// Whether accesses see what is in the CPUs' caches.
    pub const fn is_coherent(self) -> bool {
        self.shareability != 0 && self.inner > 1
    }

    /// As in `GITS_BASER` and `GITS_CBASER`: bits 61:59, 55:53 and 11:10.
    const fn of_its(register: u64) -> Self {
        Self {
            inner: field(register, 59, 3) as u8,
            outer: field(register, 53, 3) as u8,
            shareability: field(register, 10, 2) as u8,
        }
    }

    const fn in_its(self) -> u64 {
        (self.inner as u64) << 59 | (self.outer as u64) << 53 | (self.shareability as u64) << 10
    }

    /// As in `GICR_PROPBASER` and `GICR_PENDBASER`: bits 9:7, 58:56 and 11:10.
    const fn of_redistributor(register: u64) -> Self {
        Self {
            inner: field(register, 7, 3) as u8,
            outer: field(register, 56, 3) as u8,
            shareability: field(register, 10, 2) as u8,
        }
    }

    const fn in_redistributor(self) -> u64 {
        (self.inner as u64) << 7 | (self.outer as u64) << 56 | (self.shareability as u64) << 10
    }
}

/// What a table of an ITS holds: `GITS_BASER<n>.Type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableKind {
    /// Nothing: there is no such table.
    None,
    /// An entry for each device.
    Devices,
    /// An entry for each virtual CPU, of GICv4.
    VirtualCpus,
    /// An entry for each collection.
    Collections,
    /// A reserved value.
    Unknown(u8),
}

impl TableKind {
    const fn decode(value: u8) -> Self {
        match value {
            0 => Self::None,
            1 => Self::Devices,
            2 => Self::VirtualCpus,
            4 => Self::Collections,
            value => Self::Unknown(value),
        }
    }

    const fn encode(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Devices => 1,
            Self::VirtualCpus => 2,
            Self::Collections => 4,
            Self::Unknown(value) => value,
        }
    }
}

/// The pages that a table consists of: `GITS_BASER<n>.Page_Size`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PageSize {
    /// 4 KiB.
    Small,
    /// 16 KiB.
    Medium,
    /// 64 KiB.
    Large,
}

impl PageSize {
    /// From the field; its reserved value means the largest.
    pub const fn decode(field: u64) -> Self {
        match field & 3 {
            0 => Self::Small,
            1 => Self::Medium,
            _ => Self::Large,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Small => 0x1000,
            Self::Medium => 0x4000,
            Self::Large => 0x1_0000,
        }
    }
}

/// `GITS_BASER<n>` (12.19.1): a table in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Baser {
    /// Whether there is memory.
    pub valid: bool,
    /// Whether the memory is a table of pages of entries.
    pub indirect: bool,
    /// What it holds; cannot be written.
    pub kind: TableKind,
    /// Bytes of an entry, 1 to 32; cannot be written.
    pub entry_size: u8,
    /// How it is accessed.
    pub attributes: Attributes,
    /// Where it is.
    pub at: Hpa,
    /// Its pages.
    pub page: PageSize,
    /// How many there are, 1 to 256.
    pub pages: u16,
}

const BASER_VALID: u64 = 1 << 63;
const BASER_INDIRECT: u64 = 1 << 62;
/// Bits 47:12 of the address; with large pages bits 15:12 are bits 51:48.
const BASER_ADDRESS: u64 = 0xffff_ffff_f000;
const BASER_ADDRESS_LARGE: u64 = 0xffff_ffff_0000;

impl Baser {
    /// What the register says.
    pub const fn decode(register: u64) -> Self {
        let page = PageSize::decode(register >> 8);
        let at = match page {
            PageSize::Large => register & BASER_ADDRESS_LARGE | field(register, 12, 4) << 48,
            _ => register & BASER_ADDRESS & !(page.bytes() - 1),
        };
        Self {
            valid: register & BASER_VALID != 0,
            indirect: register & BASER_INDIRECT != 0,
            kind: TableKind::decode(field(register, 56, 3) as u8),
            entry_size: field(register, 48, 5) as u8 + 1,
            attributes: Attributes::of_its(register),
            at: Hpa::new(at),
            page,
            pages: field(register, 0, 8) as u16 + 1,
        }
    }

    /// The register.
    pub fn encode(self) -> u64 {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let at = self.at.get();
        let address = match self.page {
            PageSize::Large => at & BASER_ADDRESS_LARGE | field(at, 48, 4) << 12,
            _ => at & BASER_ADDRESS,
        };
        flag(self.valid, BASER_VALID)
            | flag(self.indirect, BASER_INDIRECT)
            | self.attributes.in_its()
            | u64::from(self.kind.encode()) << 56
            | u64::from(self.entry_size.saturating_sub(1)) << 48
            | address
            | (self.page as u64) << 8
            | u64::from(self.pages.saturating_sub(1)) & 0xff
    }

    /// Bytes of the memory.
    pub const fn bytes(self) -> u64 {
        self.pages as u64 * self.page.bytes()
    }

    /// How many entries the table can have, if it is complete.
    pub const fn capacity(self) -> u64 {
        if self.indirect {
            self.bytes() / 8 * self.entries_of_page()
        } else {
            self.bytes() / self.entry_size as u64
        }
    }

    /// How many entries a page has.
    pub const fn entries_of_page(self) -> u64 {
        self.page.bytes() / self.entry_size as u64
    }
}

/// An entry of the first level of an indirect table: the address of a page, valid (5.2).
pub const fn level1_entry(page: Hpa) -> u64 {
    BASER_VALID | page.get()
}

/// The page that an entry of the first level names.
pub const fn level1_page(entry: u64) -> Option<Hpa> {
    if entry & BASER_VALID != 0 {
        Some(Hpa::new(entry & 0x000f_ffff_ffff_f000))
    } else {
        None
    }
}

/// `GITS_CBASER` (12.19.2): the command queue, in the host's memory or a guest's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cbaser<A = Hpa> {
    /// Whether there is a queue.
    pub valid: bool,
    /// How it is accessed.
    pub attributes: Attributes,
    /// Where it is.
    pub at: A,
    /// Pages of 4 KiB, 1 to 256.
    pub pages: u16,
}

/// Bits 51:12 of an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl<A: PhysicalAddress> Cbaser<A> {
    /// What the register says.
    pub fn decode(register: u64) -> Self {
        Self {
            valid: register & BASER_VALID != 0,
            attributes: Attributes::of_its(register),
            at: A::from_bytes(register & ADDRESS),
            pages: field(register, 0, 8) as u16 + 1,
        }
    }

    /// The register.
    pub fn encode(self) -> u64 {
        let valid = if self.valid { BASER_VALID } else { 0 };
        let pages = u64::from(self.pages.saturating_sub(1)) & 0xff;
        valid | self.attributes.in_its() | self.at.bytes() & ADDRESS | pages
    }

    /// Bytes of the queue.
    pub const fn bytes(self) -> u64 {
        self.pages as u64 * 0x1000
    }
}

/// `GICR_PROPBASER` (12.11.26): a byte of configuration for each LPI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PropBaser<A = Hpa> {
    /// How it is accessed.
    pub attributes: Attributes,
    /// Where it is.
    pub at: A,
    /// Bits of INTIDs, 1 to 32.
    pub id_bits: u8,
}

impl<A: PhysicalAddress> PropBaser<A> {
    /// What the register says.
    pub fn decode(register: u64) -> Self {
        Self {
            attributes: Attributes::of_redistributor(register),
            at: A::from_bytes(register & ADDRESS),
            id_bits: field(register, 0, 5) as u8 + 1,
        }
    }

    /// The register.
    pub fn encode(self) -> u64 {
        let id_bits = u64::from(self.id_bits.saturating_sub(1)) & 0x1f;
        self.attributes.in_redistributor() | self.at.bytes() & ADDRESS | id_bits
    }
}

/// `GICR_PENDBASER` (12.11.25): a bit for each INTID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendBaser<A = Hpa> {
    /// PTZ: the memory is zero; reads as zero.
    pub zeroed: bool,
    /// How it is accessed.
    pub attributes: Attributes,
    /// Where it is: a multiple of 64 KiB.
    pub at: A,
}

const PEND_ZEROED: u64 = 1 << 62;
const PEND_ADDRESS: u64 = 0x000f_ffff_ffff_0000;

impl<A: PhysicalAddress> PendBaser<A> {
    /// What the register says.
    pub fn decode(register: u64) -> Self {
        Self {
            zeroed: register & PEND_ZEROED != 0,
            attributes: Attributes::of_redistributor(register),
            at: A::from_bytes(register & PEND_ADDRESS),
        }
    }

    /// The register.
    pub fn encode(self) -> u64 {
        let zeroed = if self.zeroed { PEND_ZEROED } else { 0 };
        zeroed | self.attributes.in_redistributor() | self.at.bytes() & PEND_ADDRESS
    }
}

/// The byte of configuration of an LPI (5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LpiConfig {
    /// Whether it is forwarded.
    pub enabled: bool,
    /// Its priority, of which the two lowest bits are zero.
    pub priority: u8,
}

impl LpiConfig {
    /// What the byte says.
    pub const fn decode(byte: u8) -> Self {
        Self {
            enabled: byte & 1 != 0,
            priority: byte & 0xfc,
        }
    }

    /// The byte. Bit 1 is reserved, and one.
    pub const fn encode(self) -> u8 {
        self.priority & 0xfc | 1 << 1 | self.enabled as u8
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    /// What QEMU's ITS says: 16-bit ids, 12-byte entries, targets by number.
    #[test]
    fn the_typer_of_qemu_is_understood() {
        let typer = Typer::decode(1 << 36 | 0xf << 32 | 0x1_efb1);
        assert_eq!(typer.entry_size, 12);
        assert_eq!(typer.event_bits, 16);
        assert_eq!(typer.device_bits, 16);
        assert!(!typer.targets_are_addresses);
        assert!(Typer::decode(1 << 19).targets_are_addresses);
        assert_eq!(typer.collection_bits, 16);
        assert_eq!(Typer::decode(1 << 36 | 2 << 32).collection_bits, 3);
        assert_eq!(Typer::decode(9 << 24).held_collections, 9);
    }

    #[test]
    fn a_table_has_its_fields_where_the_specification_has_them() {
        let baser = Baser {
            valid: true,
            indirect: true,
            kind: TableKind::Devices,
            entry_size: 8,
            attributes: Attributes::COHERENT,
            at: Hpa::new(0x4_8001_0000),
            page: PageSize::Large,
            pages: 2,
        };
        assert_eq!(baser.encode(), 0xf907_0004_8001_0601);
        assert_eq!(Baser::decode(baser.encode()), baser);
        assert_eq!(baser.capacity(), 2 * 0x1_0000 / 8 * 0x1_0000 / 8);
        // Bits 51:48 of the address of large pages are bits 15:12.
        let far = Baser {
            at: Hpa::new(0x000a_0000_0001_0000),
            ..baser
        };
        assert_eq!(far.encode() & 0xf000, 0xa000);
        assert_eq!(Baser::decode(far.encode()), far);
    }

    #[test]
    fn a_queue_has_its_fields_where_the_specification_has_them() {
        let cbaser = Cbaser {
            valid: true,
            attributes: Attributes::NON_CACHEABLE,
            at: Hpa::new(0x000f_0000_0001_0000),
            pages: 16,
        };
        assert_eq!(cbaser.encode(), 0x880f_0000_0001_000f);
        assert_eq!(Cbaser::decode(cbaser.encode()), cbaser);
    }

    #[test]
    fn the_tables_of_lpis_have_their_fields_where_the_specification_has_them() {
        let prop = PropBaser {
            attributes: Attributes::COHERENT,
            at: Hpa::new(0x4123_4000),
            id_bits: 16,
        };
        assert_eq!(prop.encode(), 0x4123_4000 | 1 << 10 | 7 << 7 | 15);
        assert_eq!(PropBaser::decode(prop.encode()), prop);
        let pend = PendBaser {
            zeroed: true,
            attributes: Attributes::NON_CACHEABLE,
            at: Hpa::new(0x000f_0001_0000_0000),
        };
        assert_eq!(pend.encode(), 1 << 62 | 0x000f_0001_0000_0000 | 1 << 7);
        assert_eq!(PendBaser::decode(pend.encode()), pend);
        let config = LpiConfig {
            enabled: true,
            priority: 0xa0,
        };
        assert_eq!(config.encode(), 0xa3);
        assert_eq!(LpiConfig::decode(0xa1), config);
    }

    proptest! {
        #[test]
        fn what_is_decoded_encodes_to_the_same(register: u64) {
            let baser = Baser::decode(register);
            prop_assert_eq!(Baser::decode(baser.encode()), baser);
            let cbaser = Cbaser::<Hpa>::decode(register);
            prop_assert_eq!(Cbaser::decode(cbaser.encode()), cbaser);
            let prop = PropBaser::<Hpa>::decode(register);
            prop_assert_eq!(PropBaser::decode(prop.encode()), prop);
            let pend = PendBaser::<Hpa>::decode(register);
            prop_assert_eq!(PendBaser::decode(pend.encode()), pend);
            let typer = Typer::decode(register);
            prop_assert_eq!(Typer::decode(typer.encode()), typer);
        }
    }
}
