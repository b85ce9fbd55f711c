//! Time, as far as devices take some.

use core::time::Duration;

/// A clock that goes forward, and a way to let it.
pub trait Time {
    /// Since some moment in the past.
    fn now(&self) -> Duration;

    /// Returns when at least this much has passed.
    fn wait(&self, duration: Duration);
}

impl<T: Time + ?Sized> Time for &T {
    fn now(&self) -> Duration {
        (**self).now()
    }

    fn wait(&self, duration: Duration) {
        (**self).wait(duration);
    }
}
