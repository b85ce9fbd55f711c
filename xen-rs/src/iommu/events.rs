//! What IOMMUs report: faults of devices, and their own errors.
//!
//! A device that goes astray does so all the time. An interrupt reads a bounded number of events; the
//! rest is read at later interrupts, whatever they are for. The log has the faults as far as its rate
//! allows, and the last ones are kept.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use log::{error, info, warn};
use smmu::{Fault, Iommu};
use xen_abi::DomId;
use xen_core::log::RateLimit;
use xen_types::IntId;

use super::{Owner, State, Unit, Who, units};
use crate::arch::time::{self, Ticks};
use crate::lock::IrqLock;

/// Faults that are kept.
const KEPT: usize = 64;

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

static MORE: AtomicBool = AtomicBool::new(false);
static RATE: IrqLock<RateLimit> = IrqLock::new(RateLimit::DEFAULT);
static KEPT_FAULTS: IrqLock<ArrayVec<Record, KEPT>> = IrqLock::new(ArrayVec::new_const());

/// Takes an interrupt, if it is an IOMMU's.
pub fn take_interrupt(id: IntId) -> bool {
    let mut taken = false;
    for unit in units() {
        if unit.interrupts.iter().any(|interrupt| interrupt.id == id) {
            taken = true;
            unit.service();
        }
    }
    taken
}

/// Whether an IOMMU has more events than were read at its interrupt.
#[inline]
pub fn has_more() -> bool {
    MORE.load(Ordering::Relaxed)
}

/// Reads more events of all IOMMUs.
#[cold]
pub fn look_again() {
    MORE.store(false, Ordering::Relaxed);
    units().for_each(Unit::service);
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
    /// Reads events, a bounded number.
    fn service(&self) {
        let State::Isolates(smmu) = &self.state else {
            return;
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
        if service.failed {
            error!("iommu: {}: it has failed, or does not answer", self.path);
        } else if service.more {
            MORE.store(true, Ordering::Relaxed);
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
