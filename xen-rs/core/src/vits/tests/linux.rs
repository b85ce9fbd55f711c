//! What Linux's ITS driver does when it probes, and for a device, in its order.

extern crate std;

use super::*;
use crate::its::layout::{GITS_PIDR2, Typer};

const VALID: u64 = 1 << 63;
const INDIRECT: u64 = 1 << 62;
/// Inner shareable, read and write allocating write-back.
const CACHED: u64 = 7 << 59 | 1 << 10;

#[test]
fn linux_probes_and_sets_up_a_device() {
    let mut guest = Guest::unborn();
    guest
        .vits
        .add_device(GuestDeviceId(0x10), host_device(5))
        .unwrap();
    assert_eq!(guest.read32(GITS_PIDR2) & 0xf0, 0x30);
    // It is made quiescent: disabled, then waited for.
    let control = guest.read32(GITS_CTLR);
    guest.write32(GITS_CTLR, control & !1);
    assert_eq!(guest.read32(GITS_CTLR) >> 31, 1);
    let typer = Typer::decode(guest.read(GITS_TYPER));
    assert_eq!(guest.read(GITS_TYPER) & 1, 1);
    assert!(!typer.targets_are_addresses);
    assert_eq!((typer.device_bits, typer.event_bits), (16, 16));

    // Which page sizes each table takes: the largest that reads back.
    for number in 0..8 {
        let offset = GITS_BASER + number * 8;
        let mut register = guest.read(offset);
        let kind = register >> 56 & 7;
        assert_eq!(kind, [1, 4, 0, 0, 0, 0, 0, 0][number as usize]);
        if kind == 0 {
            continue;
        }
        for size in [2_u64, 1, 0] {
            register = register & !(3 << 8) | size << 8;
            guest.write(offset, register);
            assert_eq!(guest.read(offset) >> 8 & 3, size, "each is taken");
        }
        // Two levels are tried for devices.
        guest.write(offset, register | INDIRECT);
        assert_eq!(guest.read(offset) & INDIRECT != 0, kind == 1);
        let value = VALID | CACHED | kind << 56 | 7 << 48 | 2 << 8 | 0x5_4000_0000;
        guest.write(offset, value);
        assert_eq!(guest.read(offset), value, "or Linux gives the table up");
    }

    // The queue, with the attributes that it wants.
    let queue = VALID | CACHED | QUEUE;
    guest.write(GITS_CBASER, queue);
    assert_eq!(guest.read(GITS_CBASER) & 0xc00, 1 << 10);
    guest.write(GITS_CWRITER, 0);
    let control = guest.read32(GITS_CTLR);
    guest.write32(GITS_CTLR, control | 1);

    // Each CPU maps its collection: MAPC, SYNC, INVALL, SYNC.
    for number in 0..4 {
        let target = Target::of_number(number);
        guest.mapc(number, Some(number));
        assert_eq!(guest.run(Command::Sync { target }), []);
        let collection = collection(number);
        let reloads = guest.run(Command::Invall { collection });
        assert_eq!(reloads.len(), 16);
        assert_eq!(guest.run(Command::Sync { target }), []);
    }

    // A device with 5 vectors: a table for 8, a chunk of 32 LPIs.
    assert_eq!(guest.mapd(0x10, Some(3)), []);
    for event in 0..5 {
        let effects = guest.mapti(0x10, event, event, (event % 4) as u16);
        let map = Effect::Map {
            source: source(event),
            lpi: lpi(event),
            cpu: cpu(event as usize % 4),
        };
        assert_eq!(effects, [map]);
        let inv = Command::Inv {
            device: DeviceId(0x10),
            event: EventId(event),
        };
        assert_eq!(guest.run(inv).len(), 1);
    }
    // smp_affinity: MOVI and SYNC to where it was.
    let movi = Command::Movi {
        device: DeviceId(0x10),
        event: EventId(0),
        collection: collection(3),
    };
    assert_eq!(guest.run(movi).len(), 1);
    // The driver goes: DISCARD each, then MAPD without a table.
    for event in 0..5 {
        let discard = Command::Discard {
            device: DeviceId(0x10),
            event: EventId(event),
        };
        assert_eq!(guest.run(discard).len(), 1);
    }
    assert_eq!(guest.mapd(0x10, None), []);
    assert_eq!(guest.vits.refused(), 0);
}
