//! How long the tests took: where to look when the whole takes too long.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Tests that are named at the end.
const NAMED: usize = 40;

/// The time of each test that has run.
#[derive(Default)]
pub struct Slowest(Mutex<Vec<(Duration, String)>>);

impl Slowest {
    /// A test has ended.
    pub fn note(&self, name: &str, time: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push((time, name.to_string()));
    }
}

impl fmt::Display for Slowest {
    /// The slowest first, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.sort_unstable_by(|one, other| other.cmp(one));
        for (time, name) in times.iter().take(NAMED) {
            writeln!(f, "{:7.1} s  {name}", time.as_secs_f32())?;
        }
        Ok(())
    }
}
