//! What this CPU's timer must fire for: timers of vCPUs that are not in the hardware, and the end of
//! a time slice.

use log::warn;
use xen_core::sched::SlotId;
use xen_core::timers::Timers;

use super::timer::Kind;
use crate::arch::time::{self, Ticks};

/// A timer of a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The vCPU.
    pub slot: SlotId,
    /// Which of its timers.
    pub kind: Kind,
}

/// The deadlines that a CPU keeps.
pub struct Deadlines {
    timers: Timers<Due>,
    slice_end: Option<Ticks>,
    /// What the CPU's timer is set to.
    armed: Option<Ticks>,
}

impl Deadlines {
    /// None.
    pub const fn new() -> Self {
        Self {
            timers: Timers::new(),
            slice_end: None,
            armed: None,
        }
    }

    /// Sets or clears the deadline of a timer.
    pub fn set(&mut self, slot: SlotId, kind: Kind, deadline: Option<Ticks>) {
        let due = Due { slot, kind };
        match deadline {
            None => self.timers.cancel(due),
            Some(deadline) => {
                if self.timers.arm(due, deadline).is_err() {
                    warn!("no memory for the timer of a vCPU: it will not fire");
                }
            }
        }
        self.arm();
    }

    /// Sets or clears the end of the time slice.
    pub fn set_slice_end(&mut self, end: Option<Ticks>) {
        self.slice_end = end;
        self.arm();
    }

    /// When the time slice ends; never, unless others wait for the CPU.
    #[inline]
    pub const fn slice_end(&self) -> Option<Ticks> {
        self.slice_end
    }

    /// Takes out a timer that is due. After the last one the CPU's timer is set for the next.
    pub fn take_due(&mut self) -> Option<Due> {
        let armed = self.armed?;
        let now = time::now();
        if armed > now {
            return None;
        }
        let due = self.timers.take_due(now);
        if due.is_none() {
            self.slice_end = self.slice_end.filter(|end| *end > now);
            self.armed = None;
            self.arm();
        }
        due
    }

    fn arm(&mut self) {
        let soonest = match (self.timers.next(), self.slice_end) {
            (Some(timer), Some(slice)) => Some(timer.min(slice)),
            (timer, slice) => timer.or(slice),
        };
        if soonest == self.armed {
            return;
        }
        self.armed = soonest;
        match soonest {
            Some(deadline) => time::arm_timer_at(deadline),
            None => time::stop_timer(),
        }
    }
}
