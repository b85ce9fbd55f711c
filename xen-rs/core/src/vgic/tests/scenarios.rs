//! One situation each.

extern crate std;

use std::vec::Vec;

use xen_types::{IntId, Ppi, Spi};

use super::super::lr::{GicV2, GicV3, ListRegisters};
use super::super::{
    CreateError, Effects, LinkError, Physical, Region, SgiRegister, Version, Vgic, Width,
};
use super::HostLocks;
use super::machine::{Machine, cpu_id};

/// Higher than any priority: nothing runs.
const IDLE: u16 = 0x100;

fn spi(intid: u32) -> Spi {
    Spi::new(intid - 32).unwrap()
}

fn id(intid: u32) -> IntId {
    IntId::new(intid).unwrap()
}

/// A GICv3 that forwards, with some interrupts enabled on the first CPU.
fn gicv3(cpus: usize, list_registers: usize, enabled: &[u32]) -> Machine<GicV3> {
    let mut machine = Machine::new(Version::V3, cpus, list_registers);
    machine.write_groups(0, true);
    for &intid in enabled {
        machine.write_bit(0, 0x100, intid);
    }
    machine
}

#[test]
fn sizes_are_checked() {
    let new = |version, cpus, spis| Vgic::<HostLocks>::new(version, cpus, spis).err();
    assert_eq!(
        new(Version::V2, 9, 32),
        Some(CreateError::Cpus { cpus: 9, most: 8 })
    );
    assert_eq!(
        new(Version::V3, 0, 32),
        Some(CreateError::Cpus { cpus: 0, most: 128 })
    );
    assert_eq!(new(Version::V3, 128, 989), Some(CreateError::Spis(989)));
    assert_eq!(new(Version::V3, 128, 988), None);
}

#[test]
fn a_level_is_delivered_for_as_long_as_it_lasts_and_an_edge_once() {
    let mut machine = gicv3(1, 4, &[32, 33]);
    machine.write_edge(0, 33, true);
    for intid in [32, 33] {
        machine.set_line(0, intid, true);
        assert_eq!(machine.acknowledge(0, IDLE), Some((intid, 0)));
        machine.end(0, intid, 0);
        let again = machine.acknowledge(0, IDLE);
        assert_eq!(again.is_some(), intid == 32);
        if again.is_some() {
            machine.set_line(0, intid, false);
            machine.end(0, intid, 0);
        }
        assert_eq!(machine.acknowledge(0, IDLE), None);
    }
}

#[test]
fn a_linked_interrupt_is_taken_and_ended_without_an_exit() {
    let mut machine = gicv3(1, 4, &[32]);
    machine.link(0, 32, id(132));
    assert!(machine.arrive(0, 32, id(132)));
    let exits = machine.exits;
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
    machine.end(0, 32, 0);
    assert!(!machine.physical[&(0, id(132))].active);
    assert_eq!(machine.exits, exits);
}

#[test]
fn a_linked_interrupt_that_the_guest_drops_is_deactivated() {
    let mut machine = gicv3(1, 4, &[32]);
    machine.link(0, 32, id(132));
    assert!(machine.arrive(0, 32, id(132)));
    machine.write_bit(0, 0x280, 32);
    assert!(!machine.physical[&(0, id(132))].active);
    assert_eq!(machine.acknowledge(0, IDLE), None);
}

#[test]
fn a_linked_interrupt_that_arrives_again_before_the_end_is_seen_is_not_lost() {
    let mut machine = gicv3(2, 4, &[32]);
    machine.link(0, 32, id(132));
    assert!(machine.arrive(0, 32, id(132)));
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
    machine.end(0, 32, 0);
    // The list register that says so is still unread.
    assert!(machine.arrive(0, 32, id(132)));
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
    machine.end(0, 32, 0);
    assert!(!machine.physical[&(0, id(132))].active);
}

