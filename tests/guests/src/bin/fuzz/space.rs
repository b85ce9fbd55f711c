//! Loads and stores anywhere in the address space but in the memory that the guest is in: its devices,
//! pages that only its toolstack knows, and where nothing is.

use guests::machine::Machine;
use guests::mmu;
use guests::random::Random;
use guests::{exception, println};
use xen_abi::layout;

use super::gic::{load, store};
use super::mark;

/// Bytes that the guest's tables map as one.
const BLOCK: u64 = 1 << 30;

pub fn run(machine: &Machine, random: &mut Random, count: u64) -> u64 {
    exception::tolerate();
    let own = mmu::image().start / BLOCK;
    let uart = machine.uart.unwrap_or(layout::VPL011.base);
    println!("fuzz: serial port at {uart:#x}");
    let mut done = 0;
    while done < count {
        let address = match random.below(8) {
            // The serial port but for its data: what is said there is to be read.
            0 => uart + 4 + random.below(layout::VPL011.size - 8),
            1 => layout::GICD.base + random.below(0x10_0000),
            2 => layout::MAGIC.base + random.below(0x10_0000),
            3 => layout::GRANT_TABLE.base + random.below(layout::GRANT_TABLE.size),
            4 | 5 => random.below(BLOCK),
            _ => random.below(mmu::UNMAPPED),
        };
        if address / BLOCK == own {
            continue;
        }
        let width = 1 << random.below(4);
        match random.once_in(2) {
            true => load(address, width),
            false => store(address, width, random.next()),
        };
        done += 1;
        mark(done, count);
    }
    count
}
