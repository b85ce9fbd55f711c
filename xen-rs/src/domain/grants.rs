//! A domain's grants: its table of shared entries, and what it has mapped of others'.
//!
//! The decisions are `xen_core::grant`'s; here are the frames that the entries lie in and the memory
//! of domains that they speak of.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use spin::Once;
use xen_abi::DomId;
use xen_core::grant::{
    ENTRIES_PER_FRAME, FrameRefused, Frames, GrantError, GrantTable, HANDLES_PER_FRAME, Header,
    Maptrack, SharedEntries,
};
use xen_types::{Gfn, Mfn};

use super::table;
use crate::lock::IrqLock;
use crate::memory::frames;
use crate::memory::page::Page;

/// Frames of the table of a domain that nobody has said otherwise of, as under Xen.
pub const DEFAULT_FRAMES: u32 = 64;
/// Frames' worth of handles, as under Xen.
pub const DEFAULT_MAPTRACK_FRAMES: u32 = 1024;
/// Bytes of an entry (`grant_entry_v1`).
const ENTRY: u64 = 8;

/// The grants of a domain. Lock order: `maptrack`, `table`, the space of the granting domain.
pub struct Grants {
    /// What it grants.
    pub table: IrqLock<GrantTable>,
    /// What it has mapped.
    pub maptrack: IrqLock<Maptrack>,
    /// Where its entries are.
    pub entries: Entries,
}

impl Grants {
    /// Of a domain that grants nothing yet, with so many frames of entries and frames' worth of
    /// handles at most.
    pub fn new(domain: DomId, frames: u32, maptrack_frames: u32) -> Self {
        let handles = maptrack_frames.saturating_mul(HANDLES_PER_FRAME);
        let places = 0..frames;
        Self {
            table: IrqLock::new(GrantTable::new(domain, frames)),
            maptrack: IrqLock::new(Maptrack::new(domain, handles)),
            entries: Entries {
                owner: domain,
                places: places.map(|_| Place::default()).collect(),
            },
        }
    }

    /// Frame number `index` of the table; the table grows up to there.
    ///
    /// # Errors
    /// Those of [`GrantTable::frame`].
    pub fn frame(&self, index: u32) -> Result<Mfn, GrantError> {
        let mut table = self.table.lock();
        let (mut next, _) = table.size();
        table.frame(index, || {
            let place = self.entries.places.get(next as usize)?;
            let page = Page::shared_by(self.entries.owner).ok()?;
            next += 1;
            Some(place.page.call_once(|| page).start().frame())
        })
    }
}

/// A frame of the table.
#[derive(Default)]
struct Place {
    /// Its entries, once there are any.
    page: Once<Page>,
    /// One more than the guest frame where the domain has put it; 0 for none.
    guest: AtomicU64,
}

/// The shared entries of a domain, in frames of the hypervisor that it never frees while the domain
/// lives.
pub struct Entries {
    owner: DomId,
    places: Vec<Place>,
}

impl Entries {
    /// Remembers where the domain has put a frame of its table.
    pub fn moved(&self, index: u32, gfn: Gfn) {
        if let Some(place) = self.places.get(index as usize) {
            place
                .guest
                .store(gfn.get().wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Where the domain has put a frame of its table.
    pub fn guest_frame(&self, index: u32) -> Option<Gfn> {
        let guest = self
            .places
            .get(index as usize)?
            .guest
            .load(Ordering::Relaxed);
        guest.checked_sub(1).map(Gfn::new)
    }

    /// The address of an entry.
    fn entry(&self, reference: u32) -> Option<u64> {
        let place = self.places.get((reference / ENTRIES_PER_FRAME) as usize)?;
        let offset = u64::from(reference % ENTRIES_PER_FRAME) * ENTRY;
        Some(place.page.get()?.start().get() + offset)
    }

    /// Flags and grantee of an entry.
    fn word(&self, reference: u32) -> Option<&AtomicU32> {
        let address = self.entry(reference)?;
        // SAFETY: in a frame of this table, aligned to 8 bytes. The frame stays the hypervisor's for
        // as long as the domain lives; the domain changes it as well, and both by atomic accesses.
        Some(unsafe { AtomicU32::from_ptr(address as *mut u32) })
    }
}

fn unpack(word: u32) -> Header {
    Header {
        flags: word as u16,
        grantee: DomId::new((word >> 16) as u16),
    }
}

fn pack(header: Header) -> u32 {
    u32::from(header.grantee.get()) << 16 | u32::from(header.flags)
}

impl SharedEntries for Entries {
    fn header(&self, reference: u32) -> Header {
        let word = self.word(reference);
        unpack(word.map_or(0, |word| word.load(Ordering::SeqCst)))
    }

    fn swap_header(&self, reference: u32, expected: Header, new: Header) -> Result<(), Header> {
        let (before, after) = (pack(expected), pack(new));
        let word = self.word(reference).ok_or(unpack(0))?;
        word.compare_exchange(before, after, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
            .map_err(unpack)
    }

    fn clear_flags(&self, reference: u32, flags: u16) {
        if let Some(address) = self.entry(reference) {
            // SAFETY: the low half of the word of `word`, by the same argument.
            let half = unsafe { AtomicU16::from_ptr(address as *mut u16) };
            half.fetch_and(!flags, Ordering::SeqCst);
        }
    }

    fn frame(&self, reference: u32) -> u32 {
        let Some(address) = self.entry(reference) else {
            return 0;
        };
        // SAFETY: the second word of the entry, by the same argument.
        unsafe { AtomicU32::from_ptr((address + 4) as *mut u32) }.load(Ordering::SeqCst)
    }
}

/// The memory of all domains.
pub struct Memory;

impl Frames for Memory {
    fn get(&self, owner: DomId, gfn: Gfn, writable: bool) -> Result<Mfn, FrameRefused> {
        let domain = table::lookup(owner).ok_or(FrameRefused)?;
        let space = domain.space.lock();
        space.reference_ram(gfn, writable).map_err(|_| FrameRefused)
    }

    fn put(&self, mfn: Mfn) {
        frames::put(mfn);
    }
}
