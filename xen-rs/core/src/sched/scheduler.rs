//! The scheduler as a whole, with its locks.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::alloc::vec::Vec;
use super::cpus::{CpuSet, MAX_CPUS};
use super::kicks::Kicks;
use super::policy::{Policy, Tuning};
use super::queue::{Current, Entry, NORMAL, Queue, is_later};
use super::runstate::Runstate;
use super::unit::{Place, SlotId, Unit};
use crate::vgic::{Lock, Locking};

/// Why a CPU asks what to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its vCPU lets others run.
    Yield,
    /// Its vCPU waits for something.
    Block,
    /// Another one may have to run.
    Preempted,
    /// Its vCPU was switched off.
    Offline,
}

/// What a CPU does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// It runs the vCPU that is resident.
    Same,
    /// It saves the one that is resident, if there is one, reports [`Scheduler::saved`], and runs
    /// this one.
    Run(SlotId),
    /// It saves the one that is resident, reports [`Scheduler::saved`], and asks again.
    Evict,
    /// It sleeps until it is kicked or interrupted.
    Idle,
}

/// Why a vCPU is not taken on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// There are as many as there can be.
    #[error("the scheduler has no room for more vCPUs")]
    Full,
    /// No memory.
    #[error("no memory for the scheduler")]
    OutOfMemory,
}

/// The vCPU is still on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the vCPU is in use")]
pub struct InUse;

/// There is no end of a slice.
const NEVER: u64 = u64::MAX;
/// The CPU is nobody's own.
const NOBODY: u32 = u32::MAX;

struct Cpu<L: Locking> {
    queue: L::Lock<Queue>,
    /// Whether it runs vCPUs at all.
    exists: bool,
    /// The virtual time of the vCPU furthest behind that ran.
    clock: AtomicU64,
    /// What others see of the queue without its lock.
    load: AtomicU64,
    waiting: AtomicUsize,
    busy: AtomicBool,
    must_switch: AtomicBool,
    slice_end: AtomicU64,
    /// With the null policy: whose CPU it is.
    owner: AtomicU32,
}

/// The scheduler.
pub struct Scheduler<L: Locking> {
    policy: Policy,
    tuning: Tuning,
    cpus: Vec<Cpu<L>>,
    units: Vec<L::Lock<Option<Unit>>>,
}

impl<L: Locking> Scheduler<L> {
    /// A scheduler of these CPUs for at most `units` vCPUs.
    ///
    /// # Errors
    /// [`AddError::OutOfMemory`].
    pub fn new(
        policy: Policy,
        tuning: Tuning,
        cpus: &CpuSet,
        units: usize,
    ) -> Result<Self, AddError> {
        let count = (0..MAX_CPUS)
            .rev()
            .find(|cpu| cpus.contains(*cpu))
            .map_or(0, |last| last + 1);
        let (mut all_cpus, mut all_units) = (Vec::new(), Vec::new());
        let reserved = all_cpus
            .try_reserve_exact(count)
            .and_then(|()| all_units.try_reserve_exact(units));
        reserved.map_err(|_| AddError::OutOfMemory)?;
        all_cpus.extend((0..count).map(|cpu| Cpu {
            queue: L::Lock::new(Queue::default()),
            exists: cpus.contains(cpu),
            clock: AtomicU64::new(0),
            load: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            must_switch: AtomicBool::new(false),
            slice_end: AtomicU64::new(NEVER),
            owner: AtomicU32::new(NOBODY),
        }));
        all_units.extend((0..units).map(|_| L::Lock::new(None)));
        Ok(Self {
            policy,
            tuning,
            cpus: all_cpus,
            units: all_units,
        })
    }

