//! Devices of the machine that a guest is to have.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A PCI function (`pci`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PciFunction {
    /// Segment, bus and device of the machine.
    pub device: (u16, u8, u8),
    /// The function; `None` for all of the device's.
    pub function: Option<u8>,
    /// The device number that the guest sees.
    pub slot: Option<u8>,
    /// Options behind the address, as they are written.
    pub options: Vec<(String, String)>,
}

/// Options that an entry of `pci` may have.
const OPTIONS: [&str; 6] = [
    "permissive",
    "msitranslate",
    "seize",
    "power_mgmt",
    "rdm_policy",
    "name",
];

impl PciFunction {
    /// Reads `[SSSS:]BB:DD.F`, where F may be `*`.
    pub(crate) fn parse_address(text: &str) -> Option<Address> {
        parse_address(text)
    }

    /// Reads `[SSSS:]BB:DD.F[@SLOT][,OPTION=VALUE…]`, where F may be `*` and the parts may also be
    /// `bdf=` and `vslot=`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut address = None;
        let mut slot = None;
        let mut options = Vec::new();
        for (place, part) in text.split(',').map(str::trim).enumerate() {
            match part.split_once('=') {
                None if place == 0 => {
                    let (bdf, at) = match part.split_once('@') {
                        Some((bdf, at)) => (bdf, Some(at)),
                        None => (part, None),
                    };
                    address = Some(bdf);
                    slot = at.map(slot_number).transpose()?;
                }
                Some(("bdf", bdf)) => address = Some(bdf),
                Some(("vslot", at)) => slot = Some(slot_number(at)?),
                Some((name, value)) if OPTIONS.contains(&name) => {
                    options.push((name.to_string(), value.to_string()));
                }
                _ => {
                    return Err(format!(
                        "{part:?} is no option of a PCI device; there are {}",
                        OPTIONS.join(", ")
                    ));
                }
            }
        }
        let address = address.ok_or("no address: an entry has [SSSS:]BB:DD.F or bdf=…")?;
        let (device, function) = parse_address(address).ok_or_else(|| {
            format!("{address:?} is no PCI address: SSSS:BB:DD.F or BB:DD.F in hexadecimal")
        })?;
        Ok(Self {
            device,
            function,
            slot,
            options,
        })
    }
}

fn slot_number(text: &str) -> Result<u8, String> {
    let number = u8::from_str_radix(text, 16).ok();
    number
        .filter(|number| *number < 32)
        .ok_or_else(|| format!("{text:?} is no slot: 0 to 1f"))
}

/// Segment, bus and device, and the function unless it is all.
pub(crate) type Address = ((u16, u8, u8), Option<u8>);

fn parse_address(text: &str) -> Option<Address> {
    let hex = |text: &str, digits: usize| {
        let plain = text.bytes().all(|letter| letter.is_ascii_hexdigit());
        (plain && !text.is_empty() && text.len() <= digits)
            .then(|| u16::from_str_radix(text, 16).ok())?
    };
    let (rest, function) = text.trim().rsplit_once('.')?;
    let function = match function {
        "*" => None,
        digit => Some(hex(digit, 1).filter(|function| *function < 8)? as u8),
    };
    let parts: Vec<&str> = rest.split(':').collect();
    let (segment, bus, device) = match parts.as_slice() {
        [bus, device] => (0, bus, device),
        [segment, bus, device] => (hex(segment, 4)?, bus, device),
        _ => return None,
    };
    let device = hex(device, 2).filter(|device| *device < 32)?;
    Some(((segment, hex(bus, 2)? as u8, device as u8), function))
}

impl fmt::Display for PciFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segment, bus, device) = self.device;
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.")?;
        match self.function {
            Some(function) => write!(f, "{function:x}"),
            None => f.write_str("*"),
        }
    }
}

/// A device of the machine's device tree, by its path (`dtdev`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostDevice(String);

