//! Guests: what Dom0's user space makes of domctls, from a domain's creation to its last page.

use anyhow::Result;
use xtask::qemu::{GicVersion, Session};

use super::Test;
use super::abi::{GICS, in_dom0, run};
use super::dom0::Kernel;
use super::xrs::{at_once, first_line, killed_at_calls, machine, one_guest, shortage};

/// Host seconds that the cycles may take more than another test.
const SPARE: u32 = 120;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for gic in GICS {
        for kernel in [Kernel::V6_12, Kernel::V6_1] {
            let name = format!("guests::lives-linux-{}-gicv{gic}", kernel.release());
            tests.push(Test::new(name, move |case| {
                in_dom0(case, kernel, gic, SPARE, |session| {
                    life(session, gic)?;
                    cycles(session)
                })
            }));
        }
        // Each kernel is a guest on one of the controllers, and Dom0 on the other.
        let (dom0, guest) = match gic {
            GicVersion::V2 => (Kernel::V6_12, Kernel::V6_1),
            GicVersion::V3 => (Kernel::V6_1, Kernel::V6_12),
        };
        let (above, below) = (guest.release(), dom0.release());
        let name = format!("guests::linux-{above}-under-{below}-gicv{gic}");
        tests.push(Test::new(name, move |case| {
            one_guest(case, machine(case, gic), dom0, guest)
        }));
    }
    tests.push(Test::new("guests::thousand-cycles", |case| {
        in_dom0(case, Kernel::V6_12, GicVersion::V3, SPARE, thousand_cycles)
    }));
    tests.push(Test::new("guests::shortage", shortage));
    tests.push(Test::new("guests::time-to-the-first-line", |case| {
        first_line(case, machine(case, GicVersion::V3))
    }));
    tests.push(Test::new(
        "guests::four-at-once-and-a-hostile-one",
        |case| at_once(case, machine(case, GicVersion::V3)),
    ));
    tests.push(Test::new("guests::killed-at-every-call", |case| {
        killed_at_calls(case, machine(case, GicVersion::V3), 1)
    }));
    tests
}

/// A guest runs and ends by itself; one is destroyed while its memory is mapped; what cannot be had is
/// refused. One that may have devices has an ITS where the machine has one.
fn life(session: &mut Session, gic: GicVersion) -> Result<()> {
    run(session, "domains refusals", "^DOMAINS: refused$")?;
    run(session, "domains run", "^DOMAINS: ran")?;
    session.saw("^DOMAINS: the guest said \"spoken\"$")?;
    run(session, "domains held", "^DOMAINS: 3 pages held$")?;
    let messages = match gic {
        GicVersion::V2 => "^DOMAINS: devices, no ITS$",
        GicVersion::V3 => "^DOMAINS: devices, an ITS$",
    };
    run(session, "domains devices", messages)
}

/// A hundred domains are made, half of them run, and all are ended: as much memory is free as before, to
/// the page.
fn cycles(session: &mut Session) -> Result<()> {
    run(session, "domains cycles 100 16", "^DOMAINS: 100 cycles")
}

/// The same with ten times as many smaller ones: the last take no longer than the first.
fn thousand_cycles(session: &mut Session) -> Result<()> {
    run(session, "domains cycles 1000 3", "^DOMAINS: 1000 cycles")
}
