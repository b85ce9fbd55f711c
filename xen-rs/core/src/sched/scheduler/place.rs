//! Which CPU a vCPU waits for.

use core::sync::atomic::Ordering;

use super::super::kicks::Kicks;
use super::super::policy::Policy;
use super::super::queue::{Entry, Queue, is_later};
use super::super::unit::{Place, SlotId, Unit};
use super::Scheduler;
use super::cpu::{Cpu, NOBODY};
use crate::vgic::{Lock, Locking};

impl<L: Locking> Scheduler<L> {
    /// Queues a vCPU that shall run, and takes one back that shall not.
    pub(super) fn settle(&self, slot: SlotId, unit: &mut Unit, now: u64) -> Kicks {
        let kicks = match (unit.place, unit.is_ready()) {
            (Place::Nowhere, true) => match self.cpu_for(slot, unit) {
                Some(cpu) => self.put_in(slot, unit, cpu, now),
                None => Kicks::NONE,
            },
            (Place::Nowhere, false) => match unit.resident {
                // Its registers are wanted in memory.
                Some(cpu) if unit.pauses > 0 || !unit.on => self.demand_switch(cpu),
                _ => Kicks::NONE,
            },
            (Place::Queued(cpu), false) => {
                self.take_out(slot, unit, cpu);
                match unit.resident {
                    Some(cpu) => self.demand_switch(cpu),
                    None => Kicks::NONE,
                }
            }
            (Place::Running(cpu), ready) if !ready || !self.may_have(slot, unit, cpu) => {
                self.demand_switch(cpu)
            }
            _ => Kicks::NONE,
        };
        unit.account(now);
        kicks
    }

    fn demand_switch(&self, cpu: usize) -> Kicks {
        match self.cpus.get(cpu) {
            Some(this) => {
                this.must_switch.store(true, Ordering::Relaxed);
                Kicks::one(cpu)
            }
            None => Kicks::NONE,
        }
    }

    /// The CPU whose queue a vCPU goes to.
    fn cpu_for(&self, slot: SlotId, unit: &Unit) -> Option<usize> {
        match self.policy {
            // From the CPU that has its registers it goes on to its own.
            Policy::Null => self
                .own_cpu(slot, unit, unit.resident)
                .map(|own| unit.resident.unwrap_or(own)),
            Policy::TimeSharing => unit.resident.or_else(|| self.best_cpu(unit)),
        }
    }

    /// An idle CPU, the last one first; or the one with the least load, another one first.
    fn best_cpu(&self, unit: &Unit) -> Option<usize> {
        let is_idle = |cpu: &usize| self.is_idle(*cpu);
        let last = Some(unit.cpu).filter(|cpu| self.may_run(unit, *cpu));
        let load = |cpu: &usize| {
            let this = self.cpus.get(*cpu);
            let load = this.map_or(0, |this| this.load.load(Ordering::Relaxed));
            (load, Some(*cpu) == last)
        };
        last.filter(is_idle)
            .or_else(|| self.allowed(unit).find(is_idle))
            .or_else(|| self.allowed(unit).min_by_key(load))
    }

    fn allowed<'a>(&'a self, unit: &'a Unit) -> impl Iterator<Item = usize> + 'a {
        self.existing().filter(|cpu| self.may_run(unit, *cpu))
    }

