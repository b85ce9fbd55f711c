//! One command each, right and wrong.

extern crate std;

use super::super::VitsError;
use super::*;

#[test]
fn a_mapped_event_names_the_hosts_device_event_and_lpi() {
    let mut guest = with_device(4);
    let map = Effect::Map {
        source: source(3),
        lpi: lpi(77),
        cpu: cpu(2),
    };
    assert_eq!(guest.mapti(8, 3, 77, 2), [map]);
    // Mapped again, it stays as it was.
    assert_eq!(guest.mapti(8, 3, 78, 1), []);
    let (device, event) = (DeviceId(8), EventId(3));
    let (source, lpi) = (source(3), lpi(77));
    let inv = Command::Inv { device, event };
    assert_eq!(guest.run(inv), [Effect::Reload { source, lpi }]);
    let int = Command::Int { device, event };
    assert_eq!(guest.run(int), [Effect::Raise { source, lpi }]);
    let clear = Command::Clear { device, event };
    assert_eq!(guest.run(clear), [Effect::Clear { source, lpi }]);
    let movi = |number| Command::Movi {
        device,
        event,
        collection: collection(number),
    };
    let moved = Effect::Move {
        source,
        lpi,
        cpu: cpu(1),
    };
    assert_eq!(guest.run(movi(1)), [moved]);
    assert_eq!(guest.run(movi(1)), []);
    let discard = Command::Discard { device, event };
    assert_eq!(guest.run(discard), [Effect::Unmap { source, lpi }]);
    for command in [inv, int, clear, movi(1), discard] {
        guest.refused(command);
    }
}

#[test]
fn mapi_takes_the_event_for_the_lpi() {
    let mut guest = Guest::new();
    let host = host_device(8300);
    guest.vits.add_device(GuestDeviceId(8), host).unwrap();
    guest.mapd(8, Some(14));
    guest.queue([8 << 32 | 0x0b, 8200, 3, 0]);
    let map = Effect::Map {
        source: source(8200),
        lpi: lpi(8),
        cpu: cpu(3),
    };
    assert_eq!(guest.finish(), [map]);
}

#[test]
fn a_domain_names_only_what_it_owns() {
    let mut guest = with_device(4);
    for device in [0, 7, 9, 0x3_0208, u32::MAX] {
        let before = guest.vits.refused();
        assert_eq!(guest.mapd(device, Some(5)), []);
        assert_eq!(guest.mapti(device, 0, 0, 0), []);
        assert_eq!(guest.vits.refused(), before + 2);
    }
    let far = EventId(4);
    let (device, collection) = (DeviceId(8), collection(0));
    guest.refused(Command::map(device, far, lpi(0), collection));
    guest.refused(Command::map(device, EventId(u32::MAX), lpi(0), collection));
    // It cannot have INTIDs that are no LPIs, or that were not offered.
    for intid in [0, 31, 1023, 8191, 16384, 1 << 24, u32::MAX] {
        guest.refused(Command::Mapti {
            device,
            event: EventId(0),
            intid,
            collection,
        });
    }
    guest.refused(Command::map(device, EventId(0), lpi(0), CollectionId(8)));
    guest.refused(Command::Mapc {
        collection: CollectionId(8),
        target: None,
    });
    guest.refused(Command::Mapc {
        collection,
        target: Some(Target::of_number(4)),
    });
    guest.refused(Command::Invall {
        collection: CollectionId(5),
    });
    let (zero, four) = (Target::of_number(0), Target::of_number(4));
    guest.refused(Command::Movall {
        from: four,
        to: zero,
    });
    guest.refused(Command::Movall {
        from: zero,
        to: four,
    });
    guest.refused(Command::Sync { target: four });
    assert_eq!(guest.run(Command::Sync { target: zero }), []);
    guest.queue([0x25, 0, 0, 0]);
    let before = guest.vits.refused();
    assert_eq!(guest.finish(), []);
    assert_eq!(guest.vits.refused(), before + 1);
    let why = std::format!("{}", guest.vits.last_refusal().unwrap());
    assert_eq!(why, "no ITS command has opcode 0x25");
}

