//! INTx: the four lines of conventional PCI, which PCI Express emulates by messages (PCI Express Base
//! 6.0, 2.2.8.1 and 6.1.2).

use core::fmt;

use crate::{Device, RequesterId};

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

/// The function on the root bus and its pin whose interrupt a function's is: the message, or the
/// wire, goes from bridge to bridge. `None` for a function without a pin.
pub fn at_root(devices: &[Device], function: &Device) -> Option<(RequesterId, Pin)> {
    let mut pin = function.pin?;
    let mut at = function;
    // Each parent is on a lower bus.
    for _ in 0..=u8::MAX {
        let requester = at.sbdf.requester();
        let Some(parent) = at.parent else {
            return Some((requester, pin));
        };
        let parent = devices.iter().find(|device| device.sbdf == parent)?;
        // On a link there is just device 0, though ARI has its functions look like others.
        let device = if parent.leads_to_link() {
            0
        } else {
            requester.device()
        };
        pin = pin.swizzled(device);
        at = parent;
    }
    None
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INT{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::HostSbdf;
    use crate::enumerate::enumerate;
    use crate::simulated::machines;

    #[test]
    fn interrupts_of_functions_behind_bridges_are_followed_to_the_root() {
        let machine = machines::server();
        let devices = enumerate(&machine.bridge, &machine.fabric).devices;
        let root = |name: &str| {
            let sbdf: HostSbdf = name.parse().unwrap();
            let device = devices.iter().find(|device| device.sbdf == sbdf)?;
            let (requester, pin) = at_root(&devices, device)?;
            Some((requester.to_string(), pin))
        };
        let of = |name: &str, pin| Some((name.to_string(), pin));
        assert_eq!(root("00:01.0"), of("00:01.0", Pin::A));
        assert_eq!(root("02:00.0"), of("00:02.1", Pin::A));
        // Cards 1 and 2 of a conventional bus, behind port 4 of a switch.
        assert_eq!(root("0c:01.0"), of("00:04.0", Pin::B));
        assert_eq!(root("0c:02.0"), of("00:04.0", Pin::C));
        // The graphics card behind port 2.
        assert_eq!(root("09:00.0"), of("00:04.0", Pin::C));
        assert_eq!(root("00:00.0"), None);
    }

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
