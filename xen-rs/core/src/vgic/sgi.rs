//! Software generated interrupts: who gets one.

use xen_types::Sgi;

use super::cpu::Cpu;
use super::effects::{CpuId, CpuSet, Effects};
use super::{Version, cpu_with_levels};

/// The registers that a GICv3 guest sends SGIs with (IHI 0069, 12.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SgiRegister {
    /// `ICC_SGI1R_EL1`.
    Sgi1,
    /// `ICC_ASGI1R_EL1`: those of group 1 of the other security state, of which there is none.
    Asgi1,
    /// `ICC_SGI0R_EL1`: those of group 0.
    Sgi0,
}

/// An SGI on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub version: Version,
    pub sgi: Sgi,
    pub from: CpuId,
    pub targets: CpuSet,
    /// Whether those of group 1 may be sent so.
    pub group1_too: bool,
}

impl Request {
    /// What a write to one of the registers asks for, with `all` in the domain: a list of 16 CPUs
    /// of one cluster, or all but the sender.
    #[inline]
    pub fn of_system_register(
        register: SgiRegister,
        value: u64,
        from: CpuId,
        all: CpuSet,
    ) -> Option<Self> {
        let field = |shift: u32| (value >> shift) as u8;
        let targets = if value >> 40 & 1 != 0 {
            let mut others = all;
            others.remove(from);
            others
        } else {
            let range = field(44) & 0xf;
            let first = cpu_with_levels([range << 4, field(16), field(32), field(48)]);
            // CPUs of a cluster are numbered in a row: the list is a part of the set.
            first.map_or(CpuSet::EMPTY, |first| {
                CpuSet::from_bits(u128::from(value as u16) << first.get()).intersection(all)
            })
        };
        Some(Self {
            version: Version::V3,
            sgi: Sgi::new(u32::from(field(24) & 0xf))?,
            from,
            targets,
            group1_too: register == SgiRegister::Sgi1,
        })
    }

    /// Arrives at a target. Returns whether that is news for it.
    #[inline]
    pub fn arrive(&self, cpu: &mut Cpu, effects: &mut Effects) -> bool {
        cpu.pend(self.sgi.into(), effects, |irq| match self.version {
            Version::V2 => irq.add_sources(1 << (self.from.get() & 7)),
            Version::V3 => (self.group1_too || !irq.is_group1()) && irq.set_pending(),
        })
    }
}
