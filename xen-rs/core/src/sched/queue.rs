//! The vCPUs that wait for one CPU, and the one that it runs.
//!
//! Each CPU has a virtual clock, which advances with the vCPU that is furthest behind. A vCPU's
//! virtual time advances as it runs, the slower the larger its weight; the lowest runs next.

use super::alloc::vec::Vec;
use super::cpus::CpuSet;
use super::unit::SlotId;

/// The weight at which virtual time is real time: Xen's default.
pub(super) const NORMAL: u64 = 256;

/// A vCPU that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub slot: SlotId,
    pub time: u64,
    pub weight: u32,
    /// Where it may run.
    pub affinity: CpuSet,
    /// Its registers are on this CPU: no other may take it.
    pub resident: bool,
}

/// The vCPU that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub slot: SlotId,
    /// Its virtual time when it started.
    pub time: u64,
    pub weight: u32,
    pub started: u64,
}

impl Current {
    /// Its virtual time `now`.
    pub fn time_at(&self, now: u64) -> u64 {
        let ran = now.saturating_sub(self.started);
        self.time.wrapping_add(virtual_ticks(ran, self.weight))
    }
}

/// Ticks of virtual time for ticks of real time.
pub(super) fn virtual_ticks(ran: u64, weight: u32) -> u64 {
    let scaled = u128::from(ran) * u128::from(NORMAL) / u128::from(weight.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// `a` after `b` on a clock that wraps.
pub(super) const fn is_later(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) as i64 > 0
}

/// A CPU's vCPUs.
#[derive(Default, Debug)]
pub(super) struct Queue {
    /// Those that wait, the one to run next last.
    waiting: Vec<Entry>,
    pub current: Option<Current>,
    /// The vCPU whose registers the CPU has.
    pub resident: Option<SlotId>,
}

impl Queue {
    /// Makes room for so many.
    pub fn reserve(&mut self, units: usize) -> bool {
        let more = units.saturating_sub(self.waiting.len());
        self.waiting.try_reserve(more).is_ok()
    }

    /// Adds one; behind those of the same virtual time.
    pub fn push(&mut self, entry: Entry) {
        self.remove(entry.slot);
        let place = self
            .waiting
            .partition_point(|other| is_later(other.time, entry.time));
        self.waiting.insert(place, entry);
    }

    /// Takes the next out.
    pub fn pop(&mut self) -> Option<Entry> {
        self.waiting.pop()
    }

    /// Takes out the first that another CPU may have.
    pub fn steal(&mut self, may_run: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let place = self
            .waiting
            .iter()
            .rposition(|entry| !entry.resident && may_run(entry))?;
        Some(self.waiting.remove(place))
    }

    /// Whether it has one that another CPU may have.
    pub fn has_for(&self, may_run: impl Fn(&Entry) -> bool) -> bool {
        self.waiting
            .iter()
            .any(|entry| !entry.resident && may_run(entry))
    }

    /// Takes one out.
    pub fn remove(&mut self, slot: SlotId) {
        self.waiting.retain(|entry| entry.slot != slot);
    }

    /// The one to run next.
    pub fn next(&self) -> Option<&Entry> {
        self.waiting.last()
    }

    /// The virtual time of the one that is furthest behind.
    pub fn furthest_behind(&self, now: u64) -> Option<u64> {
        let current = self.current.map(|current| current.time_at(now));
        let next = self.next().map(|next| next.time);
        match (current, next) {
            (Some(a), Some(b)) if is_later(a, b) => Some(b),
            (None, next) => next,
            (current, _) => current,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The weight of all that wait or run.
    pub fn load(&self) -> u64 {
        let waiting: u64 = self
            .waiting
            .iter()
            .map(|entry| u64::from(entry.weight))
            .sum();
        waiting + self.current.map_or(0, |current| current.weight.into())
    }
}
