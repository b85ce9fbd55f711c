//! A machine with one card, and others beside it.

use arbitrary::{Arbitrary, Unstructured};
use pci_host::bridge::BusRange;
use pci_host::enumerate::enumerate;
use pci_host::resources::assign;
use pci_host::simulated::machines::{self, Machine};
use pci_host::simulated::{Fabric, SimFunction, Slot, samples};
use pci_host::{Device, HostSbdf, Width};

/// The kinds of cards that there are.
const CARDS: [fn() -> SimFunction; 6] = [
    samples::e1000e,
    samples::igb,
    samples::gpu,
    samples::nvme,
    samples::xhci,
    samples::serial_card,
];

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Card(usize);

impl<'a> Arbitrary<'a> for Card {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self(u.int_in_range(0..=CARDS.len() - 1)?))
    }
}

/// A machine with that card at 01:00.0 and another at 02:00.0.
pub fn machine(card: Card) -> (Machine, Device) {
    let card = CARDS.get(card.0).copied().unwrap_or(samples::nvme);
    let port = |device, card| {
        let port = Slot::new(device, 0, samples::root_port());
        port.with([Slot::new(0, 0, card)])
    };
    let fabric = Fabric::new([port(1, card()), port(2, samples::nvme())]);
    let bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    let mut devices = enumerate(&bridge, &fabric).devices;
    assign(&bridge, &mut devices);
    let mut cards = devices.into_iter().filter(|device| !device.is_bridge());
    let device = cards.next().expect("the card is there");
    (Machine { fabric, bridge }, device)
}

/// All of the config space of the functions that a guest does not have.
pub fn others(machine: &Machine, own: HostSbdf) -> Vec<Vec<u8>> {
    let names = ["00:01.0", "00:02.0", "02:00.0"];
    let names = names.map(|name| name.parse::<HostSbdf>().expect("a constant"));
    let names = names.into_iter().filter(|name| *name != own);
    let bytes = names.map(|name| {
        let copy = |function: &mut SimFunction| function.bytes().to_vec();
        machine.fabric.with(name.requester(), copy)
    });
    bytes.flatten().collect()
}

/// What hardware has in the base address registers of a function, without the enable bit of a ROM.
pub fn bars(machine: &Machine, own: HostSbdf) -> Vec<u32> {
    let read = |function: &mut SimFunction| {
        let bars = (0x10..0x28).step_by(4);
        let mut bars: Vec<u32> = bars.map(|at| function.get(at, Width::Dword)).collect();
        bars.push(function.get(0x30, Width::Dword) & !1);
        bars
    };
    machine
        .fabric
        .with(own.requester(), read)
        .unwrap_or_default()
}