#[test]
fn a_table_has_room_for_as_many_events_as_the_guest_says() {
    let mut guest = with_device(32);
    assert_eq!(guest.mapd(8, Some(2)), []);
    guest.refused(Command::map(DeviceId(8), EventId(4), lpi(0), collection(0)));
    assert_eq!(guest.mapti(8, 3, 0, 0).len(), 1);
    let table = TranslationTable {
        at: Hpa::new(0),
        event_bits: 17,
    };
    guest.refused(Command::Mapd {
        device: DeviceId(8),
        table: Some(table),
    });
}

#[test]
fn devices_and_collections_need_tables() {
    let mut guest = Guest::unborn();
    let device = GuestDeviceId(0x2345);
    guest.vits.add_device(device, host_device(1)).unwrap();
    guest.write(GITS_CBASER, 1 << 63 | QUEUE);
    // Room for 512 devices, and none for collections.
    guest.write(GITS_BASER, 1 << 63);
    guest.write32(GITS_CTLR, 1);
    assert_eq!(guest.mapd(0x2345, Some(1)), []);
    guest.mapc(0, Some(0));
    assert_eq!(guest.vits.refused(), 2);
    guest.write32(GITS_CTLR, 0);
    // Two levels have room for all.
    guest.write(GITS_BASER, 1 << 63 | 1 << 62);
    guest.write(GITS_BASER + 8, 1 << 63);
    guest.write32(GITS_CTLR, 1);
    assert_eq!(guest.mapd(0x2345, Some(1)), []);
    guest.mapc(0, Some(0));
    assert_eq!(guest.mapti(0x2345, 0, 0, 0).len(), 1);
    assert_eq!(guest.vits.refused(), 2);
}

#[test]
fn without_a_collection_nothing_happens_outside_until_there_is_one() {
    let mut guest = with_device(4);
    assert_eq!(guest.mapc(0, None), []);
    assert_eq!(guest.mapti(8, 0, 5, 0), []);
    let (device, event) = (DeviceId(8), EventId(0));
    assert_eq!(guest.run(Command::Int { device, event }), []);
    let (source, lpi) = (source(0), lpi(5));
    let map = |number| Effect::Map {
        source,
        lpi,
        cpu: cpu(number),
    };
    assert_eq!(guest.mapc(0, Some(3)), [map(3)]);
    let moved = Effect::Move {
        source,
        lpi,
        cpu: cpu(1),
    };
    assert_eq!(guest.mapc(0, Some(1)), [moved]);
    assert_eq!(guest.mapc(0, Some(1)), []);
    assert_eq!(guest.mapc(0, None), [Effect::Unmap { source, lpi }]);
    let movi = Command::Movi {
        device,
        event,
        collection: collection(2),
    };
    assert_eq!(guest.run(movi), [map(2)]);
}

#[test]
fn taking_a_table_away_unmaps_every_event_once() {
    let mut guest = with_device(32);
    for event in 0..32 {
        guest.mapti(8, event, event, (event % 4) as u16);
    }
    for table in [Some(5), None] {
        let effects = guest.mapd(8, table);
        let unmapped: Vec<_> = (0..32)
            .map(|event| Effect::Unmap {
                source: source(event),
                lpi: lpi(event),
            })
            .collect();
        assert_eq!(effects, unmapped);
        for event in 0..32 {
            guest.mapti(8, event, event, 0);
        }
    }
    // The second time there was no table.
    assert_eq!(guest.vits.refused(), 32);
}

#[test]
fn invall_and_movall_reach_every_lpi_in_parts() {
    let mut guest = with_device(1);
    let reloads: Vec<_> = (0..16)
        .map(|part| Effect::ReloadPart { first: part * 512 })
        .collect();
    let invall = Command::Invall {
        collection: collection(0),
    };
    assert_eq!(guest.run(invall), reloads);
    let (from, to) = (Target::of_number(1), Target::of_number(2));
    let effects = guest.run(Command::Movall { from, to });
    assert_eq!(effects.len(), 16);
    let last = Effect::MovePart {
        first: 15 * 512,
        from: cpu(1),
        to: cpu(2),
    };
    assert_eq!(effects.last(), Some(&last));
    assert_eq!(guest.run(Command::Movall { from, to: from }), []);
}

