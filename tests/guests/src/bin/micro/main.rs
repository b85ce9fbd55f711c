//! Measures what a hypervisor's services cost its control domain.
//!
//! Each row is one line, `micro: ROW RUNS TICKS BASE`: the counter's ticks that RUNS runs took, and
//! those of the same loop without the service. Under QEMU's `-icount shift=0` ticks are instructions.
//!
//! Command line: `runs=NUMBER` for every row; names of rows to have only those; `linger` to wait for
//! ever in the end, instead of switching off.

#![no_std]
#![no_main]

mod config;
mod interrupts;
mod iommu;
mod messages;
mod traps;

use guests::machine::Machine;
use guests::println;

guests::entry!(main);

/// Runs of a row where the command line does not say.
const RUNS: u64 = 2000;

/// What a row took.
struct Cost {
    ticks: u64,
    base: u64,
}

/// A row: its name, and how it is measured for a number of runs; `None` if it cannot be here.
type Row = (&'static str, fn(&'static Machine, u64) -> Option<Cost>);

/// Rows of interrupts come last: for them the second CPU is started.
const ROWS: [&[Row]; 4] = [
    &traps::ROWS,
    &config::ROWS,
    &messages::ROWS,
    &interrupts::ROWS,
];

fn main(machine: &'static Machine) {
    println!("micro: gic {}", machine.gic.version());
    println!("micro: hertz {}", guests::time::hertz());
    let runs = machine.number("runs").unwrap_or(RUNS);
    let rows = || ROWS.into_iter().flatten();
    let named = || {
        rows()
            .chain(&iommu::ROWS)
            .filter(|(name, _)| machine.has(name))
    };
    let all = named().next().is_none();
    for (name, measure) in rows().filter(|_| all).chain(named()) {
        match measure(machine, runs) {
            Some(Cost { ticks, base }) => println!("micro: {name} {runs} {ticks} {base}"),
            None => println!("micro: {name} cannot be measured here"),
        }
    }
    println!("micro: done");
    while machine.has("linger") {
        // SAFETY: waits for an interrupt.
        unsafe { core::arch::asm!("wfi", options(nomem, nostack)) };
    }
}
