//! The host's device tree, read once into validated types.
//!
//! A device tree blob comes from the boot loader and is outside data: nothing in it is believed
//! before it was checked, no input can panic, and every refusal is one line that names the node
//! and the fault ([`TreeError`]). Reading has two stages.
//!
//! 1. Without a heap, on a small stack: [`Dtb::parse`] validates the blob, [`Dtb::console`] finds
//!    the console and [`BootInfo::read`] the memory, the boot modules and the command lines.
//! 2. With a heap: [`HostTree::reencode`] writes the tree anew, so that the `fdt` crate can read it
//!    without panicking, and [`Host::read`] makes the inventory of processors, PSCI, interrupt
//!    controller and timer, and [`dom0::build`] the tree that the control domain gets.
//!
//! [`guest::build`] makes the tree of a guest, which has nothing of the host's.
//!
//! The format is that of the Devicetree Specification, release 0.4 ("DTSpec" below); the boot
//! modules are Xen's (docs/misc/arm/device-tree/booting.txt).

#![no_std]
// Each error is made at most once in a boot, printed and followed by a stop, and there is no heap
// to box it on.
#![allow(clippy::result_large_err)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod address;
mod boot;
mod console;
pub mod dom0;
mod dtb;
mod error;
pub mod guest;
mod header;
mod host;
mod host_tree;
mod interrupt;
mod nearest;
mod node;
mod pci;
mod property;
mod requester_map;
mod smmu;
#[cfg(test)]
mod tests;
mod text;
mod token;

pub use address::CellSizes;
pub use boot::{BootDomain, BootInfo, Module, ModuleKind, RamBank, Reserved};
pub use console::{ConsoleChoice, Uart, UartKind};
pub use dom0::{Master, MasterIds};
pub use dtb::Dtb;
pub use error::TreeError;
pub use host::{Conduit, Cpu, EnableMethod, Gic, GicV2, GicV3, Host, Its, Psci, Timer, V2mFrame};
pub use host_tree::HostTree;
pub use nearest::distance;
pub use node::{Node, Status};
pub use pci::{PciBridge, PciInterrupts, PciWindow};
pub use property::Property;
pub use requester_map::{MappedId, RequesterMap};
pub use smmu::{IommuReference, SmmuV3};
pub use text::Text;
