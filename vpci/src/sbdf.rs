//! The name of a function as a guest knows it.

use core::fmt;
use core::str::FromStr;

use pci_host::{ParseSbdfError, Sbdf};

/// A function as a guest addresses it. It says nothing about where the physical one is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GuestSbdf(pub Sbdf);

impl FromStr for GuestSbdf {
    type Err = ParseSbdfError;

    fn from_str(text: &str) -> Result<Self, ParseSbdfError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for GuestSbdf {
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
    fn a_guest_address_reads_as_it_prints() {
        let sbdf: GuestSbdf = "00:01.0".parse().unwrap();
        assert_eq!(sbdf.to_string(), "0000:00:01.0");
        assert_eq!("00:40.0".parse::<GuestSbdf>(), Err(ParseSbdfError));
    }
}
