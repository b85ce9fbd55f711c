//! Everything of the hypervisor that needs no hardware.
//!
//! Algorithms and state machines that can be decided from values: the frame table and allocator,
//! page tables, the log, the command line, the console's protocols. They reach hardware through
//! small traits, so that all of it is tested on the host.

#![no_std]

pub mod cmdline;
pub mod log;
pub mod memory;
pub mod paging;
pub mod symbols;
pub mod syndrome;
pub mod uart;
