//! The registers of host bridges, and time, as `pci-host` wants them.

use core::time::Duration;

use pci_host::bridge::Registers as BridgeRegisters;
use pci_host::{Time, Width};

use crate::arch::time;
use crate::memory::device::Registers;

/// Config space that is memory: an access of a function that is not there reads ones.
pub struct Memory(pub Registers);

impl BridgeRegisters for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, width: Width) -> u32 {
        match place(&self.0, offset, width) {
            None => width.ones(),
            Some(place) => match width {
                Width::Byte => self.0.read8(place).into(),
                Width::Word => self.0.read16(place).into(),
                Width::Dword => self.0.read32(place),
            },
        }
    }

    fn write(&self, offset: u64, width: Width, value: u32) {
        let Some(place) = place(&self.0, offset, width) else {
            return;
        };
        match width {
            Width::Byte => self.0.write8(place, value as u8),
            Width::Word => self.0.write16(place, value as u16),
            Width::Dword => self.0.write32(place, value),
        }
    }
}

/// Registers of which some answer with an abort where a request of theirs failed. They have 32 bits.
pub struct Aborting(pub Registers);

impl BridgeRegisters for Aborting {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, width: Width) -> u32 {
        let dword = offset & !3;
        let value =
            place(&self.0, dword, Width::Dword).and_then(|place| self.0.read32_aborting(place));
        let shift = 8 * (offset - dword);
        value.map_or(width.ones(), |value| value >> shift & width.ones())
    }

    fn write(&self, offset: u64, width: Width, value: u32) {
        let place = place(&self.0, offset, width).filter(|_| width == Width::Dword);
        if let Some(place) = place {
            // As on the bus, a write that nobody takes is lost.
            let _ = self.0.write32_aborting(place, value);
        }
    }
}

/// The offset of an access, if all of it is inside.
fn place(registers: &Registers, offset: u64, width: Width) -> Option<usize> {
    let bytes = u64::from(width.bytes());
    let end = offset.checked_add(bytes)?;
    let inside = end <= registers.len() as u64 && offset.is_multiple_of(bytes);
    inside.then_some(offset as usize)
}

/// The time of this CPU.
pub struct Clock;

impl Time for Clock {
    fn now(&self) -> Duration {
        Duration::from_nanos(time::nanoseconds(time::now()))
    }

    fn wait(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        time::wait_until(microseconds, || false);
    }
}
