//! Numbers that are known to be in range.

use core::fmt;
use core::num::NonZeroU16;

use xen_abi::event_channel::TWO_LEVEL_CHANNELS;
use xen_abi::virq;

/// A port number of the two-level ABI: 1 to 4095. Port 0 is never valid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// Bits in a word of the pending bitmap.
    const WORD_BITS: u32 = u64::BITS;
    /// The first port.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The port of this number; `None` for 0 and what the ABI has no bit for.
    pub fn new(number: u32) -> Option<Self> {
        if number >= TWO_LEVEL_CHANNELS {
            return None;
        }
        u16::try_from(number)
            .ok()
            .and_then(NonZeroU16::new)
            .map(Self)
    }

    /// Its number.
    pub fn get(self) -> u32 {
        u32::from(self.0.get())
    }

    /// The port that follows.
    pub fn next(self) -> Option<Self> {
        Self::new(self.get() + 1)
    }

    /// Its word in the bitmaps, which is its bit in a selector: below 64.
    pub fn word(self) -> u32 {
        self.get() / Self::WORD_BITS
    }

    /// Its bit in that word.
    pub fn bit(self) -> u64 {
        1 << (self.get() % Self::WORD_BITS)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.0)
    }
}

/// The number of a vCPU of some domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VcpuId(u32);

impl VcpuId {
    /// The first, which every domain has.
    pub const ZERO: Self = Self(0);

    /// vCPU number `number`.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Who can have a virtual interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirqKind {
    /// Each vCPU has its own.
    PerVcpu,
    /// Each domain has its own.
    PerDomain,
    /// One domain receives it.
    Global,
}

/// A virtual interrupt's number, below [`virq::NR_VIRQS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Virq(u8);

impl Virq {
    /// The console has input.
    pub const CONSOLE: Self = Self(virq::CONSOLE as u8);
    /// A domain was shut down or died.
    pub const DOM_EXC: Self = Self(virq::DOM_EXC as u8);
    /// The hypervisor's log has new text.
    pub const CON_RING: Self = Self(virq::CON_RING as u8);

    /// The virtual interrupt of this number; `None` out of range.
    pub fn new(number: u32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (usize::from(number) < virq::NR_VIRQS).then_some(Self(number))
    }

    /// Its number.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Who can have it. Those of the architecture are global on Arm.
    pub fn kind(self) -> VirqKind {
        match self.get() {
            virq::TIMER | virq::DEBUG | virq::XENOPROF | virq::XENPMU => VirqKind::PerVcpu,
            virq::ARGO => VirqKind::PerDomain,
            _ => VirqKind::Global,
        }
    }
}
