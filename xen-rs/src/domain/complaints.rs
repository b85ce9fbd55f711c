//! What guests make the hypervisor log: as `guest_loglvl=` says, and each domain at a rate of its own,
//! so that none of them floods the log or keeps what another one did out of it.

use core::fmt::Arguments;

use log::Level;
use xen_core::log::{RateLimit, Verdict};

use super::Domain;
use crate::arch::time;
use crate::console;
use crate::lock::IrqLock;

/// How often a domain may make the hypervisor log.
pub struct Complaints(IrqLock<RateLimit>);

impl Complaints {
    /// Of a domain that has not yet.
    pub const fn new() -> Self {
        Self(IrqLock::new(RateLimit::DEFAULT))
    }

    /// Whether there is room for a message, and how many there was no room for before it.
    fn admit(&self, level: Level) -> Option<u64> {
        match console::guest_thresholds().verdict(level) {
            Verdict::Log => Some(0),
            Verdict::LogLimited => {
                let admitted = self.0.lock().admit(time::now(), time::frequency())?;
                Some(admitted.suppressed)
            }
            Verdict::Drop => None,
        }
    }
}

impl Domain {
    /// Logs what the domain did wrong.
    pub fn complain(&self, what: Arguments<'_>) {
        self.report(Level::Warn, what);
    }

    /// Logs what the domain did.
    pub fn report(&self, level: Level, what: Arguments<'_>) {
        let Some(suppressed) = self.complaints.admit(level) else {
            return;
        };
        if suppressed > 0 {
            console::log_of_guest(
                level,
                format_args!("{}: {suppressed} messages suppressed", self.id),
            );
        }
        console::log_of_guest(level, what);
    }
}
