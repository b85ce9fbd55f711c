//! How a function is named.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::config::PciFunction;

/// Segment, bus, device and function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sbdf(u32);

/// A name that is none.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is no PCI function: SSSS:BB:DD.F or BB:DD.F in hexadecimal")]
pub struct NoSbdf(String);

impl Sbdf {
    /// From the number that the hypervisor has for it.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// That number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Segment, bus and device.
    pub const fn device(self) -> (u16, u8, u8) {
        let device = (self.0 >> 3) as u8 & 0x1f;
        ((self.0 >> 16) as u16, (self.0 >> 8) as u8, device)
    }

    /// Which of the device's functions.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }
}

impl FromStr for Sbdf {
    type Err = NoSbdf;

    fn from_str(text: &str) -> Result<Self, NoSbdf> {
        let wrong = || NoSbdf(text.into());
        let (place, function) = PciFunction::parse_address(text).ok_or_else(wrong)?;
        let (segment, bus, device) = place;
        let function = function.ok_or_else(wrong)?;
        let bus_and_below = u32::from(bus) << 8 | u32::from(device) << 3 | u32::from(function);
        Ok(Self(u32::from(segment) << 16 | bus_and_below))
    }
}

impl fmt::Display for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((segment, bus, device), function) = (self.device(), self.function());
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl Serialize for Sbdf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_lspci_prints() {
        let parsed: Sbdf = "0001:02:1f.7".parse().unwrap();
        assert_eq!(parsed.number(), 0x1_02ff);
        assert_eq!(parsed.to_string(), "0001:02:1f.7");
        assert_eq!("00:01.0".parse(), Ok(Sbdf::from_number(8)));
        for wrong in [
            "",
            "0",
            "00:01",
            "00:20.0",
            "00:01.8",
            "00:01.*",
            "1:2:3:4.0",
        ] {
            assert!(wrong.parse::<Sbdf>().is_err(), "{wrong}");
        }
    }
}
