//! The granting side: which entries are in use, how often, of which frame.

use xen_abi::grant_table::entry_flags as flag;
use xen_abi::{DomId, Errno};
use xen_types::{Gfn, Mfn};

use super::alloc::vec::Vec;
use super::{GrantError, SharedEntries, entry};

/// Entries in a frame of the table.
pub const ENTRIES_PER_FRAME: u32 = 512;

/// The guest frame is not there, is not RAM of the domain, or is not writable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRefused;

/// The memory of domains: translation and the frame table's references.
pub trait Frames {
    /// Takes a reference to the frame that `owner` has at `gfn`, as RAM of its own. Translation and
    /// reference are one step: the frame does not change hands in between.
    ///
    /// # Errors
    /// [`FrameRefused`], also where `writable` and `owner` itself may not write there.
    fn get(&self, owner: DomId, gfn: Gfn, writable: bool) -> Result<Mfn, FrameRefused>;

    /// Gives a reference back.
    fn put(&self, mfn: Mfn);
}

/// An entry in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Active {
    grantee: DomId,
    gfn: Gfn,
    mfn: Mfn,
    readers: u32,
    writers: u32,
}

/// One use of a granted frame: while it lasts, the frame does not change hands. Given back by
/// [`GrantTable::release`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the frame stays in use until the pin is released"]
pub struct Pin {
    granter: DomId,
    reference: u32,
    mfn: Mfn,
    writable: bool,
}

impl Pin {
    /// Whose frame.
    pub fn granter(&self) -> DomId {
        self.granter
    }

    /// Which.
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }
}

/// The grants of one domain.
#[derive(Debug)]
pub struct GrantTable {
    domain: DomId,
    frames: Vec<Mfn>,
    max_frames: u32,
    /// One for each entry of all frames.
    active: Vec<Option<Active>>,
    /// How many of them are in use.
    in_use: u32,
}

impl GrantTable {
    /// The table of `domain`, without frames yet.
    pub const fn new(domain: DomId, max_frames: u32) -> Self {
        Self {
            domain,
            frames: Vec::new(),
            max_frames,
            active: Vec::new(),
            in_use: 0,
        }
    }

    /// Frames it has and may have.
    pub fn size(&self) -> (u32, u32) {
        (self.frames.len() as u32, self.max_frames)
    }

    /// Frame number `index` of the table. One that is not there yet is added, with all before it;
    /// `allocate` gives zeroed frames that the hypervisor owns.
    ///
    /// # Errors
    /// [`GrantError::TooManyFrames`], [`GrantError::NoMemory`]. Frames that were added stay.
    pub fn frame(
        &mut self,
        index: u32,
        mut allocate: impl FnMut() -> Option<Mfn>,
    ) -> Result<Mfn, GrantError> {
        if index >= self.max_frames {
            return Err(GrantError::TooManyFrames(self.max_frames));
        }
        loop {
            if let Some(&frame) = self.frames.get(index as usize) {
                return Ok(frame);
            }
            self.grow(&mut allocate)?;
        }
    }

    fn grow(&mut self, allocate: impl FnOnce() -> Option<Mfn>) -> Result<(), GrantError> {
        let entries = ENTRIES_PER_FRAME as usize;
        let no_memory = |_| GrantError::NoMemory;
        self.frames.try_reserve(1).map_err(no_memory)?;
        self.active.try_reserve(entries).map_err(no_memory)?;
        self.frames.push(allocate().ok_or(GrantError::NoMemory)?);
        self.active.resize(self.active.len() + entries, None);
        Ok(())
    }

    /// How often an entry is in use: by readers only, and by writers.
    pub fn uses(&self, reference: u32) -> (u32, u32) {
        match self.active.get(reference as usize) {
            Some(Some(active)) => (active.readers, active.writers),
            _ => (0, 0),
        }
    }

    /// Whether nothing of the domain is in use.
    pub const fn is_idle(&self) -> bool {
        self.in_use == 0
    }

