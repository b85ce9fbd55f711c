//! Two domains' memory and one's shared entries, without hardware.

extern crate std;
use std::cell::{Cell, RefCell};
use std::vec;
use std::vec::Vec;

use xen_abi::DomId;
use xen_abi::grant_table::entry_flags as flag;
use xen_types::{Gfn, Mfn};

use super::super::*;

/// The domain that grants.
pub const GRANTER: DomId = DomId::new(1);
/// Guest frames below this are RAM of the granter.
pub const RAM_FRAMES: u64 = 8;
/// RAM that the granter itself may not write.
pub const READ_ONLY_FRAME: u64 = 5;
const FIRST_MFN: u64 = 1000;

/// The granter's memory and entries.
pub struct Guest {
    entries: Vec<Cell<(Header, u32)>>,
    /// How many of the next changes the guest gets in the way of.
    pub interference: Cell<usize>,
    references: RefCell<Vec<u32>>,
}

impl Guest {
    pub fn new() -> Self {
        let nothing = Header {
            flags: flag::INVALID,
            grantee: DomId::new(0),
        };
        Self {
            entries: vec![Cell::new((nothing, 0)); ENTRIES_PER_FRAME as usize],
            interference: Cell::new(0),
            references: RefCell::new(vec![0; RAM_FRAMES as usize]),
        }
    }

    /// Writes an entry, as the guest does.
    pub fn grant(&self, reference: u32, flags: u16, grantee: DomId, frame: u32) {
        self.entries[reference as usize].set((Header { flags, grantee }, frame));
    }

    pub fn flags(&self, reference: u32) -> u16 {
        self.header(reference).flags
    }

    /// References to the frame that the granter has at `gfn`.
    pub fn references(&self, gfn: u64) -> u32 {
        self.references.borrow()[gfn as usize]
    }
}

pub fn mfn_of(gfn: u64) -> Mfn {
    Mfn::new(FIRST_MFN + gfn)
}

impl SharedEntries for Guest {
    fn header(&self, reference: u32) -> Header {
        self.entries[reference as usize].get().0
    }

    fn swap_header(&self, reference: u32, expected: Header, new: Header) -> Result<(), Header> {
        let entry = &self.entries[reference as usize];
        let (mut header, frame) = entry.get();
        if let Some(left) = self.interference.get().checked_sub(1) {
            self.interference.set(left);
            // A bit that means nothing here.
            header.flags ^= 1 << 15;
            entry.set((header, frame));
        }
        if header != expected {
            return Err(header);
        }
        entry.set((new, frame));
        Ok(())
    }

    fn clear_flags(&self, reference: u32, flags: u16) {
        let entry = &self.entries[reference as usize];
        let (mut header, frame) = entry.get();
        header.flags &= !flags;
        entry.set((header, frame));
    }

    fn frame(&self, reference: u32) -> u32 {
        self.entries[reference as usize].get().1
    }
}

impl Frames for Guest {
    fn get(&self, owner: DomId, gfn: Gfn, writable: bool) -> Result<Mfn, FrameRefused> {
        assert_eq!(owner, GRANTER);
        if gfn.get() >= RAM_FRAMES || writable && gfn.get() == READ_ONLY_FRAME {
            return Err(FrameRefused);
        }
        self.references.borrow_mut()[gfn.get() as usize] += 1;
        Ok(mfn_of(gfn.get()))
    }

    fn put(&self, mfn: Mfn) {
        let count = &mut self.references.borrow_mut()[(mfn.get() - FIRST_MFN) as usize];
        *count = count.checked_sub(1).expect("a reference was taken");
    }
}
