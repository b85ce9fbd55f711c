//! The processor: system registers, barriers, exceptions, firmware calls, per-CPU data.

pub mod backtrace;
pub mod barrier;
pub mod cache;
pub mod exception;
pub mod features;
pub mod firmware;
pub mod interrupts;
pub mod percpu;
pub mod probe;
pub mod sysreg;
pub mod time;
