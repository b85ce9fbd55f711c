//! The virtual counter and timer (Arm ARM D12.2).

use crate::{read_sysreg, write_sysreg};

/// The PPI of the virtual timer, by the base system architecture and on every board.
pub const TIMER_PPI: u32 = 27;

/// The virtual counter.
#[inline(always)]
pub fn now() -> u64 {
    read_sysreg!("cntvct_el0")
}

/// Ticks of the counter in a second.
pub fn hertz() -> u64 {
    read_sysreg!("cntfrq_el0")
}

/// Lets the timer's interrupt come when the counter reaches `when`.
pub fn alarm(when: u64) {
    write_sysreg!("cntv_cval_el0", when);
    write_sysreg!("cntv_ctl_el0", 1);
}

/// Switches the timer off.
pub fn no_alarm() {
    write_sysreg!("cntv_ctl_el0", 0);
}
