//! The registers that hold addresses.

use arrayvec::ArrayVec;

use super::{Assigner, Slot, Window};
use crate::Device;
use crate::bar::Bar;
use crate::bridge::Bridge;
use crate::config::Function;
use crate::header::{self, Command};
use crate::sizing::with_decode_off;

impl Assigner<'_> {
    /// All registers of a device that hold addresses and size.
    pub(super) fn slots(&self, device: usize) -> ArrayVec<Slot, 13> {
        let all = (0..6)
            .map(Slot::Bar)
            .chain([Slot::Rom])
            .chain((0..6).map(Slot::Virtual));
        all.filter(|slot| self.bar(device, *slot).is_some())
            .collect()
    }

    /// What a register asks for, and how many times.
    pub(super) fn bar(&self, device: usize, slot: Slot) -> Option<(Bar, u16)> {
        let device = self.devices.get(device)?;
        match slot {
            Slot::Bar(number) => Some((device.bars.get(number).copied()??, 1)),
            Slot::Rom => Some((device.rom?, 1)),
            Slot::Virtual(number) => {
                let sr_iov = device.sr_iov.filter(|sr_iov| sr_iov.total != 0)?;
                Some((sr_iov.bars.get(number).copied()??, sr_iov.total))
            }
            Slot::Window(_) => None,
        }
    }

    pub(super) fn set_address(&mut self, device: usize, slot: Slot, address: Option<u64>) {
        let Some(device) = self.devices.get_mut(device) else {
            return;
        };
        let bar = match slot {
            Slot::Bar(number) => device.bars.get_mut(number).and_then(Option::as_mut),
            Slot::Rom => device.rom.as_mut(),
            Slot::Virtual(number) => {
                let bars = device.sr_iov.as_mut().map(|sr_iov| &mut sr_iov.bars);
                bars.and_then(|bars| bars.get_mut(number))
                    .and_then(Option::as_mut)
            }
            Slot::Window(_) => None,
        };
        if let Some(bar) = bar {
            bar.address = address;
        }
    }

    /// Tells the device where the register's addresses are.
    pub(super) fn write_address(&self, device: usize, slot: Slot) {
        let (Some(function), Some(known)) = (self.function(device), self.devices.get(device))
        else {
            return;
        };
        let Some((bar, _)) = self.bar(device, slot) else {
            return;
        };
        let register = |number: usize| match slot {
            Slot::Bar(first) => header::bar(known.layout, first.checked_add(number)?),
            Slot::Rom => Some(known.layout.rom()),
            Slot::Virtual(first) => known.sr_iov?.bar_register(first.checked_add(number)?),
            Slot::Window(_) => None,
        };
        let Some(low) = register(0) else {
            return;
        };
        let high = register(1).filter(|_| bar.kind.is_64bit());
        with_decode_off(function, || bar.write(function, low, high));
    }

    /// Writes the windows of all bridges and lets them forward; stops functions that would answer at
    /// address 0.
    pub(super) fn open(&self) {
        for (device, node) in self.devices.iter().zip(&self.nodes) {
            let function = Function::new(self.bridge, device.sbdf);
            if device.is_bridge() {
                open_bridge(function, &node.windows);
            } else {
                silence(function, device);
            }
        }
    }
}

fn open_bridge(bridge: Function<'_, Bridge>, windows: &[Window]) {
    let moved = windows
        .iter()
        .any(|window| window.window.read(bridge) != window.span);
    if moved {
        with_decode_off(bridge, || {
            for window in windows {
                window.window.write(bridge, window.span);
            }
        });
    }
    let command = bridge.read(header::COMMAND);
    let wanted = command | Command::DECODE | Command::BUS_MASTER;
    if wanted != command {
        bridge.write(header::COMMAND, wanted);
    }
}

/// A function must not answer where another may be.
fn silence(function: Function<'_, Bridge>, device: &Device) {
    let nowhere = |memory: bool| {
        let bars = device.bars.iter().flatten();
        bars.filter(|bar| bar.kind.is_memory() == memory)
            .any(|bar| bar.address.is_none())
    };
    let mut off = Command::empty();
    off.set(Command::MEMORY, nowhere(true));
    off.set(Command::IO, nowhere(false));
    let command = function.read(header::COMMAND);
    if command.intersects(off) {
        function.write(header::COMMAND, command - off);
    }
}
