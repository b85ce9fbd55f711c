//! The distributor of GICv2 (IHI 0048, 4.3): one page, in which the first registers of each kind
//! are those of the CPU that accesses them.
//!
//! There are no security extensions, so no groups. A CPU number is a bit of an 8-bit mask.

use xen_types::{IntId, Sgi, Spi};

use super::super::Version;
use super::super::cpu::Cpu;
use super::super::distributor::{Distributor, Route};
use super::super::effects::{CpuId, CpuSet, Effects};
use super::super::irq::Irq;
use super::super::marks::Marks;
use super::super::sgi::Request;
use super::bank::{self, Bank, Field, Register};
use super::{Access, Direction, IIDR, Width};

const CTLR: u32 = 0x000;
const TYPER: u32 = 0x004;
const GICD_IIDR: u32 = 0x008;
const SGIR: u32 = 0xf00;
/// Architecture version 2, as GIC-400 reads.
const ICPIDR2: u32 = 0xfe8;

/// Whether a register is about pending or active states.
pub const fn is_about_state(offset: u32) -> bool {
    bank::is_about_state(offset) || matches!(offset, 0xf10..0xf30)
}

/// The distributor as one CPU sees it.
struct View<'a> {
    distributor: &'a mut Distributor,
    cpu: &'a mut Cpu,
}

impl Bank for View<'_> {
    fn irq(&self, id: IntId) -> Option<&Irq> {
        match id {
            IntId::Spi(spi) => self.distributor.irq(spi),
            _ => self.cpu.irq(id),
        }
    }

    fn marks(&self, first: u32) -> Marks {
        if first == 0 {
            self.cpu.marks()
        } else {
            Bank::marks(self.distributor, first)
        }
    }

    fn change(&mut self, id: IntId, effects: &mut Effects, change: impl FnOnce(&mut Irq)) {
        match id {
            IntId::Spi(spi) => self.distributor.change(spi, effects, change),
            _ => {
                self.cpu.change(id, effects, change);
            }
        }
    }
}

/// What a guest writes to `GICD_SGIR`, if this is what the access does. It concerns nothing but the
/// private interrupts of the targets.
#[inline]
pub const fn sent_sgi(access: Access) -> Option<u32> {
    match (access.offset, access.width, access.direction) {
        (SGIR, Width::Word, Direction::Write(value)) => Some(value as u32),
        _ => None,
    }
}

/// An access to the distributor, but for [`sent_sgi`]: what it reads, and whether `GICD_CTLR`
/// changed what is forwarded.
pub fn access(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    access: Access,
    effects: &mut Effects,
) -> (u64, bool) {
    if !access.is_aligned() {
        return (0, false);
    }
    let value = match (access.offset, access.width) {
        (0x080..0x800, _) => banked(distributor, cpu, access, effects),
        (CTLR, Width::Word) => return control(distributor, access.direction),
        (TYPER, Width::Word) => {
            let lines = (distributor.spis().div_ceil(32) & 0x1f) as u32;
            let cpus = (distributor.cpus().saturating_sub(1) & 0x7) as u32;
            (lines | cpus << 5).into()
        }
        (GICD_IIDR, Width::Word) => IIDR.into(),
        (0x800..0xbfc, Width::Byte | Width::Word) => targets(distributor, cpu, access, effects),
        (0xf10..0xf30, Width::Byte | Width::Word) => sgi_pending(cpu, access, effects),
        (ICPIDR2, Width::Word) => 0x2b,
        _ => banked(distributor, cpu, access, effects),
    };
    (value, false)
}

fn control(distributor: &mut Distributor, direction: Direction) -> (u64, bool) {
    match direction {
        Direction::Read => (distributor.groups().into(), false),
        Direction::Write(value) => {
            let groups = value as u8 & 1;
            let changed = groups != distributor.groups();
            distributor.set_groups(groups);
            (0, changed)
        }
    }
}

fn banked(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    mut access: Access,
    effects: &mut Effects,
) -> u64 {
    match bank::decode(access) {
        None | Some(Register::Bits(Field::Group, _)) => 0,
        Some(register) => {
            // The pending state of SGIs is written through registers that name the source.
            if let (Register::Bits(field, 0), Direction::Write(value)) =
                (register, access.direction)
                && field.is_pending()
            {
                access.direction = Direction::Write(value & !0xffff);
            }
            bank::access(&mut View { distributor, cpu }, register, access, effects)
        }
    }
}

/// `GICD_ITARGETSR`. Those of private interrupts read the CPU itself.
fn targets(distributor: &mut Distributor, cpu: &Cpu, access: Access, effects: &mut Effects) -> u64 {
    let existing = (1_u32 << distributor.cpus().min(8)) - 1;
    let mut read = 0;
    for byte in 0..access.width.bytes() {
        let intid = access.offset - 0x800 + byte;
        match (IntId::new(intid), access.direction) {
            (Some(IntId::Spi(spi)), Direction::Read) => {
                read |= target_mask(distributor, spi) << (8 * byte);
            }
            (Some(IntId::Spi(spi)), Direction::Write(value)) => {
                let mask = (value >> (8 * byte)) as u32 & existing;
                distributor.set_route(spi, Route::Targets(mask as u8), effects);
            }
            (Some(_), Direction::Read) => read |= (1 << (cpu.id().get() & 7)) << (8 * byte),
            _ => {}
        }
    }
    u64::from(read)
}

fn target_mask(distributor: &Distributor, spi: Spi) -> u32 {
    match distributor.route(spi) {
        Some(Route::Targets(mask)) => mask.into(),
        _ => 0,
    }
}

/// `GICD_CPENDSGIR` and `GICD_SPENDSGIR`: a byte of source CPUs for each SGI.
fn sgi_pending(cpu: &mut Cpu, access: Access, effects: &mut Effects) -> u64 {
    let set = access.offset & 0x20 != 0;
    let mut read = 0;
    for byte in 0..access.width.bytes() {
        let Some(sgi) = Sgi::new((access.offset & 0xf) + byte) else {
            continue;
        };
        match access.direction {
            Direction::Read => {
                let sources = cpu.irq(sgi.into()).map_or(0, Irq::sources);
                read |= u32::from(sources) << (8 * byte);
            }
            Direction::Write(value) => {
                let sources = (value >> (8 * byte)) as u8;
                cpu.change(sgi.into(), effects, |irq| {
                    if set {
                        irq.add_sources(sources);
                    } else {
                        irq.remove_sources(sources);
                    }
                });
            }
        }
    }
    u64::from(read)
}

/// `GICD_SGIR` (IHI 0048, 4.3.15). The reserved filter sends nothing.
pub fn sgir(from: CpuId, all: CpuSet, value: u32) -> Option<Request> {
    let targets = match value >> 24 & 0b11 {
        0 => CpuSet::from_bits(u128::from(value >> 16 & 0xff)).intersection(all),
        1 => {
            let mut others = all;
            others.remove(from);
            others
        }
        2 => {
            let mut own = CpuSet::EMPTY;
            own.insert(from);
            own
        }
        _ => return None,
    };
    Some(Request {
        version: Version::V2,
        sgi: Sgi::new(value & 0xf)?,
        from,
        targets,
        group1_too: true,
    })
}
