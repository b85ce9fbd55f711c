//! The id by which an IOMMU knows a device.

use core::fmt;

/// What an IOMMU tells devices apart by (SMMUv3, IHI 0070, 3.2). How many bits of it count is up to
/// the IOMMU; a device tree gives 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The stream with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether an IOMMU with stream ids of `bits` bits can tell it from others.
    pub const fn fits(self, bits: u32) -> bool {
        bits >= u32::BITS || self.0 >> bits == 0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:#x}", self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_fits_what_can_hold_it() {
        assert!(StreamId::new(0xffff).fits(16));
        assert!(!StreamId::new(0x1_0000).fits(16));
        assert!(StreamId::new(u32::MAX).fits(32));
        assert!(StreamId::new(0).fits(0));
    }
}
