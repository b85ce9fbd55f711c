//! What registers with a bit for each of 32 interrupts read, kept as such: guests read them more
//! often than they change them.
//!
//! Only what does not change by itself is here. Pending and active states are gathered when they are
//! read, which is rare, so that taking an interrupt need not keep anything.

use super::irq::Irq;

/// What 32 interrupts are configured to be, a bit each.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Marks {
    /// Those that are enabled.
    pub enabled: u32,
    /// Those of group 1.
    pub group1: u32,
}

impl Marks {
    /// Of 32 interrupts as after reset.
    pub(super) const fn new(group1: bool) -> Self {
        Self {
            enabled: 0,
            group1: if group1 { u32::MAX } else { 0 },
        }
    }

    /// Takes note of what one of them is now; `number` counts modulo 32.
    pub(super) const fn note(&mut self, number: u32, irq: &Irq) {
        let bit = 1 << (number % 32);
        self.enabled = self.enabled & !bit | if irq.is_enabled() { bit } else { 0 };
        self.group1 = self.group1 & !bit | if irq.is_group1() { bit } else { 0 };
    }
}
