//! The registers of LPIs in a redistributor (IHI 0069, 12.11.2, 12.11.25 and 12.11.26).

use super::super::effects::{CpuId, Effects};
use super::super::lpi::Lpis;
use super::{Access, Direction, Width, read_part, write_part};
use crate::its::layout::{
    CTLR_CLEARABLE, CTLR_ENABLE_LPIS, GICR_CTLR, GICR_PENDBASER, GICR_PROPBASER,
};

/// A register, as an access of the right width names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    Control,
    Configuration,
    Pending,
}

/// Whether a register of the redistributors is `GICR_CTLR`.
pub const fn is_control(offset: u32) -> bool {
    offset & ((1 << super::redistributor::SIZE_SHIFT) - 1) == GICR_CTLR
}

/// The register that an access reaches, if it is one of these.
pub fn decode(access: Access) -> Option<Register> {
    if !access.is_aligned() {
        return None;
    }
    let offset = access.offset & ((1 << super::redistributor::SIZE_SHIFT) - 1);
    let whole_or_half = matches!(access.width, Width::Word | Width::Double);
    match offset & !7 {
        GICR_CTLR if offset == GICR_CTLR && access.width == Width::Word => Some(Register::Control),
        GICR_PROPBASER if whole_or_half => Some(Register::Configuration),
        GICR_PENDBASER if whole_or_half => Some(Register::Pending),
        _ => None,
    }
}

/// An access to a register in the frames of `cpu`.
pub fn access(
    lpis: &mut Lpis,
    cpu: CpuId,
    register: Register,
    access: Access,
    effects: &mut Effects,
) -> u64 {
    match (register, access.direction) {
        (Register::Control, Direction::Read) => {
            let enabled = if lpis.is_enabled_on(cpu) {
                CTLR_ENABLE_LPIS
            } else {
                0
            };
            (enabled | CTLR_CLEARABLE).into()
        }
        (Register::Control, Direction::Write(value)) => {
            lpis.enable_on(cpu, value as u32 & CTLR_ENABLE_LPIS != 0, effects);
            0
        }
        (Register::Configuration, Direction::Read) => read_part(lpis.configuration(), access),
        (Register::Configuration, Direction::Write(value)) => {
            lpis.set_configuration(write_part(lpis.configuration(), access, value));
            0
        }
        (Register::Pending, Direction::Read) => read_part(lpis.pending_table(cpu), access),
        (Register::Pending, Direction::Write(value)) => {
            lpis.set_pending_table(cpu, write_part(lpis.pending_table(cpu), access, value));
            0
        }
    }
}
