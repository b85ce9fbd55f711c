//! The frame table: who owns each frame of RAM, as what, and how often it is referenced.
//!
//! An entry changes by compare-and-swap only, along few rules: a frame is taken while it is free,
//! referenced while its owner is the one that the caller expects, and changes hands only while
//! nothing refers to it. A table of zeros is valid: every frame is reserved and cannot be taken.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use xen_abi::DomId;
use xen_types::{Hpa, HpaRange, Mfn, PAGE_SIZE};

/// The most banks of RAM.
pub const MAX_BANKS: usize = 64;

/// What a frame is used as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameType {
    /// Not ours to give: firmware, holes, the image, modules, the inside of a free block.
    Reserved = 0,
    /// First frame of a free block.
    Free = 1,
    /// Memory of the hypervisor.
    Hypervisor = 2,
    /// A page table.
    PageTable = 3,
    /// RAM of a domain.
    DomainRam = 4,
}

impl FrameType {
    const fn from_bits(bits: u64) -> Self {
        match bits & 0xff {
            1 => Self::Free,
            2 => Self::Hypervisor,
            3 => Self::PageTable,
            4 => Self::DomainRam,
            _ => Self::Reserved,
        }
    }
}

/// Owner, type, order and reference count of a frame at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameState {
    /// Whose it is; meaningless for reserved and free frames.
    pub owner: DomId,
    /// What it is.
    pub kind: FrameType,
    /// Order of the block that the frame is the first of, if it is one.
    order: u8,
    /// How many references forbid that it changes hands.
    pub references: u32,
}

impl FrameState {
    const RESERVED: Self = Self {
        owner: DomId::new(0),
        kind: FrameType::Reserved,
        order: 0,
        references: 0,
    };

    /// The block that starts here, as an order.
    pub(super) const fn order(self) -> u8 {
        self.order
    }

    pub(super) const fn free(order: u8) -> Self {
        Self {
            kind: FrameType::Free,
            order,
            ..Self::RESERVED
        }
    }

    pub(super) const fn owned(owner: DomId, kind: FrameType, order: u8) -> Self {
        Self {
            owner,
            kind,
            order,
            references: 0,
        }
    }

    const fn pack(self) -> u64 {
        (self.references as u64) << 32
            | (self.owner.get() as u64) << 16
            | (self.order as u64) << 8
            | self.kind as u64
    }

    const fn unpack(bits: u64) -> Self {
        Self {
            owner: DomId::new((bits >> 16) as u16),
            kind: FrameType::from_bits(bits),
            order: (bits >> 8) as u8,
            references: (bits >> 32) as u32,
        }
    }

    const fn is_owned(self) -> bool {
        !matches!(self.kind, FrameType::Reserved | FrameType::Free)
    }
}

