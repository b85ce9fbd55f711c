//! The bus numbers of a bridge (PCI Express Base 6.0, 7.5.1.3.2 to 7.5.1.3.4).

use crate::config::{ConfigAccess, Function, Register};

/// Primary, secondary and subordinate bus, and a latency timer, in one register, so that a bridge is
/// never between two states.
const NUMBERS: Register<u32> = Register::at(0x18);
const TIMER: u32 = 0xff << 24;

/// Which buses a bridge is between.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BusNumbers {
    /// The bus that it is on.
    pub primary: u8,
    /// The bus directly behind it.
    pub secondary: u8,
    /// The highest bus behind it.
    pub subordinate: u8,
}

impl BusNumbers {
    /// What a bridge forwards nothing with.
    pub const NONE: Self = Self {
        primary: 0,
        secondary: 0,
        subordinate: 0,
    };

    /// Reads them.
    pub fn read<C: ConfigAccess + ?Sized>(bridge: Function<'_, C>) -> Self {
        let [primary, secondary, subordinate, _] = bridge.read(NUMBERS).to_le_bytes();
        Self {
            primary,
            secondary,
            subordinate,
        }
    }

    /// Writes them.
    pub fn write<C: ConfigAccess + ?Sized>(self, bridge: Function<'_, C>) {
        let before = bridge.read(NUMBERS);
        let numbers = u32::from_le_bytes([self.primary, self.secondary, self.subordinate, 0]);
        let after = before & TIMER | numbers;
        if after != before {
            bridge.write(NUMBERS, after);
        }
    }

    /// Whether they make sense for a bridge on `bus`, behind which there may be buses up to `last`.
    pub const fn fit(self, bus: u8, last: u8) -> bool {
        self.primary == bus
            && self.secondary > bus
            && self.secondary <= self.subordinate
            && self.subordinate <= last
    }

    /// Whether a bus is behind both of two bridges.
    pub const fn overlap(self, other: Self) -> bool {
        self.secondary <= other.subordinate && other.secondary <= self.subordinate
    }
}
