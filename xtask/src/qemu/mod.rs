//! Machines that QEMU simulates: how to start one, and how to talk with it.

mod board;
mod machine;
mod session;

pub use board::{Board, GicVersion, Memory};
pub use machine::{Console, Machine, SmmuStage, Start};
pub use session::{Echo, Session};
