//! What lies between the `log` facade and the console: thresholds, a limit of the rate, lines, and
//! a ring that keeps them for later readers.

mod level;
mod line;
mod rate;
mod ring;

pub use level::{LevelError, Thresholds, Verdict, word};
pub use line::{Line, MAX_LINE, Stamp};
pub use rate::{Admitted, RateLimit};
pub use ring::{Read, Ring};
