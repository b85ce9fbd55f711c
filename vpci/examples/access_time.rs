//! What an emulated access to config space costs, with one function and with 4,096:
//! `cargo run --release -p vpci --example access_time`.

use std::hint::black_box;
use std::time::Instant;

use pci_host::bar::Bar;
use pci_host::bridge::BusRange;
use pci_host::config::ConfigAccess;
use pci_host::enumerate::enumerate;
use pci_host::resources::assign;
use pci_host::simulated::{Fabric, Slot, machines, samples};
use pci_host::{Access, ConfigOffset, HostSbdf, RequesterId, Sbdf};
use vpci::GuestSbdf;
use vpci::access::GuestAccess;
use vpci::bus::GuestPci;
use vpci::guest::{GuestFunction, GuestWindows, Interrupts};

const ROUNDS: u32 = 4_000_000;

/// Hardware whose accesses cost nothing.
struct Nothing;

impl ConfigAccess for Nothing {
    fn read(&self, _: HostSbdf, _: Access) -> u32 {
        0
    }

    fn write(&self, _: HostSbdf, _: Access, _: u32) {}
}

fn main() {
    let fabric = Fabric::new([Slot::new(1, 0, samples::nvme())]);
    let bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    let mut devices = enumerate(&bridge, &fabric).devices;
    assign(&bridge, &mut devices);
    let place = |bar: &Bar| {
        let description = bridge.description();
        description.to_host(!bar.kind.is_memory(), bar.address?, bar.size)
    };
    let device = devices.first().expect("the disk is there");
    let start = Instant::now();
    let views = 10_000;
    for _ in 0..views {
        black_box(GuestFunction::new(&Nothing, device, Interrupts::ALL, place));
    }
    println!("{:8.1} ns: a view is made", nanoseconds(start, views));
    let disk = GuestFunction::new(&bridge, device, Interrupts::ALL, place);
    for count in [1, 4096] {
        let mut pci = GuestPci::new((0..count / 256 + 1).map(|_| GuestWindows::default()));
        for number in 0..count {
            pci.add_at(name(number), disk.clone())
                .expect("a free place");
        }
        let last = name(count - 1);
        measure(&pci, count, "one of them, again and again", |_| last);
        measure(&pci, count, "all of them in turn", |round| {
            name((round % u32::from(count)) as u16)
        });
    }
}

fn name(number: u16) -> GuestSbdf {
    let requester = RequesterId::ari(0, number as u8);
    GuestSbdf(Sbdf::new(number / 256, requester))
}

fn measure(pci: &GuestPci, count: u16, which: &str, name: impl Fn(u32) -> GuestSbdf) {
    let offset = ConfigOffset::new(0x10).expect("a constant");
    let access = GuestAccess::new(offset, 4).expect("a constant");
    let start = Instant::now();
    for round in 0..ROUNDS {
        black_box(pci.read(&Nothing, black_box(name(round)), access));
    }
    let time = nanoseconds(start, ROUNDS);
    println!("{time:8.1} ns: a read with {count} functions, {which}");
}

fn nanoseconds(start: Instant, rounds: u32) -> f64 {
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}
