//! Interrupts to itself, as fast as they go, and a timer that never rests.

use guests::machine::Machine;
use guests::random::Random;
use guests::{exception, power, time};

use super::mark;

/// Ticks between timer interrupts: hardly more than one of them takes.
const PERIOD: u64 = 2000;
/// Software-generated interrupts.
const SGIS: u32 = 16;

pub fn run(machine: &'static Machine, random: &mut Random, count: u64) -> u64 {
    power::accept_interrupts(machine, &[time::TIMER_PPI]);
    (0..SGIS).for_each(|id| machine.gic.enable(id));
    exception::repeat_alarm(PERIOD);
    for done in 0..count {
        machine.gic.send_sgi(random.below(SGIS.into()) as u32, 0);
        mark(done, count);
    }
    time::no_alarm();
    count
}
