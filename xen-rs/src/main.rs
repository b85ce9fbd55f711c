//! The hypervisor image for EL2.
//!
//! Everything that needs hardware or `unsafe` is here, in small modules; what can be decided
//! without hardware is in `xen-core`, and is tested on the host there.
//!
//! EL2 runs identity mapped: a host physical address is the address that Rust uses. Only stacks
//! lie elsewhere, in a window of their own with guards between them.

#![no_std]
#![no_main]
// Each error is made at most once in a boot, printed and followed by a stop, and there may be no
// heap to box it on.
#![allow(clippy::result_large_err, clippy::large_enum_variant)]

extern crate alloc;

mod arch;
mod boot;
mod console;
mod domain;
mod entry;
mod gic;
mod image;
mod iommu;
mod lock;
mod memory;
mod pci;
mod report;
mod selftest;
mod smp;
mod wrong_level;

/// The version that the log and reports name.
const VERSION: &str = env!("CARGO_PKG_VERSION");
