//! The entry of one frame and the rules by which it changes.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::DomId;

use super::FrameIndex;

/// What a frame is used as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameType {
    /// Nobody's, and not to be had from here: firmware, the image, modules, the inside of a free
    /// block.
    Reserved = 0,
    /// First frame of a free block.
    Free = 1,
    /// Memory of the hypervisor.
    Hypervisor = 2,
    /// A page table.
    PageTable = 3,
    /// RAM of a domain.
    DomainRam = 4,
    /// Was RAM of a domain, which has given it up while others still refer to it: nobody can refer
    /// to it anew, and whoever gives the last reference back frees it.
    GivenUp = 5,
    /// A page of the hypervisor's that a domain shares, and that others may map while they refer to
    /// it.
    Shared = 6,
}

/// What is left of a frame that somebody has let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a frame that nobody holds is to be freed by whoever let it go last"]
pub enum Left {
    /// Somebody holds it still.
    Held,
    /// Nobody does: the caller frees it.
    Nothing,
}

impl FrameType {
    const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Free,
            2 => Self::Hypervisor,
            3 => Self::PageTable,
            4 => Self::DomainRam,
            5 => Self::GivenUp,
            6 => Self::Shared,
            _ => Self::Reserved,
        }
    }
}

/// Where in its block a frame is, in 8 bits: the order of the block in its first frame,
/// [`Part::INSIDE`] in all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part(u8);

impl Part {
    const INSIDE: Self = Self(0xff);
}

/// Owner, type, block and reference count of a frame at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameState {
    /// Whose it is; meaningless for reserved and free frames.
    pub owner: DomId,
    /// What it is.
    pub kind: FrameType,
    part: Part,
    /// How many references forbid that it changes hands.
    pub references: u32,
}

impl FrameState {
    const RESERVED: Self = Self {
        owner: DomId::new(0),
        kind: FrameType::Reserved,
        part: Part(0),
        references: 0,
    };

    const fn free(order: u8) -> Self {
        Self {
            kind: FrameType::Free,
            part: Part(order),
            ..Self::RESERVED
        }
    }

    /// Frame number `number` of an unreferenced block.
    pub(in crate::memory) const fn owned(
        owner: DomId,
        kind: FrameType,
        order: u8,
        number: usize,
    ) -> Self {
        Self {
            owner,
            kind,
            part: if number == 0 {
                Part(order)
            } else {
                Part::INSIDE
            },
            references: 0,
        }
    }

    /// Whether someone has taken the frame.
    pub const fn is_owned(self) -> bool {
        !matches!(self.kind, FrameType::Reserved | FrameType::Free)
    }

    /// Whether the frame is the first of a block of `order` that someone has taken.
    pub const fn starts_block(self, order: u8) -> bool {
        self.is_owned() && self.part.0 == order
    }

    /// Whether the frame is the first of a free block of `order`.
    pub const fn starts_free_block(self, order: u8) -> bool {
        matches!(self.kind, FrameType::Free) && self.part.0 == order
    }

    const fn left(self) -> Left {
        match (self.kind, self.references) {
            (FrameType::GivenUp, 0) => Left::Nothing,
            _ => Left::Held,
        }
    }

    const fn pack(self) -> u64 {
        (self.references as u64) << 32
            | (self.owner.get() as u64) << 16
            | (self.part.0 as u64) << 8
            | self.kind as u64
    }

    const fn unpack(bits: u64) -> Self {
        Self {
            owner: DomId::new((bits >> 16) as u16),
            kind: FrameType::from_bits(bits as u8),
            part: Part((bits >> 8) as u8),
            references: (bits >> 32) as u32,
        }
    }

    fn expect(self, owner: DomId, kind: FrameType) -> Result<(), FrameError> {
        if self.is_owned() && self.owner == owner && self.kind == kind {
            Ok(())
        } else {
            Err(self.not_as_expected())
        }
    }

    fn expect_unreferenced(self) -> Result<(), FrameError> {
        match self.references {
            0 => Ok(()),
            count => Err(FrameError::StillReferenced(count)),
        }
    }

    fn not_as_expected(self) -> FrameError {
        if self.is_owned() {
            FrameError::NotYours {
                owner: self.owner,
                kind: self.kind,
            }
        } else {
            FrameError::NotOwned
        }
    }
}

/// Why a frame cannot be referenced, given up or transferred.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Nobody has taken it.
    #[error("the frame is nobody's")]
    NotOwned,
    /// Another owner or another type than expected.
    #[error("the frame belongs to {owner} as {kind:?}")]
    NotYours {
        /// Its owner.
        owner: DomId,
        /// Its type.
        kind: FrameType,
    },
    /// Something still refers to it.
    #[error("the frame is still referenced {0} times")]
    StillReferenced(u32),
    /// The count would not fit.
    #[error("the frame has as many references as can be counted")]
    TooManyReferences,
    /// A reference is given back that was never taken.
    #[error("the frame has no reference to give back")]
    NotReferenced,
    /// It belongs to a block of several frames, which have one owner.
    #[error("the frame is part of a larger block")]
    PartOfBlock,
}

/// The entry of a frame. 16 bytes, and all zeros are a reserved frame.
#[repr(C)]
#[derive(Default)]
pub struct FrameInfo {
    state: AtomicU64,
    link: AtomicU64,
}

const _: () = assert!(size_of::<FrameInfo>() == 16);

impl FrameInfo {
    /// The frame as it is at this moment.
    pub fn state(&self) -> FrameState {
        FrameState::unpack(self.state.load(Ordering::Acquire))
    }

