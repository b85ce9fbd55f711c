//! The machine's side of a function that a guest has.

use alloc::vec::Vec;

use pci_host::Device;
use pci_host::reset::Reset;
use vpci::GuestSbdf;
use vpci::guest::GuestFunction;
use xen_types::{Hpa, HpaRange};

use super::messages::{Sender, Source};
use crate::memory::device::{self, MapError, Registers};

/// A function that a guest has.
pub struct Given {
    /// Where the guest has it.
    pub place: GuestSbdf,
    /// What is known of it.
    pub device: Device,
    /// Its messages.
    pub sender: Sender,
    /// A reset that the guest has asked for.
    pub reset: Option<Reset>,
    /// The pages of BARs that the guest does not have mapped.
    trapped: Vec<(HpaRange, Registers)>,
}

impl Given {
    /// `function` is what the guest sees of it.
    ///
    /// # Errors
    /// [`MapError`]: its registers cannot be reached.
    pub fn new(
        place: GuestSbdf,
        device: Device,
        function: &GuestFunction,
        source: Option<Source>,
    ) -> Result<Self, MapError> {
        let mut trapped = Vec::new();
        for range in function.trapped_pages() {
            trapped.push((range, device::map(range)?));
        }
        let table = function.msi_x_table();
        let table = table.and_then(|at| registers_at(&trapped, at));
        Ok(Self {
            place,
            device,
            sender: Sender::new(source, table),
            reset: None,
            trapped,
        })
    }

    /// Loads `bytes` of a page that the guest does not have mapped: aligned, and within.
    pub fn load(&self, at: Hpa, bytes: u16) -> Option<u64> {
        let (registers, offset) = registers_at(&self.trapped, at)?;
        Some(match bytes {
            1 => registers.read8(offset).into(),
            2 => registers.read16(offset).into(),
            4 => registers.read32(offset).into(),
            8 => registers.read64(offset),
            _ => return None,
        })
    }

    /// Stores them. False if they are not there.
    pub fn store(&self, at: Hpa, bytes: u16, value: u64) -> bool {
        let Some((registers, offset)) = registers_at(&self.trapped, at) else {
            return false;
        };
        match bytes {
            1 => registers.write8(offset, value as u8),
            2 => registers.write16(offset, value as u16),
            4 => registers.write32(offset, value as u32),
            8 => registers.write64(offset, value),
            _ => return false,
        }
        true
    }
}

/// The registers at an address, and how far into them it is.
fn registers_at(trapped: &[(HpaRange, Registers)], at: Hpa) -> Option<(Registers, usize)> {
    let (range, registers) = trapped.iter().find(|(range, _)| range.contains(at))?;
    let offset = at.get().checked_sub(range.start().get())?;
    Some((*registers, usize::try_from(offset).ok()?))
}
