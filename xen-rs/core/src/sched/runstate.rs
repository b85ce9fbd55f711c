//! How long a vCPU has been in which state, as `vcpu_runstate_info` of the Xen ABI tells a guest.

/// What a vCPU does, in the order of the ABI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// It is on a CPU.
    Running,
    /// It could be, if there were one.
    Runnable,
    /// It waits for an event or an interrupt.
    Blocked,
    /// It is off or paused.
    Offline,
}

/// Its state, since when, and how long it was in each so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Runstate {
    /// What it does.
    pub doing: Doing,
    /// Since when, in ticks.
    pub since: u64,
    times: [u64; 4],
}

impl Runstate {
    /// Off from `now` on.
    pub const fn new(now: u64) -> Self {
        Self {
            doing: Doing::Offline,
            since: now,
            times: [0; 4],
        }
    }

    /// Ticks in each state until `now`, in the order of [`Doing`].
    pub fn times(&self, now: u64) -> [u64; 4] {
        let mut times = self.times;
        if let Some(time) = times.get_mut(self.doing as usize) {
            *time = time.wrapping_add(now.saturating_sub(self.since));
        }
        times
    }

    pub(super) fn change(&mut self, doing: Doing, now: u64) {
        if doing != self.doing {
            self.times = self.times(now);
            self.doing = doing;
            self.since = now;
        }
    }
}
