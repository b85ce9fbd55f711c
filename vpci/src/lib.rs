//! The virtual PCI core: one domain's view of its PCI devices.
//!
//! - [`access`]: an access of a guest, as the dwords that it touches.
//! - [`masks`]: what the bits of a register do when they are written.
//! - [`bus`]: where a guest has its functions.
//! - [`guest`]: a function as a guest sees it; [`effect`]: what its writes lead to.
//! - [`hardware`]: a function as the hardware domain sees it.
//!
//! Nothing here touches a page table or an interrupt controller: a write changes state, and what must
//! happen because of it are effects, which the caller asks for and carries out one after the other.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod bus;
pub mod effect;
pub mod guest;
pub mod hardware;
pub mod masks;
mod sbdf;

pub use sbdf::GuestSbdf;
