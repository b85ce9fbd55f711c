use alloc::vec::Vec;

use pci_host::capability::{self, CapabilityId as Id, ExtendedCapabilityId as Extended};
use pci_host::enumerate::enumerate;
use pci_host::resources::assign;
use pci_host::simulated::machines::{self, Machine};
use pci_host::simulated::{Fabric, Seen, SimFunction, Slot, samples};
use pci_host::{ConfigOffset, RequesterId, Width};
use proptest::prelude::*;
use xen_types::{Gpa, Hpa};

use super::command::{GUEST_COMMAND, HARDWARE_COMMAND};
use super::*;
use crate::effect::{Effect, Piece};

const WINDOW: u64 = 0x2000_0000;

/// A function of a machine, in a guest.
struct Setup {
    machine: Machine,
    device: Device,
    guest: GuestFunction,
    windows: GuestWindows,
}

/// Config space as the guest sees it, for the walks of `pci-host`.
struct View<'a>(&'a Setup);

impl ConfigAccess for View<'_> {
    fn read(&self, _: HostSbdf, access: Access) -> u32 {
        let access = GuestAccess::new(access.offset(), access.width().bytes()).unwrap();
        self.0.guest.read(&self.0.machine.bridge, access) as u32
    }

    fn write(&self, _: HostSbdf, _: Access, _: u32) {
        panic!("a walk does not write");
    }
}

fn set_up(function: SimFunction) -> Setup {
    let root = Slot::new(1, 0, samples::root_port());
    let fabric = Fabric::new([root.with([Slot::new(0, 0, function)])]);
    let bridge = machines::ecam(&fabric, 0, pci_host::bridge::BusRange::ALL);
    let machine = Machine { fabric, bridge };
    let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
    assign(&machine.bridge, &mut devices);
    let device = devices.pop().unwrap();
    let guest = guest_of(&machine, &device, Interrupts::ALL);
    let window = |start, size| GpaRange::new(Gpa::new(start), size).unwrap();
    let windows = GuestWindows {
        memory: alloc::vec![
            window(WINDOW, 0x1000_0000),
            window(0x40_0000_0000, 0x40_0000_0000)
        ],
        io: Some(window(0x3eff_0000, 0x1_0000)),
    };
    Setup {
        machine,
        device,
        guest,
        windows,
    }
}

fn guest_of(machine: &Machine, device: &Device, interrupts: Interrupts) -> GuestFunction {
    let host = |bar: &Bar| {
        let description = machine.bridge.description();
        description.to_host(!bar.kind.is_memory(), bar.address?, bar.size)
    };
    GuestFunction::new(&machine.bridge, device, interrupts, host)
}

impl Setup {
    fn requester(&self) -> RequesterId {
        self.device.sbdf.requester()
    }

    fn read(&self, offset: u16, bytes: u16) -> u32 {
        let access = GuestAccess::new(ConfigOffset::new(offset).unwrap(), bytes).unwrap();
        self.guest.read(&self.machine.bridge, access) as u32
    }

    fn write(&mut self, offset: u16, bytes: u16, value: u32) {
        let access = GuestAccess::new(ConfigOffset::new(offset).unwrap(), bytes).unwrap();
        self.guest.write(&self.machine.bridge, access, value.into());
    }

    fn next(&mut self) -> Option<Effect> {
        let config = &self.machine.bridge;
        self.guest.next_effect(config, &self.windows, &|_| true)
    }

    fn effects(&mut self) -> Vec<Effect> {
        core::iter::from_fn(|| self.next()).collect()
    }

    fn hardware(&self, offset: u16, width: Width) -> u32 {
        let get = |function: &mut SimFunction| function.get(offset, width);
        self.machine.fabric.with(self.requester(), get).unwrap()
    }

    fn capability(&self, id: Id) -> u16 {
        self.device.find(id).unwrap().get()
    }

    /// Writes that have reached the function since the last call.
    fn writes(&self) -> Vec<Seen> {
        let mut seen = self.machine.fabric.take_seen();
        seen.retain(|seen| seen.written.is_some());
        seen
    }
}

