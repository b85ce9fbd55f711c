//! The controller against a reference model, and against everything that a guest may do.

extern crate std;

mod accesses;
mod lpis;
mod machine;
mod model;
mod properties;
mod scenarios;

use std::sync::Mutex;

use super::{Lock, Locking};

/// Locks of the host.
pub(crate) enum HostLocks {}

impl Locking for HostLocks {
    type Lock<T> = Mutex<T>;
}

impl<T> Lock<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Mutex::new(value)
    }

    fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> R {
        call(&mut self.try_lock().expect("a lock is taken twice"))
    }
}
