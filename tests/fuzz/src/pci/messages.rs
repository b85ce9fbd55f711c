//! A guest programs the vectors of its card, by MSI-X and MSI, in any order and by any access.
//!
//! Whatever it does: its table reads as it was written; what it is told to be for each vector is what
//! the table says, as soon as all work is done; and nothing of MSI-X reaches hardware.

use arbitrary::{Arbitrary, Unstructured};
use pci_host::capability::MsiX;
use vpci::guest::Trapped;

use super::devices::Card;
use super::guest::{self, Guest};

/// Steps of one input.
const MOST_STEPS: usize = 256;

#[derive(Debug, Arbitrary)]
enum Step {
    /// A field of the table, or two.
    Entry(u8, u8, bool, u64),
    /// Anywhere at the table or pending bits.
    Anywhere(u16, u8, u64),
    /// Message control of MSI-X.
    Control(u16),
    /// A register of MSI.
    Msi(u8, u8, u32),
    /// A part of the work.
    Work(u8),
    /// A reset of the function, by the guest.
    Reset,
}

/// What the guest has written: address, data and mask of each vector.
type Model = Vec<[u32; 4]>;

pub fn run(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let Ok(card) = Card::arbitrary(&mut bytes) else {
        return;
    };
    let mut guest = Guest::new(card);
    let Some(msi_x) = guest.device.msi_x else {
        return;
    };
    let fresh = vec![[0, 0, 0, 1]; msi_x.vectors.into()];
    let mut model: Model = fresh.clone();
    for _ in 0..MOST_STEPS {
        if bytes.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut bytes) else {
            break;
        };
        if make(&mut guest, msi_x, &mut model, step) {
            model.clone_from(&fresh);
        }
    }
    guest.finish();
    check(&guest, msi_x, &model);
    guest.end();
}

/// Makes a step. Returns whether the guest has reset its card.
fn make(guest: &mut Guest, msi_x: MsiX, model: &mut Model, step: Step) -> bool {
    let (bar, table) = (msi_x.table.bar, u64::from(msi_x.table.offset));
    match step {
        Step::Entry(vector, field, two, value) => {
            let bytes = if two { 8 } else { 4 };
            let field = u64::from(field & 3) & if two { 2 } else { 3 };
            let offset = table + u64::from(vector) * 16 + field * 4;
            store(guest, msi_x, model, offset, bytes, value);
        }
        Step::Anywhere(offset, log, value) => {
            let start = table & !0xfff;
            let offset = start + u64::from(offset);
            let bytes = 1 << (log & 3);
            store(guest, msi_x, model, offset, bytes, value);
            let _ = guest.function.read_trapped(bar, offset, bytes);
        }
        Step::Control(value) => {
            let offset = msi_x.offset.get();
            if let Some(access) = guest::access(offset + 2, 1) {
                guest.write(access, value.into());
            }
        }
        Step::Msi(dword, log, value) => {
            let Some(msi) = guest.device.msi else {
                return false;
            };
            let dwords = msi.size().div_ceil(4);
            let offset = msi.offset.get() + u16::from(dword) % dwords * 4;
            if let Some(access) = guest::access(offset, log) {
                guest.write(access, value.into());
            }
        }
        Step::Work(most) => {
            guest.work(most.into(), false);
        }
        Step::Reset => return reset(guest),
    }
    false
}

fn store(guest: &mut Guest, msi_x: MsiX, model: &mut Model, offset: u64, bytes: u64, value: u64) {
    let bar = msi_x.table.bar;
    let stored = guest.function.write_trapped(bar, offset, bytes, value);
    let inside = offset.checked_sub(msi_x.table.offset.into());
    let whole = |inside: &u64| matches!(bytes, 4 | 8) && inside.is_multiple_of(bytes);
    let Some(inside) = inside.filter(whole) else {
        return;
    };
    let Some(entry) = model.get_mut((inside / 16) as usize) else {
        return;
    };
    assert_eq!(stored, Trapped::Value(0));
    let first = (inside % 16 / 4) as usize;
    for (number, field) in entry
        .iter_mut()
        .enumerate()
        .skip(first)
        .take(bytes as usize / 4)
    {
        let value = (value >> (32 * (number - first))) as u32;
        *field = if number == 3 { value & 1 } else { value };
    }
}

/// By the bit of its PCI Express capability, if the card has that.
fn reset(guest: &mut Guest) -> bool {
    let resets = guest
        .device
        .express
        .filter(|express| express.function_level_reset);
    let Some(access) = resets.and_then(|express| guest::access(express.offset.get() + 8, 1)) else {
        return false;
    };
    let control = guest.read(access);
    guest.write(access, control | 1 << 15);
    true
}

/// The table reads as it was written, and all that was said of vectors is so.
fn check(guest: &Guest, msi_x: MsiX, model: &Model) {
    let bar = msi_x.table.bar;
    let control = guest::access(msi_x.offset.get() + 2, 1).map_or(0, |access| guest.read(access));
    let (enabled, masked) = (control & 1 << 15 != 0, control & 1 << 14 != 0);
    for (vector, entry) in (0_u16..).zip(model) {
        let start = u64::from(msi_x.table.offset) + u64::from(vector) * 16;
        for (field, value) in (0_u64..).zip(entry) {
            let read = guest.function.read_trapped(bar, start + field * 4, 4);
            assert_eq!(read, Trapped::Value((*value).into()), "{vector}, {field}");
        }
        let Some(state) = guest.vectors.get(usize::from(vector)).copied().flatten() else {
            assert!(!enabled, "vector {vector} was never told of");
            continue;
        };
        let [low, high, data, control] = *entry;
        let heard = enabled && !masked && control == 0;
        assert_eq!(state.masked, !heard, "vector {vector}");
        if enabled {
            let address = u64::from(high) << 32 | u64::from(low & !3);
            assert_eq!(
                (state.address, state.data),
                (address, data),
                "vector {vector}"
            );
        }
    }
}
