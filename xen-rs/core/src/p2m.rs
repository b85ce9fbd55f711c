//! A domain's guest frames: what lies behind each, and the references that go with it (Xen's p2m).
//!
//! | attributes | the frame is | kept from its owner's hands by |
//! |---|---|---|
//! | `Ram`, `ReadOnlyRam` | the domain's own | being the domain's |
//! | `Foreign`, `ReadOnlyForeign` | another domain's | a reference of the mapping |
//! | `Granted`, `ReadOnlyGranted` | what somebody grants | the pin of a grant handle |
//! | `Shared` | the hypervisor's | a reference of the mapping |
//! | `Device` | no frame of RAM | |
//!
//! So no frame is reachable by a domain that is neither its owner nor the holder of a reference. A
//! mapping goes, TLBs included, before its reference does: see [`Displaced`] and [`Unreachable`].

use xen_abi::DomId;
use xen_types::{Gfn, Gpa, GpaRange, Hpa, HpaRange, Mfn, PAGE_SIZE};

use crate::memory::frame::{FrameError, FrameTable, FrameType};
use crate::paging::stage2::{Attributes, Stage2};
use crate::paging::{
    Leaf, MapError, OutOfTables, PageTable, Remembered, TableMemory, Translation, Unreachable,
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
    /// The domain is being destroyed.
    #[error("guest frame {0} is one of a domain that is being destroyed")]
    Closed(Gfn),
    /// The tables cannot be changed.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// What a guest frame led to before. Nothing reaches it through there any more: the caller gives back
/// the reference that went with it, and sees to RAM that the domain cannot reach now.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "what a mapping that is gone held has to be given back"]
pub enum Displaced {
    /// Nothing that has to be given back.
    Nothing,
    /// A frame that the mapping held a reference to.
    Reference(Unreachable<Mfn>),
    /// The domain's own RAM: a page, or the block that it was mapped as.
    Ram(Unreachable<HpaRange>),
}

impl Displaced {
    /// What was at a guest frame that leads nowhere now, as the walker says.
    fn of(before: Option<Translation<Attributes>>) -> Self {
        before.map_or(Self::Nothing, |before| {
            Self::by(before.attributes, before.output, PAGE_SIZE)
        })
    }

    fn by(attributes: Attributes, output: Hpa, size: u64) -> Self {
        match attributes {
            Attributes::Foreign | Attributes::ReadOnlyForeign | Attributes::Shared => {
                Self::Reference(Unreachable::new(output.frame()))
            }
            Attributes::Ram | Attributes::ReadOnlyRam => {
                // Where a descriptor leads is far below the end of all addresses.
                let ram = HpaRange::new(output, size);
                ram.map_or(Self::Nothing, |ram| Self::Ram(Unreachable::new(ram)))
            }
            Attributes::Device
            | Attributes::Doorbell
            | Attributes::Granted
            | Attributes::ReadOnlyGranted => Self::Nothing,
        }
    }
}

/// RAM that was not put anywhere, and why.
#[derive(PartialEq, Eq, Debug)]
pub struct NotAdded {
    /// Why.
    pub error: P2mError,
    /// The RAM, to which nothing leads still.
    pub ram: Unreachable<HpaRange>,
}

/// Whether guest frames lead anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// They may.
    Open,
    /// Nothing is mapped any more, and nothing of what is can be reached.
    Closed,
    /// The same, but something may remember what was mapped, for ever.
    Remembered,
}

