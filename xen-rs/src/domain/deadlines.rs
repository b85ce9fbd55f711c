//! What this CPU's timer must fire for: timers of vCPUs that are not in the hardware, the end of a time
//! slice, and the next look at IOMMUs whose interrupts are masked.

use log::warn;
use xen_core::sched::SlotId;
use xen_core::timers::Timers;

use super::timer::Kind;
use crate::arch::time::{self, Ticks};
use crate::iommu;
use crate::pci::intx;

/// A deadline of a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The vCPU.
    pub slot: SlotId,
    /// What is due.
    pub what: What,
}

/// What a vCPU may be waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// One of its timers.
    Timer(Kind),
    /// The end of its patience with the ports that it polls.
    Poll,
}

impl What {
    /// All there are.
    pub const ALL: [Self; 3] = [
        Self::Timer(Kind::Virtual),
        Self::Timer(Kind::Physical),
        Self::Poll,
    ];
}

/// The deadlines that a CPU keeps.
pub struct Deadlines {
    timers: Timers<Due>,
    slice_end: Option<Ticks>,
    /// When IOMMUs are to be looked at.
    look: Option<Ticks>,
    /// What the CPU's timer is set to.
    armed: Option<Ticks>,
}

impl Deadlines {
    /// None.
    pub const fn new() -> Self {
        Self {
            timers: Timers::new(),
            slice_end: None,
            look: None,
            armed: None,
        }
    }

    /// Sets or clears a deadline.
    pub fn set(&mut self, slot: SlotId, what: What, deadline: Option<Ticks>) {
        let due = Due { slot, what };
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

    /// Takes over when IOMMUs want to be looked at, after interrupts that may have been theirs.
    #[inline]
    pub fn take_wish(&mut self) {
        if let Some(wanted) = iommu::take_wish() {
            self.look_at(wanted);
        }
    }

    #[cold]
    fn look_at(&mut self, wanted: Ticks) {
        self.look = Some(self.look.map_or(wanted, |look| look.min(wanted)));
        self.arm();
    }

    /// Looks at IOMMUs, and at lines of PCI that rest, if it is time.
    fn look(&mut self, now: Ticks) {
        if self.look.is_some_and(|look| look <= now) {
            self.look = None;
            iommu::look();
            intx::look(now);
            self.look = iommu::take_wish();
        }
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
            self.look(now);
            self.slice_end = self.slice_end.filter(|end| *end > now);
            self.armed = None;
            self.arm();
        }
        due
    }

    fn arm(&mut self) {
        let reasons = [self.timers.next(), self.slice_end, self.look];
        let soonest = reasons.into_iter().flatten().min();
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
