//! Everything that a guest can load and store: nothing panics, and what is not defined is zero.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::super::lr::{GicV2, GicV3, ListRegisters};
use super::super::{
    Access, Direction, Effects, Region, SgiRegister, Version, Vgic, Width, affinity_of,
};
use super::HostLocks;
use super::machine::{Machine, cpu_id};

const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];

/// Stores ones and loads, with every width.
fn touch(vgic: &Vgic<HostLocks>, cpu: usize, region: Region, offset: u32) {
    let mut effects = Effects::new();
    for width in WIDTHS {
        for direction in [
            Direction::Write(u64::MAX >> (offset & 7)),
            Direction::Read,
            Direction::Write(0),
        ] {
            let access = Access {
                offset,
                width,
                direction,
            };
            let value = vgic.access(cpu_id(cpu), region, access, &mut effects);
            let defined = offset.is_multiple_of(width.bytes()) && width != Width::Half;
            assert!(
                value == 0 || defined && direction == Direction::Read,
                "{region:?} {access:?} is not defined but reads {value:#x}"
            );
            let bits = 8 * width.bytes();
            assert!(bits == 64 || value >> bits == 0, "{access:?}: {value:#x}");
        }
    }
}

#[test]
fn xsa_94_xsa_117_every_access_to_a_gicv2_is_answered() {
    for cpus in 1..=8 {
        let vgic = Vgic::new(Version::V2, cpus, 988).unwrap();
        for offset in 0..0x1_0000 {
            touch(&vgic, cpus - 1, Region::Distributor, offset);
            if offset % 0x1000 == 0 {
                touch(&vgic, 0, Region::Redistributors, offset);
            }
        }
    }
}

#[test]
fn xsa_94_every_access_to_a_gicv3_distributor_is_answered() {
    for cpus in 1..=32 {
        let vgic = Vgic::new(Version::V3, cpus, 988 - 32 * (cpus % 3)).unwrap();
        // All offsets for some numbers of CPUs, all words for the others.
        let step = if cpus.is_power_of_two() { 1 } else { 4 };
        for offset in (0..0x1_0000).step_by(step) {
            touch(&vgic, cpus - 1, Region::Distributor, offset);
        }
    }
}

#[test]
fn xsa_94_every_access_to_redistributors_is_answered() {
    for cpus in 1..=32_usize {
        let vgic = Vgic::new(Version::V3, cpus, 32).unwrap();
        // The first CPU's frames, the last one's, and what would be the next one's.
        for number in [0, cpus as u32 - 1, cpus as u32] {
            let step = if cpus == 2 { 1 } else { 12 };
            for offset in (0..0x2_0000).step_by(step) {
                touch(&vgic, 0, Region::Redistributors, number << 17 | offset);
            }
        }
        touch(&vgic, 0, Region::Redistributors, u32::MAX);
    }
}

proptest! {
    /// Stores of anything anywhere, by any CPU, between entries and exits with list registers that
    /// come back with anything in them.
    #[test]
    fn xsa_223_nothing_that_comes_back_in_list_registers_does_harm(
        v3 in any::<bool>(),
        steps in prop::collection::vec(
            (0..4_usize, 0..0x1000_u32, any::<u64>(), any::<u32>()),
            1..100,
        ),
    ) {
        let version = if v3 { Version::V3 } else { Version::V2 };
        let vgic: Vgic<HostLocks> = Vgic::new(version, 4, 988).unwrap();
        let mut narrow: Vec<_> = (0..4).map(|_| ListRegisters::<GicV2>::new(4)).collect();
        let mut wide: Vec<_> = (0..4).map(|_| ListRegisters::<GicV3>::new(4)).collect();
        let mut effects = Effects::new();
        for (cpu, offset, value, hcr) in steps {
            let id = cpu_id(cpu);
            let region = if offset & 0x800 != 0 { Region::Redistributors } else { Region::Distributor };
            let offset = if region == Region::Redistributors {
                (cpu as u32) << 17 | 1 << 16 | offset & 0xffc
            } else {
                offset & 0xffc
            };
            let access = Access { offset, width: Width::Word, direction: Direction::Write(value) };
            vgic.access(id, region, access, &mut effects);
            vgic.send_sgi(id, SgiRegister::Sgi1, value, &mut effects);
            if v3 {
                vgic.flush(id, &mut wide[cpu]);
                for register in wide[cpu].used_mut() {
                    *register ^= value;
                }
                wide[cpu].set_hcr(hcr);
                vgic.sync(id, &mut wide[cpu], &mut effects);
            } else {
                vgic.flush(id, &mut narrow[cpu]);
                for register in narrow[cpu].used_mut() {
                    *register ^= hcr;
                }
                narrow[cpu].set_hcr(hcr);
                vgic.sync(id, &mut narrow[cpu], &mut effects);
            }
        }
    }
}

