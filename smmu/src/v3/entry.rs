//! Stream table entries (IHI 0070, 5.2): eight words that say what becomes of a stream.

use xen_types::Hpa;

use super::capabilities::{Capabilities, StallModel};
use crate::stage2::size_code;
use crate::{Stage2, Vmid};

/// 64-bit words of an entry.
pub const WORDS: usize = 8;
/// Bytes of an entry.
pub const BYTES: u64 = 64;

const VALID: u64 = 1;
/// `Config`, bits 3:1.
const CONFIG: u64 = 0b111 << 1;
const CONFIG_ABORT: u64 = 0b000 << 1;
const CONFIG_STAGE2: u64 = 0b110 << 1;
/// Word 1: alike events may become one (`MEV`).
const MERGE_EVENTS: u64 = 1 << 19;
/// Word 1: shareability as it comes in (`SHCFG`).
const SHAREABILITY_INCOMING: u64 = 0b01 << 44;
/// Word 2: from here on, 19 bits as `VTCR_EL2` has them in its bits 18:0.
const VTCR_SHIFT: u32 = 32;
/// Walks through write-back inner shareable memory (`S2IR0`, `S2OR0`, `S2SH0`).
const WALKS_CACHED: u64 = 0b11 << 12 | 0b01 << 10 | 0b01 << 8;
/// Walks past caches.
const WALKS_UNCACHED: u64 = 0b10 << 12;
/// Word 2: tables of AArch64 (`S2AA64`).
const AARCH64: u64 = 1 << 51;
/// Word 2: access flags do not count (`S2AFFD`). They do for CPUs: a mapping without one is for
/// devices alone.
const NO_ACCESS_FLAGS: u64 = 1 << 53;
/// Word 2: faults stall (`S2S`).
const STALL: u64 = 1 << 57;
/// Word 2: faults are recorded (`S2R`).
const RECORD: u64 = 1 << 58;

/// An entry as the SMMU reads it. Zeros are invalid: the stream is aborted, with an event.
pub type Words = [u64; WORDS];

/// The first word of an entry whose stream is aborted without an event. With it the SMMU ignores the
/// other words.
pub const ABORT: u64 = VALID | CONFIG_ABORT;

/// The entry of a stream that a domain's stage 2 translates, for an SMMU with these capabilities,
/// which sees caches or not.
pub fn translated(stage2: Stage2, capabilities: &Capabilities, coherent: bool) -> Words {
    [
        VALID | CONFIG_STAGE2,
        attributes(capabilities),
        translation(stage2, capabilities, coherent),
        stage2.root().get(),
        0,
        0,
        0,
        0,
    ]
}

fn attributes(capabilities: &Capabilities) -> u64 {
    if capabilities.overrides {
        MERGE_EVENTS | SHAREABILITY_INCOMING
    } else {
        MERGE_EVENTS
    }
}

/// Word 2.
fn translation(stage2: Stage2, capabilities: &Capabilities, coherent: bool) -> u64 {
    let walk = stage2.walk();
    let cached = if coherent {
        WALKS_CACHED
    } else {
        WALKS_UNCACHED
    };
    // A walk of fewer bits goes through the same tables; what it does not reach, the SMMU cannot.
    let input = walk.limited_to(capabilities.output_bits);
    let size = size_code(walk.output_bits().min(capabilities.output_bits));
    let vtcr = size << 16 | cached | input.start_and_size();
    // Where the SMMU always stalls, an entry that does not say so is ILLEGAL (5.2, S2S).
    let stall = match capabilities.stalls {
        StallModel::Stall => STALL,
        StallModel::Either | StallModel::Terminate => 0,
    };
    u64::from(stage2.vmid().get()) | vtcr << VTCR_SHIFT | AARCH64 | NO_ACCESS_FLAGS | RECORD | stall
}

/// The domain to which an entry with these first and third words gives its stream.
pub fn vmid(first: u64, third: u64) -> Option<Vmid> {
    let attached = first & (VALID | CONFIG) == VALID | CONFIG_STAGE2;
    attached.then_some(Vmid::new(third as u16))
}

/// Where word `index`, below [`WORDS`], of the entry at `entry` is.
pub fn word(entry: Hpa, index: usize) -> Hpa {
    super::bus::offset(entry, 8 * index as u64)
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::tests::typical;
    use super::*;
    use crate::Walk;

    fn stage2(vtcr: u64) -> Stage2 {
        let walk = Walk::from_vtcr_el2(vtcr).unwrap();
        Stage2::new(Hpa::new(0x8_4321_7000), walk, Vmid::new(0x123)).unwrap()
    }

    #[test]
    fn an_entry_is_spelled_as_the_book_says() {
        let words = translated(stage2(0x8004_3594), &typical(), true);
        // V, Config = 0b110.
        assert_eq!(words[0], 0xd);
        // MEV.
        assert_eq!(words[1], 1 << 19);
        // S2VMID; S2T0SZ 20, S2SL0 2, write-back, inner shareable, S2TG 0, S2PS 4; S2AA64; S2AFFD; S2R.
        assert_eq!(words[2], 0x042c_3594_0000_0123);
        assert_eq!(words[3], 0x8_4321_7000);
        assert_eq!(words[4..], [0; 4]);
        assert_eq!(vmid(words[0], words[2]), Some(Vmid::new(0x123)));
    }

    #[test]
    fn capabilities_decide_on_details() {
        let capabilities = Capabilities {
            overrides: true,
            stalls: StallModel::Stall,
            output_bits: 44,
            ..typical()
        };
        let words = translated(stage2(0x800d_3590), &capabilities, false);
        assert_eq!(words[1], 1 << 44 | 1 << 19);
        // S2S; not cacheable, outer shareable; S2PS and S2T0SZ as the SMMU
        // has them.
        assert_eq!(words[2], 0x062c_2094_0000_0123);
    }

    #[test]
    fn what_aborts_belongs_to_nobody() {
        assert_eq!(ABORT, 1);
        for first in [0, ABORT, VALID | 0b100 << 1, CONFIG_STAGE2] {
            assert_eq!(vmid(first, 5), None);
        }
    }

    #[test]
    fn xsa_390_the_walk_is_that_of_the_cpu() {
        for vtcr in [
            0x8000_3560_u64,
            0x8001_355c,
            0x8002_3559,
            0x8003_3559,
            0x8004_3594,
            0x800d_3590,
        ] {
            let capabilities = Capabilities {
                output_bits: 48,
                ..typical()
            };
            let words = translated(stage2(vtcr), &capabilities, true);
            // All that VTCR_EL2 says of the walk is in bits 18:0.
            assert_eq!(words[2] >> 32 & 0x7_ffff, vtcr & 0x7_ffff, "{vtcr:#x}");
        }
    }
}
