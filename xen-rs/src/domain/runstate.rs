//! What a vCPU has done with its time, written to where its guest reads it (`vcpu.h` of the Xen ABI).
//!
//! The guest names a virtual address. It is written by that of its vCPUs that is resident, when it
//! arrives on a CPU and when it leaves; where nothing is mapped at that moment, nothing is written.

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::vcpu::{RUNSTATE_UPDATE, Runstate, RunstateInfo};
use xen_core::sched::Doing;

use super::memory::{BadAddress, write};
use super::{Domain, Vcpu, schedule};
use crate::arch::{barrier, time};

/// Where a vCPU wants to read what it has done.
pub struct RunstateArea(AtomicU64);

/// No address: it is not aligned, and Linux aligns.
const NOWHERE: u64 = u64::MAX;

impl RunstateArea {
    /// None.
    pub const fn new() -> Self {
        Self(AtomicU64::new(NOWHERE))
    }

    /// From now on `address` of the guest.
    pub fn set(&self, address: u64) {
        self.0.store(address, Ordering::Relaxed);
    }
}

/// What a vCPU does and did until now.
pub fn info_of(vcpu: &Vcpu) -> RunstateInfo {
    let now = time::now();
    let Some(runstate) = schedule::runstate(vcpu) else {
        return RunstateInfo {
            state: Runstate::Offline.number(),
            pad: 0,
            state_entry_time: time::nanoseconds(now),
            time: [0; 4],
        };
    };
    let state = match runstate.doing {
        Doing::Running => Runstate::Running,
        Doing::Runnable => Runstate::Runnable,
        Doing::Blocked => Runstate::Blocked,
        Doing::Offline => Runstate::Offline,
    };
    RunstateInfo {
        state: state.number(),
        pad: 0,
        state_entry_time: time::nanoseconds(runstate.since),
        // Those until it entered its state: the guest adds what has passed since.
        time: runstate.times(runstate.since).map(time::nanoseconds),
    }
}

/// Writes what the resident vCPU does and did, if its guest wants to know.
pub fn update(domain: &Domain, vcpu: &Vcpu) {
    let address = vcpu.runstate_area.0.load(Ordering::Relaxed);
    if address != NOWHERE {
        // An address that is not mapped now may be so again when the vCPU is next here.
        let _ = write_to(domain, address, info_of(vcpu));
    }
}

fn write_to(domain: &Domain, address: u64, mut info: RunstateInfo) -> Result<(), BadAddress> {
    if !domain.marks_runstate_updates.load(Ordering::Relaxed) {
        return write(domain, address, &info);
    }
    // Other vCPUs read it, too: they wait while the mark is set.
    let entry = address.wrapping_add(core::mem::offset_of!(RunstateInfo, state_entry_time) as u64);
    let since = info.state_entry_time;
    info.state_entry_time |= RUNSTATE_UPDATE;
    write(domain, entry, &info.state_entry_time)?;
    barrier::dmb_ish();
    write(domain, address, &info)?;
    barrier::dmb_ish();
    write(domain, entry, &since)
}