fn mapped(effects: &[Effect]) -> Vec<Piece> {
    let pieces = effects.iter().filter_map(|effect| match effect {
        Effect::Map(piece) => Some(*piece),
        _ => None,
    });
    pieces.collect()
}

#[test]
fn the_header_is_the_devices_with_bars_of_the_guests_own() {
    let setup = set_up(samples::e1000e());
    assert_eq!(setup.read(0, 4), 0x10d3_8086);
    assert_eq!(setup.read(8, 4), 0x0200_0001);
    assert_eq!(setup.read(4, 2), 0);
    assert_eq!(setup.read(6, 2) & 0x10, 0x10);
    assert_eq!(setup.read(0x0e, 1), 0);
    assert_eq!(setup.read(0x3d, 1), 1);
    // As after power-on, though hardware's have addresses.
    for bar in 0..6 {
        assert_eq!(setup.read(0x10 + 4 * bar, 4), 0);
    }
    assert_ne!(setup.hardware(0x10, Width::Dword), 0);
}

#[test]
fn xsa_124_only_known_capabilities_are_seen_and_the_lists_lead_around_others() {
    let disk = samples::nvme()
        .with_capability(0x09, 16, |_, _| {})
        .with_capability(0x03, 8, |_, _| {})
        .with_extended(0x000b, 16, |_, _| {})
        .with_extended(0x0010, 0x40, |_, _| {});
    let setup = set_up(disk);
    let view = View(&setup);
    let function = Function::new(&view, setup.device.sbdf);
    let list = capability::capabilities(function);
    let ids: Vec<_> = list.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(
        ids,
        [
            Id::POWER_MANAGEMENT,
            Id::MSI,
            Id::PCI_EXPRESS,
            Id::MSI_X,
            Id::VPD
        ]
    );
    let extended = capability::extended_capabilities(function);
    let ids: Vec<_> = extended.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [Extended::ADVANCED_ERRORS]);
    // What was hidden reads as nothing.
    let hidden = setup.device.find(Id::VENDOR_SPECIFIC).unwrap().get();
    assert_eq!(setup.read(hidden, 4), 0);
}

#[test]
fn interrupts_that_cannot_reach_the_guest_are_not_found() {
    let mut setup = set_up(samples::nvme());
    let none = Interrupts {
        intx: false,
        messages: false,
    };
    setup.guest = guest_of(&setup.machine, &setup.device, none);
    assert_eq!(setup.read(0x3d, 1), 0);
    let view = View(&setup);
    let list = capability::capabilities(Function::new(&view, setup.device.sbdf));
    assert_eq!((list.find(Id::MSI), list.find(Id::MSI_X)), (None, None));
    let at = setup.capability(Id::MSI_X);
    setup.write(at + 2, 2, 0x8000);
    assert_eq!((setup.read(at, 4), setup.effects()), (0, alloc::vec![]));
    // The table is not the guest's all the same.
    setup.write(0x10, 4, WINDOW as u32);
    setup.write(4, 2, 2);
    setup.effects();
    assert_eq!(
        setup.guest.find_trapped(Gpa::new(WINDOW + 0x3000)),
        Some((0, 0x3000))
    );
}

#[test]
fn a_list_that_begins_with_something_hidden_is_still_found() {
    let function = SimFunction::endpoint(0x1234, 0x5678, 0)
        .with_extended(0x000b, 16, |_, _| {})
        .with_express(pci_host::simulated::PortType::Endpoint, true)
        .with_advanced_errors();
    let setup = set_up(function);
    let view = View(&setup);
    let list = capability::extended_capabilities(Function::new(&view, setup.device.sbdf));
    assert_eq!(
        list.find(Extended::ADVANCED_ERRORS),
        ConfigOffset::new(0x110)
    );
    assert_eq!(list.find(Extended::VENDOR_SPECIFIC), None);
}

#[test]
fn a_resizable_bar_is_shown_at_its_size() {
    let mut setup = set_up(samples::nvme().with_resizable_bar(0));
    let at = setup
        .device
        .find_extended(Extended::RESIZABLE_BAR)
        .unwrap()
        .get();
    assert_eq!(setup.read(at + 4, 4), 1 << 12);
    setup.writes();
    setup.write(at + 8, 4, 14 << 8);
    assert_eq!(setup.read(at + 8, 4), 8 << 8 | 1 << 5);
    assert_eq!(setup.writes(), []);
}