    pub(super) fn existing(&self) -> impl Iterator<Item = usize> + '_ {
        let cpus = self.cpus.iter().enumerate();
        cpus.filter(|(_, cpu)| cpu.exists).map(|(number, _)| number)
    }

    fn may_run(&self, unit: &Unit, cpu: usize) -> bool {
        let exists = self.cpus.get(cpu).is_some_and(|cpu| cpu.exists);
        exists && unit.affinity.contains(cpu)
    }

    /// Whether a CPU may run a vCPU that shall run: with the null policy it must be its own.
    pub(super) fn may_have(&self, slot: SlotId, unit: &Unit, cpu: usize) -> bool {
        self.may_run(unit, cpu)
            && match self.policy {
                Policy::TimeSharing => true,
                Policy::Null => self.own_cpu(slot, unit, Some(cpu)) == Some(cpu),
            }
    }

    /// With the null policy: the CPU that is the vCPU's own, or a free one that becomes so.
    fn own_cpu(&self, slot: SlotId, unit: &Unit, preferred: Option<usize>) -> Option<usize> {
        let is_own = |cpu: &usize| {
            let this = self.cpus.get(*cpu);
            this.is_some_and(|this| this.owner.load(Ordering::Relaxed) == slot.0)
        };
        let claim = |cpu: &usize| {
            self.cpus.get(*cpu).is_some_and(|this| {
                let (free, own, order) = (NOBODY, slot.0, Ordering::Relaxed);
                let claimed = this.owner.compare_exchange(free, own, order, order);
                claimed.is_ok()
            })
        };
        let preferred = preferred.filter(|cpu| self.may_run(unit, *cpu));
        let own = self.allowed(unit).find(is_own);
        own.or_else(|| preferred.filter(claim))
            .or_else(|| self.allowed(unit).find(claim))
    }

    /// With the null policy: a CPU that the vCPU may not use any more is free.
    pub(super) fn disown(&self, slot: SlotId, unit: &Unit) {
        for (number, cpu) in self.cpus.iter().enumerate() {
            let own = cpu.owner.load(Ordering::Relaxed) == slot.0;
            if own && (!unit.on || !unit.affinity.contains(number)) {
                cpu.owner.store(NOBODY, Ordering::Relaxed);
            }
        }
    }

    /// With the null policy: the CPU of a vCPU that is off goes to one that waits for a CPU.
    pub(super) fn give_up_cpu(&self, slot: SlotId, now: u64, kicks: &mut Kicks) {
        self.with_slot(slot, |unit| {
            if let Some(unit) = unit {
                self.disown(slot, unit);
            }
        });
        self.share_out_free_cpus(now, kicks);
    }

    /// With the null policy: gives CPUs that are nobody's to those that wait for one.
    pub(super) fn share_out_free_cpus(&self, now: u64, kicks: &mut Kicks) {
        if self.policy != Policy::Null {
            return;
        }
        for index in 0..self.units.len() {
            let slot = SlotId(index as u32);
            kicks.merge(&self.with(slot, |unit| self.settle(slot, unit, now)));
        }
    }

    /// Puts a vCPU into a CPU's queue, its virtual time on that CPU's clock.
    fn put_in(&self, slot: SlotId, unit: &mut Unit, cpu: usize, now: u64) -> Kicks {
        let Some(this) = self.cpus.get(cpu) else {
            return Kicks::NONE;
        };
        unit.place = Place::Queued(cpu);
        let (kick, has_current) = this.queue.with(|queue| {
            this.advance(queue, now);
            if queue.furthest_behind(now).is_none() {
                // Nobody is there to compare with.
                this.advance_to(unit.time);
            }
            unit.time = self.time_on(unit, this);
            unit.cpu = cpu;
            let entry = Entry {
                slot,
                time: unit.time,
                weight: unit.weight,
                affinity: unit.affinity,
                resident: unit.resident == Some(cpu),
            };
            let kick = self.announce_waiter(this, queue, &entry, now);
            queue.push(entry);
            this.show(queue);
            (kick, queue.current.is_some())
        });
        let mut kicks = Kicks::NONE;
        if kick {
            kicks.add(cpu);
        }
        // A CPU that went idle while this one was chosen may have missed it.
        let resident = unit.resident.is_some();
        if has_current && !resident && self.policy == Policy::TimeSharing {
            let idle = self.allowed(unit).find(|cpu| self.is_idle(*cpu));
            if let Some(idle) = idle {
                kicks.add(idle);
            }
        }
        kicks
    }

    /// A vCPU's virtual time among those of a CPU. It keeps what it is ahead or behind, within bounds:
    /// one that slept runs soon, but cannot keep others from running, and one that comes from a CPU
    /// whose clock is ahead does not wait until this one's is there.
    fn time_on(&self, unit: &Unit, cpu: &Cpu<L>) -> u64 {
        let most = (self.tuning.slice * 4) as i64;
        let least = -((self.tuning.slice / 2) as i64);
        let clock = cpu.clock.load(Ordering::Relaxed);
        let lead = unit.time.wrapping_sub(clock) as i64;
        clock.wrapping_add_signed(lead.clamp(least, most))
    }

    /// Sees to it that a CPU notices who waits for it. Returns whether it must be kicked for that.
    fn announce_waiter(&self, cpu: &Cpu<L>, queue: &Queue, entry: &Entry, now: u64) -> bool {
        let Some(current) = queue.current else {
            return true;
        };
        let earliest = current.started.saturating_add(self.tuning.patience);
        let behind = current.time_at(now).wrapping_sub(self.tuning.patience);
        let end = if !is_later(behind, entry.time) {
            current.started.saturating_add(self.tuning.slice)
        } else if earliest <= now {
            cpu.must_switch.store(true, Ordering::Relaxed);
            return true;
        } else {
            earliest
        };
        let before = cpu.slice_end.fetch_min(end.max(now), Ordering::Relaxed);
        before > end
    }

    pub(super) fn take_out(&self, slot: SlotId, unit: &mut Unit, cpu: usize) {
        if let Some(this) = self.cpus.get(cpu) {
            this.queue.with(|queue| {
                queue.remove(slot);
                this.show(queue);
            });
        }
        unit.place = Place::Nowhere;
    }
}
