//! The registers with a field for each interrupt, which the distributor and the SGI frame of a
//! redistributor have at the same offsets (IHI 0048, 4.3; IHI 0069, 12.9 and 12.11).

use xen_types::{IntId, Trigger};

use super::super::cpu::Cpu;
use super::super::distributor::Distributor;
use super::super::effects::Effects;
use super::super::irq::Irq;
use super::super::marks::Marks;
use super::super::ready::Bits;
use super::{Access, Direction, Width};

/// A register with one bit for each of 32 interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `IGROUPR`.
    Group,
    /// `ISENABLER`.
    SetEnable,
    /// `ICENABLER`.
    ClearEnable,
    /// `ISPENDR`.
    SetPending,
    /// `ICPENDR`.
    ClearPending,
    /// `ISACTIVER`.
    SetActive,
    /// `ICACTIVER`.
    ClearActive,
}

/// A register, with the INTID of its first field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// A bit each.
    Bits(Field, u32),
    /// `IPRIORITYR`, a byte each.
    Priority(u32),
    /// `ICFGR`, two bits each.
    Config(u32),
}

/// Which register an aligned access means, if it is one of these.
pub fn decode(access: Access) -> Option<Register> {
    let offset = access.offset;
    match (offset, access.width) {
        (0x080..0x400, Width::Word) => {
            let field = match offset >> 7 {
                1 => Field::Group,
                2 => Field::SetEnable,
                3 => Field::ClearEnable,
                4 => Field::SetPending,
                5 => Field::ClearPending,
                6 => Field::SetActive,
                _ => Field::ClearActive,
            };
            Some(Register::Bits(field, (offset & 0x7f) * 8))
        }
        (0x400..0x7fc, Width::Byte | Width::Word) => Some(Register::Priority(offset - 0x400)),
        (0xc00..0xd00, Width::Word) => Some(Register::Config((offset - 0xc00) * 4)),
        _ => None,
    }
}

/// Whether it is one of `ISPENDR`, `ICPENDR`, `ISACTIVER` and `ICACTIVER`.
pub const fn is_about_state(offset: u32) -> bool {
    matches!(offset, 0x200..0x400)
}

/// Interrupts that have such registers.
pub trait Bank {
    /// The interrupt, if it is one of this bank.
    fn irq(&self, id: IntId) -> Option<&Irq>;
    /// What registers with a bit each read of 32 interrupts; `first` is the INTID of their first.
    fn marks(&self, first: u32) -> Marks;
    /// Changes it by software.
    fn change(&mut self, id: IntId, effects: &mut Effects, change: impl FnOnce(&mut Irq));
}

impl Bank for Cpu {
    fn irq(&self, id: IntId) -> Option<&Irq> {
        Cpu::irq(self, id)
    }

    fn marks(&self, first: u32) -> Marks {
        if first == 0 {
            Cpu::marks(self)
        } else {
            Marks::default()
        }
    }

    fn change(&mut self, id: IntId, effects: &mut Effects, change: impl FnOnce(&mut Irq)) {
        Cpu::change(self, id, effects, change);
    }
}

impl Bank for Distributor {
    fn irq(&self, id: IntId) -> Option<&Irq> {
        match id {
            IntId::Spi(spi) => Distributor::irq(self, spi),
            _ => None,
        }
    }

    fn marks(&self, first: u32) -> Marks {
        match (first / 32).checked_sub(1) {
            Some(word) => Distributor::marks(self, word as usize),
            None => Marks::default(),
        }
    }

    fn change(&mut self, id: IntId, effects: &mut Effects, change: impl FnOnce(&mut Irq)) {
        if let IntId::Spi(spi) = id {
            Distributor::change(self, spi, effects, change);
        }
    }
}

/// Carries an access out. Reads return the value, writes zero.
pub fn access(
    bank: &mut impl Bank,
    register: Register,
    access: Access,
    effects: &mut Effects,
) -> u64 {
    match access.direction {
        Direction::Read => read(bank, register, access.width).into(),
        Direction::Write(value) => {
            write(bank, register, access.width, value as u32, effects);
            0
        }
    }
}

fn read(bank: &impl Bank, register: Register, width: Width) -> u32 {
    match register {
        Register::Bits(Field::Group, first) => bank.marks(first).group1,
        Register::Bits(Field::SetEnable | Field::ClearEnable, first) => bank.marks(first).enabled,
        Register::Bits(field, first) => gather(bank, first, 32, |irq| field.of(irq).into()),
        Register::Priority(first) => {
            gather(bank, first, width.bytes(), |irq| irq.priority().into())
        }
        Register::Config(first) => gather(bank, first, 16, |irq| match irq.trigger() {
            Trigger::Level => 0b00,
            Trigger::Edge => 0b10,
        }),
    }
}

fn write(
    bank: &mut impl Bank,
    register: Register,
    width: Width,
    value: u32,
    effects: &mut Effects,
) {
    match register {
        Register::Bits(Field::Group, first) => {
            for bit in 0..32 {
                change(bank, first + bit, effects, |irq| {
                    irq.set_group1(value >> bit & 1 != 0);
                });
            }
        }
        Register::Bits(field, first) => {
            for bit in Bits(value) {
                change(bank, first + u32::from(bit), effects, |irq| field.set(irq));
            }
        }
        Register::Priority(first) => {
            for byte in 0..width.bytes() {
                change(bank, first + byte, effects, |irq| {
                    irq.set_priority((value >> (8 * byte)) as u8);
                });
            }
        }
        Register::Config(first) => {
            // SGIs are edge-triggered, whatever is written.
            for field in (0..16).filter(|field| first + field >= 16) {
                change(bank, first + field, effects, |irq| {
                    irq.set_trigger(match value >> (2 * field + 1) & 1 {
                        0 => Trigger::Level,
                        _ => Trigger::Edge,
                    });
                });
            }
        }
    }
}

/// A value with `fields` equal fields, of as many interrupts.
fn gather(bank: &impl Bank, first: u32, fields: u32, field: impl Fn(&Irq) -> u32) -> u32 {
    let width = match fields {
        32 => 1,
        16 => 2,
        _ => 8,
    };
    (0..fields).fold(0, |value, index| {
        match IntId::new(first + index).and_then(|id| bank.irq(id)) {
            Some(irq) => value | field(irq) << (width * index),
            None => value,
        }
    })
}

fn change(bank: &mut impl Bank, intid: u32, effects: &mut Effects, change: impl FnOnce(&mut Irq)) {
    if let Some(id) = IntId::new(intid) {
        bank.change(id, effects, change);
    }
}

impl Field {
    /// What a read shows: the set and the clear register show the same.
    fn of(self, irq: &Irq) -> bool {
        match self {
            Self::Group => irq.is_group1(),
            Self::SetEnable | Self::ClearEnable => irq.is_enabled(),
            Self::SetPending | Self::ClearPending => irq.is_pending(),
            Self::SetActive | Self::ClearActive => irq.is_active(),
        }
    }

    /// What writing a one does.
    fn set(self, irq: &mut Irq) {
        match self {
            Self::Group => irq.set_group1(true),
            Self::SetEnable => irq.set_enabled(true),
            Self::ClearEnable => irq.set_enabled(false),
            Self::SetPending => {
                irq.set_pending();
            }
            Self::ClearPending => irq.clear_pending(),
            Self::SetActive => irq.set_active(true),
            Self::ClearActive => irq.set_active(false),
        }
    }

    /// Whether it is the pending state, which SGIs of GICv2 have in other registers.
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::SetPending | Self::ClearPending)
    }
}
