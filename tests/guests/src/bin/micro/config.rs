//! Reads of config space, through the host bridge's memory.

use guests::machine::Machine;
use guests::mmio::read32;
use guests::mmu;

use super::Row;
use super::traps::time;

/// Bytes of config space of a function.
const FUNCTION: u64 = 0x1000;
/// Functions of the root bus.
const FUNCTIONS: u64 = 256;
/// What nobody reads as.
const NOBODY: u32 = u32::MAX;

pub const ROWS: [Row; 2] = [
    ("config-read", |machine, runs| {
        let function = functions(machine)?.next()?;
        time(runs, || read32(function).into())
    }),
    ("config-read-last", |machine, runs| {
        let function = functions(machine)?.last()?;
        time(runs, || read32(function).into())
    }),
];

/// Looks for a function of the root bus, which is found if it is there.
pub fn look(machine: &Machine, devfn: u8) -> Option<()> {
    let start = machine.ecam?;
    mmu::map(start);
    let read = read32(start + FUNCTION * u64::from(devfn));
    (read != NOBODY).then_some(())
}

/// Where the config space of each function of the root bus is.
fn functions(machine: &Machine) -> Option<impl Iterator<Item = u64>> {
    let start = machine.ecam?;
    mmu::map(start);
    let all = (0..FUNCTIONS).map(move |number| start + FUNCTION * number);
    Some(all.filter(|function| read32(*function) != NOBODY))
}