    /// Takes a vCPU on, which is off.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add(&self, weight: u16, affinity: CpuSet, now: u64) -> Result<SlotId, AddError> {
        let unit = Unit::new(weight.max(1).into(), affinity, 0, now);
        let mut unit = Some(unit);
        let free = self.units.iter().position(|slot| {
            slot.with(|slot| {
                if slot.is_none() {
                    *slot = unit.take();
                }
            });
            unit.is_none()
        });
        let slot = SlotId(free.ok_or(AddError::Full)? as u32);
        let room = self
            .cpus
            .iter()
            .all(|cpu| cpu.queue.with(|queue| queue.reserve(slot.index() + 1)));
        if room {
            Ok(slot)
        } else {
            self.with_slot(slot, |unit| *unit = None);
            Err(AddError::OutOfMemory)
        }
    }

    /// Lets a vCPU go that is off and on no CPU.
    ///
    /// # Errors
    /// [`InUse`].
    pub fn remove(&self, slot: SlotId) -> Result<(), InUse> {
        let removed = self.with_slot(slot, |unit| {
            let idle = unit.as_ref().is_some_and(|unit| {
                !unit.on && unit.place == Place::Nowhere && unit.resident.is_none()
            });
            if idle {
                *unit = None;
            }
            idle
        });
        removed.filter(|removed| *removed).map(drop).ok_or(InUse)
    }

    /// A vCPU is switched on. One that is just being switched off starts again after that.
    pub fn start(&self, slot: SlotId, now: u64) -> Kicks {
        self.with(slot, |unit| {
            if let Place::Running(_) = unit.place {
                unit.restarted = true;
                return Kicks::NONE;
            }
            unit.on = true;
            unit.awake = true;
            self.settle(slot, unit, now)
        })
    }

    /// As [`Scheduler::wake`] for a vCPU that runs: the CPU to kick. `None` if it does not run, and
    /// nothing has changed.
    #[inline]
    pub fn wake_running(&self, slot: SlotId) -> Option<usize> {
        self.with_slot(slot, |unit| match unit {
            Some(Unit {
                place: Place::Running(cpu),
                token,
                ..
            }) => {
                *token = true;
                Some(*cpu)
            }
            _ => None,
        })
        .flatten()
    }

    /// Something arrived for a vCPU: it wakes if it waits. One that runs on another CPU is to look.
    pub fn wake(&self, slot: SlotId, now: u64) -> Kicks {
        self.with(slot, |unit| match unit.place {
            Place::Running(cpu) => {
                unit.token = true;
                Kicks::one(cpu)
            }
            Place::Queued(_) | Place::Leaving => {
                unit.awake = true;
                Kicks::NONE
            }
            Place::Nowhere if unit.awake => Kicks::NONE,
            Place::Nowhere => {
                unit.awake = true;
                self.settle(slot, unit, now)
            }
        })
    }

    /// Keeps a vCPU from running, once more. It may run until its CPU has looked; after that
    /// [`Scheduler::is_off_cpus`] holds.
    pub fn pause(&self, slot: SlotId, now: u64) -> Kicks {
        self.with(slot, |unit| {
            unit.pauses = unit.pauses.saturating_add(1);
            self.settle(slot, unit, now)
        })
    }

    /// Takes one pause back.
    pub fn unpause(&self, slot: SlotId, now: u64) -> Kicks {
        self.with(slot, |unit| {
            unit.pauses = unit.pauses.saturating_sub(1);
            self.settle(slot, unit, now)
        })
    }

    /// Whether no CPU runs a vCPU or has its registers.
    pub fn is_off_cpus(&self, slot: SlotId) -> bool {
        self.with_slot(slot, |unit| {
            unit.as_ref().is_none_or(|unit| {
                unit.resident.is_none() && !matches!(unit.place, Place::Running(_))
            })
        })
        .unwrap_or(true)
    }

    /// Says where a vCPU may run. Nothing changes if that is nowhere.
    pub fn set_affinity(&self, slot: SlotId, affinity: CpuSet, now: u64) -> Kicks {
        let existing: CpuSet = self.existing().collect();
        if !affinity.meets(&existing) {
            return Kicks::NONE;
        }
        let mut kicks = self.with(slot, |unit| {
            unit.affinity = affinity;
            self.disown(slot, unit);
            if let Place::Queued(cpu) = unit.place {
                self.take_out(slot, unit, cpu);
            }
            self.settle(slot, unit, now)
        });
        self.share_out_free_cpus(now, &mut kicks);
        kicks
    }

    /// Changes the weight of a vCPU, from the next time on that it is queued.
    pub fn set_weight(&self, slot: SlotId, weight: u16) {
        self.with_slot(slot, |unit| {
            if let Some(unit) = unit {
                unit.weight = weight.max(1).into();
            }
        });
    }

    /// What a vCPU does, and did.
    pub fn runstate(&self, slot: SlotId) -> Option<Runstate> {
        self.with_slot(slot, |unit| unit.as_ref().map(|unit| unit.runstate))
            .flatten()
    }

    /// Whether a CPU must ask what to run before its vCPU goes on.
    #[inline]
    pub fn must_switch(&self, cpu: usize) -> bool {
        let flag = self.cpus.get(cpu).map(|cpu| &cpu.must_switch);
        flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Both: whether a CPU must ask now, and when at the latest.
    #[inline]
    pub fn look(&self, cpu: usize) -> (bool, Option<u64>) {
        let Some(cpu) = self.cpus.get(cpu) else {
            return (false, None);
        };
        let end = cpu.slice_end.load(Ordering::Relaxed);
        let must_switch = cpu.must_switch.load(Ordering::Relaxed);
        (must_switch, (end != NEVER).then_some(end))
    }

    /// When a CPU must ask at the latest; `None` as long as nobody waits for it.
    #[inline]
    pub fn slice_end(&self, cpu: usize) -> Option<u64> {
        let end = self.cpus.get(cpu)?.slice_end.load(Ordering::Relaxed);
        (end != NEVER).then_some(end)
    }

    /// Whether others wait for a CPU.
    pub fn is_shared(&self, cpu: usize) -> bool {
        self.slice_end(cpu).is_some()
    }

    /// What a CPU does next. `why` says what became of the vCPU that it ran; `None` if it ran none.
    pub fn pick(&self, cpu: usize, why: Option<Why>, now: u64, kicks: &mut Kicks) -> Choice {
        let Some(this) = self.cpus.get(cpu) else {
            return Choice::Idle;
        };
        let goes_on = matches!(why, Some(Why::Yield | Why::Preempted));
        if goes_on && this.waiting.load(Ordering::SeqCst) == 0 && !self.must_switch(cpu) {
            this.slice_end.store(NEVER, Ordering::Relaxed);
            return Choice::Same;
        }
        this.must_switch.store(false, Ordering::Relaxed);
        let leaving = this.queue.with(|queue| queue.current);
        if let Some(current) = leaving
            && self.stays(cpu, current, why.unwrap_or(Why::Preempted), now, kicks)
        {
            return Choice::Same;
        }
        if why == Some(Why::Offline)
            && let Some(current) = leaving
        {
            self.give_up_cpu(current.slot, now, kicks);
        }
        let choice = self.next(cpu, now);
        self.offer_waiting(cpu, kicks);
        choice
    }

    /// A CPU has saved the registers of its resident vCPU, which others may run now.
    pub fn saved(&self, cpu: usize, now: u64) -> Kicks {
        let Some(this) = self.cpus.get(cpu) else {
            return Kicks::NONE;
        };
        let saved = this.queue.with(|queue| {
            let saved = queue.resident.take();
            let current = queue.current.map(|current| current.slot);
            queue.resident = current.filter(|current| Some(*current) != saved);
            saved
        });
        let Some(slot) = saved else {
            return Kicks::NONE;
        };
        self.with(slot, |unit| {
            unit.resident = None;
            match unit.place {
                Place::Leaving => {
                    unit.place = Place::Nowhere;
                    self.settle(slot, unit, now)
                }
                // It was woken meanwhile, and may go where it could not before.
                Place::Queued(queued) => {
                    self.take_out(slot, unit, queued);
                    self.settle(slot, unit, now)
                }
                Place::Nowhere | Place::Running(_) => Kicks::NONE,
            }
        })
    }

    /// Queues a vCPU that shall run, and takes one back that shall not.
    fn settle(&self, slot: SlotId, unit: &mut Unit, now: u64) -> Kicks {
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

    fn existing(&self) -> impl Iterator<Item = usize> + '_ {
        let cpus = self.cpus.iter().enumerate();
        cpus.filter(|(_, cpu)| cpu.exists).map(|(number, _)| number)
    }

    fn may_run(&self, unit: &Unit, cpu: usize) -> bool {
        let exists = self.cpus.get(cpu).is_some_and(|cpu| cpu.exists);
        exists && unit.affinity.contains(cpu)
    }

    /// Whether a CPU may run a vCPU that shall run: with the null policy it must be its own.
    fn may_have(&self, slot: SlotId, unit: &Unit, cpu: usize) -> bool {
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
    fn disown(&self, slot: SlotId, unit: &Unit) {
        for (number, cpu) in self.cpus.iter().enumerate() {
            let own = cpu.owner.load(Ordering::Relaxed) == slot.0;
            if own && (!unit.on || !unit.affinity.contains(number)) {
                cpu.owner.store(NOBODY, Ordering::Relaxed);
            }
        }
    }

    /// With the null policy: the CPU of a vCPU that is off goes to one that waits for a CPU.
    fn give_up_cpu(&self, slot: SlotId, now: u64, kicks: &mut Kicks) {
        self.with_slot(slot, |unit| {
            if let Some(unit) = unit {
                self.disown(slot, unit);
            }
        });
        self.share_out_free_cpus(now, kicks);
    }

    /// With the null policy: gives CPUs that are nobody's to those that wait for one.
    fn share_out_free_cpus(&self, now: u64, kicks: &mut Kicks) {
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

    fn take_out(&self, slot: SlotId, unit: &mut Unit, cpu: usize) {
        if let Some(this) = self.cpus.get(cpu) {
            this.queue.with(|queue| {
                queue.remove(slot);
                this.show(queue);
            });
        }
        unit.place = Place::Nowhere;
    }

    /// Decides whether the vCPU that a CPU ran goes on; if not, it is no longer its current one.
    fn stays(&self, cpu: usize, current: Current, why: Why, now: u64, kicks: &mut Kicks) -> bool {
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
    fn offer_waiting(&self, cpu: usize, kicks: &mut Kicks) {
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

    fn is_idle(&self, cpu: usize) -> bool {
        let this = self.cpus.get(cpu);
        this.is_some_and(|this| !this.busy.load(Ordering::SeqCst))
    }

    /// What a CPU runs that has no current vCPU.
    fn next(&self, cpu: usize, now: u64) -> Choice {
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

    fn with_slot<R>(&self, slot: SlotId, call: impl FnOnce(&mut Option<Unit>) -> R) -> Option<R> {
        Some(self.units.get(slot.index())?.with(call))
    }

    fn with(&self, slot: SlotId, call: impl FnOnce(&mut Unit) -> Kicks) -> Kicks {
        self.with_slot(slot, |unit| unit.as_mut().map(call))
            .flatten()
            .unwrap_or_default()
    }
}

impl<L: Locking> Cpu<L> {
    /// The clock follows the vCPU that is furthest behind.
    fn advance(&self, queue: &Queue, now: u64) {
        if let Some(time) = queue.furthest_behind(now) {
            self.advance_to(time);
        }
    }

    fn advance_to(&self, time: u64) {
        if is_later(time, self.clock.load(Ordering::Relaxed)) {
            self.clock.store(time, Ordering::Relaxed);
        }
    }

    /// Lets others see what the queue holds.
    fn show(&self, queue: &Queue) {
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

/// Xen's default.
pub const DEFAULT_WEIGHT: u16 = NORMAL as u16;
