//! All host bridges of the machine, found by segment and bus.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::HostSbdf;
use crate::bridge::{BridgeError, Description, HostBridge, Link, Registers};
use crate::config::{Access, ConfigAccess};

/// A host bridge with its driver.
pub struct Bridge {
    description: Description,
    driver: Box<dyn HostBridge>,
}

/// All host bridges, in the order of their segments and buses; no two have a bus in common.
#[derive(Default)]
pub struct Bridges(Vec<Bridge>);

impl Bridge {
    /// Takes charge of the bridge, whose registers are given.
    pub fn probe(
        mut description: Description,
        registers: Box<dyn Registers>,
    ) -> Result<Self, BridgeError> {
        let driver = (description.driver()?.probe)(&mut description, registers)?;
        Ok(Self {
            description,
            driver,
        })
    }

    /// What is known of it.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The state of its link.
    pub fn link(&self) -> Link {
        self.driver.link()
    }

    /// Its driver.
    pub fn driver(&self) -> &dyn HostBridge {
        &*self.driver
    }

    fn has(&self, function: HostSbdf) -> bool {
        self.description.segment == function.segment()
            && self.description.buses.contains(function.bus())
    }
}

impl ConfigAccess for Bridge {
    fn read(&self, function: HostSbdf, access: Access) -> u32 {
        if self.has(function) {
            self.driver.read(function, access)
        } else {
            access.width().ones()
        }
    }

    fn write(&self, function: HostSbdf, access: Access, value: u32) {
        if self.has(function) {
            self.driver.write(function, access, value);
        }
    }
}

impl Bridges {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a bridge, unless another one has some of its buses.
    pub fn add(&mut self, bridge: Bridge) -> Result<(), BridgeError> {
        let new = &bridge.description;
        let clash = |other: &&Bridge| {
            other.description.segment == new.segment && other.description.buses.overlaps(new.buses)
        };
        if let Some(other) = self.0.iter().find(clash) {
            return Err(BridgeError::SameBuses {
                bridge: new.name.clone(),
                other: other.description.name.clone(),
                segment: new.segment,
                buses: new.buses,
            });
        }
        let key = (new.segment, new.buses.first());
        let place = self.0.partition_point(|other| {
            (other.description.segment, other.description.buses.first()) < key
        });
        self.0.insert(place, bridge);
        Ok(())
    }

    /// The bridge that a function is behind.
    pub fn of(&self, function: HostSbdf) -> Option<&Bridge> {
        let key = (function.segment(), function.bus());
        let after = self.0.partition_point(|bridge| {
            (bridge.description.segment, bridge.description.buses.first()) <= key
        });
        let bridge = self.0.get(after.checked_sub(1)?)?;
        bridge.has(function).then_some(bridge)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Bridge> {
        self.0.iter()
    }
}

impl ConfigAccess for Bridges {
    fn read(&self, function: HostSbdf, access: Access) -> u32 {
        match self.of(function) {
            Some(bridge) => bridge.driver.read(function, access),
            None => access.width().ones(),
        }
    }

    fn write(&self, function: HostSbdf, access: Access, value: u32) {
        if let Some(bridge) = self.of(function) {
            bridge.driver.write(function, access, value);
        }
    }
}
