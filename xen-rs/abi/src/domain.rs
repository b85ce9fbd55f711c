//! Domain ids (`xen.h`, `domid_t`).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The id of a domain, or one of the names that stand for something else.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct DomId(u16);

impl DomId {
    /// The first id that no domain can have (`DOMID_FIRST_RESERVED`).
    pub const FIRST_RESERVED: u16 = 0x7ff0;
    /// The domain that makes the call (`DOMID_SELF`).
    pub const SELF: Self = Self(0x7ff0);
    /// Memory of devices (`DOMID_IO`).
    pub const IO: Self = Self(0x7ff1);
    /// The hypervisor itself (`DOMID_XEN`).
    pub const XEN: Self = Self(0x7ff2);
    /// Shared pages (`DOMID_COW`).
    pub const COW: Self = Self(0x7ff3);
    /// Nobody (`DOMID_INVALID`).
    pub const INVALID: Self = Self(0x7ff4);
    /// The idle domain (`DOMID_IDLE`).
    pub const IDLE: Self = Self(0x7fff);

    /// The id with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether a real domain can have this id.
    pub const fn is_domain(self) -> bool {
        self.0 < Self::FIRST_RESERVED
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SELF => f.write_str("DOMID_SELF"),
            Self::IO => f.write_str("DOMID_IO"),
            Self::XEN => f.write_str("DOMID_XEN"),
            Self::COW => f.write_str("DOMID_COW"),
            Self::INVALID => f.write_str("DOMID_INVALID"),
            Self::IDLE => f.write_str("DOMID_IDLE"),
            Self(number) => write!(f, "d{number}"),
        }
    }
}

impl fmt::Debug for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn reserved_ids_are_no_domains() {
        assert!(DomId::new(0).is_domain());
        assert!(DomId::new(0x7fef).is_domain());
        for (id, number) in [
            (DomId::SELF, 0x7ff0),
            (DomId::IO, 0x7ff1),
            (DomId::XEN, 0x7ff2),
            (DomId::COW, 0x7ff3),
            (DomId::INVALID, 0x7ff4),
            (DomId::IDLE, 0x7fff),
        ] {
            assert_eq!(id, DomId::new(number));
            assert!(!id.is_domain());
        }
        assert_eq!(DomId::XEN.to_string(), "DOMID_XEN");
        assert_eq!(DomId::new(3).to_string(), "d3");
    }
}
