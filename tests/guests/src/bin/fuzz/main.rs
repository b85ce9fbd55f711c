//! Makes calls and accesses that no sane guest makes, from a seed, and says how many.
//!
//! Whatever it does, the hypervisor must neither stop nor hang; what it answers is its own matter.
//!
//! Command line: what to do, one or more of `hypercalls`, `gic`, `space`, `tables`, `storm`,
//! `registers`, `firmware`, `vectors`; `seed=NUMBER` for other numbers; `count=NUMBER` for how many calls; `both` for
//! hypercalls of two CPUs at once. Each kind prints marks as it goes and ends with `fuzz: done COUNT`.

#![no_std]
#![no_main]

mod firmware;
mod gic;
mod hypercalls;
mod registers;
mod scratch;
mod space;
mod storm;
mod tables;
mod values;
mod vectors;

use guests::machine::Machine;
use guests::random::Random;
use guests::{exception, println};

guests::entry!(main);

/// Calls where the command line does not say.
const COUNT: u64 = 100_000;

/// A kind of torment: what it does, given how many calls to make; returns how many it made.
type Torment = fn(&'static Machine, &mut Random, u64) -> u64;

const KINDS: [(&str, Torment); 8] = [
    ("hypercalls", hypercalls::run),
    ("gic", gic::run),
    ("space", space::run),
    ("tables", tables::run),
    ("storm", storm::run),
    ("registers", registers::run),
    ("firmware", firmware::run),
    ("vectors", vectors::run),
];

fn main(machine: &'static Machine) {
    let seed = machine.number("seed").unwrap_or(1);
    let count = machine.number("count").unwrap_or(COUNT);
    let mut random = Random::new(seed);
    for (name, torment) in KINDS {
        if !machine.has(name) {
            continue;
        }
        println!("fuzz: {name}, seed {seed}");
        let done = torment(machine, &mut random, count);
        println!("fuzz: survived {} exceptions", exception::survived());
        println!("fuzz: done {done}");
    }
}

/// Says that it still goes on, eight times in `total`.
fn mark(done: u64, total: u64) {
    if done.is_multiple_of((total / 8).max(1)) {
        println!("fuzz: at {done} of {total}");
    }
}
