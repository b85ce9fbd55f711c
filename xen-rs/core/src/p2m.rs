//! A domain's guest frames: what lies behind each, and the references that go with it (Xen's p2m).
//!
//! | attributes | the frame is | kept from its owner's hands by |
//! |---|---|---|
//! | `Ram`, `ReadOnlyRam` | the domain's own | being the domain's |
//! | `Foreign`, `ReadOnlyForeign` | another domain's | a reference of the mapping |
//! | `Granted`, `ReadOnlyGranted` | what somebody grants | the pin of a grant handle |
//! | `Shared` | the hypervisor's | being the hypervisor's |
//! | `Device` | no frame of RAM | |
//!
//! So no frame is reachable by a domain that is neither its owner nor the holder of a reference. A
//! mapping goes, TLBs included, before its reference does: see [`Displaced`].

use xen_abi::DomId;
use xen_types::{Gfn, Mfn, PAGE_SIZE};

use crate::memory::frame::{FrameError, FrameTable, FrameType};
use crate::paging::stage2::{Attributes, Stage2};
use crate::paging::{
    MapError, OutOfTables, PageTable, Remembered, TableMemory, Translation, Unreachable,
};

/// Why something cannot be done at a guest frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum P2mError {
    /// Beyond all guest addresses.
    #[error("guest frame {0} is beyond the address space")]
    OutOfRange(Gfn),
    /// Nothing is there.
    #[error("nothing is at guest frame {0}")]
    Nothing(Gfn),
    /// Not the domain's own RAM, or read-only where it is to be written.
    #[error("guest frame {0} is not RAM of the domain, or not writable")]
    NotOwnRam(Gfn),
    /// Registers of a device are not given or taken by frame.
    #[error("guest frame {0} is a device's")]
    Device(Gfn),
    /// The frame table refuses.
    #[error("the frame behind guest frame {0}: {1}")]
    Frame(Gfn, FrameError),
    /// The tables cannot be changed.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// What a guest frame led to before. If it held a reference to a frame, nothing reaches that through
/// it any more, and the caller gives the reference back.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the reference of a mapping that is gone has to be given back"]
pub struct Displaced(Option<Unreachable<Mfn>>);

impl Displaced {
    /// The frame whose reference is to be given back, if there is one.
    pub fn reference(self) -> Option<Unreachable<Mfn>> {
        self.0
    }
}

/// The guest frames of one domain.
#[derive(Debug)]
pub struct P2m {
    owner: DomId,
    /// First address that a guest cannot have.
    end: u64,
    table: PageTable<Stage2>,
}

impl P2m {
    /// Of a domain that has nothing yet, with guest addresses of `input_bits` bits, at most 48.
    ///
    /// # Errors
    /// [`OutOfTables`].
    pub fn new(
        owner: DomId,
        input_bits: u32,
        memory: &mut impl TableMemory,
    ) -> Result<Self, OutOfTables> {
        let table = PageTable::new(memory)?;
        Ok(Self {
            owner,
            end: 1 << input_bits.min(48),
            table,
        })
    }

    /// Whose guest frames they are.
    pub fn owner(&self) -> DomId {
        self.owner
    }

    /// The tables.
    pub fn table(&self) -> &PageTable<Stage2> {
        &self.table
    }

    /// The tables, to map what is no single frame.
    pub fn table_mut(&mut self) -> &mut PageTable<Stage2> {
        &mut self.table
    }

    /// Where a guest frame leads.
    pub fn lookup(&self, memory: &impl TableMemory, gfn: Gfn) -> Option<Translation<Attributes>> {
        self.table.lookup(memory, self.input(gfn).ok()?)
    }

    /// The address of a guest frame, if a guest can have it.
    fn input(&self, gfn: Gfn) -> Result<u64, P2mError> {
        let address = gfn.address().filter(|address| address.get() < self.end);
        address
            .map(|address| address.get())
            .ok_or(P2mError::OutOfRange(gfn))
    }

