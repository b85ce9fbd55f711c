//! Physical PCI: the machine's host bridges, config space and functions.
//!
//! - [`config`]: how config space is addressed and accessed, and the trait behind which it is.
//! - [`header`], [`bar`], [`capability`]: what is in it. [`sizing`]: how large BARs are.
//! - [`bridge`]: host bridges and their drivers.
//! - [`enumerate`]: finding the functions behind a host bridge; [`device`]: what is known of one;
//!   [`resources`]: addresses for those that firmware left without.
//! - [`intx`]: interrupt pins. [`group`]: who cannot be told apart. [`reset`]: how a function gets
//!   rid of what it holds.
//! - [`discovery`]: all of this for a whole machine; [`newcomer`]: what appears later;
//!   [`reach`]: what a bridge leads to.
//! - [`registry`]: who has which function.
//! - `simulated` (a feature): a PCI machine in software, for tests.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bar;
pub mod bridge;
pub mod capability;
mod class;
pub mod config;
pub mod device;
pub mod discovery;
pub mod enumerate;
pub mod group;
pub mod header;
pub mod intx;
mod neighbours;
pub mod newcomer;
pub mod reach;
pub mod registry;
pub mod reset;
pub mod resources;
mod sbdf;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
pub mod sizing;
mod time;

pub use class::Class;
pub use config::{Access, ConfigAccess, ConfigOffset, Width};
pub use device::Device;
pub use intx::Pin;
pub use sbdf::{HostSbdf, ParseSbdfError, RequesterId, Sbdf};
pub use time::Time;
