//! A PCI machine in software: functions with the semantics of real ones, bridges that route, and the
//! register front ends by which host bridges are driven.
//!
//! It is there for tests, of this room and of those above. What it models: BAR sizing and decode,
//! capabilities and extended capabilities, MSI and MSI-X with masks and pending bits, function level
//! reset, power states, bridges with bus numbers and windows, ARI, SR-IOV, time that resets take,
//! and devices that lie. Each access to config space is noted with its width.

mod ecam;
mod fabric;
mod function;
pub mod machines;
mod msi;
mod rcar;
pub mod samples;
mod special;

pub use ecam::SimEcam;
pub use fabric::{Fabric, Hit, Seen, Slot};
pub use function::{Lie, SimFunction};
pub use msi::Message;
pub use rcar::SimRCar;
pub use special::PortType;