/// Why a frame cannot be referenced, given up or transferred.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// No RAM that is known.
    #[error("frame {0} is not RAM")]
    NotRam(Mfn),
    /// Another owner or another type than expected.
    #[error("a frame of {actual:?} as {kind:?} is not the caller's")]
    NotYours {
        /// Its owner.
        actual: DomId,
        /// Its type.
        kind: FrameType,
    },
    /// Something still refers to it.
    #[error("the frame is referenced {0} times")]
    Referenced(u32),
    /// The count would not fit.
    #[error("the frame has as many references as can be counted")]
    TooManyReferences,
    /// A reference is given back that was never taken.
    #[error("the frame has no reference to give back")]
    NotReferenced,
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
    /// [`FrameError::NotYours`], [`FrameError::TooManyReferences`].
    pub fn get(&self, owner: DomId, kind: FrameType) -> Result<(), FrameError> {
        self.change(|state| {
            expect_owner(state, owner, kind)?;
            let references = state.references.checked_add(1);
            Ok(FrameState {
                references: references.ok_or(FrameError::TooManyReferences)?,
                ..state
            })
        })
    }

    /// Gives a reference back.
    ///
    /// # Errors
    /// [`FrameError::NotReferenced`].
    pub fn put(&self) -> Result<(), FrameError> {
        self.change(|state| {
            let references = state.references.checked_sub(1);
            Ok(FrameState {
                references: references.ok_or(FrameError::NotReferenced)?,
                ..state
            })
        })
    }

    /// Gives an unreferenced frame of `from` to `to`.
    ///
    /// # Errors
    /// [`FrameError::NotYours`], [`FrameError::Referenced`].
    pub fn transfer(&self, from: DomId, kind: FrameType, to: DomId) -> Result<(), FrameError> {
        self.change(|state| {
            expect_owner(state, from, kind)?;
            expect_unreferenced(state)?;
            Ok(FrameState { owner: to, ..state })
        })
    }

    /// Takes an unreferenced frame from its owner: it becomes reserved.
    pub(super) fn reclaim(&self) -> Result<FrameState, FrameError> {
        let mut before = FrameState::RESERVED;
        self.change(|state| {
            before = state;
            if !state.is_owned() {
                return Err(not_yours(state));
            }
            expect_unreferenced(state)?;
            Ok(FrameState::RESERVED)
        })?;
        Ok(before)
    }

    /// Sets the state of a frame that only the caller can know of: a free or reserved one.
    pub(super) fn set(&self, state: FrameState) {
        self.state.store(state.pack(), Ordering::Release);
    }

    pub(super) fn reserve(&self) {
        self.set(FrameState::RESERVED);
    }

    fn change(
        &self,
        mut rule: impl FnMut(FrameState) -> Result<FrameState, FrameError>,
    ) -> Result<(), FrameError> {
        let mut before = self.state.load(Ordering::Relaxed);
        loop {
            let after = rule(FrameState::unpack(before))?.pack();
            let swapped = self.state.compare_exchange_weak(
                before,
                after,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Ok(()),
                Err(now) => before = now,
            }
        }
    }

    /// Neighbours in a free list: (previous, next).
    pub(super) fn links(&self) -> (Link, Link) {
        let bits = self.link.load(Ordering::Relaxed);
        (Link(bits as u32), Link((bits >> 32) as u32))
    }

    pub(super) fn set_links(&self, previous: Link, next: Link) {
        let bits = u64::from(next.0) << 32 | u64::from(previous.0);
        self.link.store(bits, Ordering::Relaxed);
    }
}

fn not_yours(state: FrameState) -> FrameError {
    FrameError::NotYours {
        actual: state.owner,
        kind: state.kind,
    }
}

fn expect_owner(state: FrameState, owner: DomId, kind: FrameType) -> Result<(), FrameError> {
    if state.is_owned() && state.owner == owner && state.kind == kind {
        Ok(())
    } else {
        Err(not_yours(state))
    }
}

fn expect_unreferenced(state: FrameState) -> Result<(), FrameError> {
    match state.references {
        0 => Ok(()),
        count => Err(FrameError::Referenced(count)),
    }
}

/// A frame's place in the table, plus one; 0 is no frame. 32 bits reach 16 TiB of RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Link(u32);

impl Link {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn index(self) -> Option<u32> {
        self.0.checked_sub(1)
    }

    pub(super) fn to(index: u32) -> Self {
        Self(index + 1)
    }
}

/// The entries of one bank of RAM.
struct Bank<'a> {
    first: Mfn,
    /// Index of the first frame among all banks' frames.
    index: u32,
    frames: &'a [FrameInfo],
}

impl Bank<'_> {
    fn range(&self) -> HpaRange {
        let start = Hpa::new(self.first.get() * PAGE_SIZE);
        HpaRange::new(start, self.frames.len() as u64 * PAGE_SIZE).expect("checked when added")
    }
}

