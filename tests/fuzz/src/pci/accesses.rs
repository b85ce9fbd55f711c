//! A guest reads and writes the config space of its card as it likes.
//!
//! Whatever it does: the card's base address registers and all other functions stay as they are; a
//! read is the bytes that it is made of; what is mapped is the card's own, and all of it is unmapped in
//! the end.

use arbitrary::{Arbitrary, Unstructured};

use super::devices::{self, Card};
use super::guest::{self, Guest};

/// Steps of one input.
const MOST_STEPS: usize = 256;

#[derive(Debug, Arbitrary)]
enum Step {
    /// Of a register that most cards have.
    Known(u8, u8, u32),
    /// Of one that is likely there: a BAR, or the command.
    Header(u8, u8, u32),
    Write(u16, u8, u64),
    Read(u16, u8),
    /// Work is interrupted before a write.
    Work(u8, bool),
    /// In the pages that are not mapped.
    Trapped(u8, u32, u8, u64),
}

pub fn run(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let Ok(card) = Card::arbitrary(&mut bytes) else {
        return;
    };
    let mut guest = Guest::new(card);
    let own = guest.device.sbdf;
    let (others, bars) = (
        devices::others(&guest.machine, own),
        devices::bars(&guest.machine, own),
    );
    let mut known: Vec<u16> = guest
        .device
        .capabilities
        .iter()
        .map(|entry| entry.offset.get())
        .collect();
    known.extend(guest.device.extended.iter().map(|entry| entry.offset.get()));
    for _ in 0..MOST_STEPS {
        if bytes.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut bytes) else {
            break;
        };
        make(&mut guest, &known, step);
        assert_eq!(devices::bars(&guest.machine, own), bars);
    }
    assert_eq!(devices::others(&guest.machine, own), others);
    guest.end();
}

fn make(guest: &mut Guest, known: &[u16], step: Step) {
    match step {
        Step::Known(which, inside, value) => {
            let place = usize::from(which).checked_rem(known.len());
            let start = place
                .and_then(|place| known.get(place))
                .copied()
                .unwrap_or(0);
            let offset = start.saturating_add(u16::from(inside & 0x3c));
            write(guest, offset, 2, value.into());
        }
        Step::Header(dword, log, value) => {
            // Command, and the BARs.
            let offset = [4, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30];
            let offset = offset.get(usize::from(dword & 7)).copied().unwrap_or(4);
            write(guest, offset, log, value.into());
        }
        Step::Write(offset, log, value) => write(guest, offset & 0xfff, log, value),
        Step::Read(offset, log) => read(guest, offset & 0xfff, log),
        Step::Work(most, fails) => {
            guest.work(most.into(), fails);
        }
        Step::Trapped(bar, offset, log, value) => {
            let (offset, bytes) = (u64::from(offset), 1 << (log & 3));
            // What is forwarded is asked of nobody here.
            let _ = guest.function.write_trapped(bar & 7, offset, bytes, value);
            let _ = guest.function.read_trapped(bar & 7, offset, bytes);
        }
    }
}

fn write(guest: &mut Guest, offset: u16, log: u8, value: u64) {
    if let Some(access) = guest::access(offset, log) {
        guest.write(access, value);
    }
}

/// A read gives the same as reads of its bytes.
fn read(guest: &Guest, offset: u16, log: u8) {
    let Some(access) = guest::access(offset, log) else {
        return;
    };
    let bytes = (0..access.bytes()).rev();
    let parts = bytes.fold(0, |sum, byte| {
        let part = guest::access(offset + byte, 0).map_or(0xff, |part| guest.read(part));
        sum << 8 | part
    });
    assert_eq!(guest.read(access), parts);
}
