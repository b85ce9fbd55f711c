//! Segment, bus, device, function: how a function is named (PCI Express Base 6.0, 2.2.6.2; the
//! segment is ACPI's and the device tree's `linux,pci-domain`).

use core::fmt;
use core::str::FromStr;

/// The bare name, of a physical or a virtual function. Which of the two it is, is said by the type
/// around it: [`HostSbdf`] here, `GuestSbdf` in `vpci`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sbdf {
    segment: u16,
    requester: RequesterId,
}

/// Bus, device and function as 16 bits: what a transaction carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequesterId(u16);

/// A function of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostSbdf(pub Sbdf);

/// Text that is no name of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "not a PCI address: write [SSSS:]BB:DD.F in hexadecimal, with a device up to 1f and a function up to 7"
)]
pub struct ParseSbdfError;

impl RequesterId {
    /// From its parts; `None` for a device above 31 or a function above 7.
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device < 32 && function < 8 {
            Some(Self(
                (bus as u16) << 8 | (device as u16) << 3 | function as u16,
            ))
        } else {
            None
        }
    }

    /// From a bus and the 8 bits of a function of a device that has no device number: ARI's, for which
    /// device 0 has up to 256 functions (PCI Express Base 6.0, 6.13). The same bits read as device and
    /// function are its name.
    pub const fn ari(bus: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | function as u16)
    }

    /// From the 16 bits; all values are names.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The 16 bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Bus number.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device number, 0 to 31.
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 31
    }

    /// The 8 bits below the bus number: ARI's function number, ECAM's `devfn`.
    pub const fn devfn(self) -> u8 {
        self.0 as u8
    }

    /// Function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }
}

impl Sbdf {
    /// The function `requester` of a segment.
    pub const fn new(segment: u16, requester: RequesterId) -> Self {
        Self { segment, requester }
    }

    /// Segment.
    pub const fn segment(self) -> u16 {
        self.segment
    }

    /// Bus, device and function.
    pub const fn requester(self) -> RequesterId {
        self.requester
    }
}

impl HostSbdf {
    /// The function `requester` of a segment.
    pub const fn new(segment: u16, requester: RequesterId) -> Self {
        Self(Sbdf::new(segment, requester))
    }

    /// Segment.
    pub const fn segment(self) -> u16 {
        self.0.segment()
    }

    /// Bus, device and function.
    pub const fn requester(self) -> RequesterId {
        self.0.requester()
    }

    /// Bus number.
    pub const fn bus(self) -> u8 {
        self.requester().bus()
    }

    /// Another function of the same segment.
    pub const fn neighbour(self, requester: RequesterId) -> Self {
        Self::new(self.segment(), requester)
    }
}

impl FromStr for Sbdf {
    type Err = ParseSbdfError;

    /// `[SSSS:]BB:DD.F`, all hexadecimal, as lspci and xl write it.
    fn from_str(text: &str) -> Result<Self, ParseSbdfError> {
        let (place, function) = text.rsplit_once('.').ok_or(ParseSbdfError)?;
        let (place, device) = place.rsplit_once(':').ok_or(ParseSbdfError)?;
        let (segment, bus) = place.rsplit_once(':').unwrap_or(("0", place));
        let requester = RequesterId::new(
            number(bus, 2)? as u8,
            number(device, 2)? as u8,
            number(function, 1)? as u8,
        );
        let segment = number(segment, 4)?;
        Ok(Self::new(segment, requester.ok_or(ParseSbdfError)?))
    }
}

/// A hexadecimal number of at most `digits` digits.
fn number(text: &str, digits: usize) -> Result<u16, ParseSbdfError> {
    let plain = text.len() <= digits && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !plain {
        return Err(ParseSbdfError);
    }
    u16::from_str_radix(text, 16).map_err(|_| ParseSbdfError)
}

impl FromStr for HostSbdf {
    type Err = ParseSbdfError;

    fn from_str(text: &str) -> Result<Self, ParseSbdfError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for RequesterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02x}:{:02x}.{}",
            self.bus(),
            self.device(),
            self.function()
        )
    }
}

impl fmt::Debug for RequesterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{}", self.segment, self.requester)
    }
}

impl fmt::Debug for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for HostSbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_requester_id_survives_text() {
        for bits in 0..=u16::MAX {
            let sbdf = Sbdf::new(0x1a, RequesterId::from_bits(bits));
            assert_eq!(sbdf.to_string().parse(), Ok(sbdf));
        }
    }

    #[test]
    fn the_segment_may_be_left_out() {
        let short: HostSbdf = "3:1f.7".parse().unwrap();
        assert_eq!(short.to_string(), "0000:03:1f.7");
        assert_eq!("0000:03:1f.7".parse(), Ok(short));
    }

    #[test]
    fn what_is_out_of_range_or_garbled_is_refused() {
        for text in [
            "",
            "1",
            "00:00",
            "00:20.0",
            "00:00.8",
            "100:00.0",
            "00:00.00",
            "10000:00:00.0",
            "00:00.0 ",
            "+1:00.0",
            "0:0:0:0.0",
            ":00.0",
            "00:.0",
            "00:00.",
            "g0:00.0",
        ] {
            assert_eq!(text.parse::<Sbdf>(), Err(ParseSbdfError), "{text:?}");
        }
    }

    #[test]
    fn parts_and_bits_agree() {
        let id = RequesterId::new(0xab, 0x1f, 7).unwrap();
        assert_eq!(id.bits(), 0xabff);
        assert_eq!((id.bus(), id.device(), id.function()), (0xab, 0x1f, 7));
        assert_eq!(RequesterId::new(0, 32, 0), None);
        assert_eq!(RequesterId::new(0, 0, 8), None);
    }
}
