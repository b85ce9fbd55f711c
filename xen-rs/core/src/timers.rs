//! Moments at which something is due, soonest first: what a CPU's one timer must fire for.

extern crate alloc;

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Deadlines of things named by an `I`, at most one for each.
#[derive(Clone, Debug)]
pub struct Timers<I> {
    /// The soonest last.
    entries: Vec<Entry<I>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<I> {
    deadline: u64,
    id: I,
}

impl<I: Copy + PartialEq> Timers<I> {
    /// None.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// `id` is due at `deadline`, in ticks, and no longer at another time.
    ///
    /// # Errors
    /// If there is no memory for it; `id` has no deadline then.
    pub fn arm(&mut self, id: I, deadline: u64) -> Result<(), TryReserveError> {
        self.cancel(id);
        self.entries.try_reserve(1)?;
        let sooner = self
            .entries
            .partition_point(|entry| entry.deadline > deadline);
        self.entries.insert(sooner, Entry { deadline, id });
        Ok(())
    }

    /// `id` is not due any more.
    pub fn cancel(&mut self, id: I) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// The soonest deadline.
    pub fn next(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.deadline)
    }

    /// Takes out what is due at `now`, the soonest first.
    pub fn take_due(&mut self, now: u64) -> Option<I> {
        self.entries
            .pop_if(|entry| entry.deadline <= now)
            .map(|entry| entry.id)
    }
}

impl<I: Copy + PartialEq> Default for Timers<I> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Arm(u8, u64),
        Cancel(u8),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6_u8, 0..100_u64).prop_map(|(id, deadline)| Step::Arm(id, deadline)),
            (0..6_u8).prop_map(Step::Cancel),
            (0..100_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn each_is_due_once_at_its_last_deadline(steps in prop::collection::vec(step(), 0..80)) {
            let (mut timers, mut model) = (Timers::new(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Arm(id, deadline) => {
                        timers.arm(id, deadline).unwrap();
                        model.insert(id, deadline);
                    }
                    Step::Cancel(id) => {
                        timers.cancel(id);
                        model.remove(&id);
                    }
                    Step::Pass(now) => {
                        let mut due = Vec::new();
                        while let Some(id) = timers.take_due(now) {
                            due.push(id);
                        }
                        let times: Vec<_> = due.iter().map(|id| model[id]).collect();
                        prop_assert!(times.is_sorted());
                        due.sort_unstable();
                        let expected: Vec<_> = model
                            .iter()
                            .filter(|(_, deadline)| **deadline <= now)
                            .map(|(id, _)| *id)
                            .collect();
                        prop_assert_eq!(due, expected);
                        model.retain(|_, deadline| *deadline > now);
                    }
                }
                prop_assert_eq!(timers.next(), model.values().min().copied());
            }
        }
    }
}
