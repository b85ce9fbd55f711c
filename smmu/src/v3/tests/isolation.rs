use super::*;
use crate::{IommuError, Stage2Refused};

#[test]
fn a_device_reaches_the_pages_of_its_domain_only() {
    let (machine, mut smmu) = start(Ids::default());
    let [mut first, mut second] = [1, 2].map(|vmid| Domain::new(&machine, vmid));
    let [a, b] = [first.map(0x1000), second.map(0x1000)];
    first.tables.map(Gpa::new(0x2000), a, 3, 0b01);
    smmu.attach(NIC, first.stage2()).unwrap();
    smmu.attach(DISK, second.stage2()).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Ok(a));
    assert_eq!(write(&machine, DISK, 0x1000), Ok(b));
    assert_eq!(write(&machine, NIC, 0x2000), Err(Denied::Aborted));
    assert_eq!(machine.dma(NIC, Gpa::new(0x2000), Access::Read), Ok(a));
    assert_eq!(write(&machine, NIC, 0x3000), Err(Denied::Aborted));
    assert_eq!(write(&machine, NIC, 1 << 39), Err(Denied::Aborted));
    assert_eq!(smmu.attached_to(NIC), Some(Vmid::new(1)));
    assert_eq!(smmu.attached_to(StreamId::new(9)), None);
    nothing_forbidden(&machine);
}

#[test]
fn what_cpus_do_not_reach_can_be_a_doorbell_of_devices() {
    let (machine, mut smmu) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    let doorbell = Hpa::new(0x809_0000);
    domain
        .tables
        .map_for_devices(Gpa::new(0x809_0000), doorbell, 0b10);
    smmu.attach(NIC, domain.stage2()).unwrap();
    let register = Gpa::new(0x809_0040);
    let written = machine.dma(NIC, register, Access::Write);
    assert_eq!(written, Ok(Hpa::new(0x809_0040)));
    let read = machine.dma(NIC, register, Access::Read);
    assert_eq!(read, Err(Denied::Aborted));
}

#[test]
fn large_blocks_are_large_for_devices_too() {
    let (machine, mut smmu) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    let (bar, ram) = (Hpa::new(0x80_0000_0000), Hpa::new(0x1_2340_0000));
    domain.tables.map(Gpa::new(0x40_0000_0000), bar, 1, 0b11);
    domain.tables.map(Gpa::new(0x4020_0000), ram, 2, 0b11);
    smmu.attach(NIC, domain.stage2()).unwrap();
    assert_eq!(
        write(&machine, NIC, 0x40_3fff_fff8),
        Ok(Hpa::new(0x80_3fff_fff8))
    );
    assert_eq!(
        write(&machine, NIC, 0x4032_1008),
        Ok(Hpa::new(0x1_2352_1008))
    );
}

#[test]
fn a_device_moves_from_domain_to_domain() {
    let (machine, mut smmu) = start(Ids::default());
    let [mut first, mut second] = [1, 2].map(|vmid| Domain::new(&machine, vmid));
    let [a, b] = [first.map(0x1000), second.map(0x1000)];
    for _ in 0..1000 {
        smmu.attach(NIC, first.stage2()).unwrap();
        assert_eq!(write(&machine, NIC, 0x1000), Ok(a));
        smmu.attach(NIC, second.stage2()).unwrap();
        assert_eq!(write(&machine, NIC, 0x1000), Ok(b));
        smmu.detach(NIC).unwrap();
        assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
        smmu.detach(NIC).unwrap();
    }
    nothing_forbidden(&machine);
}

#[test]
fn xsa_442_a_root_may_change_under_the_same_vmid() {
    let (machine, mut smmu) = start(Ids::default());
    let mut former = Domain::new(&machine, 7);
    let mut later = Domain::new(&machine, 7);
    former.map(0x1000);
    let frame = later.map(0x1000);
    smmu.attach(NIC, former.stage2()).unwrap();
    assert!(write(&machine, NIC, 0x1000).is_ok());
    smmu.attach(NIC, later.stage2()).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Ok(frame));
}

#[test]
fn xsa_78_what_is_unmapped_is_forgotten() {
    for ids in [Ids::default(), Ids::default().without_ranges()] {
        // Some pages, more than are invalidated one by one, more than the queue has room for.
        for pages in [1_u64, 2, 3, 33, 64, 65, 300] {
            let (machine, mut smmu) = start(ids);
            let mut domain = Domain::new(&machine, 1);
            let addresses = (0..pages).map(|page| 0x7f_f000 + page * PAGE_SIZE);
            let frames: Vec<_> = addresses.clone().map(|at| domain.map(at)).collect();
            smmu.attach(NIC, domain.stage2()).unwrap();
            for at in addresses.clone() {
                assert!(write(&machine, NIC, at).is_ok());
                domain.tables.unmap(Gpa::new(at), 3);
            }
            let range = xen_types::GpaRange::new(Gpa::new(0x7f_f000), pages * PAGE_SIZE).unwrap();
            smmu.invalidate(domain.vmid(), Invalidation::Range(range))
                .unwrap();
            smmu.sync().unwrap();
            for frame in frames {
                assert_eq!(machine.reachable(frame, PAGE_SIZE), None);
            }
            nothing_forbidden(&machine);
        }
    }
}

