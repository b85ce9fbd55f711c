//! What IOMMUs report: faults of devices, and their own errors.
//!
//! A device that goes astray does so all the time. A look reads a bounded number of events, and after
//! each an IOMMU's interrupts are masked for a while: the next look is by a CPU's timer, and only one
//! that finds nothing unmasks them. So all IOMMUs together cost a bounded part of the time, whatever
//! devices do; what finds no room in an IOMMU's queue meanwhile is lost, and the IOMMU says so. The log
//! has the faults as far as its rate allows, and the last ones are kept.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use log::{error, info, warn};
use smmu::{Fault, Iommu, Service};
use xen_abi::DomId;
use xen_core::log::RateLimit;
use xen_types::IntId;

use super::{Owner, State, Unit, Who, units};
use crate::arch::time::{self, Ticks};
use crate::gic;
use crate::lock::IrqLock;

/// Faults that are kept.
const KEPT: usize = 64;
/// Between two looks at an IOMMU whose devices go astray.
const PAUSE_MICROSECONDS: u64 = 10_000;
/// No look is wanted.
const NEVER: Ticks = Ticks::MAX;

/// A fault, with what is known of who caused it.
#[derive(Clone, Debug)]
pub struct Record {
    /// When, in ticks since the hypervisor was entered.
    pub at: Ticks,
    /// Which device, and whose: as when the fault was read.
    pub culprit: Option<(Who, DomId)>,
    /// What it tried.
    pub fault: Fault,
}

/// When the next look is wanted, for which no CPU has set its timer yet.
static WANTED: AtomicU64 = AtomicU64::new(NEVER);
static RATE: IrqLock<RateLimit> = IrqLock::new(RateLimit::DEFAULT);
static KEPT_FAULTS: IrqLock<ArrayVec<Record, KEPT>> = IrqLock::new(ArrayVec::new_const());

/// Takes an interrupt, if it is an IOMMU's.
pub fn take_interrupt(id: IntId) -> bool {
    let mut taken = false;
    for unit in units() {
        if unit.interrupts.iter().any(|interrupt| interrupt.id == id) {
            taken = true;
            unit.mask();
            unit.look();
        }
    }
    taken
}

/// When IOMMUs want to be looked at: the CPU that takes the wish over sets its timer.
#[inline]
pub fn take_wish() -> Option<Ticks> {
    if WANTED.load(Ordering::Relaxed) == NEVER {
        return None;
    }
    let wanted = WANTED.swap(NEVER, Ordering::Relaxed);
    (wanted != NEVER).then_some(wanted)
}

/// A CPU has its timer set for a look.
pub fn look_at(time: Ticks) {
    WANTED.fetch_min(time, Ordering::Relaxed);
}

/// The time of a wish has come.
#[cold]
pub fn look() {
    let waiting = units().filter(|unit| unit.awaits_look.load(Ordering::Relaxed));
    waiting.for_each(Unit::look);
}

/// Logs the IOMMUs, who is behind them, and the last faults.
pub fn show() {
    info!(
        "iommu: {} KiB of tables and queues",
        super::hardware::memory() >> 10
    );
    for unit in units() {
        let state = match unit.state {
            State::Isolates(_) => "isolates",
            State::Passes => "lets everything pass",
            State::Broken => "does not work",
        };
        info!("iommu: {} {state}", unit.path);
        let owners: Vec<_> = unit.owners.lock().clone().into_iter().collect();
        for (stream, owner) in owners {
            info!("  {stream}: {owner}");
        }
    }
    let faults = KEPT_FAULTS.lock().clone();
    for record in faults {
        let milliseconds = record.at / (time::frequency() / 1000).max(1);
        match record.culprit {
            Some((who, domain)) => {
                info!(
                    "  at {milliseconds} ms: {who} of {domain}: {}",
                    record.fault
                );
            }
            None => info!("  at {milliseconds} ms: {}", record.fault),
        }
    }
}

impl Unit {
    /// Its interrupts wait from now on: what comes stays pending.
    fn mask(&self) {
        let interrupts = self.interrupts.iter();
        interrupts.for_each(|interrupt| gic::disable(interrupt.id));
    }

    fn unmask(&self) {
        let interrupts = self.interrupts.iter();
        interrupts.for_each(|interrupt| gic::enable(interrupt.id));
    }

    /// Reads events, a bounded number, while its interrupts are masked, and sees to it that they are
    /// looked at again or unmasked. An IOMMU that has failed has nothing more to say.
    fn look(&self) {
        let found = self.service();
        let again = matches!(found, Found::Events);
        self.awaits_look.store(again, Ordering::Relaxed);
        match found {
            Found::Nothing => self.unmask(),
            Found::Events => {
                let next = time::now().saturating_add(time::ticks(PAUSE_MICROSECONDS));
                look_at(next);
            }
            Found::Failure => {
                error!("iommu: {}: it has failed, or does not answer", self.path);
            }
        }
    }

    fn service(&self) -> Found {
        let State::Isolates(smmu) = &self.state else {
            return Found::Nothing;
        };
        let (service, faults, lost) = {
            let mut smmu = smmu.lock();
            let service = smmu.service();
            let faults: ArrayVec<Fault, KEPT> = core::iter::from_fn(|| smmu.take_fault())
                .take(KEPT)
                .collect();
            (service, faults, smmu.take_lost())
        };
        faults.into_iter().for_each(|fault| self.report(fault));
        if service.lost && admit() {
            warn!("iommu: {}: more faults than it can report", self.path);
        }
        if lost > 0 && admit() {
            warn!("iommu: {}: {lost} faults of other kinds", self.path);
        }
        match service {
            Service { failed: true, .. } => Found::Failure,
            Service {
                events: 0,
                lost: false,
                ..
            } => Found::Nothing,
            _ => Found::Events,
        }
    }

    fn report(&self, fault: Fault) {
        let owner = self.owners.lock().get(&fault.stream).cloned();
        let culprit = owner.clone().map(|Owner { who, domain }| (who, domain));
        let is_news = keep(Record {
            at: time::since_entry(),
            culprit,
            fault,
        });
        if is_news && admit() {
            match &owner {
                Some(owner) => warn!("iommu: {owner}: {fault}"),
                None => warn!("iommu: {}: {fault}", self.path),
            }
        }
    }
}

/// Keeps a fault in place of the oldest, or as more of the newest. False for the latter.
fn keep(record: Record) -> bool {
    let mut kept = KEPT_FAULTS.lock();
    if let Some(newest) = kept.last_mut()
        && newest.fault.is_like(&record.fault)
        && newest.culprit == record.culprit
    {
        newest.fault.count = newest.fault.count.saturating_add(record.fault.count);
        return false;
    }
    if kept.is_full() {
        kept.remove(0);
    }
    kept.push(record);
    true
}

/// What a look at an IOMMU found.
enum Found {
    Nothing,
    Events,
    Failure,
}

/// Whether a message about a fault may be logged now.
fn admit() -> bool {
    let admitted = RATE.lock().admit(time::now(), time::frequency());
    if let Some(admitted) = &admitted
        && admitted.suppressed > 0
    {
        warn!("iommu: {} messages suppressed", admitted.suppressed);
    }
    admitted.is_some()
}
