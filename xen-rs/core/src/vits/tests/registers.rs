//! Everything that a guest can load and store.

extern crate std;

use super::super::Step;
use super::*;

#[test]
fn xsa_94_every_access_is_answered_and_what_is_not_defined_is_zero() {
    let mut guest = Guest::unborn();
    let widths = [Width::Byte, Width::Half, Width::Word, Width::Double];
    let mut defined = BTreeMap::new();
    for offset in 0..0x2_0000_u32 {
        for width in widths {
            for direction in [
                Direction::Write(u64::MAX),
                Direction::Read,
                Direction::Write(0),
            ] {
                let value = guest.access(offset, width, direction);
                assert!(width != Width::Word || value >> 32 == 0);
                if value != 0 {
                    defined.insert((offset, width.bytes()), value);
                }
            }
        }
        let _ = guest
            .vits
            .run(&guest.memory, 2, |_| panic!("an effect of nothing"));
    }
    let expected = [
        (0x0000, 4),
        (0x0004, 4),
        (0x0008, 4),
        (0x0008, 8),
        (0x000c, 4),
        (0x0080, 4),
        (0x0080, 8),
        (0x0084, 4),
        (0x0100, 4),
        (0x0100, 8),
        (0x0104, 4),
        (0x0108, 4),
        (0x0108, 8),
        (0x010c, 4),
        (0xffe8, 4),
    ];
    let found: Vec<_> = defined.keys().copied().collect();
    assert_eq!(found, expected);
    assert_eq!(guest.vits.refused(), 0);
}

#[test]
fn halves_make_a_whole() {
    let mut guest = Guest::unborn();
    guest.write32(GITS_CBASER, 0x4800_000f);
    guest.write32(GITS_CBASER + 4, 0x8000_0005);
    let coherent = 7 << 59 | 1 << 10;
    let whole = 0x8000_0005_4800_000f | coherent;
    assert_eq!(guest.read(GITS_CBASER), whole);
    assert_eq!(u64::from(guest.read32(GITS_CBASER + 4)), whole >> 32);
}

#[test]
fn tables_and_queue_stay_while_the_its_is_enabled() {
    let mut guest = Guest::new();
    for offset in [
        GITS_CBASER,
        GITS_BASER,
        GITS_BASER + 8,
        GITS_TYPER,
        GITS_CREADR,
    ] {
        let before = guest.read(offset);
        guest.write(offset, u64::MAX);
        assert_eq!(guest.read(offset), before);
    }
    // It comes to rest at once.
    assert_eq!(guest.read32(GITS_CTLR), 1);
    guest.write32(GITS_CTLR, 0);
    assert_eq!(guest.read32(GITS_CTLR), 1 << 31);
    // A new queue begins at its beginning.
    guest.write(GITS_CBASER, 1 << 63 | QUEUE);
    assert_eq!(guest.read(GITS_CREADR), 0);
    assert_eq!(guest.read(GITS_CWRITER), 0);
}

#[test]
fn it_is_not_quiescent_while_a_command_is_under_way() {
    let mut guest = with_device(4);
    let collection = collection(0);
    guest.queue(Command::Invall { collection }.encode());
    let _ = guest.vits.step(&guest.memory);
    let reader = guest.read(GITS_CREADR);
    guest.write32(GITS_CTLR, 0);
    assert_eq!(guest.read32(GITS_CTLR), 0);
    guest.write(GITS_CBASER, 1 << 63 | 0x1000);
    assert_eq!(guest.read(GITS_CREADR), reader);
    while let Step::Effect(_) = guest.vits.step(&guest.memory) {}
    assert_eq!(guest.read32(GITS_CTLR), 1 << 31);
    assert_eq!(guest.read(GITS_CREADR), reader + 32);
}

#[test]
fn a_write_offset_beyond_the_queue_is_ignored() {
    let mut guest = Guest::new();
    let before = guest.read(GITS_CWRITER);
    guest.write(GITS_CWRITER, QUEUE_BYTES);
    guest.write(GITS_CWRITER, 0xf_ffe0);
    assert_eq!(guest.read(GITS_CWRITER), before);
    assert_eq!(guest.finish(), []);
}

#[test]
fn a_queue_that_cannot_be_read_stalls_until_it_can() {
    let mut guest = with_device(4);
    guest.memory.end = Some(QUEUE);
    guest.queue(Command::map(DeviceId(8), EventId(1), lpi(1), collection(0)).encode());
    let done = guest
        .vits
        .run(&guest.memory, 10, |_| panic!("an effect of nothing"));
    assert_eq!(done, Progress::Done);
    assert_eq!(guest.read(GITS_CREADR) & 1, 1);
    guest.memory.end = None;
    let done = guest
        .vits
        .run(&guest.memory, 10, |_| panic!("an effect of a stalled ITS"));
    assert_eq!(done, Progress::Done);
    let writer = guest.read(GITS_CWRITER);
    guest.write(GITS_CWRITER, writer | 1);
    assert_eq!(guest.finish().len(), 1);
    assert_eq!(guest.read(GITS_CREADR) & 1, 0);
}
