//! The distributor of GICv3 (IHI 0069, 12.9), with affinity routing and a single security state,
//! neither of which can be changed. Registers of private interrupts are in the redistributors.

use xen_types::{Affinity, Spi};

use super::super::distributor::{Distributor, Route};
use super::super::effects::Effects;
use super::bank;
use super::{Access, Direction, IIDR, Width, read_part, write_part};

const CTLR: u32 = 0x0000;
const TYPER: u32 = 0x0004;
const GICD_IIDR: u32 = 0x0008;
const IROUTER: u32 = 0x6000;
const PIDR2: u32 = 0xffe8;

/// `GICD_CTLR.ARE`.
const CTLR_ARE: u32 = 1 << 4;
/// `GICD_CTLR.DS`.
const CTLR_DS: u32 = 1 << 6;
/// `GICD_TYPER.LPIS`.
const TYPER_LPIS: u32 = 1 << 17;
/// `GICD_TYPER.IDbits`: bits of INTIDs, less one.
const TYPER_ID_BITS_SHIFT: u32 = 19;
/// `GICD_TYPER.No1N`: an interrupt goes to the CPU that `GICD_IROUTER` names, never to any.
const TYPER_NO_1N: u32 = 1 << 25;
/// Affinity levels 0 to 2: `GICD_TYPER.A3V` is zero.
const ROUTE: u64 = 0xff_ffff;
/// Architecture version 3.
pub(super) const PIDR2_VALUE: u32 = 0x3b;

/// An access to the distributor: what it reads, and whether `GICD_CTLR` changed what is forwarded.
pub fn access(distributor: &mut Distributor, access: Access, effects: &mut Effects) -> (u64, bool) {
    if !access.is_aligned() {
        return (0, false);
    }
    let value = match (access.offset, access.width) {
        (0x0080..0x0800, _) => banked(distributor, access, effects),
        (CTLR, Width::Word) => return control(distributor, access.direction),
        (TYPER, Width::Word) => {
            let lines = (distributor.spis().div_ceil(32) & 0x1f) as u32;
            let id_bits = u32::from(distributor.id_bits());
            let lpis = if id_bits > 10 { TYPER_LPIS } else { 0 };
            (lines | lpis | (id_bits - 1) << TYPER_ID_BITS_SHIFT | TYPER_NO_1N).into()
        }
        (GICD_IIDR, Width::Word) => IIDR.into(),
        (0x6100..0x7fe0, Width::Word | Width::Double) => route(distributor, access, effects),
        (PIDR2, Width::Word) => PIDR2_VALUE.into(),
        _ => banked(distributor, access, effects),
    };
    (value, false)
}

fn banked(distributor: &mut Distributor, access: Access, effects: &mut Effects) -> u64 {
    match bank::decode(access) {
        Some(register) => bank::access(distributor, register, access, effects),
        None => 0,
    }
}

/// `GICD_CTLR`: writes take effect at once, so that RWP is never seen.
fn control(distributor: &mut Distributor, direction: Direction) -> (u64, bool) {
    match direction {
        Direction::Read => {
            let value = CTLR_ARE | CTLR_DS | u32::from(distributor.groups());
            (value.into(), false)
        }
        Direction::Write(value) => {
            let groups = value as u8 & 0b11;
            let changed = groups != distributor.groups();
            distributor.set_groups(groups);
            (0, changed)
        }
    }
}

fn route(distributor: &mut Distributor, access: Access, effects: &mut Effects) -> u64 {
    let intid = (access.offset - IROUTER) / 8;
    let Some(spi) = intid.checked_sub(32).and_then(Spi::new) else {
        return 0;
    };
    let Some(Route::Affinity(old)) = distributor.route(spi) else {
        return 0;
    };
    match access.direction {
        Direction::Read => read_part(old.get(), access),
        Direction::Write(value) => {
            let new = Affinity::from_mpidr(write_part(old.get(), access, value) & ROUTE);
            distributor.set_route(spi, Route::Affinity(new), effects);
            0
        }
    }
}
