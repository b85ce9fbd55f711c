//! Device registers: mapped when a driver asks, reached through checked accessors.

use core::ptr;

use xen_types::{Hpa, HpaRange};

use super::space;
pub use super::space::MapError;
use crate::arch::probe;

/// A block of registers that is mapped as Device memory for as long as the hypervisor runs.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    base: usize,
    len: usize,
}

/// Maps the registers at `range`. Mapping a range twice is fine; RAM is refused.
pub fn map(range: HpaRange) -> Result<Registers, MapError> {
    space::map_device(range)?;
    Ok(Registers {
        base: range.start().get() as usize,
        len: range.size() as usize,
    })
}

/// Registers with the MMU off, where every address reaches the bus as Device memory.
///
/// For the one line that a start at the wrong exception level gets; `range` comes from the device
/// tree.
pub fn without_mmu(range: HpaRange) -> Registers {
    Registers {
        base: range.start().get() as usize,
        len: range.size() as usize,
    }
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads the register at `offset` bytes.
        ///
        /// # Panics
        /// If the register lies outside the block or is misaligned: a driver's mistake.
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            let address = self.address::<$type>(offset);
            // SAFETY: `address` checked that the register lies in this block, which is mapped as
            // Device memory and never unmapped; registers have no Rust object to alias.
            unsafe { ptr::read_volatile(address) }
        }

        /// Writes the register at `offset` bytes.
        ///
        /// # Panics
        /// As for reading.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            let address = self.address::<$type>(offset);
            // SAFETY: as for reading. What the write makes the device do is its driver's concern:
            // no driver gives a device the address of memory that Rust uses.
            unsafe { ptr::write_volatile(address, value) }
        }
    };
}

impl Registers {
    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
    access!(read64, write64, u64);

    /// Reads a register that may answer with an abort: `None` then.
    ///
    /// # Panics
    /// As for [`Registers::read32`].
    pub fn read32_aborting(&self, offset: usize) -> Option<u32> {
        let address = self.address::<u32>(offset);
        // SAFETY: as for reading.
        unsafe { probe::read_register(address as u64) }
    }

    /// Writes a register that may answer with an abort: `None` then.
    ///
    /// # Panics
    /// As for [`Registers::read32`].
    pub fn write32_aborting(&self, offset: usize, value: u32) -> Option<()> {
        let address = self.address::<u32>(offset);
        // SAFETY: as for writing.
        unsafe { probe::write_register(address as u64, value) }
    }

    /// Bytes in the block.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The `len` bytes from `offset`.
    ///
    /// # Panics
    /// If they do not lie inside.
    pub fn part(&self, offset: usize, len: usize) -> Self {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "part {offset:#x}+{len:#x} of {} bytes of registers",
            self.len
        );
        Self {
            base: self.base + offset,
            len,
        }
    }

    #[inline]
    fn address<T>(&self, offset: usize) -> *mut T {
        let inside = offset
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= self.len);
        if !inside || !offset.is_multiple_of(size_of::<T>()) {
            self.no_register(offset);
        }
        // The block ends within the address space.
        self.base.wrapping_add(offset) as *mut T
    }

    /// Apart, so that accesses need not prepare for it.
    #[cold]
    #[inline(never)]
    fn no_register(&self, offset: usize) -> ! {
        panic!(
            "register {offset:#x} of {} bytes at {}",
            self.len,
            Hpa::new(self.base as u64)
        )
    }
}
