//! A way to die at a bad moment, for tests: with `XRS_DIE_AFTER=N` in its environment the process kills
//! itself after its Nth call of the hypervisor, as if someone had done so from outside.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The variable; monitors do not inherit it.
pub const VARIABLE: &str = "XRS_DIE_AFTER";

/// Counts calls.
#[derive(Debug)]
pub struct Fuse(Option<AtomicU64>);

impl Fuse {
    /// What the environment says.
    pub fn from_env() -> Self {
        let calls = env::var(VARIABLE).ok();
        Self(
            calls
                .and_then(|calls| calls.parse().ok())
                .map(AtomicU64::new),
        )
    }

    /// A call was made.
    pub fn count(&self) {
        let Some(left) = &self.0 else {
            return;
        };
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
