//! What an operation on the controller asks of its caller.

use arrayvec::ArrayVec;
use xen_types::{IntId, Spi, Trigger};

/// Most requests that one operation has: an access changes 32 interrupts at most, reading list
/// registers back 16, and the count of ends without a list register is below 32.
const REQUESTS: usize = 64;

/// A virtual CPU of the domain, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(u8);

impl CpuId {
    /// Most that a domain can have.
    pub const MAX: usize = 128;
    /// Number 0.
    pub(super) const FIRST: Self = Self(0);

    /// Number `number`; `None` from [`CpuId::MAX`] on.
    pub const fn new(number: usize) -> Option<Self> {
        if number < Self::MAX {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// A set of virtual CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuSet(u128);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self(0);

    /// A single CPU's bit: of one word or the other, where a shift of 128 bits takes long.
    #[inline]
    const fn bit(cpu: CpuId) -> u128 {
        let bit = 1_u64 << (cpu.0 % 64);
        if cpu.0 < 64 {
            bit as u128
        } else {
            (bit as u128) << 64
        }
    }

    /// The first `count` CPUs.
    pub const fn first(count: usize) -> Self {
        if count >= CpuId::MAX {
            Self(u128::MAX)
        } else {
            Self((1 << count) - 1)
        }
    }

    /// From a mask: bit `n` for CPU `n`.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Adds one.
    pub const fn insert(&mut self, cpu: CpuId) {
        self.0 |= Self::bit(cpu);
    }

    /// Takes one out.
    pub const fn remove(&mut self, cpu: CpuId) {
        self.0 &= !Self::bit(cpu);
    }

    /// Whether it is in the set.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & Self::bit(cpu) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What both sets have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The one with the lowest number.
    pub const fn lowest(self) -> Option<CpuId> {
        if self.0 == 0 {
            None
        } else {
            Some(CpuId(self.0.trailing_zeros() as u8))
        }
    }
}

impl Iterator for CpuSet {
    type Item = CpuId;

    /// Takes the lowest out.
    fn next(&mut self) -> Option<CpuId> {
        let cpu = self.lowest()?;
        self.remove(cpu);
        Some(cpu)
    }
}

/// What must happen to a physical interrupt, in the physical distributor or redistributor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Physical {
    /// Enable it.
    Enable(IntId),
    /// Disable it.
    Disable(IntId),
    /// Deactivate it: the guest is done with it, and no list register did so.
    Deactivate(IntId),
    /// Make it edge- or level-triggered.
    Configure(IntId, Trigger),
    /// The guest is done with this interrupt of its, which stands for what the hypervisor wants
    /// ([`super::Vgic::watch`]).
    Ended(Spi),
}

/// What the caller must do, after it has let go of all locks. Collected over any number of
/// operations; [`Effects::take_physical`] and [`Effects::take_kicks`] empty it.
#[derive(Default, Debug)]
pub struct Effects {
    kicks: CpuSet,
    physical: ArrayVec<Physical, REQUESTS>,
}

impl Effects {
    /// Nothing to do.
    pub const fn new() -> Self {
        Self {
            kicks: CpuSet::EMPTY,
            physical: ArrayVec::new_const(),
        }
    }

    /// Whether there is nothing to do.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.kicks.is_empty() && self.physical.is_empty()
    }

    /// Whether physical interrupts must do something.
    #[inline]
    pub const fn has_physical(&self) -> bool {
        !self.physical.is_empty()
    }

    /// The CPUs that must look at their interrupts: one that runs must exit, one that waits for an
    /// interrupt must wake.
    pub fn take_kicks(&mut self) -> CpuSet {
        core::mem::take(&mut self.kicks)
    }

    /// What physical interrupts must do, in order.
    pub fn take_physical(&mut self) -> impl Iterator<Item = Physical> + '_ {
        self.physical.drain(..)
    }

    pub(super) const fn kicks(&self) -> CpuSet {
        self.kicks
    }

    pub(super) const fn kick(&mut self, cpu: CpuId) {
        self.kicks.insert(cpu);
    }

    pub(super) const fn kick_all(&mut self, cpus: CpuSet) {
        self.kicks.0 |= cpus.0;
    }

    /// A CPU need not be kicked: the caller is it, and looks at its interrupts before it goes on.
    #[inline]
    pub const fn unkick(&mut self, cpu: CpuId) {
        self.kicks.remove(cpu);
    }

    pub(super) fn physical(&mut self, request: Physical) {
        // Within the bound that REQUESTS explains it always fits.
        let _ = self.physical.try_push(request);
    }
}
