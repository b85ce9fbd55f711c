//! PCI: what guests do to config space and to message interrupts, and machines whose config space
//! lies.

pub mod accesses;
mod devices;
pub mod enumeration;
mod guest;
pub mod messages;
