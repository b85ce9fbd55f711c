//! What a bridge leads to: the bus behind it, and addresses. To look at it before a write happens, the
//! write is laid over config space.
//!
//! How far bus numbers go beyond that bus says nothing: an operating system that numbers buses lets a
//! bridge have all of them for a while.

use core::ops::RangeInclusive;

use crate::bar::Bar;
use crate::config::{Access, ConfigAccess, Function};
use crate::enumerate::BusNumbers;
use crate::header;
use crate::{Device, HostSbdf};

/// Config space as it would be after a dword of one function is written.
pub struct Overlay<'a, C: ?Sized> {
    config: &'a C,
    function: HostSbdf,
    dword: u16,
    value: u32,
}

impl<'a, C: ConfigAccess + ?Sized> Overlay<'a, C> {
    /// With `value` as dword number `dword` of a function, whose other bytes `config` has.
    pub const fn new(config: &'a C, function: HostSbdf, dword: u16, value: u32) -> Self {
        Self {
            config,
            function,
            dword,
            value,
        }
    }
}

impl<C: ConfigAccess + ?Sized> ConfigAccess for Overlay<'_, C> {
    fn read(&self, function: HostSbdf, access: Access) -> u32 {
        if function == self.function && access.offset().get() / 4 == self.dword {
            return access.extract(self.value);
        }
        self.config.read(function, access)
    }

    /// Nothing is written.
    fn write(&self, _: HostSbdf, _: Access, _: u32) {}
}

/// What a bridge forwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    bus: u8,
    io: RangeInclusive<u64>,
    memory: [RangeInclusive<u64>; 2],
}

impl Reach {
    /// Of a bridge with these registers. A window that is closed forwards nothing, nor does one at 0,
    /// where nobody has put it.
    pub fn read<C: ConfigAccess + ?Sized>(bridge: Function<'_, C>) -> Self {
        let numbers = BusNumbers::read(bridge);
        let io = |bits: u8, upper: u16| u64::from(bits & 0xf0) << 8 | u64::from(upper) << 16;
        let memory =
            |bits: u16, upper: u32| u64::from(bits & 0xfff0) << 16 | u64::from(upper) << 32;
        let io_base = io(
            bridge.read(header::IO_BASE),
            bridge.read(header::IO_BASE_UPPER),
        );
        let io_limit = io(
            bridge.read(header::IO_LIMIT),
            bridge.read(header::IO_LIMIT_UPPER),
        );
        let window = |base, limit, upper: (u32, u32)| {
            let limit = memory(bridge.read(limit), upper.1) | 0xf_ffff;
            open(memory(bridge.read(base), upper.0), limit)
        };
        let upper = (
            bridge.read(header::PREFETCH_BASE_UPPER),
            bridge.read(header::PREFETCH_LIMIT_UPPER),
        );
        Self {
            bus: numbers.secondary,
            io: open(io_base, io_limit | 0xfff),
            memory: [
                window(header::MEMORY_BASE, header::MEMORY_LIMIT, (0, 0)),
                window(header::PREFETCH_BASE, header::PREFETCH_LIMIT, upper),
            ],
        }
    }

    /// Whether it leads to a function, or to registers of it.
    pub fn leads_to(&self, device: &Device) -> bool {
        let mut bars = device.bars.iter().flatten();
        self.bus == device.sbdf.bus() || bars.any(|bar| self.forwards(bar))
    }

    fn forwards(&self, bar: &Bar) -> bool {
        let (Some(first), Some(last)) = (bar.address, bar.last_address()) else {
            return false;
        };
        let overlaps =
            |window: &RangeInclusive<u64>| *window.start() <= last && first <= *window.end();
        match bar.kind.is_memory() {
            true => self
                .memory
                .iter()
                .any(|window| !window.is_empty() && overlaps(window)),
            false => !self.io.is_empty() && overlaps(&self.io),
        }
    }
}

fn open(base: u64, limit: u64) -> RangeInclusive<u64> {
    // From 0 on is not a place; neither is a range that ends before it begins.
    let limit = if base == 0 { 0 } else { limit };
    base.max(1)..=limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enumerate::enumerate;
    use crate::resources::assign;
    use crate::simulated::machines;

    fn sbdf(text: &str) -> HostSbdf {
        text.parse().unwrap()
    }

    /// After addresses are given to all, a bridge leads to what is behind it and to nothing else.
    #[test]
    fn a_bridge_leads_to_what_is_behind_it() {
        let machine = machines::server();
        let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
        assign(&machine.bridge, &mut devices);
        let is_behind = |device: &Device, bridge: HostSbdf| {
            let parent = |sbdf: HostSbdf| devices.iter().find(|device| device.sbdf == sbdf)?.parent;
            let mut parents = core::iter::successors(device.parent, |at| parent(*at));
            parents.any(|at| at == bridge)
        };
        for bridge in devices.iter().filter(|device| device.is_bridge()) {
            let reach = Reach::read(Function::new(&machine.bridge, bridge.sbdf));
            let placed = |device: &&Device| device.bars.iter().flatten().count() != 0;
            for device in devices.iter().filter(placed) {
                let behind = is_behind(device, bridge.sbdf);
                let (name, bridge) = (device.sbdf, bridge.sbdf);
                assert_eq!(reach.leads_to(device), behind, "{name} by {bridge}");
            }
        }
    }

    #[test]
    fn what_a_write_would_lead_to_is_seen_before_it() {
        let machine = machines::server();
        let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
        assign(&machine.bridge, &mut devices);
        let disk = devices
            .iter()
            .find(|device| device.class.base() == 1)
            .unwrap();
        let port = sbdf("00:03.0");
        let reach = |dword, value| {
            let overlay = Overlay::new(&machine.bridge, port, dword, value);
            Reach::read(Function::new(&overlay, port)).leads_to(disk)
        };
        let bus = u32::from(disk.sbdf.bus());
        assert!(reach(6, bus << 16 | bus << 8));
        assert!(!reach(6, 0));
        let address = disk.bars[0].unwrap().address.unwrap() as u32;
        assert!(reach(8, address & 0xfff0_0000 | address >> 16 & 0xfff0));
        assert!(!reach(8, 0xfff0));
        // Nothing was written.
        let after = enumerate(&machine.bridge, &machine.fabric).devices;
        assert_eq!(after.len(), devices.len());
    }
}
