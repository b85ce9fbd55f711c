use alloc::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::bridge::BusRange;
use crate::enumerate::{BusNumbers, enumerate};
use crate::header::{self, Command};
use crate::simulated::machines::{self, Machine, ecam};
use crate::simulated::{Fabric, SimFunction, Slot, samples};
use crate::{RequesterId, Width};

type Faults = Vec<(HostSbdf, ResourceFault)>;

fn assigned(machine: &Machine) -> (Vec<Device>, Faults) {
    let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
    let faults = assign(&machine.bridge, &mut devices);
    (devices, faults)
}

fn machine(slots: impl IntoIterator<Item = Slot>) -> Machine {
    let fabric = Fabric::new(slots);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    Machine { fabric, bridge }
}

fn id(text: &str) -> RequesterId {
    text.parse::<HostSbdf>().unwrap().requester()
}

fn device<'a>(devices: &'a [Device], name: &str) -> &'a Device {
    let sbdf = name.parse().unwrap();
    devices.iter().find(|device| device.sbdf == sbdf).unwrap()
}

/// All BARs with addresses: whose, which, and what.
fn bars(devices: &[Device]) -> Vec<(RequesterId, u16, Bar)> {
    let of = |device: &Device| {
        let requester = device.sbdf.requester();
        let bars = device.bars.into_iter().enumerate();
        let placed = bars.filter_map(move |(number, bar)| {
            let bar = bar.filter(|bar| bar.address.is_some())?;
            Some((requester, 0x10 + 4 * number as u16, bar))
        });
        placed.collect::<Vec<_>>()
    };
    devices.iter().flat_map(of).collect()
}

/// Each BAR with an address is aligned, in a window of the host bridge, in a page of its own, and the
/// only one that answers there.
fn check(machine: &Machine, devices: &[Device]) -> Result<(), TestCaseError> {
    for device in devices {
        let function = Function::new(&machine.bridge, device.sbdf);
        let command = function.read(header::COMMAND);
        let addresses = device.bars.iter().flatten().map(|bar| bar.address);
        if addresses.clone().all(|address| address.is_some()) {
            function.write(header::COMMAND, command | Command::DECODE);
        }
    }
    let placed = bars(devices);
    for (place, (requester, register, bar)) in placed.iter().enumerate() {
        let (first, last) = (bar.address.unwrap(), bar.last_address().unwrap());
        prop_assert_eq!(first % bar.size, 0);
        let io = bar.kind == BarKind::Io;
        let window = machine.bridge.description().to_host(io, first, bar.size);
        prop_assert!(window.is_some());
        if !bar.kind.is_64bit() {
            prop_assert!(last <= LIMIT_32);
        }
        for (_, _, other) in placed[place + 1..]
            .iter()
            .filter(|other| (other.2.kind == BarKind::Io) == io)
        {
            let page = page_of(*bar);
            let apart = last / page < other.address.unwrap() / page
                || other.last_address().unwrap() / page < first / page;
            prop_assert!(apart, "{} and {}", bar.kind, other.kind);
        }
        if io || !machine.fabric.decodes(*requester) {
            continue;
        }
        for address in [first, last] {
            let hits = machine.fabric.memory_hits(address);
            prop_assert_eq!(hits.len(), 1, "{} at {:#x}", requester, address);
            prop_assert_eq!(
                (hits[0].function, hits[0].register),
                (*requester, *register)
            );
            prop_assert_eq!(hits[0].offset, address - first);
        }
    }
    Ok(())
}

#[test]
fn all_of_real_machines_gets_addresses() {
    let mut all = machines::both();
    all.push(machines::server());
    for machine in all {
        let (devices, faults) = assigned(&machine);
        assert_eq!(faults, []);
        let missing = devices
            .iter()
            .flat_map(|device| device.bars.iter().flatten());
        assert!(missing.clone().count() > 10);
        assert!(missing.clone().all(|bar| bar.address.is_some()));
        let virtuals = devices.iter().filter_map(|device| device.sr_iov);
        let mut virtuals = virtuals.flat_map(|sr_iov| sr_iov.bars.into_iter().flatten());
        assert!(virtuals.all(|bar| bar.address.is_some()));
        check(&machine, &devices).unwrap();
    }
}

