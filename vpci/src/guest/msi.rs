//! MSI as a guest sees it (PCI Local Bus 3.0, 6.8.1; PCI Express Base 6.0, 7.7.1).
//!
//! None of its registers is hardware's but the pending bits: what the guest writes says what it
//! wants, and what the device sends is the hypervisor's business (XSA-128, XSA-129).

use pci_host::capability::Msi;

use crate::access::Lane;

/// Message control: enable.
const ENABLE: u32 = 1 << 16;
/// Message control: multiple message enable, 6:4.
const ENABLED_SHIFT: u32 = 20;
const ENABLED: u32 = 0b111 << ENABLED_SHIFT;

/// What a guest wants of its messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MsiState {
    /// Whether messages are sent at all.
    pub enabled: bool,
    /// log2 of how many vectors.
    pub vectors_log2: u8,
    /// Where the guest wants them written.
    pub address: u64,
    /// What the guest wants written; vectors replace the low bits.
    pub data: u16,
    /// The vectors that are masked.
    pub mask: u32,
}

/// A register of the capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MsiRegister {
    /// Id, next and message control.
    Control,
    AddressLow,
    AddressHigh,
    Data,
    Mask,
    Pending,
}

/// The capability and what its registers hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuestMsi {
    capability: Msi,
    header: u16,
    state: MsiState,
}

impl GuestMsi {
    /// With `header` as id and next capability.
    pub fn new(capability: Msi, header: u16) -> Self {
        Self {
            capability,
            header,
            state: MsiState::default(),
        }
    }

    pub fn state(&self) -> MsiState {
        self.state
    }

    /// As after a reset.
    pub fn reset(&mut self) {
        self.state = MsiState::default();
    }

    /// The registers, in the order of their dwords.
    pub fn registers(capability: Msi) -> &'static [MsiRegister] {
        use MsiRegister::{AddressHigh, AddressLow, Control, Data, Mask, Pending};
        match (capability.is_64bit, capability.has_masks) {
            (false, false) => &[Control, AddressLow, Data],
            (true, false) => &[Control, AddressLow, AddressHigh, Data],
            (false, true) => &[Control, AddressLow, Data, Mask, Pending],
            (true, true) => &[Control, AddressLow, AddressHigh, Data, Mask, Pending],
        }
    }

    /// Which bits the mask and pending registers have.
    pub fn vectors_mask(&self) -> u32 {
        let vectors = 1_u32 << self.capability.vectors_log2;
        u32::MAX >> (32 - vectors)
    }

    /// Reads a register that is not hardware's.
    pub fn read(&self, register: MsiRegister) -> u32 {
        let state = self.state;
        match register {
            MsiRegister::Control => {
                let mut control = u32::from(self.header);
                control |= u32::from(self.capability.vectors_log2) << 17;
                control |= u32::from(self.capability.is_64bit) << 23;
                control |= u32::from(self.capability.has_masks) << 24;
                control |= u32::from(state.vectors_log2) << ENABLED_SHIFT;
                control | if state.enabled { ENABLE } else { 0 }
            }
            MsiRegister::AddressLow => state.address as u32,
            MsiRegister::AddressHigh => (state.address >> 32) as u32,
            MsiRegister::Data => state.data.into(),
            MsiRegister::Mask => state.mask,
            MsiRegister::Pending => 0,
        }
    }

    /// Writes a register. Returns whether anything is different.
    pub fn write(&mut self, register: MsiRegister, lane: Lane, value: u32) -> bool {
        let before = self.state;
        let after = lane.insert(self.read(register), value);
        let vectors = self.vectors_mask();
        let state = &mut self.state;
        match register {
            MsiRegister::Control => {
                state.enabled = after & ENABLE != 0;
                let wanted = ((after & ENABLED) >> ENABLED_SHIFT) as u8;
                // More than the function has, or a reserved value: as many as it has.
                state.vectors_log2 = wanted.min(self.capability.vectors_log2);
            }
            MsiRegister::AddressLow => {
                let low = u64::from(after & !0b11);
                state.address = state.address & !u64::from(u32::MAX) | low;
            }
            MsiRegister::AddressHigh => {
                let low = state.address & u64::from(u32::MAX);
                state.address = u64::from(after) << 32 | low;
            }
            MsiRegister::Data => state.data = after as u16,
            MsiRegister::Mask => state.mask = after & vectors,
            MsiRegister::Pending => {}
        }
        self.state != before
    }
}