    /// Uses what an entry grants to `grantee`.
    ///
    /// # Errors
    /// [`GrantError::NoReference`], [`GrantError::NotGranted`], [`GrantError::ReadOnly`],
    /// [`GrantError::Unstable`], [`GrantError::TooOften`], [`GrantError::NotMemory`].
    pub fn acquire(
        &mut self,
        entries: &impl SharedEntries,
        frames: &impl Frames,
        reference: u32,
        grantee: DomId,
        writable: bool,
    ) -> Result<Pin, GrantError> {
        let granter = self.domain;
        let place = self.active.get_mut(reference as usize);
        let place = place.ok_or(GrantError::NoReference(reference))?;
        let active = match *place {
            None => first_use(entries, frames, granter, reference, grantee, writable)?,
            Some(active) if active.grantee != grantee => {
                return Err(GrantError::NotGranted { reference, grantee });
            }
            Some(active) => another_use(entries, frames, granter, reference, active, writable)?,
        };
        if place.replace(active).is_none() {
            self.in_use += 1;
        }
        Ok(Pin {
            granter,
            reference,
            mfn: active.mfn,
            writable,
        })
    }

    /// Ends a use. The last one gives the frame back.
    ///
    /// # Panics
    /// If the pin is of another table: counts would be wrong on both.
    pub fn release(&mut self, entries: &impl SharedEntries, frames: &impl Frames, pin: Pin) {
        assert_eq!(pin.granter, self.domain, "a pin goes back where it is from");
        let Some(place) = self.active.get_mut(pin.reference as usize) else {
            return;
        };
        let Some(active) = place else {
            return;
        };
        if pin.writable {
            active.writers = active.writers.saturating_sub(1);
        } else {
            active.readers = active.readers.saturating_sub(1);
        }
        let mut cleared = 0;
        if pin.writable && active.writers == 0 {
            cleared |= flag::WRITING;
        }
        if active.readers == 0 && active.writers == 0 {
            cleared |= flag::READING;
            *place = None;
            self.in_use -= 1;
            frames.put(pin.mfn);
        }
        if cleared != 0 {
            entries.clear_flags(pin.reference, cleared);
        }
    }
}

/// Takes an entry into use that was in none: believes nothing in it that is not read here, once.
fn first_use(
    entries: &impl SharedEntries,
    frames: &impl Frames,
    granter: DomId,
    reference: u32,
    grantee: DomId,
    writable: bool,
) -> Result<Active, GrantError> {
    entry::mark_in_use(entries, reference, grantee, writable, false)?;
    let gfn = Gfn::new(u64::from(entries.frame(reference)));
    match frames.get(granter, gfn, writable) {
        Ok(mfn) => Ok(Active {
            grantee,
            gfn,
            mfn,
            readers: u32::from(!writable),
            writers: u32::from(writable),
        }),
        Err(FrameRefused) => {
            entries.clear_flags(reference, flag::READING | flag::WRITING);
            Err(GrantError::NotMemory(gfn))
        }
    }
}

/// Counts another use of an entry. The first writer is checked as if it came first.
fn another_use(
    entries: &impl SharedEntries,
    frames: &impl Frames,
    granter: DomId,
    reference: u32,
    active: Active,
    writable: bool,
) -> Result<Active, GrantError> {
    let more = |count: u32| count.checked_add(1).ok_or(GrantError::TooOften(reference));
    if !writable {
        let readers = more(active.readers)?;
        return Ok(Active { readers, ..active });
    }
    let writers = more(active.writers)?;
    if active.writers == 0 {
        must_be_writable(frames, granter, active)?;
        entry::mark_in_use(entries, reference, active.grantee, true, true)?;
    }
    Ok(Active { writers, ..active })
}

/// The granting domain still has the frame where it was, and may write it.
fn must_be_writable(
    frames: &impl Frames,
    granter: DomId,
    active: Active,
) -> Result<(), GrantError> {
    let error = GrantError::NotMemory(active.gfn);
    let mfn = frames.get(granter, active.gfn, true).map_err(|_| error)?;
    frames.put(mfn);
    if mfn == active.mfn {
        Ok(())
    } else {
        Err(error)
    }
}

/// Chooses the table's version: there is only the first.
///
/// # Errors
/// `ENOSYS` for version 2, which guests take as a hint to stay with 1; `EINVAL` for others.
pub const fn set_version(version: u32) -> Result<(), Errno> {
    match version {
        1 => Ok(()),
        2 => Err(Errno::NoCall),
        _ => Err(Errno::Invalid),
    }
}
