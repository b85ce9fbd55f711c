use alloc::boxed::Box;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::bridge::{Bridge, BusRange};
use crate::header::Layout;
use crate::simulated::machines::ecam;
use crate::simulated::{Fabric, Lie, SimFunction, Slot, samples};
use crate::{HostSbdf, RequesterId, Width};

const SLOT: RequesterId = RequesterId::new(0, 3, 0).unwrap();

fn machine(function: SimFunction) -> (Fabric, Bridge) {
    let fabric = Fabric::new([Slot::new(3, 0, function)]);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    (fabric, bridge)
}

fn function(bridge: &Bridge) -> Function<'_, Bridge> {
    Function::new(bridge, HostSbdf::new(0, SLOT))
}

fn bytes(fabric: &Fabric) -> Box<[u8]> {
    let read = |function: &mut SimFunction| {
        let byte = |at| function.get(at, Width::Byte) as u8;
        (0..4096).map(byte).collect()
    };
    fabric.with(SLOT, read).unwrap()
}

fn sizes(function: SimFunction, layout: Layout) -> Sizes {
    let (_, bridge) = machine(function);
    header(self::function(&bridge), layout)
}

fn kinds(sizes: &Sizes) -> Vec<(usize, BarKind, u64)> {
    let bars = sizes.bars.iter().enumerate();
    bars.filter_map(|(number, bar)| bar.map(|bar| (number, bar.kind, bar.size)))
        .collect()
}

#[test]
fn real_devices_have_the_bars_that_they_have() {
    let card = sizes(samples::e1000e(), Layout::Endpoint);
    let memory = BarKind::Memory32 {
        prefetchable: false,
    };
    assert_eq!(
        kinds(&card),
        [
            (0, memory, 128 << 10),
            (1, memory, 128 << 10),
            (2, BarKind::Io, 32),
            (3, memory, 16 << 10)
        ]
    );
    assert_eq!(card.rom.unwrap().size, 256 << 10);
    assert!(card.faults.is_empty());
    let graphics = sizes(samples::gpu(), Layout::Endpoint);
    let large = BarKind::Memory64 { prefetchable: true };
    assert_eq!(kinds(&graphics)[1], (1, large, 16 << 30));
    assert_eq!(graphics.rom, None);
}

#[test]
fn addresses_of_firmware_are_kept() {
    let (fabric, bridge) = machine(samples::gpu());
    let function = function(&bridge);
    let write = |at, value: u32| function.write(Register::at(at), value);
    write(0x10, 0x2000_0000);
    write(0x18, 0x0000_0080);
    let sizes = header(function, Layout::Endpoint);
    assert_eq!(sizes.bars[0].unwrap().address, Some(0x2000_0000));
    assert_eq!(sizes.bars[1].unwrap().address, Some(0x80_0000_0000));
    assert_eq!(sizes.bars[3].unwrap().address, None);
    let high = fabric.with(SLOT, |function| function.get(0x18, Width::Dword));
    assert_eq!(high, Some(0x80));
}

#[test]
fn registers_that_make_no_sense_are_left_out() {
    let broken = SimFunction::endpoint(1, 1, 0)
        // A reserved type, a size with a hole, a fine one, and 64 bits with no second register.
        .with(0x10, Width::Dword, 0b110)
        .with_writable(0x14, Width::Dword, 0xf0f0_0000)
        .with_bar(2, BarKind::Io, 16)
        .with(0x24, Width::Dword, 0b100);
    let sizes = sizes(broken, Layout::Endpoint);
    assert_eq!(kinds(&sizes), [(2, BarKind::Io, 16)]);
    assert_eq!(
        sizes.faults.as_slice(),
        [
            (0, BarFault::ReservedType),
            (1, BarFault::NotAPowerOfTwo(0xf0f0_0000)),
            (5, BarFault::NoSecondRegister)
        ]
    );
}

#[test]
fn a_bridge_has_two_registers_and_keeps_its_windows() {
    let bridge = samples::root_port()
        .with(0x20, Width::Dword, 0x2010_2000)
        .with_rom(2048);
    let (fabric, config) = machine(bridge);
    let before = bytes(&fabric);
    let sizes = header(function(&config), Layout::Bridge);
    assert_eq!(kinds(&sizes), []);
    assert_eq!(sizes.rom.unwrap().size, 2048);
    assert_eq!(bytes(&fabric), before);
}

/// Bars of any kinds and sizes that fit into six registers.
fn any_function() -> impl Strategy<Value = SimFunction> {
    let bar = (0..4_u8, 4..40_u32, any::<bool>());
    (proptest::collection::vec(bar, 6), any::<u16>()).prop_map(|(bars, command)| {
        let mut function = SimFunction::endpoint(0x1234, 0x5678, 0).with_rom(4096);
        let mut number = 0;
        for (kind, shift, prefetchable) in bars {
            let (kind, size) = match kind {
                0 => (BarKind::Io, 1 << shift.min(15)),
                1 => (BarKind::Memory32 { prefetchable }, 1 << shift.clamp(4, 31)),
                2 => (BarKind::Memory64 { prefetchable }, 1 << shift),
                _ => {
                    number += 1;
                    continue;
                }
            };
            let registers = if kind.is_64bit() { 2 } else { 1 };
            if number + registers <= 6 {
                function = function.with_bar(number, kind, size);
            }
            number += registers;
        }
        let command = u32::from(command & 0x0547);
        function.with(0x04, Width::Word, command)
    })
}

proptest! {
    #[test]
    fn sizing_finds_what_there_is_and_restores_everything(
        original in any_function(), addresses: [u32; 7],
    ) {
        let (fabric, bridge) = machine(original);
        let function = function(&bridge);
        for (number, address) in addresses.into_iter().enumerate() {
            let at = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30][number];
            function.write(Register::at(at), address);
        }
        let before = bytes(&fabric);
        let decoding = function.read(header::COMMAND) & Command::DECODE;
        fabric.take_seen();
        let sizes = header(function, Layout::Endpoint);
        prop_assert_eq!(bytes(&fabric), before);
        // Between the first and the last write, which are the command's, nothing is decoded.
        let seen = fabric.take_seen();
        let writes: Vec<_> = seen.iter().filter(|seen| seen.written.is_some()).collect();
        let is_command = |place: usize| writes[place].access == header::COMMAND.access();
        let decodes = |place: usize| writes[place].written.unwrap() & 3 != 0;
        prop_assert_eq!(!decoding.is_empty(), is_command(0));
        if is_command(0) {
            prop_assert!(!decodes(0) && is_command(writes.len() - 1));
            prop_assert!((1..writes.len() - 1).all(|place| !is_command(place)));
        }
        prop_assert!(sizes.faults.is_empty());
        let expected = fabric.with(SLOT, |function| function.bars().to_vec()).unwrap();
        let found: Vec<_> = kinds(&sizes)
            .into_iter()
            .map(|(number, kind, size)| (0x10 + 4 * number as u16, kind, size))
            .collect();
        prop_assert_eq!(found, expected);
    }

    /// Of Xen's fixes without a number, f7091c0e1f: no answer keeps sizing busy.
    #[test]
    fn xsa_337_sizing_ends_whatever_is_read(seed: u64, bridge: bool) {
        let layout = if bridge { Layout::Bridge } else { Layout::Endpoint };
        let sizes = sizes(samples::gpu().lying(Lie::Random(seed)), layout);
        for bar in sizes.bars.iter().flatten() {
            prop_assert!(bar.size.is_power_of_two());
            prop_assert!(bar.address.is_none_or(|address| address.is_multiple_of(bar.size)));
        }
    }
}
