//! What the scheduler keeps for each CPU.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::super::queue::{Queue, is_later};
use crate::vgic::{Lock, Locking};

/// There is no end of a slice.
pub(super) const NEVER: u64 = u64::MAX;
/// The CPU is nobody's own.
pub(super) const NOBODY: u32 = u32::MAX;

pub(super) struct Cpu<L: Locking> {
    pub(super) queue: L::Lock<Queue>,
    /// Whether it runs vCPUs at all.
    pub(super) exists: bool,
    /// The virtual time of the vCPU furthest behind that ran.
    pub(super) clock: AtomicU64,
    /// What others see of the queue without its lock.
    pub(super) load: AtomicU64,
    pub(super) waiting: AtomicUsize,
    pub(super) busy: AtomicBool,
    pub(super) must_switch: AtomicBool,
    pub(super) slice_end: AtomicU64,
    /// With the null policy: whose CPU it is.
    pub(super) owner: AtomicU32,
}

impl<L: Locking> Cpu<L> {
    /// One without work. `exists`: whether it runs vCPUs.
    pub(super) fn new(exists: bool) -> Self {
        Self {
            queue: L::Lock::new(Queue::default()),
            exists,
            clock: AtomicU64::new(0),
            load: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            must_switch: AtomicBool::new(false),
            slice_end: AtomicU64::new(NEVER),
            owner: AtomicU32::new(NOBODY),
        }
    }

    /// The clock follows the vCPU that is furthest behind.
    pub(super) fn advance(&self, queue: &Queue, now: u64) {
        if let Some(time) = queue.furthest_behind(now) {
            self.advance_to(time);
        }
    }

    pub(super) fn advance_to(&self, time: u64) {
        if is_later(time, self.clock.load(Ordering::Relaxed)) {
            self.clock.store(time, Ordering::Relaxed);
        }
    }

    /// Lets others see what the queue holds.
    pub(super) fn show(&self, queue: &Queue) {
        let waiting = queue.len();
        self.load.store(queue.load(), Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::SeqCst);
        if waiting == 0 {
            self.slice_end.store(NEVER, Ordering::Relaxed);
        }
        let busy = waiting > 0 || queue.current.is_some();
        self.busy.store(busy, Ordering::SeqCst);
    }
}
