//! The scheduler as a whole, with its locks.

mod choose;
mod cpu;
mod place;

use core::sync::atomic::Ordering;

use self::cpu::{Cpu, NEVER};
use super::alloc::vec::Vec;
use super::cpus::{CpuSet, MAX_CPUS};
use super::kicks::Kicks;
use super::policy::{Policy, Tuning};
use super::queue::NORMAL;
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

/// What was said of a vCPU, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Its share of a CPU, against those of others.
    pub weight: u16,
    /// Where it may run.
    pub affinity: CpuSet,
    /// Where it ran last, or will.
    pub cpu: usize,
    /// It was switched on.
    pub on: bool,
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
        all_cpus.extend((0..count).map(|cpu| Cpu::new(cpus.contains(cpu))));
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

    /// Switches a vCPU off that is paused and on no CPU, for good: its domain is being destroyed.
    pub fn stop(&self, slot: SlotId, now: u64) -> Kicks {
        let mut kicks = self.with(slot, |unit| {
            unit.on = false;
            unit.restarted = false;
            unit.awake = false;
            self.settle(slot, unit, now)
        });
        self.give_up_cpu(slot, now, &mut kicks);
        kicks
    }

    /// Where a vCPU may run, its weight, and the CPU that it ran on last.
    pub fn settings(&self, slot: SlotId) -> Option<Settings> {
        let settings = |unit: &Unit| Settings {
            weight: unit.weight.min(u16::MAX.into()) as u16,
            affinity: unit.affinity,
            cpu: unit.cpu,
            on: unit.on,
        };
        self.with_slot(slot, |unit| unit.as_ref().map(settings))
            .flatten()
    }

    /// The CPUs there are.
    pub fn cpus(&self) -> CpuSet {
        self.existing().collect()
    }

    /// How vCPUs share them.
    pub fn policy(&self) -> Policy {
        self.policy
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

    fn with_slot<R>(&self, slot: SlotId, call: impl FnOnce(&mut Option<Unit>) -> R) -> Option<R> {
        Some(self.units.get(slot.index())?.with(call))
    }

    fn with(&self, slot: SlotId, call: impl FnOnce(&mut Unit) -> Kicks) -> Kicks {
        self.with_slot(slot, |unit| unit.as_mut().map(call))
            .flatten()
            .unwrap_or_default()
    }
}

/// Xen's default.
pub const DEFAULT_WEIGHT: u16 = NORMAL as u16;
