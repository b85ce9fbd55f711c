//! A vCPU as the scheduler sees it.

use super::cpus::CpuSet;
use super::runstate::{Doing, Runstate};
use super::scheduler::Why;

/// The scheduler's name for a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub(super) u32);

impl SlotId {
    /// A small number: the lowest that was free.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Neither queued nor running.
    Nowhere,
    /// In the queue of a CPU.
    Queued(usize),
    /// On a CPU.
    Running(usize),
    /// Its CPU is about to run another: it can be queued when its registers are saved.
    Leaving,
}

/// A vCPU.
#[derive(Debug)]
pub(super) struct Unit {
    pub weight: u32,
    pub affinity: CpuSet,
    pub place: Place,
    /// It was switched on.
    pub on: bool,
    /// It was switched on while it was on its way off.
    pub restarted: bool,
    /// How many have paused it.
    pub pauses: u32,
    /// It does not wait for anything.
    pub awake: bool,
    /// Something arrived for it while it ran: if it blocks, it has not seen that.
    pub token: bool,
    /// The CPU that has its registers.
    pub resident: Option<usize>,
    /// The CPU on whose clock `time` is.
    pub cpu: usize,
    pub time: u64,
    pub runstate: Runstate,
}

impl Unit {
    pub fn new(weight: u32, affinity: CpuSet, cpu: usize, now: u64) -> Self {
        Self {
            weight,
            affinity,
            place: Place::Nowhere,
            on: false,
            restarted: false,
            pauses: 0,
            awake: false,
            token: false,
            resident: None,
            cpu,
            time: 0,
            runstate: Runstate::new(now),
        }
    }

    /// It leaves its CPU, or asks to go on.
    pub fn ran(&mut self, why: Why) {
        match why {
            // What arrived while it ran, it has not waited for.
            Why::Block => self.awake = core::mem::take(&mut self.token),
            Why::Offline => {
                self.on = self.restarted;
                self.awake = self.restarted;
                self.restarted = false;
                self.token = false;
            }
            Why::Yield | Why::Preempted => (),
        }
    }

    /// Whether it shall run.
    pub const fn is_ready(&self) -> bool {
        self.on && self.pauses == 0 && self.awake
    }

    pub fn account(&mut self, now: u64) {
        let doing = match self.place {
            Place::Running(_) => Doing::Running,
            _ if !self.on || self.pauses > 0 => Doing::Offline,
            _ if self.awake => Doing::Runnable,
            _ => Doing::Blocked,
        };
        self.runstate.change(doing, now);
    }
}
