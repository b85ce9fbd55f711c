//! Devices of the machine that a guest is to have.

use std::fmt;
use std::str::FromStr;

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
    /// Whether it is taken from the control domain's driver, and goes back there.
    pub seize: bool,
    /// Options of xl that mean nothing here.
    pub ignored: Vec<String>,
}

/// Options of xl that mean nothing here, and why.
const MEANINGLESS: [(&str, &str); 5] = [
    (
        "permissive",
        "a guest reaches no register that could harm others",
    ),
    ("msitranslate", "it is of x86"),
    (
        "power_mgmt",
        "the hypervisor keeps a function's power state",
    ),
    ("rdm_policy", "no memory is reserved for devices on Arm"),
    ("name", "functions have no other names"),
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
        Self::parse_with(text, false)
    }

    /// The same, which is seized if it does not say otherwise and `seize` does.
    pub(crate) fn parse_with(text: &str, mut seize: bool) -> Result<Self, String> {
        let mut address = None;
        let mut slot = None;
        let mut ignored = Vec::new();
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
                Some(("seize", value)) => seize = flag("seize", value)?,
                Some((name, _)) if why_ignored(name).is_some() => ignored.push(name.to_string()),
                _ => {
                    let others = MEANINGLESS.map(|(name, _)| name).join(", ");
                    return Err(format!(
                        "{part:?} is no option of a PCI device; there are vslot, seize, {others}"
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
            seize,
            ignored,
        })
    }

    /// Reads a device number of a guest's bus.
    ///
    /// # Errors
    /// It is none.
    pub fn parse_slot(text: &str) -> Result<u8, String> {
        slot_number(text)
    }

    /// What to say of its options that mean nothing here, one line each.
    pub fn remarks(&self) -> Vec<String> {
        let remark = |name: &String| Some(ignored(name, why_ignored(name)?));
        self.ignored.iter().filter_map(remark).collect()
    }
}

impl FromStr for PciFunction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// Why an option means nothing; `None` if it does.
pub(crate) fn why_ignored(option: &str) -> Option<&'static str> {
    let found = MEANINGLESS.iter().find(|(name, _)| *name == option);
    found.map(|(_, why)| *why)
}

/// What to say of an option.
pub(crate) fn ignored(option: &str, why: &str) -> String {
    format!("`{option}` means nothing here and is ignored: {why}")
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("`{name}` is 0 or 1, not {value:?}")),
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
        assert!(!parsed.seize);
        let remarks = parsed.remarks();
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(
            remarks[0].starts_with("`permissive` means nothing here"),
            "{remarks:?}"
        );
        assert_eq!(parsed.to_string(), "0001:3a:1f.7");
        let parsed = PciFunction::parse("bdf=02:00.*,vslot=4").unwrap();
        assert_eq!((parsed.function, parsed.slot), (None, Some(4)));
        for (text, usual, seize) in [
            ("02:00.0", false, false),
            ("02:00.0", true, true),
            ("02:00.0,seize=1", false, true),
            ("02:00.0,seize=0", true, false),
        ] {
            let parsed = PciFunction::parse_with(text, usual).unwrap();
            assert_eq!((parsed.seize, parsed.ignored.len()), (seize, 0), "{text}");
        }
        for bad in [
            "",
            "02:00",
            "02:20.0",
            "02:00.8",
            "1:02:00.0:1",
            "02:00.0@20",
            "02:00.0,x=1",
            "02:00.0,seize=yes",
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