#[test]
fn a_step_is_bounded_whatever_the_command_asks_for() {
    let mut guest = Guest::new();
    for device in 0..40 {
        let host = host_device(2048);
        guest.vits.add_device(GuestDeviceId(device), host).unwrap();
    }
    guest.mapd(39, Some(11));
    guest.mapti(39, 2047, 0, 0);
    guest.queue(
        Command::Mapc {
            collection: collection(0),
            target: Some(Target::of_number(1)),
        }
        .encode(),
    );
    // 2048 events at 64 a step, and what has no event is passed by.
    let mut steps = 0;
    let mut effects = 0;
    while guest.vits.run(&guest.memory, 1, |_| effects += 1) == Progress::More {
        steps += 1;
    }
    assert_eq!(effects, 1);
    assert!((32..40).contains(&steps), "{steps}");
}

#[test]
fn a_full_queue_goes_around() {
    let mut guest = with_device(4);
    guest.mapti(8, 0, 0, 0);
    for _ in 0..20 {
        for _ in 0..100 {
            let (device, event) = (DeviceId(8), EventId(0));
            guest.queue(Command::Int { device, event }.encode());
        }
        assert_eq!(guest.finish().len(), 100);
    }
}

#[test]
fn xsa_360_a_revoked_device_is_gone_whatever_the_guest_does() {
    let mut guest = with_device(32);
    let id = GuestDeviceId(8);
    for event in 0..32 {
        guest.mapti(8, event, event, 0);
    }
    assert_eq!(guest.vits.remove_device(id), Err(VitsError::Mapped(id)));
    // In the middle of a command on it.
    guest.queue(
        Command::Mapd {
            device: DeviceId(8),
            table: Some(TranslationTable {
                at: Hpa::new(0),
                event_bits: 5,
            }),
        }
        .encode(),
    );
    let mut unmapped = 0;
    let _ = guest.vits.run(&guest.memory, 5, |_| unmapped += 1);
    while let Some(effect) = guest.vits.revoke_next(id) {
        assert!(matches!(effect, Effect::Unmap { .. }));
        unmapped += 1;
    }
    assert_eq!(unmapped, 32);
    assert_eq!(guest.finish(), []);
    assert_eq!(guest.mapti(8, 0, 0, 0), []);
    assert_eq!(guest.vits.remove_device(id), Ok(host_device(32)));
    assert_eq!(guest.vits.remove_device(id), Err(VitsError::Unknown(id)));
    assert_eq!(guest.vits.revoke_next(id), None);
}

#[test]
fn what_cannot_be_given_is_refused() {
    let mut guest = with_device(1);
    let add = |vits: &mut Vits, id, host| vits.add_device(GuestDeviceId(id), host);
    let known = Err(VitsError::Known(GuestDeviceId(8)));
    assert_eq!(add(&mut guest.vits, 8, host_device(1)), known);
    let id = GuestDeviceId(0x1_0000);
    let far = VitsError::DeviceId { id, bits: 16 };
    assert_eq!(add(&mut guest.vits, id.0, host_device(1)), Err(far));
    let text = std::format!("{far}");
    assert_eq!(text, "device 0x10000: the domain's device ids have 16 bits");
    let wrapping = HostDevice {
        first_event: EventId(u32::MAX),
        ..host_device(2)
    };
    let events = Err(VitsError::Events(2));
    assert_eq!(add(&mut guest.vits, 9, wrapping), events);
    let config = |cpus, device_bits| Config {
        cpus,
        lpis: 8192,
        device_bits,
    };
    assert!(Vits::new(config(0, 16)).is_err());
    assert!(Vits::new(config(129, 16)).is_err());
    assert!(Vits::new(config(128, 33)).is_err());
    assert!(Vits::new(config(128, 32)).is_ok());
}
