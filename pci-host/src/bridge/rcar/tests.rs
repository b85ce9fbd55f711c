use alloc::boxed::Box;
use alloc::vec::Vec;
use std::thread;

use super::*;
use crate::bridge::Bridge;
use crate::config::{Function, Register};
use crate::header::{self, Command, Status};
use crate::simulated::machines::description;
use crate::simulated::{Fabric, SimRCar, Slot, samples};
use crate::{HostSbdf, RequesterId};

/// A root port, a switch below it, and two disks below that.
fn fabric() -> Fabric {
    let port = |bus, behind| {
        samples::downstream_port()
            .with(0x18, Width::Dword, u32::from_le_bytes([2, bus, bus, 0]))
            .into_slot(bus, behind)
    };
    let up = samples::upstream_port().with(0x18, Width::Dword, 0x0004_0201);
    let root = samples::root_port().with(0x18, Width::Dword, 0x0004_0100);
    let switch = Slot::new(0, 0, up).with([port(3, samples::nvme()), port(4, samples::e1000e())]);
    Fabric::new([Slot::new(0, 0, root).with([switch])])
}

trait IntoSlot {
    fn into_slot(self, bus: u8, behind: crate::simulated::SimFunction) -> Slot;
}

impl IntoSlot for crate::simulated::SimFunction {
    fn into_slot(self, bus: u8, behind: crate::simulated::SimFunction) -> Slot {
        Slot::new(bus - 3, 0, self).with([Slot::new(0, 0, behind)])
    }
}

fn bridge(registers: &SimRCar) -> Bridge {
    let mut description = description("renesas,pcie-r8a7795", 0, BusRange::ALL);
    description.compatible.push("renesas,pcie-rcar-gen3".into());
    Bridge::probe(description, Box::new(registers.clone())).unwrap()
}

fn sbdf(text: &str) -> HostSbdf {
    text.parse().unwrap()
}

fn id(text: &str) -> RequesterId {
    sbdf(text).requester()
}

#[test]
fn each_level_is_reached_and_only_what_exists_answers() {
    for registers in [
        SimRCar::new(&fabric(), 0),
        SimRCar::new(&fabric(), 0).failing_early(),
    ] {
        let bridge = bridge(&registers);
        let device = |name| Function::new(&bridge, sbdf(name)).read(header::DEVICE_ID);
        assert_eq!(device("00:00.0"), 0x000c);
        assert_eq!(device("01:00.0"), 0x000c);
        assert_eq!(device("03:00.0"), 0xa808);
        assert_eq!(device("04:00.0"), 0x10d3);
        // Behind the root port a request of type 0 reaches the device whatever its device number.
        for absent in [
            "00:01.0", "00:00.1", "01:01.0", "01:00.1", "02:02.0", "03:01.0", "09:00.0",
        ] {
            assert_eq!(device(absent), 0xffff, "{absent}");
            Function::new(&bridge, sbdf(absent)).write(header::COMMAND, Command::all());
        }
        assert_eq!(device("04:00.0"), 0x10d3);
    }
}

#[test]
fn nothing_is_behind_a_link_that_is_down() {
    let registers = SimRCar::new(&fabric(), 0);
    registers.set_link(false);
    let bridge = bridge(&registers);
    assert_eq!(bridge.link(), Link::Down);
    let device = |name| Function::new(&bridge, sbdf(name)).read(header::DEVICE_ID);
    assert_eq!(device("01:00.0"), 0xffff);
    assert_eq!(device("00:00.0"), 0x000c);
    registers.set_link(true);
    assert_eq!(device("01:00.0"), 0x000c);
}

#[test]
fn a_link_on_its_way_to_sleep_is_woken_first() {
    let registers = SimRCar::new(&fabric(), 0);
    registers.enter_l1();
    let bridge = bridge(&registers);
    assert_eq!(
        Function::new(&bridge, sbdf("04:00.0")).read(header::DEVICE_ID),
        0x10d3
    );
}

#[test]
fn an_abort_of_before_does_not_fail_what_comes_after() {
    let fabric = fabric();
    let registers = SimRCar::new(&fabric, 0);
    let root = id("00:00.0");
    fabric.with(root, |port| port.raise(0x06, Width::Word, 0xb000));
    let bridge = bridge(&registers);
    let disk = Function::new(&bridge, sbdf("03:00.0"));
    assert_eq!(disk.read(header::DEVICE_ID), 0xa808);
    // Other errors of the root port are not the driver's to clear.
    let status = Function::new(&bridge, sbdf("00:00.0")).read(header::STATUS);
    assert!(status.contains(Status::PARITY_ERROR));
}

