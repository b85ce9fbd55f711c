//! INTx: the four lines of conventional PCI, which PCI Express emulates by messages (PCI Express Base
//! 6.0, 2.2.8.1 and 6.1.2).

use core::fmt;

/// An interrupt pin of a function, INTA to INTD.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pin {
    /// INTA.
    A,
    /// INTB.
    B,
    /// INTC.
    C,
    /// INTD.
    D,
}

impl Pin {
    /// From the interrupt pin register; `None` for a function that uses none, and for values that
    /// are reserved.
    pub const fn from_register(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::A),
            2 => Some(Self::B),
            3 => Some(Self::C),
            4 => Some(Self::D),
            _ => None,
        }
    }

    /// What the interrupt pin register says of it, 1 to 4; the cell that names it in a device tree,
    /// too.
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The pin of the bridge on whose secondary side this pin of `device` is (PCI-to-PCI Bridge
    /// Architecture 1.2, 9.1; of PCI Express: table 2-22).
    pub const fn swizzled(self, device: u8) -> Self {
        match (self as u8).wrapping_add(device) & 3 {
            0 => Self::A,
            1 => Self::B,
            2 => Self::C,
            _ => Self::D,
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INT{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_rotate_with_the_device_number() {
        for number in 0..=u8::MAX {
            let pin = Pin::from_register(number);
            assert_eq!(pin.is_some(), (1..=4).contains(&number));
            let Some(pin) = pin else { continue };
            assert_eq!(pin.number(), number);
            for device in 0..32 {
                let expected = (number - 1 + device) % 4 + 1;
                assert_eq!(pin.swizzled(device).number(), expected);
            }
        }
    }
}