#[test]
fn xsa_120_xsa_126_no_command_reaches_hardware_but_what_may() {
    let mut setup = set_up(samples::nvme());
    setup.machine.fabric.take_seen();
    for command in 0..=u16::MAX {
        setup.write(4, 2, command.into());
        let guest = setup.read(4, 2);
        assert_eq!(guest, u32::from(command & GUEST_COMMAND.bits()));
        let effects = setup.effects();
        // The BARs are nowhere: no window has address 0.
        assert_eq!(effects, []);
        let hardware = setup.hardware(4, Width::Word) as u16;
        assert_eq!(hardware, command & HARDWARE_COMMAND.bits());
    }
}

#[test]
fn cve_2020_12888_what_is_decoded_is_mapped_and_unmapped_before_hardware_stops() {
    let mut setup = set_up(samples::nvme());
    setup.write(0x10, 4, WINDOW as u32 | 4);
    setup.write(0x14, 4, 0);
    assert_eq!(setup.effects(), []);
    setup.write(4, 2, 0x0002);
    assert_eq!(setup.hardware(4, Width::Word), 0);
    let effects = setup.effects();
    // 16 KiB, but for the table's and the pending bits' page.
    let host = setup.device.bars[0].unwrap().address.unwrap();
    assert_eq!(
        mapped(&effects),
        [Piece {
            bar: 0,
            guest: GpaRange::new(Gpa::new(WINDOW), 0x3000).unwrap(),
            host: HpaRange::new(Hpa::new(host), 0x3000).unwrap(),
            prefetchable: false,
        }]
    );
    assert_eq!(setup.hardware(4, Width::Word), 0x0002);
    assert_eq!(
        setup.guest.find_trapped(Gpa::new(WINDOW + 0x3010)),
        Some((0, 0x3010))
    );
    assert_eq!(setup.guest.find_trapped(Gpa::new(WINDOW + 0x2ff8)), None);
    // Moved while it decodes, as hardware lets it.
    setup.write(0x10, 4, WINDOW as u32 + 0x10_0000);
    let effects = setup.effects();
    assert!(matches!(effects[..], [Effect::Unmap(_), Effect::Map(_)]));
    setup.write(4, 2, 0);
    let Some(Effect::Unmap(_)) = setup.next() else {
        panic!("nothing is unmapped");
    };
    assert_eq!(
        setup.hardware(4, Width::Word),
        0x0002,
        "until it is unmapped"
    );
    assert_eq!(setup.next(), None);
    assert_eq!(setup.hardware(4, Width::Word), 0);
}

#[test]
fn xsa_125_a_large_bar_is_mapped_in_few_pieces() {
    let mut setup = set_up(samples::gpu());
    setup.write(0x18, 4, 0x40);
    setup.write(4, 2, 2);
    let pieces = mapped(&setup.effects());
    assert_eq!(pieces.len(), 16);
    assert!(
        pieces
            .iter()
            .all(|piece| piece.prefetchable && piece.guest.size() == 1 << 30)
    );
}

#[test]
fn a_rom_is_mapped_while_it_is_enabled_and_memory_is_decoded() {
    let mut setup = set_up(samples::e1000e());
    setup.write(0x30, 4, 0x2100_0001);
    assert_eq!(setup.read(0x30, 4), 0x2100_0001);
    assert_eq!(setup.effects(), []);
    setup.write(4, 2, 2);
    let pieces = mapped(&setup.effects());
    assert_eq!(
        (pieces.len(), pieces[0].bar, pieces[0].guest.size()),
        (1, 6, 256 << 10)
    );
    assert_eq!(setup.hardware(0x30, Width::Dword) & 1, 1);
    setup.write(0x30, 1, 0);
    assert!(matches!(setup.effects()[..], [Effect::Unmap(_)]));
    assert_eq!(setup.hardware(0x30, Width::Dword) & 1, 0);
}

