//! What resets a function without PCI Express' own way: power management (PCI Express Base 6.0,
//! 7.5.2; PCI Bus Power Management 1.2, 3.2) and the advanced features of conventional PCI (ECN
//! Conventional PCI Advanced Capabilities, 27 July 2006).

use super::at;
use crate::config::{ConfigAccess, ConfigOffset, Function, Register};

/// PMCSR: power state, 1:0.
pub const STATE: u16 = 0b11;
/// PMCSR: D3hot.
pub const D3_HOT: u16 = 0b11;
/// PMCSR: going from D3hot to D0 keeps the function's state.
const NO_SOFT_RESET: u16 = 1 << 3;
/// PMCSR: PME enable; its status beside it is cleared by writing 1.
const PME_ENABLE: u16 = 1 << 8;

/// Power management.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PowerManagement {
    /// Where it begins.
    pub offset: ConfigOffset,
    /// Going to D3hot and back keeps the function's state: it is no reset.
    pub no_soft_reset: bool,
}

impl PowerManagement {
    /// Reads the capability at `offset`.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
    ) -> Option<Self> {
        let control: u16 = function.read(at(offset, 4)?);
        Some(Self {
            offset,
            no_soft_reset: control & NO_SOFT_RESET != 0,
        })
    }

    /// Control and status (PMCSR).
    pub fn control(self) -> Option<Register<u16>> {
        at(self.offset, 4)
    }

    /// The function's power state, 0 to 3.
    pub fn state<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) -> u16 {
        let control = self.control();
        control.map_or(0, |control| function.read(control) & STATE)
    }

    /// Brings the function to a power state, with PME off.
    pub fn set_state<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>, state: u16) {
        if let Some(control) = self.control() {
            let kept = function.read(control) & !(STATE | PME_ENABLE);
            function.write(control, kept | state & STATE);
        }
    }
}

/// Advanced features: transactions pending and function level reset.
const CAN_RESET: u8 = 0b11;

/// Advanced features of conventional PCI, with function level reset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AdvancedFeatures {
    /// Where it begins.
    pub offset: ConfigOffset,
}

impl AdvancedFeatures {
    /// Reads the capability at `offset`; `None` for one that cannot reset.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
    ) -> Option<Self> {
        let features: u8 = function.read(at(offset, 3)?);
        (features & CAN_RESET == CAN_RESET).then_some(Self { offset })
    }

    /// Resets the function.
    pub fn reset<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) {
        if let Some(control) = at::<u8>(self.offset, 4) {
            function.write(control, 1);
        }
    }

    /// Whether the function still waits for completions.
    pub fn has_pending<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) -> bool {
        at::<u8>(self.offset, 5).is_some_and(|status| function.read(status) & 1 != 0)
    }
}
