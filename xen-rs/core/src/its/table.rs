//! Tables in memory that an ITS or a redistributor reads, and how it sees them.
//!
//! Whether the hardware looks into the CPUs' caches is negotiated: cacheable and shareable accesses
//! are asked for, and what the register then reads decides (IHI 0069, 12.19.1, Shareability). Where
//! it does not, what is written is cleaned to memory before the hardware is told of it.

use super::alloc::vec::Vec;

use xen_types::Hpa;

use super::command::DeviceId;
use super::layout::{Attributes, BASERS, Baser, GITS_BASER, PageSize, TableKind, level1_entry};
use super::{ItsError, Memory, Registers};

/// Memory that hardware reads.
#[derive(Debug)]
pub struct Table {
    at: Hpa,
    size: u64,
    /// Whether the reader sees the CPUs' caches.
    coherent: bool,
}

impl Table {
    /// Zeros that any reader sees.
    pub fn allocate(
        memory: &mut impl Memory,
        what: &'static str,
        size: u64,
        align: u64,
    ) -> Result<Self, ItsError> {
        let at = memory
            .allocate(size, align)
            .ok_or(ItsError::NoMemory { what, size })?;
        memory.clean(at, size);
        Ok(Self {
            at,
            size,
            coherent: true,
        })
    }

    /// Where it is.
    pub const fn at(&self) -> Hpa {
        self.at
    }

    /// Its reader sees no caches: what is written is cleaned from now on.
    pub fn set_incoherent(&mut self, memory: &mut impl Memory) {
        self.coherent = false;
        memory.clean(self.at, self.size);
    }

    /// Writes the 8 bytes at `offset`, a multiple of 8; nothing beyond the end.
    pub fn write64(&self, memory: &mut impl Memory, offset: u64, value: u64) {
        if let Some(at) = self.address(offset, 8) {
            memory.write64(at, value);
            if !self.coherent {
                memory.clean(at, 8);
            }
        }
    }

    /// Writes the byte at `offset`; nothing beyond the end.
    pub fn write8(&self, memory: &mut impl Memory, offset: u64, value: u8) {
        if let Some(at) = self.address(offset, 1) {
            memory.write8(at, value);
            if !self.coherent {
                memory.clean(at, 1);
            }
        }
    }

    fn address(&self, offset: u64, size: u64) -> Option<Hpa> {
        let end = offset.checked_add(size)?;
        (end <= self.size)
            .then(|| self.at.checked_add(offset))
            .flatten()
    }

    /// Gives the memory back. Nothing reads it any more.
    pub fn free(self, memory: &mut impl Memory) {
        memory.free(self.at, self.size);
    }
}

/// Asks for coherent accesses. `write` writes attributes to the register of the table and returns
/// what it then reads.
pub fn negotiate(
    table: &mut Table,
    memory: &mut impl Memory,
    coherent: bool,
    mut write: impl FnMut(Attributes) -> Attributes,
) {
    if coherent && write(Attributes::COHERENT).is_coherent() {
        return;
    }
    table.set_incoherent(memory);
    write(Attributes::NON_CACHEABLE);
}

/// The most memory that one flat table or first level may take.
const MOST: u64 = 1 << 20;
/// The most pages of a table: `GITS_BASER<n>.Size` has 8 bits.
const MOST_PAGES: u64 = 256;
/// Bytes of an entry of a first level (5.2).
const LEVEL1_ENTRY: u64 = 8;

/// A table that `GITS_BASER<n>` describes, for ids from 0.
#[derive(Debug)]
pub struct IdTable {
    level: Table,
    baser: Baser,
    /// How many ids it has room for.
    limit: u64,
    /// Pages of the second level that exist, by their place in the first, ascending.
    pages: Vec<(u64, Hpa)>,
}

/// The registers that describe tables.
fn basers(registers: &impl Registers) -> impl Iterator<Item = (u32, Baser)> {
    (0..BASERS as u32).map(|number| {
        let offset = GITS_BASER + number * 8;
        (offset, Baser::decode(registers.read64(offset)))
    })
}