#[test]
fn the_hypervisor_is_told_when_the_guest_is_done_with_a_watched_interrupt() {
    let mut machine = gicv3(2, 4, &[32]);
    let mut effects = Effects::new();
    assert_eq!(machine.vgic.watch(spi(32), &mut effects), Ok(()));
    assert!(effects.is_empty());
    for _ in 0..3 {
        machine.inject(0, 32);
        assert_eq!(machine.ended, []);
        assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
        // What comes before the end is one more.
        machine.inject(0, 32);
        machine.end(0, 32, 0);
        assert_eq!(machine.ended, []);
        assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
        machine.end(0, 32, 0);
        assert_eq!(core::mem::take(&mut machine.ended), [spi(32)]);
        assert_eq!(machine.acknowledge(0, IDLE), None);
    }
    // One that is disabled waits; one that is dropped is done with.
    machine.write_bit(0, 0x180, 32);
    machine.inject(0, 32);
    assert_eq!(machine.ended, []);
    machine.write_bit(0, 0x280, 32);
    assert_eq!(core::mem::take(&mut machine.ended), [spi(32)]);
    // One that the hypervisor takes back was none.
    machine.write_bit(0, 0x100, 32);
    machine.inject(0, 32);
    let mut effects = Effects::new();
    machine.vgic.withdraw(spi(32), &mut effects);
    machine.carry_out(0, effects);
    assert_eq!(machine.acknowledge(0, IDLE), None);
    let mut effects = Effects::new();
    machine.inject(0, 32);
    machine.vgic.unlink(spi(32), &mut effects);
    assert!(!effects.has_physical());
    assert!(!machine.vgic.shared(spi(32)).unwrap().is_pending());
}

#[test]
fn what_is_in_use_cannot_be_linked() {
    let machine = gicv3(1, 4, &[32]);
    let mut effects = Effects::new();
    let vgic = &machine.vgic;
    assert_eq!(vgic.link(spi(32), id(132), &mut effects), Ok(()));
    assert_eq!(
        effects.take_physical().collect::<Vec<_>>(),
        [Physical::Enable(id(132))]
    );
    assert_eq!(
        vgic.link(spi(32), id(133), &mut effects),
        Err(LinkError::Busy(id(32)))
    );
    assert_eq!(
        vgic.link(spi(128), id(133), &mut effects),
        Err(LinkError::Missing(id(128)))
    );
    vgic.inject(spi(32), &mut effects);
    vgic.unlink(spi(32), &mut effects);
    assert_eq!(
        effects.take_physical().collect::<Vec<_>>(),
        [Physical::Disable(id(132)), Physical::Deactivate(id(132))]
    );
    assert!(!vgic.shared(spi(32)).unwrap().is_pending());
}

#[test]
fn more_than_the_list_registers_hold_ask_for_maintenance() {
    let mut machine = gicv3(1, 2, &[32, 33, 34]);
    machine.write_priority(0, 32, 0xa0);
    machine.write_priority(0, 33, 0x20);
    machine.write_priority(0, 34, 0x60);
    for intid in [32, 33] {
        machine.inject(0, intid);
    }
    assert_eq!(machine.registers[0].hcr(), 0);
    machine.inject(0, 34);
    assert_eq!(machine.registers[0].hcr(), 1 << 1, "UIE");
    for intid in [33, 34, 32] {
        assert_eq!(machine.acknowledge(0, IDLE), Some((intid, 0)));
        machine.end(0, intid, 0);
    }
}

#[test]
fn more_active_than_the_list_registers_hold_are_ended_by_counting() {
    let mut machine = gicv3(1, 2, &[32, 33, 34, 35]);
    let nested = [(32, 0xa0), (33, 0x80), (34, 0x60), (35, 0x20)];
    let mut running = IDLE;
    for (intid, priority) in nested {
        machine.write_priority(0, intid, priority);
        machine.inject(0, intid);
        assert_eq!(machine.acknowledge(0, running), Some((intid, 0)));
        running = priority.into();
    }
    machine.write_priority(0, 32, 0xa0);
    machine.service(0);
    assert_eq!(machine.registers[0].hcr() & 1 << 2, 1 << 2, "LRENPIE");
    for (intid, _) in nested.into_iter().rev() {
        machine.end(0, intid, 0);
        assert!(!machine.read_bit(0, 0x300, intid), "{intid} stays active");
    }
}

