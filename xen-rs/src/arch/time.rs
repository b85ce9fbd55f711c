//! Time: the physical counter and the EL2 physical timer (Arm ARM D12.1, D12.2).

use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0, Readable};

use super::barrier;
use super::sysreg::write_sysreg;

static AT_ENTRY: AtomicU64 = AtomicU64::new(0);

/// Counter ticks; they advance at [`frequency`].
pub type Ticks = u64;

/// Remembers now as the moment from which log times count.
pub fn start_of_log() {
    AT_ENTRY.store(now(), Ordering::Relaxed);
}

/// The physical counter.
#[inline]
pub fn now() -> Ticks {
    // The counter may be read early without it (Arm ARM D12.2.1).
    barrier::isb();
    CNTPCT_EL0.get()
}

/// Ticks since the hypervisor was entered.
pub fn since_entry() -> Ticks {
    now() - AT_ENTRY.load(Ordering::Relaxed)
}

/// Ticks of the physical counter in nanoseconds: system time, as guests see it too.
pub fn nanoseconds(ticks: Ticks) -> u64 {
    let frequency = match frequency() {
        0 => 1_000_000_000,
        known => u128::from(known),
    };
    (u128::from(ticks) * 1_000_000_000 / frequency) as u64
}

/// Ticks in a second, as firmware wrote it; 0 if it did not.
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// At least `microseconds` in ticks.
pub fn ticks(microseconds: u64) -> Ticks {
    // Without a frequency from firmware: long rather than short (1 GHz is the architected maximum
    // of the generic timer's recommended range).
    let frequency = match frequency() {
        0 => 1_000_000_000,
        known => known,
    };
    (frequency / 1_000_000 + 1) * microseconds
}

/// Waits until `done` or until `microseconds` have passed; says which. Sleeps between looks, woken
/// by `sev` and by the event stream.
pub fn wait_until(microseconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let deadline = now() + ticks(microseconds);
    loop {
        if done() {
            return true;
        }
        if now() >= deadline {
            return false;
        }
        barrier::wfe();
    }
}

/// Lets the counter wake waiters in `wfe` about every 2^15 ticks (`CNTHCTL_EL2.EVNTEN/EVNTI`).
/// Lower levels read the counter (`EL1PCTEN`); their accesses to the physical timer trap
/// (`EL1PCEN` is 0), as it is not kept per vCPU.
pub fn enable_event_stream() {
    write_sysreg!("cnthctl_el2", 1 | 1 << 2 | 14 << 4);
    write_sysreg!("cntvoff_el2", 0);
    barrier::isb();
}

/// Has the EL2 physical timer of this CPU interrupt after `ticks`.
pub fn arm_timer(ticks: Ticks) {
    arm_timer_at(now() + ticks);
}

/// Has the EL2 physical timer of this CPU interrupt when the counter is at `deadline`.
pub fn arm_timer_at(deadline: Ticks) {
    write_sysreg!("cnthp_cval_el2", deadline);
    write_sysreg!("cnthp_ctl_el2", 1);
    barrier::isb();
}

/// Stops the EL2 physical timer of this CPU, which also takes its interrupt back.
pub fn stop_timer() {
    write_sysreg!("cnthp_ctl_el2", 0);
    barrier::isb();
}
