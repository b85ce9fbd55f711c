//! What the bits of a register do when they are read and written (PCI Express Base 6.0, 7.4).

use pci_host::config::{ConfigAccess, Function};
use pci_host::{Access, ConfigOffset, Width};

use crate::access::Lane;

/// The kinds of bits of a dword. A bit that is in none of the masks reads as 0 and ignores writes
/// (RsvdZ).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Masks {
    /// Read-only (RO).
    pub read_only: u32,
    /// Holds what is written (RW).
    pub writable: u32,
    /// Writing 1 clears it (RW1C).
    pub write_1_to_clear: u32,
    /// Reads as 0, and keeps what it has (RsvdP).
    pub preserved: u32,
}

impl Masks {
    /// All bits read-only.
    pub const READ_ONLY: Self = Self {
        read_only: u32::MAX,
        writable: 0,
        write_1_to_clear: 0,
        preserved: 0,
    };

    /// Whether no bit is of two kinds.
    pub const fn are_disjoint(self) -> bool {
        let Self {
            read_only,
            writable,
            write_1_to_clear,
            preserved,
        } = self;
        read_only & (writable | write_1_to_clear | preserved) == 0
            && writable & (write_1_to_clear | preserved) == 0
            && write_1_to_clear & preserved == 0
    }

    /// What is seen of the register's `value`.
    pub const fn read(self, value: u32) -> u32 {
        value & (self.read_only | self.writable | self.write_1_to_clear)
    }

    /// What a register that is just a value holds after a write.
    pub const fn store(self, before: u32, lane_mask: u32, written: u32) -> u32 {
        let writable = self.writable & lane_mask;
        let cleared = self.write_1_to_clear & lane_mask & written;
        (before & !writable | written & writable) & !cleared
    }

    /// What has to be written to hardware that holds `before`: what the guest wrote where it may, 1
    /// where it clears, and elsewhere what keeps a bit as it is.
    pub const fn to_hardware(self, before: u32, lane_mask: u32, written: u32) -> u32 {
        let changed = (self.writable | self.write_1_to_clear) & lane_mask;
        before & !(changed | self.write_1_to_clear) | written & changed
    }
}

/// A dword of hardware of which a guest sees and writes what the masks allow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Filtered {
    /// Where it is.
    pub offset: ConfigOffset,
    /// What the guest may do.
    pub masks: Masks,
}

impl Filtered {
    /// Reads what the guest sees.
    pub fn read<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) -> u32 {
        if self.masks.read(u32::MAX) == 0 {
            return 0;
        }
        let value = function.read_access(Access::dword(self.offset));
        self.masks.read(value)
    }

    /// Writes what the guest may. Only the bytes that it accessed are accessed, in one go where that
    /// is possible: bytes beside them may be cleared by writing what they hold.
    pub fn write<C: ConfigAccess + ?Sized>(
        self,
        function: Function<'_, C>,
        lane: Lane,
        written: u32,
    ) {
        for access in accesses(self.offset, lane.mask()) {
            let (shift, bits) = (access.shift(), access.mask());
            let changed = (self.masks.writable | self.masks.write_1_to_clear) & bits;
            if changed == 0 {
                continue;
            }
            // What nobody may change is written as it is.
            let before = if changed == bits {
                0
            } else {
                function.read_access(access) << shift
            };
            let value = self.masks.to_hardware(before, bits, written);
            function.write_access(access, (value & bits) >> shift);
        }
    }
}