/// The guest frames of one domain.
#[derive(Debug)]
pub struct P2m {
    owner: DomId,
    /// First address that a guest cannot have.
    end: u64,
    table: PageTable<Stage2>,
    /// The highest guest frame that ever led anywhere.
    highest: Gfn,
    state: State,
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
            highest: Gfn::new(0),
            state: State::Open,
        })
    }

    /// The domain is being destroyed: from now on nothing can be mapped, and what was is forgotten, all
    /// at once. No CPU runs the domain any more, and no device of it reaches memory.
    ///
    /// # Errors
    /// [`Remembered`]; then all that the domain has mapped is lost.
    pub fn close(&mut self, memory: &mut impl TableMemory) -> Result<(), Remembered> {
        if self.state == State::Open {
            let retired = memory.retire();
            self.state = retired.map_or(State::Remembered, |()| State::Closed);
        }
        match self.state {
            State::Remembered => Err(Remembered),
            State::Open | State::Closed => Ok(()),
        }
    }

    /// The highest guest frame that ever led anywhere.
    pub fn highest(&self) -> Gfn {
        self.highest
    }

    /// Bits of a guest's addresses.
    pub fn address_bits(&self) -> u8 {
        self.end.trailing_zeros() as u8
    }

    /// Closes them and frees the tables, after which nothing but the end of `self` may follow.
    ///
    /// # Errors
    /// [`Remembered`]; the tables are lost.
    pub fn dismantle(&mut self, memory: &mut impl TableMemory) -> Result<(), Remembered> {
        self.close(memory)?;
        self.table.dismantle(memory)
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

    /// The address of a guest frame where something can be mapped, with `pages` behind it.
    fn open_input(&mut self, gfn: Gfn, pages: u64) -> Result<u64, P2mError> {
        if self.state != State::Open {
            return Err(P2mError::Closed(gfn));
        }
        let last = gfn.checked_add(pages.saturating_sub(1));
        let last = last.ok_or(P2mError::OutOfRange(gfn))?;
        self.input(last)?;
        self.input(gfn)
    }

    /// Puts RAM of the domain's at guest frames: where nothing is, in the largest blocks that the
    /// addresses allow, or a single page in the place of what is no RAM.
    ///
    /// # Errors
    /// [`P2mError::NotOwnRam`] where RAM is already, [`P2mError::Closed`], [`P2mError::OutOfRange`],
    /// [`P2mError::Device`], [`P2mError::Map`]: nothing has changed.
    pub fn add_ram(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
        ram: Unreachable<HpaRange>,
    ) -> Result<Displaced, NotAdded> {
        let range = *ram.held();
        let added = if range.size() == PAGE_SIZE {
            self.add_page(memory, gfn, range.start().frame())
        } else {
            let added = self.add_block(memory, gfn, range);
            added.map(|()| Displaced::Nothing)
        };
        added.map_err(|error| NotAdded { error, ram })
    }

    fn add_page(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
        mfn: Mfn,
    ) -> Result<Displaced, P2mError> {
        let there = self.lookup(memory, gfn).map(|there| there.attributes);
        if let Some(Attributes::Ram | Attributes::ReadOnlyRam) = there {
            return Err(P2mError::NotOwnRam(gfn));
        }
        self.put(memory, gfn, mfn, Attributes::Ram)
    }

    fn add_block(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
        ram: HpaRange,
    ) -> Result<(), P2mError> {
        let input = self.open_input(gfn, ram.size() / PAGE_SIZE)?;
        let (output, size) = (ram.start(), ram.size());
        // What is there already, even in the same way, is there twice then.
        if let Some(leaf) = self.table.next(memory, input)
            && leaf.input < input + size
        {
            return Err(P2mError::Map(MapError::Conflict(leaf.input)));
        }
        self.table
            .map(memory, input, output, size, Attributes::Ram)?;
        let last = gfn.checked_add(size / PAGE_SIZE - 1);
        self.highest = self.highest.max(last.unwrap_or(gfn));
        Ok(())
    }

    /// The first RAM of the domain's own that ends above `from`: a block or page.
    pub fn next_ram(&self, memory: &impl TableMemory, from: Gpa) -> Option<Leaf<Attributes>> {
        let mut from = from.get();
        loop {
            let leaf = self.table.next(memory, from)?;
            match leaf.attributes {
                Attributes::Ram | Attributes::ReadOnlyRam => return Some(leaf),
                _ => from = leaf.input.checked_add(leaf.size)?,
            }
        }
    }

    /// Takes the first block or page that ends above `from` away, after [`P2m::close`]. Returns where
    /// it was, and what it held.
    pub fn take_next(
        &mut self,
        memory: &mut impl TableMemory,
        from: Gpa,
    ) -> Option<(GpaRange, Displaced)> {
        if self.state != State::Closed {
            return None;
        }
        let leaf = self.table.next(memory, from.get())?;
        // Whole entries of tables need no other table to go.
        self.table.unmap(memory, leaf.input, leaf.size).ok()?;
        let range = GpaRange::new(Gpa::new(leaf.input), leaf.size)?;
        let displaced = Displaced::by(leaf.attributes, leaf.output, leaf.size);
        Some((range, displaced))
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
    /// [`P2mError::Closed`], [`P2mError::OutOfRange`], [`P2mError::Device`], and [`P2mError::Map`]:
    /// `gfn` leads where it led before, or nowhere if that is remembered ([`MapError::Remembered`]):
    /// then what was there is lost.
    pub fn put(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
        mfn: Mfn,
        attributes: Attributes,
    ) -> Result<Displaced, P2mError> {
        let input = self.open_input(gfn, 1)?;
        let output = mfn.address().ok_or(P2mError::OutOfRange(gfn))?;
        let before = self.table.lookup(memory, input);
        if before.is_some_and(|before| before.attributes.is_device()) {
            return Err(P2mError::Device(gfn));
        }
        self.table.replace(memory, input, output, attributes)?;
        self.highest = self.highest.max(gfn);
        Ok(Displaced::of(before))
    }

    /// Takes away what is at `gfn`.
    ///
    /// # Errors
    /// [`P2mError::OutOfRange`], [`P2mError::Nothing`], [`P2mError::Device`], [`P2mError::Map`]:
    /// nothing has changed, or what was there is lost ([`MapError::Remembered`]).
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
        Ok(Displaced::of(before))
    }

    /// Takes away the page of the domain's own RAM at `gfn`, which is the domain's still.
    ///
    /// # Errors
    /// [`P2mError::NotOwnRam`] for all else, [`P2mError::OutOfRange`], [`P2mError::Map`]: nothing
    /// has changed, or the page is lost ([`MapError::Remembered`]).
    pub fn take_ram(
        &mut self,
        memory: &mut impl TableMemory,
        gfn: Gfn,
    ) -> Result<Unreachable<HpaRange>, P2mError> {
        let input = self.input(gfn)?;
        let found = self.table.lookup(memory, input);
        let found = found.ok_or(P2mError::NotOwnRam(gfn))?;
        match found.attributes {
            Attributes::Ram | Attributes::ReadOnlyRam => {}
            _ => return Err(P2mError::NotOwnRam(gfn)),
        }
        let page = HpaRange::new(found.output, PAGE_SIZE).ok_or(P2mError::OutOfRange(gfn))?;
        self.table.unmap(memory, input, PAGE_SIZE)?;
        Ok(Unreachable::new(page))
    }

    /// Takes away a granted frame, if it is still at `gfn`: what the domain has put there since is
    /// not touched. Returns the frame, which is not reached through `gfn` then.
    ///
    /// # Errors
    /// [`P2mError::OutOfRange`], [`P2mError::Map`]: nothing has changed, or the frame may still be
    /// reached ([`MapError::Remembered`]).
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
            // What took its place may not have seen it forgotten.
            let forgotten = memory.invalidate(input);
            forgotten.map_err(|Remembered| MapError::Remembered(input))?;
        }
        Ok(Unreachable::new(mfn))
    }
}

#[cfg(test)]
mod tests;
