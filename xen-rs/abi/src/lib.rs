//! The Xen 4.20 public ABI for arm64 as plain Rust types: layouts and numbers, no logic.
//!
//! A module for each public header of Xen (under `xen/include/public`), and each item names the C
//! name it stands for. Structures that cross the border to a guest have no implicit padding and
//! derive [`zerocopy::FromBytes`] and [`zerocopy::IntoBytes`]: any bytes are a value, and no byte of
//! the hypervisor's memory leaks out through a gap. Their offsets are asserted at compile time.
//!
//! Numbers that a guest passes become an enum by `from_number`; what no variant stands for is an
//! unknown call. All is little-endian, and pages are 4 KiB.

#![no_std]

#[cfg(not(target_endian = "little"))]
compile_error!("the ABI is little-endian");

#[macro_use]
mod macros;
mod domain;
mod errno;
mod handle;

pub mod console;
pub mod domctl;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm;
pub mod hypercall;
pub mod io;
pub mod layout;
pub mod memory;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod shared_info;
pub mod smccc;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod virq;
pub mod vm_assist;

pub use domain::DomId;
pub use errno::Errno;
pub use handle::GuestHandle;
