//! The redistributors of GICv3 (IHI 0069, 12.10 and 12.11): two frames of 64 KiB for each CPU, one
//! after the other in a single region. The registers of LPIs are in `lpi`.

use super::super::affinity_of;
use super::super::cpu::Cpu;
use super::super::effects::Effects;
use super::bank;
use super::v3::PIDR2_VALUE;
use super::{Access, Direction, IIDR, Width, read_part};

/// log2 of the bytes of a CPU's frames.
pub const SIZE_SHIFT: u32 = 17;
/// Where the frame of private interrupts starts.
const SGI_BASE: u32 = 0x1_0000;

const GICR_IIDR: u32 = 0x0004;
const TYPER: u32 = 0x0008;
const TYPER_HIGH: u32 = 0x000c;
const WAKER: u32 = 0x0014;
const PIDR2: u32 = 0xffe8;

const TYPER_LPIS: u64 = 1;
const TYPER_LAST: u64 = 1 << 4;
const TYPER_NUMBER_SHIFT: u32 = 8;
const TYPER_AFFINITY_SHIFT: u32 = 32;

const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;

/// Whether a register is about pending or active states.
pub const fn is_about_state(offset: u32) -> bool {
    let offset = offset & ((1 << SIZE_SHIFT) - 1);
    offset >= SGI_BASE && bank::is_about_state(offset - SGI_BASE)
}

/// What `GICR_TYPER` says besides which CPU it is.
#[derive(Clone, Copy)]
pub struct Traits {
    /// The frames are the region's last.
    pub last: bool,
    /// There are LPIs.
    pub lpis: bool,
}

/// An access to the frames of `cpu`.
pub fn access(cpu: &mut Cpu, traits: Traits, access: Access, effects: &mut Effects) -> u64 {
    if !access.is_aligned() {
        return 0;
    }
    match access.offset & ((1 << SIZE_SHIFT) - 1) {
        offset @ ..SGI_BASE => control(cpu, traits, access.at(offset)),
        offset => {
            let access = access.at(offset - SGI_BASE);
            match bank::decode(access) {
                Some(register) => bank::access(cpu, register, access, effects),
                None => 0,
            }
        }
    }
}

/// The frame `RD_base`. `GICR_CTLR` has nothing to control without LPIs.
fn control(cpu: &mut Cpu, traits: Traits, access: Access) -> u64 {
    match (access.offset, access.width) {
        (GICR_IIDR, Width::Word) => IIDR.into(),
        (TYPER, Width::Word | Width::Double) | (TYPER_HIGH, Width::Word) => {
            let affinity = affinity_of(cpu.id()).packed();
            let register = u64::from(affinity) << TYPER_AFFINITY_SHIFT
                | (cpu.id().get() as u64) << TYPER_NUMBER_SHIFT
                | if traits.last { TYPER_LAST } else { 0 }
                | if traits.lpis { TYPER_LPIS } else { 0 };
            read_part(register, access)
        }
        (WAKER, Width::Word) => waker(cpu, access.direction),
        (PIDR2, Width::Word) => PIDR2_VALUE.into(),
        _ => 0,
    }
}

/// `GICR_WAKER`: the CPU interface follows at once. What is asleep still takes interrupts, as a
/// guest turns its CPU interface off before it lets it sleep.
fn waker(cpu: &mut Cpu, direction: Direction) -> u64 {
    match direction {
        Direction::Read if cpu.is_asleep() => {
            (WAKER_PROCESSOR_SLEEP | WAKER_CHILDREN_ASLEEP).into()
        }
        Direction::Read => 0,
        Direction::Write(value) => {
            cpu.set_asleep(value as u32 & WAKER_PROCESSOR_SLEEP != 0);
            0
        }
    }
}