/// The aligned accesses that make up the bytes of `mask`.
pub(crate) fn accesses(offset: ConfigOffset, mask: u32) -> impl Iterator<Item = Access> {
    let mut left = mask;
    core::iter::from_fn(move || {
        let first = left.trailing_zeros() / 8;
        if left == 0 {
            return None;
        }
        let fits = |width: &Width| {
            let at = offset.checked_add(first as u16)?;
            let access = Access::new(at, *width)?;
            (left & access.mask() == access.mask()).then_some(access)
        };
        let widths = [Width::Dword, Width::Word, Width::Byte];
        let access = widths.iter().find_map(fits)?;
        left &= !access.mask();
        Some(access)
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::cell::Cell;

    use pci_host::HostSbdf;
    use proptest::prelude::*;

    use super::*;

    fn masks() -> impl Strategy<Value = Masks> {
        // Each bit is of one of five kinds.
        any::<[u32; 3]>().prop_map(|[a, b, c]| Masks {
            read_only: a & b,
            writable: a & !b,
            write_1_to_clear: !a & b & c,
            preserved: !a & b & !c,
        })
    }

    fn lane() -> impl Strategy<Value = Lane> {
        let bytes = prop_oneof![
            Just(0xff_u32),
            Just(0xff00),
            Just(0xffff),
            Just(0xff_ff00),
            Just(0xffff_ff00),
            Just(0xff00_0000),
            Just(0xffff_0000),
            Just(u32::MAX)
        ];
        bytes.prop_map(|mask| Lane::part(0x40, mask))
    }

    /// A register whose bits do what the masks say, and that notes the accesses.
    struct Hardware {
        masks: Masks,
        value: Cell<u32>,
        touched: Cell<u32>,
    }

    impl ConfigAccess for Hardware {
        fn read(&self, _: HostSbdf, access: Access) -> u32 {
            access.extract(self.value.get())
        }

        fn write(&self, _: HostSbdf, access: Access, value: u32) {
            // Hardware can write also what the guest may not.
            let all = Masks {
                writable: !self.masks.write_1_to_clear,
                write_1_to_clear: self.masks.write_1_to_clear,
                ..Masks::default()
            };
            let bits = value << access.shift();
            self.value
                .set(all.store(self.value.get(), access.mask(), bits));
            self.touched.set(self.touched.get() | access.mask());
        }
    }

    proptest! {
        #[test]
        fn kinds_are_kept_apart(masks in masks()) {
            prop_assert!(masks.are_disjoint());
        }

        #[test]
        fn hardware_changes_as_a_register_with_these_masks_would(
            masks in masks(), before: u32, written: u32, lane in lane(),
        ) {
            let (value, touched) = (Cell::new(before), Cell::new(0));
            let hardware = Hardware { masks, value, touched };
            let function = Function::new(&hardware, "00:00.0".parse().unwrap());
            let register = Filtered { offset: ConfigOffset::new(0x40).unwrap(), masks };
            prop_assert_eq!(register.read(function), masks.read(before));
            register.write(function, lane, written);
            prop_assert_eq!(hardware.value.get(), masks.store(before, lane.mask(), written));
            prop_assert_eq!(hardware.touched.get() & !lane.mask(), 0);
        }

        #[test]
        fn bits_of_no_kind_stay_and_read_as_zero(masks in masks(), before: u32, written: u32) {
            let after = masks.store(before, u32::MAX, written);
            let kept = !(masks.writable | masks.write_1_to_clear);
            prop_assert_eq!(after & kept, before & kept);
            let hidden = !(masks.read_only | masks.writable | masks.write_1_to_clear);
            prop_assert_eq!(masks.read(before) & hidden, 0);
        }
    }

    #[test]
    fn bytes_are_accessed_together_where_they_can_be() {
        let accesses = |mask| {
            let all = super::accesses(ConfigOffset::new(0x40).unwrap(), mask);
            all.map(|access| (access.offset().get(), access.width().bytes()))
                .collect::<Vec<_>>()
        };
        assert_eq!(accesses(u32::MAX), [(0x40, 4)]);
        assert_eq!(accesses(0xffff_0000), [(0x42, 2)]);
        assert_eq!(accesses(0xffff_ff00), [(0x41, 1), (0x42, 2)]);
        assert_eq!(accesses(0x00ff_ff00), [(0x41, 1), (0x42, 1)]);
        assert_eq!(accesses(0), []);
    }
}
