use xen_types::Hpa;

use super::*;
use crate::{Vmid, Walk};

/// Those of QEMU's SMMUv3, but for the stages.
pub(crate) fn typical() -> Capabilities {
    Capabilities::read(&Ids::default()).unwrap()
}

/// Id registers alone.
struct Ids {
    idr0: u32,
    idr1: u32,
    idr3: u32,
    idr5: u32,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            // Two levels; little-endian; terminate; VMID16; COHACC; AArch64; stage 2.
            idr0: 1 << 27 | 0b01 << 24 | 0b10 << 21 | 1 << 18 | 1 << 4 | 0b10 << 2 | 1,
            // Queues of 2^19 entries; 16 bits of stream id.
            idr1: 19 << 21 | 19 << 16 | 16,
            idr3: 1 << 10,
            // 4 KiB; 44 bits.
            idr5: 1 << 4 | 4,
        }
    }
}

impl Registers for Ids {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            IDR0 => self.idr0,
            IDR1 => self.idr1,
            IDR3 => self.idr3,
            IDR5 => self.idr5,
            other => panic!("{other:#x} is no id register"),
        }
    }

    fn read64(&self, offset: u32) -> u64 {
        panic!("{offset:#x} has no 64 bits")
    }

    fn write32(&mut self, offset: u32, _: u32) {
        panic!("{offset:#x} is read-only")
    }

    fn write64(&mut self, offset: u32, _: u64) {
        panic!("{offset:#x} is read-only")
    }
}

#[test]
fn id_registers_say_what_there_is() {
    let expected = Capabilities {
        stream_bits: 16,
        output_bits: 44,
        vmid_bits: 16,
        two_levels: true,
        coherent: true,
        broadcast: false,
        ranges: true,
        stalls: StallModel::Terminate,
        messages: false,
        hypervisor: false,
        overrides: false,
        command_bits: 19,
        event_bits: 19,
    };
    assert_eq!(typical(), expected);
    let other = Ids {
        idr0: 0b10 << 24 | 1 << 13 | 1 << 9 | 1 << 5 | 0b11 << 2 | 1,
        idr1: 1 << 27 | 7 << 21 | 5 << 16 | 63,
        idr3: 0,
        idr5: 1 << 4 | 6,
    };
    let expected = Capabilities {
        stream_bits: 32,
        output_bits: 48,
        vmid_bits: 8,
        two_levels: false,
        coherent: false,
        broadcast: true,
        ranges: false,
        stalls: StallModel::Stall,
        messages: true,
        hypervisor: true,
        overrides: true,
        command_bits: 7,
        event_bits: 5,
    };
    assert_eq!(Capabilities::read(&other), Ok(expected));
}

#[test]
fn an_smmu_that_cannot_isolate_says_why() {
    let ids = Ids::default;
    let refused = |ids: &Ids| Capabilities::read(ids).unwrap_err();
    let idr0 = ids().idr0;
    for (ids, why) in [
        (
            Ids {
                idr0: idr0 & !1,
                ..ids()
            },
            NoIsolation::NoStage2,
        ),
        (
            Ids {
                idr0: idr0 & !(0b11 << 2) | 1 << 2,
                ..ids()
            },
            NoIsolation::TableFormat(1),
        ),
        (
            Ids {
                idr0: idr0 | 0b11 << 21,
                ..ids()
            },
            NoIsolation::BigEndian,
        ),
        (Ids { idr5: 4, ..ids() }, NoIsolation::NoGranule),
        (
            Ids {
                idr5: 1 << 4 | 7,
                ..ids()
            },
            NoIsolation::AddressSize(7),
        ),
        (
            Ids {
                idr1: 1 << 30,
                ..ids()
            },
            NoIsolation::Preset(1 << 30),
        ),
    ] {
        assert_eq!(refused(&ids), why);
    }
}

#[test]
fn xsa_390_a_walk_that_the_smmu_cannot_do_is_refused() {
    for output_bits in [32, 36, 40, 42, 44, 48] {
        let capabilities = Capabilities {
            output_bits,
            ..typical()
        };
        for (level, input) in (0..3).flat_map(|level| (25..=48).map(move |bits| (level, bits))) {
            let Ok(walk) = Walk::new(level, input, 48) else {
                continue;
            };
            let stage2 = Stage2::new(Hpa::new(0x4000_0000), walk, Vmid::new(1)).unwrap();
            // S2SL0: level 0 only from 44 bits on. S2T0SZ: not more than OAS, which
            // `limited_to` sees to.
            let legal = level > 0 || output_bits >= 44;
            assert!(Walk::new(level, input.min(output_bits), 48).is_ok() || !legal);
            assert_eq!(capabilities.accept(stage2).is_ok(), legal, "{stage2:?}");
        }
    }
}

#[test]
fn a_vmid_and_a_root_must_fit() {
    let capabilities = Capabilities {
        output_bits: 40,
        vmid_bits: 8,
        ..typical()
    };
    let walk = Walk::new(1, 39, 40).unwrap();
    let accept = |root, vmid| {
        let stage2 = Stage2::new(Hpa::new(root), walk, Vmid::new(vmid)).unwrap();
        capabilities.accept(stage2)
    };
    assert_eq!(accept(0x1000, 255), Ok(()));
    assert_eq!(
        accept(0x1000, 256),
        Err(Stage2Refused::Vmid(Vmid::new(256)).into())
    );
    let (root, limit) = (Hpa::new(1 << 40), 40);
    assert_eq!(
        accept(1 << 40, 1),
        Err(Stage2Refused::Address { root, limit }.into())
    );
}
