//! Memory that runs out on purpose (`shortage` on the command line; [`xen_core::memory::shortage`]).
//!
//! What domains are made of is refused: RAM, tables, pages that they share, and room on the heap where
//! that is asked for in advance. What cannot be refused is not.

use core::sync::atomic::{AtomicBool, Ordering};

use xen_core::memory::shortage::Shortage;

use crate::lock::IrqLock;

static ENABLED: AtomicBool = AtomicBool::new(false);
/// Taken last: under it nothing is locked.
static SHORTAGE: IrqLock<Shortage> = IrqLock::new(Shortage::new());

/// From now on memory runs out.
pub fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// The making of a domain begins.
pub fn begin() {
    if ENABLED.load(Ordering::Relaxed) {
        SHORTAGE.lock().begin();
    }
}

/// Whether an allocation is refused.
pub fn refuses() -> bool {
    ENABLED.load(Ordering::Relaxed) && SHORTAGE.lock().refuses()
}