    /// Takes a reference to the frame of the domain's own RAM at `gfn`: translation and reference
    /// are one step for whoever holds the tables.
    ///
    /// # Errors
    /// [`P2mError::NotOwnRam`], also where it is `writable` that is asked for and the domain itself
    /// may only read; [`P2mError::Frame`].
    pub fn reference_ram(
        &self,
        memory: &impl TableMemory,
        frames: &FrameTable<'_>,
        gfn: Gfn,
        writable: bool,
    ) -> Result<Mfn, P2mError> {
        let found = self.lookup(memory, gfn).ok_or(P2mError::NotOwnRam(gfn))?;
        match found.attributes {
            Attributes::Ram => {}
            Attributes::ReadOnlyRam if !writable => {}
            _ => return Err(P2mError::NotOwnRam(gfn)),
        }
        let mfn = found.output.frame();
        let entry = frames.lookup(mfn).ok_or(P2mError::NotOwnRam(gfn))?;
        entry
            .get(self.owner, FrameType::DomainRam)
            .map_err(|error| P2mError::Frame(gfn, error))?;
        Ok(mfn)
    }

    /// Puts a frame at `gfn`, whatever RAM was there before. What the attributes say of references
    /// the caller has seen to.
    ///
    /// # Errors
    /// [`P2mError::OutOfRange`], [`P2mError::Device`], and [`P2mError::Map`]: `gfn` leads where it
    /// led before.
    pub fn put(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
        mfn: Mfn,
        attributes: Attributes,
    ) -> Result<Displaced, P2mError> {
        let input = self.input(gfn)?;
        let output = mfn.address().ok_or(P2mError::OutOfRange(gfn))?;
        let before = self.table.lookup(memory, input);
        if before.is_some_and(|before| before.attributes.is_device()) {
            return Err(P2mError::Device(gfn));
        }
        self.table.replace(memory, input, output, attributes)?;
        Ok(displaced(before))
    }

    /// Takes away what is at `gfn`.
    ///
    /// # Errors
    /// [`P2mError::OutOfRange`], [`P2mError::Nothing`], [`P2mError::Device`], [`P2mError::Map`]:
    /// nothing has changed, unless something remembers it: then what was there is lost.
    pub fn remove(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
    ) -> Result<Displaced, P2mError> {
        let input = self.input(gfn)?;
        let before = self.table.lookup(memory, input);
        let found = before.ok_or(P2mError::Nothing(gfn))?;
        if found.attributes.is_device() {
            return Err(P2mError::Device(gfn));
        }
        self.table.unmap(memory, input, PAGE_SIZE)?;
        Ok(displaced(before))
    }

    /// Takes away the domain's own RAM at `gfn`; returns its frame, which is the domain's still.
    ///
    /// # Errors
    /// [`P2mError::NotOwnRam`] for all else, [`P2mError::OutOfRange`], [`P2mError::Map`]: nothing
    /// has changed.
    pub fn take_ram(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
    ) -> Result<Unreachable<Mfn>, P2mError> {
        let input = self.input(gfn)?;
        let found = self.table.lookup(memory, input);
        let found = found.ok_or(P2mError::NotOwnRam(gfn))?;
        match found.attributes {
            Attributes::Ram | Attributes::ReadOnlyRam => {}
            _ => return Err(P2mError::NotOwnRam(gfn)),
        }
        self.table.unmap(memory, input, PAGE_SIZE)?;
        Ok(Unreachable::new(found.output.frame()))
    }

    /// Takes away a granted frame, if it is still at `gfn`: what the domain has put there since is
    /// not touched. Returns the frame, which `gfn` does not reach then.
    ///
    /// # Errors
    /// [`P2mError::OutOfRange`], [`P2mError::Map`]: nothing has changed.
    pub fn remove_granted(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
        mfn: Mfn,
    ) -> Result<Unreachable<Mfn>, P2mError> {
        let input = self.input(gfn)?;
        let found = self.table.lookup(memory, input);
        let granted = found.is_some_and(|found| {
            let kind = found.attributes;
            let granted = matches!(kind, Attributes::Granted | Attributes::ReadOnlyGranted);
            granted && found.output.frame() == mfn
        });
        if granted {
            self.table.unmap(memory, input, PAGE_SIZE)?;
        } else {
            // Whoever took it away may not have seen it forgotten.
            let forgotten = memory.invalidate(input);
            forgotten.map_err(|Remembered| MapError::Remembered(input))?;
        }
        Ok(Unreachable::new(mfn))
    }
}

/// What was there, of which nothing is remembered.
fn displaced(before: Option<Translation<Attributes>>) -> Displaced {
    let held = before.filter(|before| {
        matches!(
            before.attributes,
            Attributes::Foreign | Attributes::ReadOnlyForeign
        )
    });
    Displaced(held.map(|held| Unreachable::new(held.output.frame())))
}

#[cfg(test)]
mod tests;
