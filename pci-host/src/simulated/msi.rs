//! Message signalled interrupts: what leaves a function when it raises a vector (PCI Local Bus 3.0,
//! 6.8).

use super::SimFunction;
use super::fabric::Hit;
use crate::RequesterId;
use crate::config::Width;

/// A message on its way to the interrupt controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who sent it.
    pub requester: RequesterId,
    /// The doorbell.
    pub address: u64,
    /// What is written there.
    pub data: u32,
}

/// Bytes of an entry of the MSI-X table, and of its fields.
const ENTRY: u64 = 16;
const UPPER: u64 = 4;
const DATA: u64 = 8;
const CONTROL: u64 = 12;

impl SimFunction {
    /// Raises a vector: the message, or none if it is masked (it stays pending then) or disabled.
    pub(super) fn raise_vector(&mut self, vector: u16) -> Option<Message> {
        if let Some(at) = self.special.msi_x
            && self.get(at + 2, Width::Word) & 1 << 15 != 0
        {
            return self.raise_msi_x(at, vector);
        }
        let at = self.special.msi?;
        self.raise_msi(at, vector)
    }

    fn raise_msi(&mut self, at: u16, vector: u16) -> Option<Message> {
        let control = self.get(at + 2, Width::Word);
        let enabled = 1u16 << (control >> 4 & 7);
        if control & 1 == 0 || vector >= enabled {
            return None;
        }
        if self.get(at + 0x10, Width::Dword) & 1 << vector != 0 {
            self.raise(at + 0x14, Width::Dword, 1 << vector);
            return None;
        }
        let address = u64::from(self.get(at + 4, Width::Dword))
            | u64::from(self.get(at + 8, Width::Dword)) << 32;
        let data = self.get(at + 0xc, Width::Word);
        // The vector replaces the low bits (6.8.3.5).
        let data = data & !u32::from(enabled - 1) | u32::from(vector);
        Some(message(address, data))
    }

    fn raise_msi_x(&mut self, at: u16, vector: u16) -> Option<Message> {
        let control = self.get(at + 2, Width::Word);
        if u32::from(vector) > control & 0x7ff {
            return None;
        }
        let table = self.structure(at + 4);
        let pending = self.structure(at + 8);
        let entry = table.1 + u64::from(vector) * ENTRY;
        let field = |offset| self.memory_at(table.0, entry + offset);
        let masked = control & 1 << 14 != 0 || field(CONTROL).unwrap_or(1) & 1 != 0;
        if masked {
            let dword = pending.1 + u64::from(vector / 32) * 4;
            let bits = self.memory.entry((pending.0, dword)).or_default();
            *bits |= 1 << (vector % 32);
            return None;
        }
        let address = u64::from(field(0).unwrap_or(0)) | u64::from(field(UPPER).unwrap_or(0)) << 32;
        Some(message(address, field(DATA).unwrap_or(0)))
    }

    fn structure(&self, register: u16) -> (usize, u64) {
        let bits = self.get(register, Width::Dword);
        (0x10 + 4 * (bits & 7) as usize, u64::from(bits & !7))
    }

    fn memory_at(&self, register: usize, offset: u64) -> Option<u32> {
        self.memory.get(&(register, offset)).copied()
    }

    /// What memory that nobody wrote reads as: the mask bit of an MSI-X entry is 1 after a reset.
    pub(super) fn memory_default(&self, hit: Hit) -> u32 {
        let Some(at) = self.special.msi_x else {
            return 0;
        };
        let (register, start) = self.structure(at + 4);
        let entries = u64::from(self.get(at + 2, Width::Word) & 0x7ff) + 1;
        let inside = usize::from(hit.register) == register
            && (start..start + entries * ENTRY).contains(&hit.offset);
        u32::from(inside && (hit.offset - start) % ENTRY == CONTROL)
    }
}

fn message(address: u64, data: u32) -> Message {
    Message {
        requester: RequesterId::from_bits(0),
        address,
        data,
    }
}