#[test]
fn a_large_bar_is_above_4_gib_and_aligned_for_large_blocks() {
    let (devices, _) = assigned(&machines::server());
    let graphics = devices
        .iter()
        .find(|device| device.vendor == 0x10de)
        .unwrap();
    let bar = graphics.bars[1].unwrap();
    assert!(bar.address.unwrap() >= 0x80_0000_0000);
    assert!(bar.address.unwrap().is_multiple_of(16 << 30));
}

#[test]
fn what_has_addresses_keeps_them() {
    let machine = machines::server();
    let (devices, _) = assigned(&machine);
    let (again, faults) = assigned(&machine);
    assert_eq!(again, devices);
    assert_eq!(faults, []);
}

#[test]
fn addresses_that_clash_or_lead_nowhere_are_replaced() {
    let card = |bars: [u32; 2]| {
        let memory = BarKind::Memory32 {
            prefetchable: false,
        };
        SimFunction::endpoint(0x1234, 2, 0)
            .with_bar(0, memory, 0x1000)
            .with_bar(1, memory, 0x100)
            .with(0x10, Width::Dword, bars[0])
            .with(0x14, Width::Dword, bars[1])
    };
    let machine = machine([
        Slot::new(1, 0, card([0x1000_1000, 0x1000_2000])),
        // The same; in the page of another's; in no window of the bridge.
        Slot::new(2, 0, card([0x1000_1000, 0x1000_2100])),
        Slot::new(3, 0, card([0x0900_0000, 0x2000_0000])),
    ]);
    let (devices, faults) = assigned(&machine);
    assert_eq!(faults, []);
    let address = |name, bar: usize| device(&devices, name).bars[bar].unwrap().address.unwrap();
    assert_eq!(address("00:01.0", 0), 0x1000_1000);
    assert_eq!(address("00:01.0", 1), 0x1000_2000);
    assert_eq!(address("00:03.0", 1), 0x2000_0000);
    assert_eq!(address("00:02.0", 0), 0x1000_0000);
    check(&machine, &devices).unwrap();
}

#[test]
fn a_window_of_firmware_is_used_as_it_is_and_an_empty_one_is_not() {
    let memory = BarKind::Memory32 {
        prefetchable: false,
    };
    let port = |window: u32| samples::root_port().with(0x20, Width::Dword, window);
    let card = |address: u32| {
        SimFunction::endpoint(0x1234, 2, 0)
            .with_bar(0, memory, 0x10_0000)
            .with_bar(1, memory, 0x10_0000)
            .with(0x10, Width::Dword, address)
    };
    let machine = machine([
        Slot::new(1, 0, port(0x2010_2000)).with([Slot::new(0, 0, card(0x2000_0000))]),
        // Too small for what is behind, and nothing of that has an address.
        Slot::new(2, 0, port(0x2100_2100)).with([Slot::new(0, 0, card(0))]),
    ]);
    let (devices, faults) = assigned(&machine);
    assert_eq!(faults, []);
    let bars = |name| device(&devices, name).bars;
    assert_eq!(bars("01:00.0")[0].unwrap().address, Some(0x2000_0000));
    assert_eq!(bars("01:00.0")[1].unwrap().address, Some(0x2010_0000));
    check(&machine, &devices).unwrap();
}

#[test]
fn what_does_not_fit_says_so_and_does_not_answer() {
    let memory = BarKind::Memory32 {
        prefetchable: false,
    };
    let large = SimFunction::endpoint(0x1234, 2, 0)
        .with_bar(0, memory, 1 << 30)
        .with(0x04, Width::Word, 0x0007);
    let small = SimFunction::endpoint(0x1234, 3, 0).with_bar(0, memory, 1 << 20);
    let behind = Slot::new(2, 0, samples::root_port()).with([Slot::new(0, 0, large.clone())]);
    let machine = machine([Slot::new(1, 0, large), behind, Slot::new(3, 0, small)]);
    let (devices, faults) = assigned(&machine);
    let texts: Vec<_> = faults.iter().map(|(_, fault)| fault.to_string()).collect();
    assert_eq!(
        texts,
        [
            "no room for BAR 0: 0x40000000 bytes of 32-bit memory",
            "no room for a window of 0x40000000 bytes of memory",
            "no room for BAR 0: 0x40000000 bytes of 32-bit memory",
        ]
    );
    assert!(!machine.fabric.decodes(id("00:01.0")));
    assert!(
        device(&devices, "00:03.0").bars[0]
            .unwrap()
            .address
            .is_some()
    );
    check(&machine, &devices).unwrap();
}