#[test]
fn memory_that_another_has_is_not_taken() {
    let mut setup = set_up(samples::e1000e());
    setup.write(0x10, 4, WINDOW as u32);
    setup.write(0x14, 4, WINDOW as u32 + 0x1_0000);
    setup.write(4, 2, 2);
    // The second overlaps the first, of the same function.
    let pieces = mapped(&setup.effects());
    assert!(pieces.iter().all(|piece| piece.bar == 0));
    setup.write(0x10, 4, WINDOW as u32 + 0x10_0000);
    let taken = GpaRange::new(Gpa::new(WINDOW + 0x10_0000), 0x1000).unwrap();
    let mut effects = Vec::new();
    while let Some(effect) =
        setup
            .guest
            .next_effect(&setup.machine.bridge, &setup.windows, &|range| {
                !range.overlaps(taken)
            })
    {
        effects.push(effect);
    }
    assert!(mapped(&effects).iter().all(|piece| piece.bar == 1));
}

#[test]
fn a_mapping_that_fails_is_undone_and_the_guest_goes_on() {
    let mut setup = set_up(samples::gpu());
    setup.write(0x18, 4, 0x40);
    setup.write(4, 2, 2);
    let first = setup.next().unwrap();
    let Some(Effect::Map(second)) = setup.next() else {
        panic!("there are 16 pieces");
    };
    setup.guest.fail(second);
    let Effect::Map(first) = first else {
        panic!("nothing is mapped before");
    };
    assert_eq!(setup.effects(), [Effect::Unmap(first)]);
    assert!(setup.guest.has_failed());
    // Written again, it is tried again.
    setup.write(4, 2, 2);
    assert_eq!(mapped(&setup.effects()).len(), 16);
    assert!(!setup.guest.has_failed());
}

#[test]
fn a_guest_resets_its_function_through_pci_express() {
    let mut setup = set_up(samples::nvme());
    let express = setup.capability(Id::PCI_EXPRESS);
    setup.write(0x10, 4, WINDOW as u32);
    setup.write(4, 2, 6);
    setup.effects();
    setup.writes();
    setup.write(express + 8, 2, 0x8000);
    assert!(matches!(
        setup.effects()[..],
        [Effect::Unmap(_), Effect::Reset]
    ));
    assert_eq!((setup.read(4, 2), setup.read(0x10, 4)), (0, 4));
    // The reset is the hypervisor's to do.
    let control = express + 8;
    assert!(
        setup
            .writes()
            .iter()
            .all(|seen| seen.access.offset().get() != control)
    );
    assert_eq!(setup.hardware(4, Width::Word), 0);
}

#[test]
fn link_and_most_of_device_control_are_not_the_guests() {
    let mut setup = set_up(samples::igb());
    let express = setup.capability(Id::PCI_EXPRESS);
    let before = setup.hardware(express + 8, Width::Word);
    setup.writes();
    setup.write(express + 8, 2, 0x7fff);
    let after = setup.hardware(express + 8, Width::Word);
    assert_eq!(after & !0x7810, before & !0x7810);
    assert_eq!(after & 0x7810, 0x7810);
    setup.writes();
    setup.write(express + 0x10, 4, u32::MAX);
    setup.write(express + 0x28, 4, u32::MAX);
    assert_eq!(setup.writes(), []);
}

#[test]
fn vital_product_data_is_read_but_not_written() {
    let disk = samples::nvme().with_capability(0x03, 8, |_, _| {});
    let mut setup = set_up(disk);
    let at = setup.capability(Id::VPD);
    setup.writes();
    setup.write(at + 2, 2, 0x8010);
    setup.write(at + 4, 4, 0x1234_5678);
    setup.write(at + 2, 1, 0x10);
    assert_eq!(setup.writes(), []);
    setup.write(at + 2, 2, 0x0010);
    assert_eq!(setup.writes().len(), 1);
}

#[test]
fn xsa_128_xsa_129_no_access_to_msi_reaches_hardware() {
    let mut setup = set_up(samples::nvme());
    let at = setup.capability(Id::MSI);
    setup.writes();
    for offset in at..at + 0x18 {
        for bytes in [1, 2, 4, 8] {
            setup.write(offset, bytes, u32::MAX);
            setup.write(offset, bytes, 0);
        }
    }
    let msi_x = setup.capability(Id::MSI_X);
    let own = |seen: &Seen| {
        let offset = seen.access.offset().get();
        (at..at + 0x18).contains(&offset) || (msi_x..msi_x + 12).contains(&offset)
    };
    assert!(!setup.writes().iter().any(own));
}