/// Why a bank cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BankError {
    /// Empty, beyond 64 bits of address, or more frames than can be counted.
    #[error("a bank of {frames} frames at frame {first} cannot be")]
    Impossible {
        /// First frame.
        first: Mfn,
        /// Frames.
        frames: usize,
    },
    /// Not above the banks before it.
    #[error("the bank at frame {0} lies below or in one that is known")]
    OutOfOrder(Mfn),
    /// No room.
    #[error("more than {MAX_BANKS} banks of RAM")]
    TooMany,
}

/// The entries of all RAM.
#[derive(Default)]
pub struct FrameTable<'a> {
    banks: ArrayVec<Bank<'a>, MAX_BANKS>,
}

impl fmt::Debug for FrameTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.banks.iter().map(Bank::range))
            .finish()
    }
}

impl<'a> FrameTable<'a> {
    /// A table without RAM.
    pub const fn new() -> Self {
        Self {
            banks: ArrayVec::new_const(),
        }
    }

    /// Adds a bank whose first frame is `first`; banks come in ascending order.
    ///
    /// # Errors
    /// [`BankError`]; the table is as before.
    pub fn add_bank(&mut self, first: Mfn, frames: &'a [FrameInfo]) -> Result<(), BankError> {
        let impossible = BankError::Impossible {
            first,
            frames: frames.len(),
        };
        let index = self
            .banks
            .last()
            .map_or(0, |bank| bank.index as usize + bank.frames.len());
        let end = first
            .checked_add(frames.len() as u64)
            .and_then(Mfn::address);
        // The last index is kept free: a link counts from one.
        let countable = index.saturating_add(frames.len()) < u32::MAX as usize;
        if frames.is_empty() || end.is_none() || !countable {
            return Err(impossible);
        }
        let above = self
            .banks
            .last()
            .is_none_or(|bank| bank.first.get() + bank.frames.len() as u64 <= first.get());
        if !above {
            return Err(BankError::OutOfOrder(first));
        }
        let bank = Bank {
            first,
            index: index as u32,
            frames,
        };
        self.banks.try_push(bank).map_err(|_| BankError::TooMany)
    }

    /// The bank that holds a frame.
    fn bank(&self, frame: Mfn) -> Option<&Bank<'a>> {
        let after = self.banks.partition_point(|bank| bank.first <= frame);
        let bank = self.banks.get(after.checked_sub(1)?)?;
        (frame.get() - bank.first.get() < bank.frames.len() as u64).then_some(bank)
    }

    /// The entry of a frame; `None` if it is not RAM.
    pub fn lookup(&self, frame: Mfn) -> Option<&'a FrameInfo> {
        let bank = self.bank(frame)?;
        bank.frames.get((frame.get() - bank.first.get()) as usize)
    }

    /// The bank around a frame, as a range.
    pub fn bank_range(&self, frame: Mfn) -> Option<HpaRange> {
        self.bank(frame).map(Bank::range)
    }

    /// The entries of `count` frames from `first`, if all lie in one bank.
    pub(super) fn entries(&self, first: Mfn, count: u64) -> Option<&'a [FrameInfo]> {
        let bank = self.bank(first)?;
        let start = (first.get() - bank.first.get()) as usize;
        bank.frames.get(start..start.checked_add(count as usize)?)
    }

    /// Frames of RAM in all banks.
    pub fn frames(&self) -> u64 {
        self.banks.iter().map(|bank| bank.frames.len() as u64).sum()
    }

    pub(super) fn index_of(&self, frame: Mfn) -> Option<u32> {
        let bank = self.bank(frame)?;
        Some(bank.index + (frame.get() - bank.first.get()) as u32)
    }

    pub(super) fn frame_at(&self, index: u32) -> Option<Mfn> {
        let after = self.banks.partition_point(|bank| bank.index <= index);
        let bank = self.banks.get(after.checked_sub(1)?)?;
        bank.first.checked_add(u64::from(index - bank.index))
    }
}