#[test]
fn a_disabled_interrupt_leaves_the_list_registers_of_another_cpu() {
    let mut machine = gicv3(2, 4, &[32]);
    machine.inject(0, 32);
    assert_eq!(machine.registers[0].used().len(), 1);
    machine.write_bit(1, 0x180, 32);
    assert_eq!(machine.registers[0].used().len(), 0);
    machine.write_bit(1, 0x100, 32);
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
}

#[test]
fn an_active_state_that_another_cpu_writes_is_kept() {
    let mut machine = gicv3(2, 4, &[32]);
    machine.inject(0, 32);
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
    machine.sync(0);
    machine.vgic.flush(cpu_id(0), &mut machine.registers[0]);
    assert!(machine.read_bit(1, 0x300, 32));
    machine.write_bit(1, 0x380, 32);
    assert!(!machine.read_bit(1, 0x300, 32));
    machine.sync(0);
    assert!(!machine.vgic.shared(spi(32)).unwrap().is_active());
}

#[test]
fn xsa_223_a_list_register_of_an_interrupt_that_is_in_none_changes_nothing() {
    let mut machine = gicv3(2, 4, &[32, 40]);
    machine.inject(0, 32);
    machine.registers[0].used_mut()[0] = 1 << 63 | 1 << 62 | 40;
    machine.sync(0);
    let stranger = machine.vgic.shared(spi(40)).unwrap();
    assert!(!stranger.is_active() && !stranger.is_pending());
}

#[test]
fn sgis_of_gicv2_are_pending_for_each_source() {
    let mut machine = Machine::<GicV2>::new(Version::V2, 4, 4);
    machine.write_groups(0, true);
    machine.write_bit(1, 0x100, 5);
    for source in [3, 0, 3] {
        machine.send_sgi(source, 5, 0b10);
    }
    machine.sync(1);
    let pending = machine.read(1, Region::Distributor, 0xf25, Width::Byte);
    assert_eq!(pending, 0b1001);
    for source in [0, 3] {
        assert_eq!(machine.acknowledge(1, IDLE), Some((5, source)));
        assert_eq!(machine.acknowledge(1, 0), None);
        machine.end(1, 5, source);
    }
    assert_eq!(machine.acknowledge(1, IDLE), None);
}

#[test]
fn xsa_117_filters_of_sgir() {
    // Filter, then on which of four CPUs SGI 2 is pending if CPU 1 sends it with list 0b1101.
    for (filter, expected) in [(0, 0b1101), (1, 0b1101), (2, 0b0010), (3, 0)] {
        let mut machine = Machine::<GicV2>::new(Version::V2, 4, 4);
        let value = filter << 24 | 0b1101 << 16 | 2;
        machine.write(1, Region::Distributor, 0xf00, Width::Word, value);
        let pending = (0..4).filter(|&cpu| machine.read_bit(cpu, 0x200, 2));
        assert_eq!(pending.fold(0, |mask, cpu| mask | 1 << cpu), expected);
    }
}

#[test]
fn sgis_of_gicv3_reach_the_cpus_that_are_listed() {
    let pending_after = |register, value: u64| {
        let mut machine = gicv3(40, 4, &[]);
        let mut effects = Effects::new();
        machine
            .vgic
            .send_sgi(cpu_id(17), register, value, &mut effects);
        (0..40_usize)
            .filter(|&cpu| machine.read_bit(cpu, 0x200, 3))
            .collect::<Vec<_>>()
    };
    let sgi = 3 << 24;
    let group1 = SgiRegister::Sgi1;
    assert_eq!(pending_after(group1, sgi | 0b1000_0001), [0, 7]);
    assert_eq!(pending_after(group1, sgi | 1 << 16 | 0b11), [16, 17]);
    assert_eq!(pending_after(group1, sgi | 2 << 16 | 0xffff).len(), 8);
    let everyone_else = pending_after(group1, sgi | 1 << 40);
    assert_eq!(everyone_else.len(), 39);
    assert!(!everyone_else.contains(&17));
    // No CPU has another cluster, range, or level.
    for elsewhere in [3_u64 << 16, 1 << 32, 1 << 44, 1 << 48] {
        assert!(pending_after(group1, sgi | elsewhere | 0xffff).is_empty());
    }
    // SGIs are in group 1 until the guest moves them.
    assert!(pending_after(SgiRegister::Sgi0, sgi | 1).is_empty());
    assert!(pending_after(SgiRegister::Asgi1, sgi | 1).is_empty());
}

