//! The wall clock: the control domain sets it, and every domain reads it in its shared page.

use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::DomId;
use xen_abi::shared_info::WALL_CLOCK;

use super::{Domain, table};
use crate::lock::IrqLock;

const NANOSECONDS: u64 = 1_000_000_000;

/// Seconds and nanoseconds since 1970 at system time 0.
static CLOCK: IrqLock<(u64, u32)> = IrqLock::new((0, 0));

/// It is `seconds` and `nanoseconds` since 1970 at `system_time` nanoseconds.
pub fn set(seconds: u64, nanoseconds: u32, system_time: u64) {
    let since = u128::from(seconds) * u128::from(NANOSECONDS) + u128::from(nanoseconds);
    let start = since.saturating_sub(system_time.into());
    let mut clock = CLOCK.lock();
    let nanosecond = (start % u128::from(NANOSECONDS)) as u32;
    *clock = ((start / u128::from(NANOSECONDS)) as u64, nanosecond);
    let mut next = table::next(DomId::new(0));
    while let Some(domain) = next {
        show(&domain, *clock);
        let after = domain.id.get().checked_add(1).map(DomId::new);
        next = after.and_then(table::next);
    }
}

/// Shows the clock to a new domain.
pub fn show_now(domain: &Domain) {
    let clock = CLOCK.lock();
    show(domain, *clock);
}

/// Writes the clock to a domain's page. The version is odd meanwhile; the clock's lock keeps other
/// writers out.
fn show(domain: &Domain, (seconds, nanoseconds): (u64, u32)) {
    let words = domain.shared_page.start().get() + WALL_CLOCK as u64;
    let word = |number: u64| {
        let address = (words + number * 4) as *mut u32;
        // SAFETY: the four words of the clock in the shared page, which is the domain's for as long
        // as it lives, are aligned and only changed by atomic accesses.
        unsafe { AtomicU32::from_ptr(address) }
    };
    let version = word(0);
    version.fetch_add(1, Ordering::SeqCst);
    word(1).store(seconds as u32, Ordering::SeqCst);
    word(2).store(nanoseconds, Ordering::SeqCst);
    word(3).store((seconds >> 32) as u32, Ordering::SeqCst);
    version.fetch_add(1, Ordering::SeqCst);
}