#[test]
fn a_port_with_nothing_behind_gets_room_for_what_may_come() {
    let machine = machines::server();
    assigned(&machine);
    let empty = |port: &mut SimFunction| {
        let window = port.get(0x20, Width::Dword);
        let (base, limit) = (window & 0xfff0, window >> 20 & 0xfff);
        (limit + 1 - (base >> 4)) << 20
    };
    assert_eq!(machine.fabric.with(id("00:03.0"), empty), Some(2 << 20));
}

#[test]
fn bridges_forward_and_functions_stay_as_they_were() {
    let machine = machines::server();
    let (devices, _) = assigned(&machine);
    for device in &devices {
        let command = Function::new(&machine.bridge, device.sbdf).read(header::COMMAND);
        let forwards = Command::DECODE | Command::BUS_MASTER;
        assert_eq!(command.contains(forwards), device.is_bridge());
        assert_eq!(command.intersects(forwards), device.is_bridge());
    }
}

fn any_function() -> impl Strategy<Value = SimFunction> {
    let bar = (0..5_u8, 4..32_u32, any::<bool>(), any::<u32>());
    proptest::collection::vec(bar, 1..4).prop_map(|bars| {
        let mut function = SimFunction::endpoint(0x1234, 0x5678, 0);
        for (number, (kind, shift, prefetchable, firmware)) in bars.into_iter().enumerate() {
            let register = 2 * number;
            let (kind, size) = match kind {
                0 => (BarKind::Io, 1 << shift.min(8)),
                1 | 2 => (BarKind::Memory32 { prefetchable }, 1 << shift.min(25)),
                _ => (BarKind::Memory64 { prefetchable }, 1 << shift),
            };
            function = function.with_bar(register, kind, size);
            // Firmware has put a fourth of them somewhere.
            if firmware % 4 == 0 {
                let address = firmware & !(size as u32 - 1) & 0x3fff_ffff;
                let offset = 0x10 + 4 * register as u16;
                function = function.with(offset, Width::Dword, address | kind.flags());
            }
        }
        function
    })
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let leaf = any_function().prop_map(|function| Slot::new(0, 0, function));
    leaf.prop_recursive(3, 12, 3, |inner| {
        let window = prop_oneof![3 => Just(0_u32), 1 => 0x1000_0000..0x3fff_ffff_u32];
        (
            proptest::collection::vec(inner, 0..3),
            window,
            any::<bool>(),
        )
            .prop_map(|(behind, window, legacy)| {
                let bridge = if legacy {
                    samples::legacy_bridge()
                } else {
                    SimFunction::bridge(0x1234, 2)
                };
                let bridge = bridge.with(0x20, Width::Dword, window & 0xfff0_fff0);
                Slot::new(0, 0, bridge).with(numbered(behind))
            })
    })
}

/// The slots with device numbers of their own.
fn numbered(slots: Vec<Slot>) -> impl Iterator<Item = Slot> {
    (1..)
        .zip(slots)
        .map(|(device, slot)| slot.at_device(device))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bars_are_disjoint_aligned_and_inside_the_windows(
        slots in proptest::collection::vec(any_slot(), 1..5),
    ) {
        let machine = machine(numbered(slots));
        let (devices, faults) = assigned(&machine);
        check(&machine, &devices)?;
        for device in &devices {
            let missing = |bar: &Option<Bar>| bar.is_some_and(|bar| bar.address.is_none());
            let said = faults.iter().any(|(sbdf, _)| *sbdf == device.sbdf);
            prop_assert!(said || !device.bars.iter().any(missing));
        }
        let (again, _) = assigned(&machine);
        prop_assert_eq!(bars(&again), bars(&devices));
        for bridge in devices.iter().filter(|device| device.is_bridge()) {
            let numbers = BusNumbers::read(Function::new(&machine.bridge, bridge.sbdf));
            prop_assert!(numbers.secondary > bridge.sbdf.bus());
        }
    }
}
