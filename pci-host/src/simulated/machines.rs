//! Whole machines: a fabric and the host bridge in front of it.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use xen_types::{Hpa, HpaRange};

use super::{Fabric, SimEcam, SimRCar, Slot, samples};
use crate::bridge::{Bridge, BusRange, Description, Space, Window};

/// A fabric and the host bridge that leads to it.
pub struct Machine {
    /// What is behind the bridge.
    pub fabric: Fabric,
    /// The bridge, driven.
    pub bridge: Bridge,
}

/// What a host bridge of that kind may be described as: I/O, memory below 4 GiB and 512 GiB above.
pub fn description(kind: &str, segment: u16, buses: BusRange) -> Description {
    let range = |start, size| HpaRange::new(Hpa::new(start), size).expect("constants");
    let memory = |bus_address, host| Window {
        space: Space::Memory {
            prefetchable: false,
        },
        bus_address,
        host,
    };
    Description {
        name: "/pcie@40000000".into(),
        compatible: vec![kind.into()],
        registers: vec![range(0x40_1000_0000, 0x1000_0000)],
        segment,
        buses,
        windows: vec![
            Window {
                space: Space::Io,
                bus_address: 0,
                host: range(0x3eff_0000, 0x1_0000),
            },
            memory(0x1000_0000, range(0x1000_0000, 0x2eff_0000)),
            memory(0x80_0000_0000, range(0x80_0000_0000, 0x80_0000_0000)),
        ],
        routes: Default::default(),
    }
}

/// An ECAM bridge with all its buses in front of a fabric.
pub fn ecam(fabric: &Fabric, segment: u16, buses: BusRange) -> Bridge {
    let registers = SimEcam::new(fabric, buses.first(), buses.count());
    let description = description("pci-host-ecam-generic", segment, buses);
    Bridge::probe(description, Box::new(registers)).expect("a bridge that is driven")
}

/// An R-Car controller in front of a fabric with one root port.
pub fn r_car(fabric: &Fabric, segment: u16) -> Bridge {
    let registers = SimRCar::new(fabric, 0);
    let mut description = description("renesas,pcie-r8a7795", segment, BusRange::ALL);
    description.compatible.push("renesas,pcie-rcar-gen3".into());
    Bridge::probe(description, Box::new(registers)).expect("a bridge that is driven")
}

/// What the tests plug in below one root port: a switch with a disk, a network card of two functions,
/// a graphics card, a port with nothing behind, and a bridge to conventional PCI with two cards.
pub fn switch() -> Slot {
    let port = |device| Slot::new(device, 0, samples::downstream_port());
    let conventional = [
        Slot::new(1, 0, samples::serial_card()),
        Slot::new(2, 0, samples::serial_card()),
    ];
    let [first, second] = samples::igb_pair();
    let network = [Slot::new(0, 0, first), Slot::new(0, 1, second)];
    Slot::new(0, 0, samples::upstream_port()).with([
        port(0).with([Slot::new(0, 0, samples::nvme())]),
        port(1).with(network),
        port(2).with([Slot::new(0, 0, samples::gpu())]),
        Slot::new(3, 0, samples::downstream_port().with_link(false)),
        port(4).with([Slot::new(0, 0, samples::legacy_bridge()).with(conventional)]),
    ])
}

/// The functions of [`switch`] below a root port at 00:`device`.0.
pub fn root_port(device: u8) -> Slot {
    Slot::new(device, 0, samples::root_port()).with([switch()])
}

/// The same switch behind each kind of host bridge.
pub fn both() -> Vec<Machine> {
    let fabrics = [Fabric::new([root_port(0)]), Fabric::new([root_port(0)])];
    let [behind_ecam, behind_r_car] = fabrics;
    let ecam = ecam(&behind_ecam, 0, BusRange::ALL);
    let r_car = r_car(&behind_r_car, 0);
    let machine = |fabric, bridge| Machine { fabric, bridge };
    vec![machine(behind_ecam, ecam), machine(behind_r_car, r_car)]
}

/// A machine such as a server: a host bridge's function, cards on the root bus, and root ports, of
/// which one has nothing behind it.
pub fn server() -> Machine {
    let fabric = Fabric::new([
        Slot::new(0, 0, samples::host_bridge()),
        Slot::new(1, 0, samples::e1000e()),
        Slot::new(2, 0, samples::root_port().multifunction()).with([Slot::new(
            0,
            0,
            samples::nvme(),
        )]),
        Slot::new(2, 1, samples::root_port().multifunction()).with([Slot::new(
            0,
            0,
            samples::xhci(),
        )]),
        Slot::new(3, 0, samples::root_port().with_link(false)),
        root_port(4),
    ]);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    Machine { fabric, bridge }
}
