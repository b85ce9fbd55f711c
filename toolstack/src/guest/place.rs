//! Where kernel, ramdisk and device tree go in a guest's first bank: as libxc of Xen 4.20 has it.

use thiserror::Error;
use xen_types::{Gpa, GpaRange, PAGE_SIZE};

use super::image::{ALIGNMENT, ImageHeader};
use super::memory::MIB;

/// Where ramdisk and tree go if the bank reaches so far.
const BESIDE: u64 = 128 * MIB;

/// Where the pieces are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// All memory that is the kernel's; its first instruction is at the beginning.
    pub kernel: GpaRange,
    /// The ramdisk; not rounded to pages.
    pub ramdisk: Option<GpaRange>,
    /// The device tree and room behind it, whole pages.
    pub tree: GpaRange,
}

/// The pieces do not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "kernel, ramdisk and device tree take {} MiB, and the guest's first bank has {}",
    needed.div_ceil(MIB), bank / MIB
)]
pub struct NoPlace {
    needed: u64,
    bank: u64,
}

impl Placement {
    /// Places the pieces in `bank`.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn new(
        bank: GpaRange,
        kernel: ImageHeader,
        ramdisk: u64,
        tree: u64,
    ) -> Result<Self, NoPlace> {
        let pages = |size: u64| size.next_multiple_of(PAGE_SIZE);
        let beside = (pages(ramdisk) + pages(tree)).next_multiple_of(ALIGNMENT);
        let no_place = NoPlace {
            needed: kernel.text_offset + kernel.image_size + beside,
            bank: bank.size(),
        };
        let (start, end) = (bank.start().get(), bank.end().get());
        let kernel_start = start + kernel.text_offset;
        let kernel_end = kernel_start + kernel.image_size;
        let at_128 = start + BESIDE;
        let at_end = end.saturating_sub(beside);
        let before = kernel_start.saturating_sub(beside);
        let modules = if kernel_end > end {
            return Err(no_place);
        } else if at_128 + beside <= end && kernel_end <= at_128 {
            at_128
        } else if at_end >= kernel_end {
            at_end
        } else if before >= start {
            before
        } else {
            return Err(no_place);
        };
        let range = |at, size| GpaRange::new(Gpa::new(at), size);
        Ok(Self {
            kernel: range(kernel_start, kernel.image_size).ok_or(no_place)?,
            ramdisk: range(modules, ramdisk),
            tree: range(modules + pages(ramdisk), pages(tree)).ok_or(no_place)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bank(size: u64) -> GpaRange {
        GpaRange::new(Gpa::new(0x4000_0000), size).unwrap()
    }

    #[test]
    fn usual_guests_have_their_ramdisk_at_128_mib() {
        let kernel = ImageHeader {
            text_offset: 0,
            image_size: 36 * MIB,
        };
        let place = Placement::new(bank(512 * MIB), kernel, 5000, 9000).unwrap();
        assert_eq!(place.kernel.start().get(), 0x4000_0000);
        let ramdisk = place.ramdisk.unwrap();
        assert_eq!((ramdisk.start().get(), ramdisk.size()), (0x4800_0000, 5000));
        assert_eq!(
            (place.tree.start().get(), place.tree.size()),
            (0x4800_2000, 0x3000)
        );
        let small = Placement::new(bank(64 * MIB), kernel, 0, 9000).unwrap();
        assert_eq!(small.ramdisk, None);
        assert_eq!(small.tree.start().get(), 0x4000_0000 + 62 * MIB);
    }

    proptest! {
        #[test]
        fn pieces_lie_in_the_bank_and_never_overlap(
            size in 1u64..1024, text_offset in 0u64..ALIGNMENT, image in 1u64..256,
            ramdisk in 0u64..256 * MIB, tree in 1u64..2 * MIB,
        ) {
            let kernel = ImageHeader { text_offset, image_size: image * MIB };
            let bank = bank(size * MIB);
            if let Ok(place) = Placement::new(bank, kernel, ramdisk, tree) {
                prop_assert!(bank.contains_range(place.kernel));
                prop_assert!(bank.contains_range(place.tree));
                prop_assert!(!place.kernel.overlaps(place.tree));
                prop_assert_eq!(place.ramdisk.is_some(), ramdisk > 0);
                if let Some(ramdisk) = place.ramdisk {
                    prop_assert!(bank.contains_range(ramdisk));
                    prop_assert!(!ramdisk.overlaps(place.kernel) && !ramdisk.overlaps(place.tree));
                }
            } else {
                prop_assert!(size * MIB < text_offset + image * MIB + ramdisk + tree + 8 * MIB);
            }
        }
    }
}
