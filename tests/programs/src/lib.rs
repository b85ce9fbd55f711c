//! What the programs that tests run in Dom0 share: Xen's devices as Linux offers them to user space.
//!
//! A program prints `PROGRAM: …` lines that a test reads on the console, and ends with an error
//! message and a nonzero status if something is not as it should be.

pub mod device;
pub mod edu;
pub mod events;
pub mod grants;
pub mod privcmd;
