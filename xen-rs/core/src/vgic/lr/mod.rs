//! List registers: the interrupts that the hardware's virtual CPU interface knows about
//! (IHI 0048, 5.2; IHI 0069, 4.5 and 4.6).

mod v2;
mod v3;

pub use self::v2::GicV2;
pub use self::v3::GicV3;

use xen_types::IntId;

/// Most list registers that an implementation can have in use here: GICv3 has up to 16.
pub const MAX: usize = 16;

/// Maintenance interrupt when none or one list register is valid (bit 1 of GICH_HCR and
/// ICH_HCR_EL2).
const HCR_UIE: u32 = 1 << 1;
/// Maintenance interrupt when an end of interrupt matched no list register.
const HCR_LRENPIE: u32 = 1 << 2;
/// Number of ends that matched no list register.
const HCR_EOI_COUNT_SHIFT: u32 = 27;

/// What one list register says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListRegister {
    /// The interrupt that the guest sees.
    pub id: IntId,
    /// Pending.
    pub pending: bool,
    /// Active. With neither, the list register is free.
    pub active: bool,
    /// Priority; formats keep the five highest bits at least.
    pub priority: u8,
    /// Group 1 rather than 0.
    pub group1: bool,
    /// What is behind it.
    pub backing: Backing,
}

/// What is behind a list register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// A physical interrupt, which the hardware deactivates together with the virtual one.
    Hardware(IntId),
    /// The hypervisor.
    Software {
        /// Whether a maintenance interrupt tells that the guest is done with it.
        notify_end: bool,
        /// The CPU that sent it: for SGIs of a GICv2, 0 to 7.
        source: u8,
    },
}

/// How a list register is spelled.
pub trait Format {
    /// The register.
    type Register: Copy + Default + PartialEq + core::fmt::Debug;

    /// The value of the register.
    fn encode(register: &ListRegister) -> Self::Register;

    /// What the value says; `None` for an interrupt that does not exist.
    fn decode(value: Self::Register) -> Option<ListRegister>;
}

/// What is to be known of all list registers together.
mod holds {
    use super::{Backing, IntId, ListRegister};

    /// A shared interrupt.
    pub const SHARED: u8 = 1 << 0;
    /// An LPI.
    pub const LPI: u8 = 1 << 1;
    /// One that asks for a maintenance interrupt of its own.
    pub const WATCHED: u8 = 1 << 2;

    #[inline]
    pub const fn of(register: &ListRegister) -> u8 {
        let kind = match register.id {
            IntId::Spi(_) => SHARED,
            IntId::Lpi(_) => LPI,
            IntId::Sgi(_) | IntId::Ppi(_) => 0,
        };
        match register.backing {
            Backing::Software {
                notify_end: true, ..
            } => kind | WATCHED,
            _ => kind,
        }
    }
}

/// The list registers of a virtual CPU, to be written to the hardware before it runs, and read from
/// there after.
#[derive(Debug)]
pub struct ListRegisters<F: Format> {
    registers: [F::Register; MAX],
    implemented: usize,
    used: usize,
    maintenance: u32,
    unlisted_ends: u32,
    /// What they hold: bits of [`holds`].
    holds: u8,
    /// There were more interrupts than they can hold.
    left_out: bool,
}

impl<F: Format> ListRegisters<F> {
    /// All free. `implemented` is how many the hardware has, of which at most [`MAX`] are used and
    /// at least one: the number of GICH_VTR or ICH_VTR_EL2, plus one.
    pub fn new(implemented: usize) -> Self {
        Self {
            registers: [F::Register::default(); MAX],
            implemented: implemented.clamp(1, MAX),
            used: 0,
            maintenance: 0,
            unlisted_ends: 0,
            holds: 0,
            left_out: false,
        }
    }

    /// The registers that hold an interrupt; the hardware's others must be zero.
    #[inline]
    pub fn used(&self) -> &[F::Register] {
        self.registers.get(..self.used).unwrap_or(&[])
    }

    /// Where to put what the hardware's registers say after the guest ran.
    #[inline]
    pub fn used_mut(&mut self) -> &mut [F::Register] {
        self.registers.get_mut(..self.used).unwrap_or(&mut [])
    }

    /// The maintenance interrupts that are needed: bits of GICH_HCR or ICH_HCR_EL2, to which the
    /// caller adds En (bit 0) and traps. EOICount is zero.
    #[inline]
    pub const fn hcr(&self) -> u32 {
        self.maintenance
    }

    /// Takes note of GICH_HCR or ICH_HCR_EL2 after the guest ran.
    #[inline]
    pub const fn set_hcr(&mut self, hcr: u32) {
        self.unlisted_ends = hcr >> HCR_EOI_COUNT_SHIFT;
    }

    /// Whether the guest's ends may cause a maintenance interrupt: the caller must then look whether
    /// one is asserted, and sync if so, before the guest runs on.
    #[inline]
    pub const fn are_watched(&self) -> bool {
        self.maintenance != 0 || self.holds & holds::WATCHED != 0
    }

    /// Whether they hold no shared interrupt, and all that the CPU had when they were filled.
    pub(super) const fn are_unshared(&self) -> bool {
        !self.left_out && self.holds & holds::SHARED == 0
    }

    /// Whether they hold LPIs.
    pub(super) const fn have_lpis(&self) -> bool {
        self.holds & holds::LPI != 0
    }

    /// Whether none is free.
    pub(super) const fn are_full(&self) -> bool {
        self.used >= self.implemented
    }

    pub(super) const fn implemented(&self) -> usize {
        self.implemented
    }

    /// How often the guest ended an interrupt that is in no list register.
    pub(super) fn take_unlisted_ends(&mut self) -> u32 {
        core::mem::take(&mut self.unlisted_ends)
    }

    /// Takes the last one out.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<ListRegister> {
        while let Some(used) = self.used.checked_sub(1) {
            self.used = used;
            let value = core::mem::take(self.registers.get_mut(used)?);
            if let Some(register) = F::decode(value) {
                return Some(register);
            }
        }
        self.holds = 0;
        None
    }

    /// Fills the next one.
    #[inline]
    pub(super) fn push(&mut self, register: &ListRegister) {
        if let Some(slot) = self.registers.get_mut(self.used) {
            *slot = F::encode(register);
            self.used += 1;
            self.holds |= holds::of(register);
        }
    }

    /// Asks for a maintenance interrupt when they run out (`refill`), and when an interrupt is
    /// ended that is active without a list register (`unlisted_active`).
    #[inline]
    pub(super) const fn set_maintenance(&mut self, refill: bool, unlisted_active: bool) {
        self.left_out = refill;
        // A single list register is never above the threshold of the underflow interrupt.
        let underflow = refill && self.implemented > 1;
        self.maintenance =
            if underflow { HCR_UIE } else { 0 } | if unlisted_active { HCR_LRENPIE } else { 0 };
    }
}
