//! Domains: what a guest has of the machine, and how it is entered and left.
//!
//! So far: the physical address space, the switch, and a guest of a few instructions that shows
//! that both work on this machine ([`trial`]).

pub mod context;
pub mod space;
mod tables;
pub mod trial;
