use alloc::string::ToString;

use pci_host::bar::Bar;
use pci_host::bridge::BusRange;
use pci_host::enumerate::enumerate;
use pci_host::resources::assign;
use pci_host::simulated::machines::{self, Machine, ecam};
use pci_host::simulated::{Fabric, Slot, samples};
use pci_host::{ConfigOffset, Device};

use super::*;
use crate::guest::Interrupts;

struct Host {
    machine: Machine,
    devices: Vec<Device>,
}

fn host() -> Host {
    let pair = samples::igb_pair();
    let pair = [0, 1].map(|number| Slot::new(0, number, pair[usize::from(number)].clone()));
    let port = |device| Slot::new(device, 0, samples::root_port());
    let fabric = Fabric::new([
        port(1).with(pair),
        port(2).with([Slot::new(0, 0, samples::nvme())]),
        port(3).with([Slot::new(0, 0, samples::nvme())]),
    ]);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    let mut devices = enumerate(&bridge, &fabric).devices;
    assign(&bridge, &mut devices);
    devices.retain(|device| !device.is_bridge());
    let machine = Machine { fabric, bridge };
    Host { machine, devices }
}

fn function(host: &Host, device: &Device) -> GuestFunction {
    let place = |bar: &Bar| {
        let description = host.machine.bridge.description();
        description.to_host(!bar.kind.is_memory(), bar.address?, bar.size)
    };
    GuestFunction::new(&host.machine.bridge, device, Interrupts::ALL, place)
}

fn pci() -> GuestPci {
    let memory = GpaRange::new(Gpa::new(0x2000_0000), 0x1000_0000).unwrap();
    let windows = || GuestWindows {
        memory: alloc::vec![memory],
        io: None,
    };
    GuestPci::new([windows(), windows()])
}

fn sbdf(text: &str) -> GuestSbdf {
    text.parse().unwrap()
}

fn access(offset: u16, bytes: u16) -> GuestAccess {
    GuestAccess::new(ConfigOffset::new(offset).unwrap(), bytes).unwrap()
}

#[test]
fn functions_of_a_device_stay_together_and_others_get_devices_of_their_own() {
    let host = host();
    let mut pci = pci();
    let names: Vec<_> = host
        .devices
        .iter()
        .map(|device| pci.add(0, function(&host, device)).unwrap().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "0000:00:01.0",
            "0000:00:01.1",
            "0000:00:02.0",
            "0000:00:03.0"
        ]
    );
    let config = &host.machine.bridge;
    let kind = |pci: &GuestPci, name| pci.read(config, sbdf(name), access(0x0e, 1));
    assert_eq!((kind(&pci, "00:01.0"), kind(&pci, "00:02.0")), (0x80, 0));
    assert_eq!(
        pci.remove(sbdf("00:01.0")).unwrap_err().to_string(),
        "0000:00:01.0: function 0 of the device comes first and goes last"
    );
    pci.remove(sbdf("00:01.1")).unwrap();
    assert_eq!(kind(&pci, "00:01.0"), 0);
    pci.remove(sbdf("00:01.0")).unwrap();
    assert_eq!(pci.read(config, sbdf("00:01.0"), access(0, 8)), u64::MAX);
    assert_eq!(pci.iter().count(), 2);
}

#[test]
fn a_place_of_the_callers_choice_must_be_free_and_there() {
    let host = host();
    let mut pci = pci();
    let disk = || function(&host, &host.devices[2]);
    pci.add_at(sbdf("0001:00:1f.0"), disk()).unwrap();
    let error = |pci: &mut GuestPci, name| pci.add_at(sbdf(name), disk()).unwrap_err().to_string();
    assert_eq!(
        error(&mut pci, "0001:00:1f.0"),
        "0001:00:1f.0: another function is there"
    );
    assert_eq!(
        error(&mut pci, "0002:00:01.0"),
        "0002:00:01.0: the guest has no such PCI bus"
    );
    assert_eq!(
        error(&mut pci, "0000:01:01.0"),
        "0000:01:01.0: the guest has no such PCI bus"
    );
    assert!(error(&mut pci, "0000:00:01.1").contains("function 0"));
}

#[test]
fn two_functions_do_not_take_the_same_memory() {
    let host = host();
    let mut pci = pci();
    let config = &host.machine.bridge;
    let disks: Vec<_> = host.devices[2..]
        .iter()
        .map(|device| pci.add(0, function(&host, device)).unwrap())
        .collect();
    let mut maps = [0, 0];
    for (maps, disk) in maps.iter_mut().zip(&disks) {
        pci.write(config, *disk, access(0x10, 4), 0x2000_0000);
        pci.write(config, *disk, access(4, 2), 2);
        while let Some(effect) = pci.next_effect(config, *disk) {
            *maps += usize::from(matches!(effect, Effect::Map(_)));
        }
    }
    assert_eq!(maps, [1, 0]);
    assert_eq!(
        pci.remove(disks[0]).unwrap_err().to_string(),
        "0000:00:01.0: its registers are still mapped"
    );
    // The second moves away, and has its own table.
    pci.write(config, disks[1], access(0x10, 4), 0x2010_0000);
    while pci.next_effect(config, disks[1]).is_some() {}
    let table = Gpa::new(0x2010_3000);
    let (owner, done) = pci.write_trapped(table, 4, 0x1234_5670).unwrap();
    assert_eq!((owner, done), (disks[1], Trapped::Value(0)));
    let read = |address| pci.read_trapped(Gpa::new(address), 4);
    assert_eq!(read(0x2010_3000), Some(Trapped::Value(0x1234_5670)));
    assert_eq!(read(0x2000_3000), Some(Trapped::Value(0)));
    assert_eq!(read(0x2010_0000), None);
    assert_eq!(read(0x2fff_0000), None);
    let registers = host.devices[3].bars[0].unwrap().address.unwrap() + 0x3f00;
    assert_eq!(
        read(0x2010_3f00),
        Some(Trapped::Forward(xen_types::Hpa::new(registers)))
    );
}

#[test]
fn machines_of_both_kinds_give_guests_the_same_view() {
    let views: Vec<Vec<u64>> = machines::both()
        .into_iter()
        .map(|machine| {
            let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
            assign(&machine.bridge, &mut devices);
            devices.retain(|device| !device.is_bridge());
            let host = Host { machine, devices };
            let mut pci = pci();
            for device in &host.devices {
                pci.add(0, function(&host, device)).unwrap();
            }
            let names: Vec<_> = pci.iter().map(|(name, _)| name).collect();
            let reads = names
                .iter()
                .flat_map(|name| (0..4096).step_by(8).map(|at| (*name, access(at, 8))));
            reads
                .map(|(name, access)| pci.read(&host.machine.bridge, name, access))
                .collect()
        })
        .collect();
    assert_eq!(views[0], views[1]);
}
