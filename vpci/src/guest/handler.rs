//! What is behind each dword of config space, found in one step.

use alloc::vec;
use alloc::vec::Vec;

use pci_host::ConfigOffset;

use super::msi::MsiRegister;
use crate::masks::{Filtered, Masks};

/// Dwords of config space.
const DWORDS: usize = 1024;

/// What a dword does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handler {
    /// Reads as 0 and ignores writes.
    Hidden,
    /// Reads as that and ignores writes.
    Fixed(u32),
    /// A value of the guest's own.
    Value {
        value: u32,
        /// What it is after a reset.
        reset: u32,
        masks: Masks,
    },
    /// A register of hardware.
    Hardware(Filtered),
    /// Command and status.
    Command,
    /// The first register of a BAR; 6 is the ROM.
    BarLow(u8),
    /// The second register of a BAR.
    BarHigh(u8),
    /// Device control and status of PCI Express.
    DeviceControl(Filtered),
    /// Id, next and address of vital product data.
    VpdAddress { offset: ConfigOffset, header: u16 },
    /// A register of MSI.
    Msi {
        register: MsiRegister,
        offset: ConfigOffset,
    },
    /// Id, next and control of MSI-X.
    MsiX,
}

/// The handlers of a function.
#[derive(Clone, Debug)]
pub(super) struct Handlers {
    /// For each dword, the number of its handler.
    places: [u8; DWORDS],
    list: Vec<Handler>,
}

impl Handlers {
    /// All hidden.
    pub fn new() -> Self {
        Self {
            places: [0; DWORDS],
            list: vec![Handler::Hidden],
        }
    }

    /// Puts a handler at the dword of `offset`, in the place of the one that is there. There is room
    /// for 255; a function has fewer registers that are shown, and what has no room is hidden.
    pub fn set(&mut self, offset: u16, handler: Handler) {
        let Some(place) = self.places.get_mut(usize::from(offset / 4)) else {
            return;
        };
        let next = u8::try_from(self.list.len());
        let known = self.list.get_mut(usize::from(*place));
        match (*place, known, next) {
            (1.., Some(known), _) => *known = handler,
            (_, _, Ok(number)) => {
                self.list.push(handler);
                *place = number;
            }
            _ => {}
        }
    }

    /// The handler of a dword.
    pub fn get(&self, dword: u16) -> Handler {
        let number = self.places.get(usize::from(dword));
        let handler = number.and_then(|number| self.list.get(usize::from(*number)));
        handler.copied().unwrap_or(Handler::Hidden)
    }

    /// Changes a [`Handler::Value`].
    pub fn store(&mut self, dword: u16, new: u32) {
        let number = self.places.get(usize::from(dword)).copied();
        let handler = number.and_then(|number| self.list.get_mut(usize::from(number)));
        if let Some(Handler::Value { value, .. }) = handler {
            *value = new;
        }
    }

    /// All values are as after a reset.
    pub fn reset(&mut self) {
        for handler in &mut self.list {
            if let Handler::Value { value, reset, .. } = handler {
                *value = *reset;
            }
        }
    }
}
