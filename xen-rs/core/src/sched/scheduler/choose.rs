//! What a CPU runs next.

use core::sync::atomic::Ordering;

use super::super::kicks::Kicks;
use super::super::policy::Policy;
use super::super::queue::{Current, Entry, Queue, is_later};
use super::super::unit::{Place, SlotId, Unit};
use super::cpu::{Cpu, NEVER};
use super::{Choice, Scheduler, Why};
use crate::vgic::{Lock, Locking};

impl<L: Locking> Scheduler<L> {
    /// Decides whether the vCPU that a CPU ran goes on; if not, it is no longer its current one.
    pub(super) fn stays(
        &self,
        cpu: usize,
        current: Current,
        why: Why,
        now: u64,
        kicks: &mut Kicks,
    ) -> bool {
        let Some(this) = self.cpus.get(cpu) else {
            return false;
        };
        let slot = current.slot;
        self.with_slot(slot, |unit| {
            let Some(unit) = unit else {
                return false;
            };
            unit.time = current.time_at(now);
            unit.ran(why);
            let can =
                unit.is_ready() && unit.resident == Some(cpu) && self.may_have(slot, unit, cpu);
            let stays = this.queue.with(|queue| {
                this.advance(queue, now);
                let gives_way = |next: &Entry| why == Why::Yield || !is_later(next.time, unit.time);
                let stays = can && !queue.next().is_some_and(gives_way);
                queue.current = stays.then_some(Current {
                    slot,
                    time: unit.time,
                    weight: unit.weight,
                    started: now,
                });
                self.begin(this, queue, now);
                stays
            });
            unit.place = match (stays, unit.is_ready()) {
                (true, _) => Place::Running(cpu),
                (false, true) if unit.resident.is_some() => Place::Leaving,
                (false, _) => Place::Nowhere,
            };
            unit.account(now);
            if unit.place == Place::Nowhere && unit.is_ready() {
                kicks.merge(&self.settle(slot, unit, now));
            }
            stays
        })
        .unwrap_or(false)
    }

    /// Tells an idle CPU of what still waits for this one.
    pub(super) fn offer_waiting(&self, cpu: usize, kicks: &mut Kicks) {
        let Some(this) = self.cpus.get(cpu) else {
            return;
        };
        if self.policy == Policy::Null || this.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut idle = self.existing().filter(|other| self.is_idle(*other));
        let taker = this
            .queue
            .with(|queue| idle.find(|idle| queue.has_for(|entry| entry.affinity.contains(*idle))));
        if let Some(taker) = taker {
            kicks.add(taker);
        }
    }

    pub(super) fn is_idle(&self, cpu: usize) -> bool {
        let this = self.cpus.get(cpu);
        this.is_some_and(|this| !this.busy.load(Ordering::SeqCst))
    }

    /// What a CPU runs that has no current vCPU.
    pub(super) fn next(&self, cpu: usize, now: u64) -> Choice {
        let Some(this) = self.cpus.get(cpu) else {
            return Choice::Idle;
        };
        loop {
            let own = this.queue.with(|queue| {
                let entry = queue.pop();
                this.show(queue);
                entry
            });
            match own.or_else(|| self.steal_for(cpu)) {
                Some(entry) => {
                    if let Some(choice) = self.run(cpu, &entry, now) {
                        return choice;
                    }
                }
                None => return self.nothing_else(cpu, now),
            }
        }
    }

    /// Nothing waits: the vCPU that was to give way goes on, is saved, or the CPU sleeps.
    fn nothing_else(&self, cpu: usize, now: u64) -> Choice {
        let Some(this) = self.cpus.get(cpu) else {
            return Choice::Idle;
        };
        let Some(slot) = this.queue.with(|queue| queue.resident) else {
            return Choice::Idle;
        };
        self.with_slot(slot, |unit| match unit {
            Some(unit) if unit.place == Place::Leaving => {
                if !unit.is_ready() || !self.may_have(slot, unit, cpu) {
                    return Choice::Evict;
                }
                self.make_current(cpu, slot, unit, now);
                Choice::Same
            }
            // It was woken just now, and this CPU kicked.
            Some(unit) if matches!(unit.place, Place::Queued(_)) => Choice::Idle,
            Some(unit) if unit.on && unit.pauses == 0 => Choice::Idle,
            _ => Choice::Evict,
        })
        .unwrap_or(Choice::Idle)
    }

    /// Runs a vCPU that was taken out of a queue. `None` if it is not to be run any more.
    fn run(&self, cpu: usize, entry: &Entry, now: u64) -> Option<Choice> {
        let slot = entry.slot;
        self.with_slot(slot, |unit| {
            let unit = unit.as_mut()?;
            let Place::Queued(queued) = unit.place else {
                return None;
            };
            let mine = queued == cpu || unit.resident.is_none();
            if !mine || !unit.is_ready() {
                return None;
            }
            let was_resident = unit.resident == Some(cpu);
            if !self.may_have(slot, unit, cpu) {
                if was_resident {
                    unit.place = Place::Leaving;
                }
                return was_resident.then_some(Choice::Evict);
            }
            if queued != cpu
                && let Some(this) = self.cpus.get(cpu)
            {
                this.advance_to(unit.time);
            }
            unit.cpu = cpu;
            unit.resident = Some(cpu);
            self.make_current(cpu, slot, unit, now);
            Some(if was_resident {
                Choice::Same
            } else {
                Choice::Run(slot)
            })
        })
        .flatten()
    }

    fn make_current(&self, cpu: usize, slot: SlotId, unit: &mut Unit, now: u64) {
        let Some(this) = self.cpus.get(cpu) else {
            return;
        };
        unit.place = Place::Running(cpu);
        unit.account(now);
        let (time, weight) = (unit.time, unit.weight);
        this.queue.with(|queue| {
            queue.current = Some(Current {
                slot,
                time,
                weight,
                started: now,
            });
            queue.resident = queue.resident.or(Some(slot));
            this.advance(queue, now);
            self.begin(this, queue, now);
        });
    }

    /// The slice of the current vCPU begins.
    fn begin(&self, cpu: &Cpu<L>, queue: &Queue, now: u64) {
        let end = if queue.current.is_none() || queue.is_empty() {
            NEVER
        } else {
            now.saturating_add(self.tuning.slice)
        };
        cpu.slice_end.store(end, Ordering::Relaxed);
        cpu.show(queue);
    }

    /// Takes a vCPU that waits for the busiest other CPU.
    fn steal_for(&self, cpu: usize) -> Option<Entry> {
        if self.policy == Policy::Null {
            return None;
        }
        // A CPU that is seen as idle is told of what is queued from now on.
        let this = self.cpus.get(cpu)?;
        this.busy.store(false, Ordering::SeqCst);
        let waiting = |other: &&Cpu<L>| other.waiting.load(Ordering::SeqCst) > 0;
        let load = |other: &&Cpu<L>| other.load.load(Ordering::Relaxed);
        let busiest = self.cpus.iter().filter(waiting).max_by_key(load)?;
        let from = |other: &Cpu<L>| {
            other.queue.with(|queue| {
                let entry = queue.steal(|entry| entry.affinity.contains(cpu));
                other.show(queue);
                entry
            })
        };
        from(busiest).or_else(|| self.cpus.iter().filter(waiting).find_map(from))
    }
}
