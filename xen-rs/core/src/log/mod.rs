//! What lies between the `log` facade and the console: thresholds, lines, and a ring that keeps
//! them for later readers.

mod level;
mod line;
mod ring;

pub use level::{LevelError, Thresholds, word};
pub use line::{Line, MAX_LINE, Stamp};
pub use ring::{Read, Ring};
