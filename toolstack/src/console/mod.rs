//! Consoles of guests: the rings that they are, and the terminal at the other end.

mod attach;
mod ring;
mod scrollback;

pub use attach::{ConsoleError, Left, attach};
pub use ring::Ring;
pub use scrollback::Scrollback;