#[test]
fn xsa_480_a_table_is_forgotten_with_its_pages() {
    let (machine, mut smmu) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    let frame = domain.map(0x20_0000);
    smmu.attach(NIC, domain.stage2()).unwrap();
    assert_eq!(write(&machine, NIC, 0x20_0000), Ok(frame));
    domain.tables.unmap(Gpa::new(0x20_0000), 3);
    let table = domain.tables.unmap(Gpa::new(0x20_0000), 2);
    assert!(machine.reachable(table, PAGE_SIZE).is_some());
    let range = xen_types::GpaRange::new(Gpa::new(0x20_0000), PAGE_SIZE).unwrap();
    smmu.invalidate(domain.vmid(), Invalidation::Range(range))
        .unwrap();
    smmu.sync().unwrap();
    machine.clone().free(table, PAGE_SIZE);
}

#[test]
fn what_the_smmu_cannot_do_is_refused() {
    let mut ids = Ids::default();
    // 40 bits, VMIDs of 8 bits.
    ids.0[5] = 1 << 4 | 2;
    ids.0[0] &= !(1 << 18);
    let (machine, mut smmu) = start(ids);
    let walk = Walk::new(0, 44, 44).unwrap();
    let deep = Tables::new(&machine, walk, Vmid::new(1));
    let limit = 40;
    let refused = Err(IommuError::Stage2(Stage2Refused::StartLevel { limit }));
    assert_eq!(smmu.attach(NIC, deep.stage2()), refused);
    let many = Domain::new(&machine, 256);
    let refused = Err(IommuError::Stage2(Stage2Refused::Vmid(many.vmid())));
    assert_eq!(smmu.attach(NIC, many.stage2()), refused);
    let stream = StreamId::new(0x1_0000);
    let refused = Err(IommuError::UnknownStream { stream, bits: 16 });
    let domain = Domain::new(&machine, 1);
    assert_eq!(smmu.attach(stream, domain.stage2()), refused);
    assert_eq!(smmu.detach(stream), Ok(()));
    machine.limit_allocations(0);
    let error = smmu.attach(NIC, domain.stage2()).unwrap_err();
    assert_eq!(
        std::format!("{error}"),
        "no memory for 4096 bytes of a table of an SMMU's streams"
    );
}

#[test]
fn xsa_390_the_smmu_walks_from_where_the_cpu_does() {
    for (size, output_bits) in [32, 36, 40, 42, 44, 48].into_iter().enumerate() {
        let mut ids = Ids::default();
        ids.0[5] = 1 << 4 | size as u32;
        let (machine, mut smmu) = start(ids);
        for (level, input_bits) in (0..3).flat_map(|level| (25..=48).map(move |bits| (level, bits)))
        {
            let Ok(walk) = Walk::new(level, input_bits, 48) else {
                continue;
            };
            let mut tables = Tables::new(&machine, walk, Vmid::new(1));
            let highest = (1_u64 << input_bits.min(output_bits)) - PAGE_SIZE;
            let frame = Hpa::new(0x4444_4000);
            tables.map(Gpa::new(highest), frame, 3, 0b11);
            if smmu.attach(NIC, tables.stage2()).is_err() {
                assert!(level == 0 && output_bits < 44);
                continue;
            }
            assert_eq!(
                write(&machine, NIC, highest),
                Ok(frame),
                "{walk:?} {output_bits}"
            );
            assert_eq!(
                write(&machine, NIC, highest + PAGE_SIZE),
                Err(Denied::Aborted)
            );
        }
        nothing_forbidden(&machine);
    }
}

#[test]
fn attaching_is_cheap() {
    let (machine, mut smmu) = start(Ids::default());
    let domain = Domain::new(&machine, 1);
    machine.take_accesses();
    machine.take_commands();
    smmu.attach(NIC, domain.stage2()).unwrap();
    // Two CMD_SYNCs, each with one doorbell and one look.
    assert_eq!(machine.take_commands(), [0x03, 0x46, 0x03, 0x28, 0x46]);
    assert_eq!(machine.take_accesses(), 4);
}