#[test]
fn msi_tells_what_the_guest_wants() {
    let mut setup = set_up(samples::nvme());
    let at = setup.capability(Id::MSI);
    setup.write(at + 4, 4, 0x0808_0043);
    setup.write(at + 8, 4, 1);
    setup.write(at + 12, 2, 0x4000);
    setup.write(at + 16, 4, 0b10);
    assert_eq!(setup.effects(), [], "nothing is enabled");
    setup.write(at + 2, 2, 0x0031);
    let expected = MsiState {
        enabled: true,
        vectors_log2: 3,
        address: 0x1_0808_0040,
        data: 0x4000,
        mask: 0b10,
    };
    assert_eq!(setup.effects(), [Effect::Msi(expected)]);
    setup.write(at + 16, 4, 0);
    let unmasked = MsiState {
        mask: 0,
        ..expected
    };
    assert_eq!(setup.effects(), [Effect::Msi(unmasked)]);
    setup.write(at + 16, 4, 0);
    assert_eq!(setup.effects(), []);
    setup.write(at + 2, 2, 0x0001 | 7 << 4);
    assert_eq!(setup.read(at + 2, 2) >> 4 & 7, 5, "no more than there are");
}

#[test]
fn msi_x_names_the_vectors_that_change() {
    let mut setup = set_up(samples::nvme());
    let at = setup.capability(Id::MSI_X);
    let table = |vector: u64, field: u64| 0x3000 + 16 * vector + 4 * field;
    let write = |setup: &mut Setup, offset, bytes, value| {
        let done = setup.guest.write_trapped(0, offset, bytes, value);
        assert_eq!(done, Trapped::Value(0));
    };
    assert_eq!(
        setup.guest.read_trapped(0, table(5, 3), 4),
        Trapped::Value(1)
    );
    write(&mut setup, table(2, 0), 8, 0x1_0808_0040);
    write(&mut setup, table(2, 2), 8, 7);
    assert_eq!(setup.effects(), [], "nothing is enabled");
    setup.write(at + 2, 2, 0x8000);
    let vectors = setup.effects();
    assert_eq!(vectors.len(), 33);
    let second = VectorState {
        vector: 2,
        address: 0x1_0808_0040,
        data: 7,
        masked: false,
    };
    assert_eq!(vectors[2], Effect::MsiX(second));
    write(&mut setup, table(2, 3), 4, 1);
    let masked = VectorState {
        masked: true,
        ..second
    };
    assert_eq!(setup.effects(), [Effect::MsiX(masked)]);
    setup.write(at + 2, 2, 0xc000);
    let all = setup.effects();
    let is_masked = |effect: &Effect| matches!(effect, Effect::MsiX(vector) if vector.masked);
    assert!(all.len() == 33 && all.iter().all(is_masked));
}

#[test]
fn xsa_164_no_access_leaves_the_table_or_misses_what_shares_its_page() {
    let mut setup = set_up(samples::nvme());
    let host = setup.guest.bars()[0].unwrap().host();
    let table = 0x3000..0x3000 + 33 * 16_u64;
    let pending = 0x3800..0x3808_u64;
    for offset in 0..0x1_0000_u64 {
        for bytes in [1, 2, 4, 8] {
            let end = offset + bytes;
            let touches = |range: &core::ops::Range<u64>| offset < range.end && range.start < end;
            let read = setup.guest.read_trapped(0, offset, bytes);
            let written = setup.guest.write_trapped(0, offset, bytes, u64::MAX);
            let beyond = end > host.size() || offset % bytes != 0;
            if touches(&table) {
                assert!(matches!(read, Trapped::Value(_)) && matches!(written, Trapped::Value(_)));
            } else if beyond {
                assert_eq!(read, Trapped::Value(u64::MAX));
            } else {
                let address = host.start().checked_add(offset).unwrap();
                assert_eq!(read, Trapped::Forward(address));
                let read_only = touches(&pending);
                assert_eq!(written == Trapped::Forward(address), !read_only);
            }
        }
    }
}

