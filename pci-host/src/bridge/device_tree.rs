//! Host bridges as a device tree has them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use platform_dt::{PciBridge, PciWindow};

use crate::bridge::{BusRange, Description, Routes, Space, Window};

impl Description {
    /// The host bridges of a tree. Those that have no domain number get one that is not in use, as
    /// Linux does it.
    pub fn from_device_tree(bridges: Vec<PciBridge>) -> Vec<Self> {
        let mut taken: BTreeSet<u16> = bridges.iter().filter_map(|bridge| bridge.domain).collect();
        let mut free = (0..=u16::MAX).filter(|number| !taken.contains(number));
        let fresh = bridges.iter().filter(|bridge| bridge.domain.is_none());
        let fresh: Vec<u16> = fresh.map_while(|_| free.next()).collect();
        taken.extend(&fresh);
        let mut fresh = fresh.into_iter();
        let describe = |bridge: PciBridge| {
            let segment = bridge.domain.or_else(|| fresh.next())?;
            Some(describe(bridge, segment))
        };
        bridges.into_iter().filter_map(describe).collect()
    }
}

fn describe(bridge: PciBridge, segment: u16) -> Description {
    let buses = bridge.buses;
    let buses = buses.and_then(|(first, last)| BusRange::new(first, last));
    Description {
        name: bridge.path,
        compatible: bridge.compatible,
        registers: bridge.registers,
        segment,
        buses: buses.unwrap_or(BusRange::ALL),
        windows: bridge.windows.into_iter().map(Window::from).collect(),
        routes: Routes {
            iommu: bridge.iommu_map,
            msi: bridge.msi_map,
            msi_parent: bridge.msi_parent,
            interrupts: Some(bridge.interrupts),
            coherent: bridge.coherent,
        },
    }
}

impl From<PciWindow> for Window {
    fn from(window: PciWindow) -> Self {
        let space = if window.io {
            Space::Io
        } else {
            Space::Memory {
                prefetchable: window.prefetchable,
            }
        };
        Self {
            space,
            bus_address: window.bus_address,
            host: window.host,
        }
    }
}

#[cfg(test)]
mod tests;
