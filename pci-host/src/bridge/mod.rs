//! Host bridges: what is known of one before it is driven, the drivers, and the set of all.
//!
//! A new bridge is a file here and a row in [`DRIVERS`].

mod description;
mod device_tree;
pub mod ecam;
pub mod rcar;
mod set;

use alloc::boxed::Box;
use alloc::string::String;

pub use description::{BusRange, Description, Routes, Space, Window};
pub use set::{Bridge, Bridges};

use crate::config::{ConfigAccess, Width};

/// The registers of a host bridge, or its config space where that is memory.
pub trait Registers: Send + Sync {
    /// Bytes of registers.
    fn size(&self) -> u64;

    /// Reads `width` at `offset`, a multiple of it. All ones beyond the end.
    fn read(&self, offset: u64, width: Width) -> u32;

    /// Writes `width` at `offset`, a multiple of it. Nothing beyond the end.
    fn write(&self, offset: u64, width: Width, value: u32);
}

/// Whether the link below a host bridge carries anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Link {
    /// It does, or the bridge is not a single link.
    Up,
    /// It does not: nothing is behind the bridge.
    Down,
}

/// A driven host bridge.
pub trait HostBridge: ConfigAccess + Send + Sync {
    /// The state of its link.
    fn link(&self) -> Link {
        Link::Up
    }

    /// How a hardware domain that has a driver of its own for it can be served.
    fn sharing(&self) -> Sharing;
}

/// What a hardware domain's own accesses to the bridge need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sharing {
    /// Config space is memory, placed like that: each access is trapped and emulated by itself.
    Memory(ecam::Layout),
    /// An access is a sequence of register accesses: the register window is trapped as a whole, or
    /// left to the domain and followed.
    Sequence,
}

/// Why a host bridge cannot be driven.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BridgeError {
    /// Nobody drives this kind.
    #[error("{bridge}: no driver for a PCI host bridge that is {compatible}")]
    NoDriver {
        /// The bridge.
        bridge: String,
        /// The most specific word for its kind.
        compatible: String,
    },
    /// The description gives no registers.
    #[error("{bridge}: has no registers: its config space cannot be reached")]
    NoRegisters {
        /// The bridge.
        bridge: String,
    },
    /// There are fewer registers than one bus, or the controller, needs.
    #[error("{bridge}: has {size:#x} bytes of registers: at least {needed:#x} are needed")]
    TooFewRegisters {
        /// The bridge.
        bridge: String,
        /// Bytes that there are.
        size: u64,
        /// Bytes that there must be.
        needed: u64,
    },
    /// Another bridge has some of its buses.
    #[error("{bridge}: buses {buses} of segment {segment:#x} belong to {other}, too")]
    SameBuses {
        /// The bridge.
        bridge: String,
        /// The other one.
        other: String,
        /// Its segment.
        segment: u16,
        /// Its buses.
        buses: BusRange,
    },
}

/// A kind of host bridge.
pub struct Driver {
    /// What it is called in logs.
    pub name: &'static str,
    /// The kinds that it drives, in a device tree's words.
    pub compatible: &'static [&'static str],
    /// Touching registers may end in an abort where a request failed: they have to be accessed so that
    /// it is no fault.
    pub aborts: bool,
    /// Takes charge of the registers of one. The buses of `description` may become fewer.
    pub probe: Probe,
}

/// How a [`Driver`] takes charge of a bridge.
pub type Probe =
    fn(&mut Description, Box<dyn Registers>) -> Result<Box<dyn HostBridge>, BridgeError>;

/// All drivers.
pub static DRIVERS: &[Driver] = &[ecam::GENERIC, ecam::CAM, ecam::DESIGNWARE, rcar::GEN3];

impl Description {
    /// The driver for this bridge: the one for its most specific kind.
    pub fn driver(&self) -> Result<&'static Driver, BridgeError> {
        let drives = |kind: &String| {
            let kind = kind.as_str();
            DRIVERS
                .iter()
                .find(|driver| driver.compatible.contains(&kind))
        };
        self.compatible
            .iter()
            .find_map(drives)
            .ok_or_else(|| BridgeError::NoDriver {
                bridge: self.name.clone(),
                compatible: self.compatible.first().cloned().unwrap_or_default(),
            })
    }
}

#[cfg(test)]
mod tests;