#[test]
fn what_is_withdrawn_is_mapped_nowhere() {
    let mut setup = set_up(samples::gpu());
    setup.write(0x18, 4, 0x40);
    setup.write(0x10, 4, WINDOW as u32);
    setup.write(4, 2, 6);
    // In the middle of it.
    let before = [setup.next().unwrap(), setup.next().unwrap()];
    setup.guest.withdraw(&setup.machine.bridge);
    let after = setup.effects();
    let size = |effects: &[Effect], map: bool| {
        let sizes = effects.iter().filter_map(|effect| match effect {
            Effect::Map(piece) if map => Some(piece.guest.size()),
            Effect::Unmap(piece) if !map => Some(piece.guest.size()),
            _ => None,
        });
        sizes.sum::<u64>()
    };
    assert_eq!(size(&after, false), size(&before, true));
    assert_eq!(size(&after, true), 0);
    assert_eq!(setup.hardware(4, Width::Word) & 7, 0);
    assert!(setup.guest.claims().next().is_none());
    // The guest does not find it any more, and cannot bring it back.
    setup.write(0x18, 4, 0x40);
    setup.write(4, 2, 6);
    assert_eq!(setup.read(0, 4), u32::MAX);
    assert_eq!(
        (setup.next(), setup.hardware(4, Width::Word) & 7),
        (None, 0)
    );
}

#[test]
fn the_table_and_the_pages_that_are_trapped_are_where_the_host_has_them() {
    let mut setup = set_up(samples::nvme());
    let bar = setup.device.bars[0].unwrap().address.unwrap();
    let table = Some(Hpa::new(bar + 0x3000));
    assert_eq!(setup.guest.msi_x_table(), table);
    let pages: Vec<_> = setup.guest.trapped_pages().collect();
    assert_eq!(
        pages,
        [HpaRange::new(Hpa::new(bar + 0x3000), 0x1000).unwrap()]
    );
    assert!(!setup.guest.msi_x_enabled());
    let at = setup.capability(Id::MSI_X);
    setup.write(at + 2, 2, 0x8000);
    assert!(setup.guest.msi_x_enabled());
}