    /// Takes a reference, if the frame is `owner`'s and used as `kind`.
    ///
    /// # Errors
    /// [`FrameError::NotOwned`], [`FrameError::NotYours`], [`FrameError::TooManyReferences`].
    pub fn get(&self, owner: DomId, kind: FrameType) -> Result<(), FrameError> {
        self.change(|state| {
            state.expect(owner, kind)?;
            let references = state.references.checked_add(1);
            Ok(FrameState {
                references: references.ok_or(FrameError::TooManyReferences)?,
                ..state
            })
        })
        .map(drop)
    }

    /// Gives a reference back.
    ///
    /// # Errors
    /// [`FrameError::NotReferenced`].
    pub fn put(&self) -> Result<Left, FrameError> {
        let after = self.change(|state| {
            let references = state.references.checked_sub(1);
            Ok(FrameState {
                references: references.ok_or(FrameError::NotReferenced)?,
                ..state
            })
        })?;
        Ok(after.left())
    }

    /// `owner` gives a single frame of its RAM, or one that it shares, up: nobody can refer to it any
    /// more.
    ///
    /// # Errors
    /// [`FrameError::NotOwned`], [`FrameError::NotYours`], [`FrameError::PartOfBlock`].
    pub fn give_up(&self, owner: DomId) -> Result<Left, FrameError> {
        let after = self.change(|state| {
            if state.expect(owner, FrameType::Shared).is_err() {
                state.expect(owner, FrameType::DomainRam)?;
            }
            if !state.starts_block(0) {
                return Err(FrameError::PartOfBlock);
            }
            Ok(FrameState {
                kind: FrameType::GivenUp,
                ..state
            })
        })?;
        Ok(after.left())
    }

    /// Gives an unreferenced single frame of `from` to `to`.
    ///
    /// # Errors
    /// [`FrameError::NotOwned`], [`FrameError::NotYours`], [`FrameError::StillReferenced`],
    /// [`FrameError::PartOfBlock`].
    pub fn transfer(&self, from: DomId, kind: FrameType, to: DomId) -> Result<(), FrameError> {
        self.change(|state| {
            state.expect(from, kind)?;
            state.expect_unreferenced()?;
            if !state.starts_block(0) {
                return Err(FrameError::PartOfBlock);
            }
            Ok(FrameState { owner: to, ..state })
        })
        .map(drop)
    }

    /// Takes a reserved frame: it becomes `state`.
    pub(in crate::memory) fn allocate(&self, state: FrameState) -> Result<(), FrameError> {
        self.swap(FrameState::RESERVED, state)
    }

    /// Takes the frame from its owner: unreferenced, as `state` says, it becomes reserved.
    pub(in crate::memory) fn release(&self, state: FrameState) -> Result<(), FrameError> {
        self.swap(state, FrameState::RESERVED)
    }

    /// Makes a reserved frame the first of a free block.
    pub(in crate::memory) fn mark_free(&self, order: u8) -> Result<(), FrameError> {
        self.swap(FrameState::RESERVED, FrameState::free(order))
    }

    /// Makes the first frame of a free block a reserved one.
    pub(in crate::memory) fn unmark_free(&self, order: u8) -> Result<(), FrameError> {
        self.swap(FrameState::free(order), FrameState::RESERVED)
    }

    /// Makes an owned frame the first of a block of `order`, referenced or not.
    pub(in crate::memory) fn start_block(&self, order: u8) -> Result<(), FrameError> {
        self.change(|state| {
            if !state.is_owned() {
                return Err(FrameError::NotOwned);
            }
            Ok(FrameState {
                part: Part(order),
                ..state
            })
        })
        .map(drop)
    }

    /// From exactly `before` to `after`.
    fn swap(&self, before: FrameState, after: FrameState) -> Result<(), FrameError> {
        let swapped = self.state.compare_exchange(
            before.pack(),
            after.pack(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match swapped {
            Ok(_) => Ok(()),
            Err(now) => {
                let now = FrameState::unpack(now);
                now.expect_unreferenced()?;
                Err(now.not_as_expected())
            }
        }
    }

    /// From whatever is there to what `rule` makes of it, which is returned.
    fn change(
        &self,
        rule: impl Fn(FrameState) -> Result<FrameState, FrameError>,
    ) -> Result<FrameState, FrameError> {
        let mut before = self.state.load(Ordering::Acquire);
        loop {
            let after = rule(FrameState::unpack(before))?;
            let swapped = self.state.compare_exchange_weak(
                before,
                after.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swapped {
                Ok(_) => return Ok(after),
                Err(now) => before = now,
            }
        }
    }

    /// The neighbours in a free list; used by its allocator under a lock.
    pub(in crate::memory) fn links(&self) -> Links {
        Links::unpack(self.link.load(Ordering::Relaxed))
    }

    /// Sets the neighbours in a free list.
    pub(in crate::memory) fn set_links(&self, links: Links) {
        self.link.store(links.pack(), Ordering::Relaxed);
    }
}

impl fmt::Debug for FrameInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

/// The neighbours of a free block in its list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::memory) struct Links {
    pub(in crate::memory) previous: Option<FrameIndex>,
    pub(in crate::memory) next: Option<FrameIndex>,
}

impl Links {
    /// Both as numbers counted from one, so that zero is none.
    fn pack(self) -> u64 {
        let number = |link: Option<FrameIndex>| link.map_or(0, |index| u64::from(index.get()) + 1);
        number(self.next) << 32 | number(self.previous)
    }

    fn unpack(bits: u64) -> Self {
        let link = |number: u32| number.checked_sub(1).map(FrameIndex::new);
        Self {
            previous: link(bits as u32),
            next: link((bits >> 32) as u32),
        }
    }
}

#[cfg(test)]
mod tests;