impl HostDevice {
    /// Checks a path.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(path: &str) -> Result<Self, String> {
        let names = path.strip_prefix('/').map(|names| names.split('/'));
        let plain = names.is_some_and(|mut names| {
            names.all(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
        });
        match plain {
            true => Ok(Self(path.to_string())),
            false => Err(format!(
                "{path:?} is no path in a device tree, as in \"/soc/ethernet@fff51000\""
            )),
        }
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.0
    }
}

/// Pages of device memory that a guest gets (`iomem`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IoMemory {
    /// First page of the machine.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The page where the guest sees the first.
    pub guest: u64,
}

/// Pages have numbers below this: addresses have 52 bits.
const MAX_PAGE: u64 = 1 << 40;

impl IoMemory {
    /// Reads `START,COUNT[@GUEST]`, pages in hexadecimal.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form =
            || format!("{text:?} is not START,COUNT or START,COUNT@GUEST, pages in hexadecimal");
        let page = |digits: &str| {
            let digits = digits.trim();
            let digits = digits.strip_prefix("0x").unwrap_or(digits);
            u64::from_str_radix(digits, 16).map_err(|_| form())
        };
        let (range, guest) = match text.split_once('@') {
            Some((range, guest)) => (range, Some(page(guest)?)),
            None => (text, None),
        };
        let (first, count) = range.split_once(',').ok_or_else(form)?;
        let (first, count) = (page(first)?, page(count)?);
        if count == 0 {
            return Err("no pages: COUNT is at least 1".to_string());
        }
        let guest = guest.unwrap_or(first);
        let fits = |start: u64| start.checked_add(count).is_some_and(|end| end <= MAX_PAGE);
        if !fits(first) || !fits(guest) {
            return Err("the pages end beyond what addresses reach".to_string());
        }
        Ok(Self {
            first,
            count,
            guest,
        })
    }

    /// Whether both show the guest something at the same page.
    pub fn overlaps_in_guest(&self, other: &Self) -> bool {
        self.guest < other.guest + other.count && other.guest < self.guest + self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pci_addresses() {
        let parsed = PciFunction::parse("0001:3a:1f.7@1f,permissive=1").unwrap();
        assert_eq!(parsed.device, (1, 0x3a, 0x1f));
        assert_eq!((parsed.function, parsed.slot), (Some(7), Some(0x1f)));
        assert_eq!(parsed.to_string(), "0001:3a:1f.7");
        let parsed = PciFunction::parse("bdf=02:00.*,vslot=4").unwrap();
        assert_eq!((parsed.function, parsed.slot), (None, Some(4)));
        for bad in [
            "",
            "02:00",
            "02:20.0",
            "02:00.8",
            "1:02:00.0:1",
            "02:00.0@20",
            "02:00.0,x=1",
        ] {
            assert!(PciFunction::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn device_memory() {
        let parsed = |text| {
            IoMemory::parse(text)
                .ok()
                .map(|io| (io.first, io.count, io.guest))
        };
        assert_eq!(parsed("fff51,1"), Some((0xfff51, 1, 0xfff51)));
        assert_eq!(parsed("0xfff51, 10@9000"), Some((0xfff51, 16, 0x9000)));
        for bad in [
            "",
            "1",
            "1,0",
            "g,1",
            "1,1@",
            "ffffffffff,2",
            "ffffffffffffffff,1",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in ".{0,30}") {
            let _ = PciFunction::parse(&text);
            let _ = IoMemory::parse(&text);
            let _ = HostDevice::parse(&text);
        }

        #[test]
        fn an_address_reads_as_it_is_shown(segment: u16, bus: u8, device in 0..32u8, function in 0..8u8) {
            let text = format!("{segment:04x}:{bus:02x}:{device:02x}.{function}");
            prop_assert_eq!(PciFunction::parse(&text).unwrap().to_string(), text);
        }
    }
}
