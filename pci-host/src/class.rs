//! What a function is for (PCI Code and ID Assignment 1.14, chapter 1).

use core::fmt;

use pci_types::device_type::DeviceType;

/// A class code: base class, sub-class and programming interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u32);

impl Class {
    /// From the upper 24 bits of [`CLASS_REVISION`](crate::header::CLASS_REVISION).
    pub const fn from_class_revision(register: u32) -> Self {
        Self(register >> 8)
    }

    /// From its parts.
    pub const fn new(base: u8, sub: u8, interface: u8) -> Self {
        Self((base as u32) << 16 | (sub as u32) << 8 | interface as u32)
    }

    /// Base class.
    pub const fn base(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Sub-class.
    pub const fn sub(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Programming interface.
    pub const fn interface(self) -> u8 {
        self.0 as u8
    }

    /// The 24 bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What base class and sub-class stand for.
    pub fn device_type(self) -> DeviceType {
        DeviceType::from((self.base(), self.sub()))
    }
}

impl fmt::Display for Class {
    /// Base class and sub-class, as lspci writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0 >> 8)
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Class({:06x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_parts_and_a_type() {
        let nvme = Class::from_class_revision(0x0108_0203);
        assert_eq!((nvme.base(), nvme.sub(), nvme.interface()), (1, 8, 2));
        assert_eq!(nvme, Class::new(1, 8, 2));
        assert_eq!(nvme.device_type(), DeviceType::NvmeController);
    }
}