#[test]
fn a_gicv2_says_what_it_is() {
    let mut machine = Machine::<GicV2>::new(Version::V2, 3, 4);
    let read = |machine: &mut Machine<GicV2>, offset| {
        machine.read(1, Region::Distributor, offset, Width::Word)
    };
    assert_eq!(read(&mut machine, 0x004), 2 << 5 | 3);
    assert_eq!(read(&mut machine, 0xfe8), 0x2b);
    assert_eq!(read(&mut machine, 0x000), 0);
    // Targets of private interrupts are the reader.
    assert_eq!(read(&mut machine, 0x800), 0x0202_0202);
    // Those of shared ones are CPUs that exist.
    machine.write(1, Region::Distributor, 0x820, Width::Word, 0xff04_0201);
    assert_eq!(read(&mut machine, 0x820), 0x0704_0201);
    // SGIs are edge-triggered.
    machine.write(1, Region::Distributor, 0xc00, Width::Word, 0);
    assert_eq!(read(&mut machine, 0xc00), 0xaaaa_aaaa);
    // There are no groups.
    machine.write(1, Region::Distributor, 0x084, Width::Word, u64::MAX);
    assert_eq!(read(&mut machine, 0x084), 0);
}

#[test]
fn a_gicv3_says_what_it_is() {
    let mut machine = Machine::<GicV3>::new(Version::V3, 20, 4);
    let distributor = Region::Distributor;
    let typer = machine.read(0, distributor, 0x4, Width::Word);
    assert_eq!(typer, 1 << 25 | 9 << 19 | 3);
    machine.write(0, distributor, 0, Width::Word, u64::MAX);
    let ctlr = machine.read(0, distributor, 0, Width::Word);
    assert_eq!(ctlr, 0b101_0011, "ARE, DS and both groups; RWP is clear");
    assert_eq!(machine.read(0, distributor, 0xffe8, Width::Word), 0x3b);

    let route = 0x6000 + 40 * 8;
    machine.write(0, distributor, route, Width::Double, 0x8000_0103);
    assert_eq!(machine.read(0, distributor, route, Width::Double), 0x103);
    assert_eq!(machine.read(0, distributor, route + 4, Width::Word), 0);
    // Private interrupts are elsewhere.
    machine.write(0, distributor, 0x100, Width::Word, u64::MAX);
    assert_eq!(machine.read(0, distributor, 0x100, Width::Word), 0);
}

#[test]
fn redistributors_name_their_cpus() {
    let mut machine = Machine::<GicV3>::new(Version::V3, 20, 4);
    let frames = Region::Redistributors;
    let typer = |machine: &mut Machine<GicV3>, cpu: u32| {
        machine.read(0, frames, cpu << 17 | 8, Width::Double)
    };
    assert_eq!(typer(&mut machine, 0), 0);
    assert_eq!(typer(&mut machine, 18), 0x102 << 32 | 18 << 8);
    assert_eq!(typer(&mut machine, 19), 0x103 << 32 | 19 << 8 | 1 << 4);
    assert_eq!(affinity_of(cpu_id(19)).packed(), 0x103);
    assert_eq!(machine.read(0, frames, 19 << 17 | 0xc, Width::Word), 0x103);

    let waker = 3 << 17 | 0x14;
    assert_eq!(machine.read(0, frames, waker, Width::Word), 0b110);
    machine.write(0, frames, waker, Width::Word, 0);
    assert_eq!(machine.read(0, frames, waker, Width::Word), 0);
    assert_eq!(machine.read(0, frames, 3 << 17 | 0xffe8, Width::Word), 0x3b);
}

#[test]
fn all_988_shared_interrupts_exist_and_no_more() {
    let vgic: Vgic<HostLocks> = Vgic::new(Version::V2, 1, 961).unwrap();
    assert_eq!(vgic.spis(), 988);
    let mut effects = Effects::new();
    let mut word = |offset, direction| {
        let access = Access {
            offset,
            width: Width::Word,
            direction,
        };
        vgic.access(cpu_id(0), Region::Distributor, access, &mut effects)
    };
    assert_eq!(word(0x4, Direction::Read) & 0x1f, 31);
    word(0x17c, Direction::Write(u64::MAX));
    assert_eq!(word(0x17c, Direction::Read), 0x0fff_ffff);
}
