//! Message interrupts: events of a device, by commands of the ITS.

use guests::its::Its;
use guests::machine::Machine;
use guests::{exception, power, time};

use super::Row;
use super::interrupts::measure;

/// The event that is raised, and the one that is mapped.
const RAISED: u64 = 0;
const MAPPED: u64 = 1;
/// Looks for an interrupt until it is given up.
const PATIENCE: u32 = 100_000;

pub const ROWS: [Row; 2] = [
    ("its-int", |machine, runs| {
        let its = set_up(machine)?;
        if !(its.map(RAISED) && its.synchronise() && raise(&its).is_some()) {
            return None;
        }
        measure(runs, || raise(&its).unwrap_or(u64::from(u32::MAX)))
    }),
    ("its-map", |machine, runs| {
        let its = set_up(machine)?;
        if !its.map(MAPPED) {
            return None;
        }
        measure(runs, || map(&its))
    }),
];

fn set_up(machine: &'static Machine) -> Option<Its> {
    let its = Its::set_up(machine.its?, &machine.gic);
    power::accept_interrupts(machine, &[]);
    its.wait().then_some(its)
}

/// From the command to the interrupt.
fn raise(its: &Its) -> Option<u64> {
    let start = time::now();
    its.raise(RAISED);
    let arrived = (0..PATIENCE).find_map(|_| exception::arrival(0))?;
    Some(arrived - start)
}

/// From the command until it is complete. The event is free before and after.
fn map(its: &Its) -> u64 {
    its.discard(MAPPED);
    let start = time::now();
    its.map(MAPPED);
    time::now() - start
}