/// Makes all tables invalid. What kind they are and how large their entries are stays.
pub fn invalidate_all(registers: &impl Registers) {
    for (offset, baser) in basers(registers) {
        if baser.kind != TableKind::None {
            let baser = Baser {
                valid: false,
                ..baser
            };
            registers.write64(offset, baser.encode());
        }
    }
}

impl IdTable {
    /// Gives the ITS a table of this kind with room for `ids` if possible; `None` where it takes
    /// none. `GITS_CTLR.Enabled` is clear.
    pub fn set_up(
        registers: &impl Registers,
        memory: &mut impl Memory,
        kind: TableKind,
        ids: u64,
        coherent: bool,
    ) -> Result<Option<Self>, ItsError> {
        let found = basers(registers).find(|(_, baser)| baser.kind == kind);
        let Some((offset, baser)) = found else {
            return Ok(None);
        };
        let page = accepted_page(registers, offset, baser).ok_or(ItsError::NoTable(name(kind)))?;
        let baser = Baser {
            valid: false,
            indirect: false,
            page,
            pages: 1,
            ..baser
        };
        let indirect = is_indirect(registers, offset, baser, ids);
        let baser = Baser {
            indirect,
            pages: pages_for(baser, ids, indirect),
            ..baser
        };
        let mut level = Table::allocate(memory, name(kind), baser.bytes(), page.bytes())?;
        let baser = Baser {
            at: level.at(),
            valid: true,
            ..baser
        };
        negotiate(&mut level, memory, coherent, |attributes| {
            let asked = Baser {
                attributes,
                ..baser
            };
            registers.write64(offset, asked.encode());
            Baser::decode(registers.read64(offset)).attributes
        });
        Ok(Some(Self {
            level,
            baser,
            limit: baser.capacity().min(ids),
            pages: Vec::new(),
        }))
    }

    /// How many ids there is room for.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Makes room for an id.
    pub fn make_room(&mut self, memory: &mut impl Memory, id: DeviceId) -> Result<(), ItsError> {
        let number = u64::from(id.0);
        if number >= self.limit {
            return Err(ItsError::DeviceId {
                device: id,
                limit: self.limit,
            });
        }
        if !self.baser.indirect {
            return Ok(());
        }
        let index = number / self.baser.entries_of_page().max(1);
        let Err(place) = self.pages.binary_search_by_key(&index, |page| page.0) else {
            return Ok(());
        };
        let size = self.baser.page.bytes();
        let what = name(self.baser.kind);
        let no_memory = ItsError::NoMemory { what, size };
        self.pages.try_reserve(1).map_err(|_| no_memory)?;
        let page = Table::allocate(memory, what, size, size)?;
        self.level
            .write64(memory, index * LEVEL1_ENTRY, level1_entry(page.at()));
        self.pages.insert(place, (index, page.at()));
        Ok(())
    }
}

fn name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Devices => "device",
        TableKind::Collections => "collection",
        TableKind::VirtualCpus => "virtual CPU",
        TableKind::None | TableKind::Unknown(_) => "unknown",
    }
}

/// The largest pages that the register keeps when they are written.
fn accepted_page(registers: &impl Registers, offset: u32, baser: Baser) -> Option<PageSize> {
    [PageSize::Large, PageSize::Medium, PageSize::Small]
        .into_iter()
        .find(|&page| {
            let asked = Baser {
                valid: false,
                page,
                ..baser
            };
            registers.write64(offset, asked.encode());
            Baser::decode(registers.read64(offset)).page == page
        })
}

/// Whether a table in two levels is needed, and the register keeps that when it is written.
fn is_indirect(registers: &impl Registers, offset: u32, baser: Baser, ids: u64) -> bool {
    if ids <= baser.entries_of_page() {
        return false;
    }
    let asked = Baser {
        indirect: true,
        ..baser
    };
    registers.write64(offset, asked.encode());
    Baser::decode(registers.read64(offset)).indirect
}

fn pages_for(baser: Baser, ids: u64, indirect: bool) -> u16 {
    let bytes = if indirect {
        ids.div_ceil(baser.entries_of_page().max(1)) * LEVEL1_ENTRY
    } else {
        ids.saturating_mul(baser.entry_size.into())
    };
    let most = (MOST / baser.page.bytes()).min(MOST_PAGES);
    bytes.div_ceil(baser.page.bytes()).clamp(1, most) as u16
}
