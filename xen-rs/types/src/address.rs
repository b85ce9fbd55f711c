//! Physical addresses and frames, the host's and the guest's.
//!
//! `Hpa`/`Mfn` name machine memory; `Gpa`/`Gfn` name what a guest believes to be memory (the
//! intermediate physical address of the Arm ARM, D8.1.2). Frames are always 4 KiB, the page size
//! of the Xen ABI.

use core::fmt;
use core::hash::Hash;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a frame.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// What the host's and the guest's physical addresses have in common.
pub trait PhysicalAddress: Copy + Ord + Hash + fmt::Debug + fmt::Display {
    /// The address as a number of bytes.
    fn bytes(self) -> u64;
    /// The address that many bytes from zero.
    fn from_bytes(bytes: u64) -> Self;
}

macro_rules! address_and_frame {
    ($address:ident, $frame:ident, $of:literal) => {
        #[doc = concat!("An address in ", $of, ", in bytes.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $address(u64);

        impl $address {
            /// The address `bytes` from zero.
            pub const fn new(bytes: u64) -> Self {
                Self(bytes)
            }

            /// The address as a number of bytes.
            pub const fn get(self) -> u64 {
                self.0
            }

            #[doc = concat!("The [`", stringify!($frame), "`] that holds this address.")]
            pub const fn frame(self) -> $frame {
                $frame(self.0 >> PAGE_SHIFT)
            }

            /// The offset into its frame, below [`PAGE_SIZE`].
            pub const fn offset_in_page(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }

            /// Whether the address is a multiple of `align`, a power of two.
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }

            /// The address `bytes` further up; `None` where the sum does not fit.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl PhysicalAddress for $address {
            fn bytes(self) -> u64 {
                self.0
            }
            fn from_bytes(bytes: u64) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $address {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $address {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($address), "({:#x})"), self.0)
            }
        }

        #[doc = concat!("The number of a 4 KiB frame of ", $of, ".")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $frame(u64);

        impl $frame {
            /// Frame number `number`.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The frame's number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The frame's first byte; `None` for a number whose address does not fit 64 bits.
            pub const fn address(self) -> Option<$address> {
                if self.0 <= u64::MAX >> PAGE_SHIFT {
                    Some($address(self.0 << PAGE_SHIFT))
                } else {
                    None
                }
            }

            /// The frame `frames` further up; `None` where the sum does not fit.
            pub const fn checked_add(self, frames: u64) -> Option<Self> {
                match self.0.checked_add(frames) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $frame {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $frame {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($frame), "({:#x})"), self.0)
            }
        }
    };
}

address_and_frame!(Hpa, Mfn, "host physical memory");
address_and_frame!(Gpa, Gfn, "a guest's physical memory");

/// A range of bytes, never empty, that does not wrap: `start..end` with `start < end`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range<A> {
    start: A,
    end: A,
}

/// A range of host physical memory.
pub type HpaRange = Range<Hpa>;
/// A range of a guest's physical memory.
pub type GpaRange = Range<Gpa>;

impl<A: PhysicalAddress> Range<A> {
    /// The `size` bytes from `start`; `None` if that is nothing or wraps.
    pub fn new(start: A, size: u64) -> Option<Self> {
        let end = start.bytes().checked_add(size)?;
        Self::between(start, A::from_bytes(end))
    }

    /// From `start` up to, not including, `end`; `None` if that is nothing.
    pub fn between(start: A, end: A) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The first address.
    pub fn start(self) -> A {
        self.start
    }

    /// The first address after the range.
    pub fn end(self) -> A {
        self.end
    }

    /// Bytes in the range, never 0.
    pub fn size(self) -> u64 {
        self.end.bytes() - self.start.bytes()
    }

    /// Whether `address` lies inside.
    pub fn contains(self, address: A) -> bool {
        self.start <= address && address < self.end
    }

    /// Whether all of `other` lies inside.
    pub fn contains_range(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// What both have in common, if anything.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end.min(other.end))
    }

    /// Whether the two share a byte.
    pub fn overlaps(self, other: Self) -> bool {
        self.intersection(other).is_some()
    }

    /// The smallest range of whole pages that holds this one; `None` if its end does not fit.
    pub fn page_aligned_outwards(self) -> Option<Self> {
        let start = self.start.bytes() & !(PAGE_SIZE - 1);
        let end = self.end.bytes().checked_next_multiple_of(PAGE_SIZE)?;
        Self::between(A::from_bytes(start), A::from_bytes(end))
    }

    /// The largest range of whole pages inside this one, if it holds any.
    pub fn page_aligned_inwards(self) -> Option<Self> {
        let start = self.start.bytes().checked_next_multiple_of(PAGE_SIZE)?;
        let end = self.end.bytes() & !(PAGE_SIZE - 1);
        Self::between(A::from_bytes(start), A::from_bytes(end))
    }
}

impl<A: PhysicalAddress> fmt::Display for Range<A> {
    /// Both ends inclusive, as `/proc/iomem` writes ranges.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:#x}", self.start, self.end.bytes() - 1)
    }
}

impl<A: PhysicalAddress> fmt::Debug for Range<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    fn range(start: u64, end: u64) -> HpaRange {
        HpaRange::between(Hpa::new(start), Hpa::new(end)).unwrap()
    }

    #[test]
    fn empty_and_wrapping_ranges_do_not_exist() {
        assert_eq!(HpaRange::new(Hpa::new(0x1000), 0), None);
        assert_eq!(HpaRange::new(Hpa::new(u64::MAX), 2), None);
        assert!(HpaRange::new(Hpa::new(u64::MAX - 1), 1).is_some());
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        assert!(!range(0x1000, 0x2000).overlaps(range(0x2000, 0x3000)));
        assert_eq!(
            range(0x1000, 0x2001).intersection(range(0x2000, 0x3000)),
            Some(range(0x2000, 0x2001))
        );
    }

    #[test]
    fn alignment_inwards_may_leave_nothing() {
        assert_eq!(range(0x1001, 0x1fff).page_aligned_inwards(), None);
        assert_eq!(
            range(0x1001, 0x3001).page_aligned_inwards(),
            Some(range(0x2000, 0x3000))
        );
        assert_eq!(
            range(0x1001, 0x1002).page_aligned_outwards(),
            Some(range(0x1000, 0x2000))
        );
    }

    #[test]
    fn a_range_prints_its_last_byte() {
        assert_eq!(format!("{}", range(0x1000, 0x2000)), "0x1000-0x1fff");
    }

    #[test]
    fn a_frame_beyond_64_bits_has_no_address() {
        assert_eq!(Mfn::new(u64::MAX >> 12).address(), Some(Hpa::new(!0xfff)));
        assert_eq!(Mfn::new((u64::MAX >> 12) + 1).address(), None);
    }
}