#[test]
fn a_retargeted_interrupt_moves_out_of_a_list_register() {
    let mut machine = gicv3(2, 4, &[32]);
    machine.inject(0, 32);
    machine.write(0, Region::Distributor, 0x6100, Width::Double, 1);
    assert_eq!(machine.acknowledge(0, IDLE), None);
    assert_eq!(machine.acknowledge(1, IDLE), Some((32, 0)));
}

#[test]
fn a_waiting_cpu_is_kicked_and_has_something_to_take() {
    let machine = gicv3(2, 4, &[32]);
    let mut effects = Effects::new();
    let vgic = &machine.vgic;
    assert!(!vgic.has_deliverable(cpu_id(0)));
    vgic.inject(spi(33), &mut effects);
    assert!(effects.take_kicks().is_empty(), "it is disabled");
    vgic.inject(spi(32), &mut effects);
    assert_eq!(effects.take_kicks().collect::<Vec<_>>(), [cpu_id(0)]);
    assert!(vgic.has_deliverable(cpu_id(0)));
    vgic.inject(spi(32), &mut effects);
    assert!(effects.take_kicks().is_empty(), "it was pending before");
}

#[test]
fn what_does_not_exist_is_ignored() {
    let machine = gicv3(1, 4, &[]);
    let mut effects = Effects::new();
    let mut registers = ListRegisters::<GicV3>::new(4);
    let nobody = cpu_id(1);
    machine.vgic.inject(spi(1019), &mut effects);
    machine
        .vgic
        .inject_private(nobody, Ppi::new(0).unwrap(), &mut effects);
    machine.vgic.flush(nobody, &mut registers);
    machine.vgic.sync(nobody, &mut registers, &mut effects);
    assert!(!machine.vgic.has_news(nobody) && !machine.vgic.has_deliverable(nobody));
    assert!(effects.take_kicks().is_empty());
}

#[test]
fn a_level_that_ends_before_it_is_taken_is_withdrawn() {
    let mut machine = gicv3(1, 4, &[20, 32]);
    for intid in [20, 32] {
        machine.set_line(0, intid, true);
        assert_eq!(machine.registers[0].used().len(), 1);
        machine.set_line(0, intid, false);
        assert_eq!(machine.acknowledge(0, IDLE), None);
    }
}

#[test]
fn what_the_hardware_deactivates_is_not_deactivated_again() {
    let mut machine = gicv3(1, 4, &[32]);
    machine.link(0, 32, id(132));
    assert!(machine.arrive(0, 32, id(132)));
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
    machine.end(0, 32, 0);
    // It may be active anew, on another CPU, when the list register is read back.
    let mut effects = Effects::new();
    machine
        .vgic
        .sync(cpu_id(0), &mut machine.registers[0], &mut effects);
    assert_eq!(effects.take_physical().count(), 0);
}

#[test]
fn a_linked_interrupt_that_the_guest_sets_pending_while_active_is_deactivated_at_its_end() {
    let mut machine = gicv3(1, 4, &[32]);
    machine.link(0, 32, id(132));
    assert!(machine.arrive(0, 32, id(132)));
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
    machine.write_bit(0, 0x200, 32);
    machine.service(0);
    machine.end(0, 32, 0);
    assert_eq!(machine.acknowledge(0, IDLE), Some((32, 0)));
    machine.end(0, 32, 0);
    assert!(!machine.physical[&(0, id(132))].active);
}