/// Offsets that guests write to, and others.
fn any_write() -> impl Strategy<Value = (u16, u16, u32)> {
    let offset = prop_oneof![0_u16..0x40, 0x40_u16..0x100, 0_u16..0xff8];
    let value = prop_oneof![
        any::<u32>(),
        Just(u32::MAX),
        Just(0),
        Just(7),
        (0x2000_u32..0x3000).prop_map(|high| high << 16)
    ];
    let bytes = prop_oneof![Just(1_u16), Just(2), Just(4), Just(8)];
    (offset, bytes, value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a guest writes: hardware's BARs and hidden registers stay, and maps and unmaps
    /// balance, without overlapping.
    #[test]
    fn xsa_131_no_writes_reach_what_is_not_the_guests(
        kind in 0..4_usize, writes in proptest::collection::vec((any_write(), 0..5_usize), 0..40),
    ) {
        let samples = [samples::nvme, samples::e1000e, samples::igb, samples::gpu];
        let mut setup = set_up(samples[kind]());
        let protected: Vec<u16> = (0x10..0x28).chain(0x34..0x1000).step_by(4).collect();
        let express = setup.capability(Id::PCI_EXPRESS);
        let hardware = |setup: &Setup| -> Vec<u32> {
            let others = protected.iter().filter(|at| **at != express + 8);
            others.map(|at| setup.hardware(*at, Width::Dword)).collect()
        };
        let before = hardware(&setup);
        let mut mapped: Vec<Piece> = Vec::new();
        for ((offset, bytes, value), steps) in writes {
            setup.write(offset, bytes, value);
            // The guest's next write may come before all is done only if nothing is left; here work
            // is also interrupted.
            for effect in core::iter::from_fn(|| setup.next()).take(steps * 4).collect::<Vec<_>>() {
                match effect {
                    Effect::Map(piece) => {
                        let apart = mapped.iter().all(|other| !other.guest.overlaps(piece.guest));
                        prop_assert!(apart);
                        let inside = |window: &GpaRange| window.contains_range(piece.guest);
                        let io = setup.windows.io.iter();
                        prop_assert!(setup.windows.memory.iter().chain(io).any(inside));
                        mapped.push(piece);
                    }
                    Effect::Unmap(piece) => mapped.retain(|other| {
                        let gone = piece.guest.contains_range(other.guest);
                        assert!(gone || !piece.guest.overlaps(other.guest));
                        !gone
                    }),
                    _ => {}
                }
            }
            prop_assert_eq!(hardware(&setup), before.clone());
            prop_assert!(setup.hardware(4, Width::Word) & !0x0407 == 0);
        }
        setup.guest.withdraw(&setup.machine.bridge);
        for effect in setup.effects() {
            if let Effect::Unmap(piece) = effect {
                mapped.retain(|other| !piece.guest.contains_range(other.guest));
            }
        }
        prop_assert_eq!(mapped, []);
    }

    /// Reads after writes equal a model that is just bytes, and which bits of them can be written.
    #[test]
    fn reads_after_writes_equal_a_model(writes in proptest::collection::vec(any_write(), 0..60)) {
        let mut setup = set_up(samples::nvme());
        let at = |id| setup.capability(id);
        let (power, msi, msi_x) = (at(Id::POWER_MANAGEMENT), at(Id::MSI), at(Id::MSI_X));
        let express = at(Id::PCI_EXPRESS);
        let writable = [
            (0x04, 0x0547),
            (0x0c, 0xff),
            (0x10, 0xffff_c000),
            (0x14, u32::MAX),
            (0x3c, 0xff),
            (power + 4, 3),
            // Multiple message enable is not just stored: it is left out below.
            (msi, 1 << 16),
            (msi + 4, !3),
            (msi + 8, u32::MAX),
            (msi + 12, 0xffff),
            (msi + 16, u32::MAX),
            (msi_x, 0xc000_0000),
        ];
        let skipped = |dword: u16| dword == express + 8;
        let masks: alloc::collections::BTreeMap<u16, u32> = writable.into_iter().collect();
        let mask = |byte: u16| {
            let dword = masks.get(&(byte & !3)).copied().unwrap_or(0);
            (dword >> (8 * (byte & 3))) as u8
        };
        let mut model: Vec<u8> = (0..4096).map(|byte| setup.read(byte, 1) as u8).collect();
        for (offset, bytes, value) in writes {
            if (offset..offset + bytes).any(|byte| skipped(byte & !3)) {
                continue;
            }
            setup.write(offset, bytes, value);
            for (number, byte) in (offset..offset + bytes).enumerate() {
                let written = u64::from(value).to_le_bytes()[number];
                let place = &mut model[usize::from(byte)];
                *place = *place & !mask(byte) | written & mask(byte);
            }
            setup.effects();
        }
        for dword in (0..4096_u16).step_by(4) {
            let bytes = &model[usize::from(dword)..usize::from(dword) + 4];
            let hidden = if dword == msi { 0x70 << 16 } else { 0 };
            let expected = u32::from_le_bytes(bytes.try_into().unwrap()) & !hidden;
            prop_assert_eq!(setup.read(dword, 4) & !hidden, expected, "at {:#x}", dword);
        }
    }

    /// A read of any width and place is the bytes of the dwords, and changes nothing.
    #[test]
    fn reads_of_any_width_agree(offset in 0_u16..4096, log in 0..4_u32) {
        let setup = set_up(samples::igb());
        let Some(access) = GuestAccess::new(ConfigOffset::new(offset).unwrap(), 1 << log) else {
            return Ok(());
        };
        setup.writes();
        let read = setup.guest.read(&setup.machine.bridge, access);
        let bytes = (0..access.bytes()).rev();
        let expected = bytes.fold(0, |sum, byte| sum << 8 | u64::from(setup.read(offset + byte, 1)));
        prop_assert_eq!(read, expected);
        prop_assert_eq!(setup.writes(), []);
    }
}
