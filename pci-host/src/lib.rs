//! Physical PCI: the machine's host bridges, config space and functions.
//!
//! So far the room holds the names that all of PCI is about; bridges, enumeration and the registry
//! of devices follow.

#![no_std]

mod sbdf;

pub use sbdf::{HostSbdf, ParseSbdfError, RequesterId, Sbdf};