#[test]
fn a_narrow_write_leaves_its_neighbours() {
    let fabric = fabric();
    let registers = SimRCar::new(&fabric, 0);
    let bridge = bridge(&registers);
    let express = fabric.with(id("03:00.0"), |disk| {
        disk.raise(0x06, Width::Word, 0xf900);
        (0x40..0x100)
            .step_by(4)
            .find(|&at| disk.get(at, Width::Byte) == 0x10)
            .unwrap()
    });
    let express = express.unwrap();
    fabric.with(id("03:00.0"), |disk| {
        disk.raise(express + 10, Width::Word, 0x000f)
    });
    let disk = Function::new(&bridge, sbdf("03:00.0"));
    disk.write(header::COMMAND, Command::MEMORY | Command::BUS_MASTER);
    assert_eq!(disk.read(header::STATUS).bits() & 0xf900, 0xf900);
    assert_eq!(
        disk.read(header::COMMAND),
        Command::MEMORY | Command::BUS_MASTER
    );
    disk.write(header::CACHE_LINE_SIZE, 0x10);
    disk.write(header::INTERRUPT_LINE, 0x2a);
    assert_eq!(disk.read(header::INTERRUPT_PIN), 1);
    let at = |offset| crate::ConfigOffset::new(express + offset).unwrap();
    let control: Register<u16> = Register::new(at(8)).unwrap();
    let status: Register<u16> = Register::new(at(10)).unwrap();
    disk.write(control, 0x2810);
    assert_eq!(disk.read(status), 0x000f);
    disk.write(status, 0x0005);
    assert_eq!(disk.read(status), 0x000a);
    assert_eq!(disk.read(control), 0x2810);
    // The status clears what is meant, and nothing else.
    disk.write(header::STATUS, Status::PARITY_ERROR);
    assert_eq!(disk.read(header::STATUS).bits() & 0xf900, 0x7900);
}

#[test]
fn a_narrow_write_to_a_bridge_keeps_its_secondary_status() {
    let fabric = fabric();
    let bridge = bridge(&SimRCar::new(&fabric, 0));
    for name in ["00:00.0", "01:00.0"] {
        fabric.with(id(name), |port| port.raise(0x1e, Width::Word, 0xf900));
        let port = Function::new(&bridge, sbdf(name));
        port.write(header::IO_LIMIT, 0x20);
        assert_eq!(port.read(header::SECONDARY_STATUS).bits(), 0xf900, "{name}");
        assert_eq!(port.read(header::IO_LIMIT), 0x21, "{name}");
    }
    // In an endpoint the same dword is a BAR.
    let card = Function::new(&bridge, sbdf("04:00.0"));
    let bar: Register<u32> = Register::at(0x1c);
    card.write(bar, 0xffff_0000);
    card.write(Register::<u8>::at(0x1d), 0x40);
    assert_eq!(card.read(bar), 0xffff_4000);
}

#[test]
fn accesses_of_several_processors_do_not_interleave() {
    let registers = SimRCar::new(&fabric(), 0);
    let bridge = bridge(&registers);
    thread::scope(|scope| {
        for name in ["03:00.0", "04:00.0", "01:00.0", "05:00.0"] {
            let function = Function::new(&bridge, sbdf(name));
            scope.spawn(move || {
                let expected = function.read(header::DEVICE_ID);
                for line in 0..200_u8 {
                    function.write(header::INTERRUPT_LINE, line);
                    assert_eq!(function.read(header::DEVICE_ID), expected);
                }
            });
        }
    });
}

#[test]
fn two_controllers_work_at_once() {
    let (one, other) = (SimRCar::new(&fabric(), 0), SimRCar::new(&fabric(), 0));
    let mut bridges = crate::bridge::Bridges::new();
    bridges.add(bridge(&one)).unwrap();
    let second = description("renesas,pcie-rcar-gen3", 1, BusRange::ALL);
    bridges
        .add(Bridge::probe(second, Box::new(other.clone())).unwrap())
        .unwrap();
    one.set_link(false);
    let device = |name| Function::new(&bridges, sbdf(name)).read(header::DEVICE_ID);
    assert_eq!(device("0000:03:00.0"), 0xffff);
    assert_eq!(device("0001:03:00.0"), 0xa808);
}

/// All narrow writes of zeros and ones, as ECAM carries them and by whole dwords: with all events
/// pending, the function is the same afterwards.
#[test]
fn every_narrow_write_does_what_it_does_through_ecam() {
    for name in ["00:00.0", "01:00.0", "03:00.0"] {
        let fabrics = [fabric(), fabric()];
        let r_car = bridge(&SimRCar::new(&fabrics[0], 0));
        let ecam = crate::simulated::machines::ecam(&fabrics[1], 0, BusRange::ALL);
        let original = fabrics[0]
            .with(id(name), |function| function.clone())
            .unwrap();
        let after = |fabric: &Fabric, bridge: &Bridge, access, value| -> Vec<u8> {
            fabric.with(id(name), |function| {
                *function = original.clone();
                function.raise_all();
            });
            bridge.write(sbdf(name), access, value);
            let bytes = fabric.with(id(name), |function| function.bytes().to_vec());
            bytes.unwrap()
        };
        for offset in 0..0x160 {
            for width in [Width::Byte, Width::Word] {
                let offset = crate::ConfigOffset::new(offset).unwrap();
                let Some(access) = Access::new(offset, width) else {
                    continue;
                };
                for value in [0, u32::MAX] {
                    let there = after(&fabrics[0], &r_car, access, value);
                    let here = after(&fabrics[1], &ecam, access, value);
                    assert_eq!(there, here, "{name} {offset} {width:?} {value:#x}");
                }
            }
        }
    }
}
