use super::*;
use crate::IommuError;

/// Every shape of SMMU that the driver has to cope with.
pub(super) fn kinds() -> Vec<(&'static str, Ids)> {
    let ids = Ids::default();
    std::vec![
        ("as in QEMU", ids),
        ("not coherent", ids.incoherent()),
        ("without ranges", ids.without_ranges()),
        ("linear table", ids.linear(10)),
        ("stalling", ids.stalling()),
        ("one command, two events", ids.queues(0, 1)),
        (
            "all at once",
            ids.incoherent().without_ranges().linear(9).queues(1, 0)
        ),
    ]
}

#[test]
fn from_the_first_instruction_nothing_passes() {
    let machine = Machine::new(Ids::default());
    assert_eq!(write(&machine, NIC, 0x1000), Ok(Hpa::new(0x1000)));
    abort_all(machine.clone()).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    let _smmu = start_on(&machine);
    for stream in [NIC, DISK, StreamId::new(0xffff), StreamId::new(0x1_0000)] {
        assert_eq!(write(&machine, stream, 0x1000), Err(Denied::Aborted));
    }
    nothing_forbidden(&machine);
}

#[test]
fn an_smmu_without_stage_2_can_be_passed_through() {
    let mut ids = Ids::default();
    ids.0[0] &= !1;
    let machine = Machine::new(ids);
    abort_all(machine.clone()).unwrap();
    assert_eq!(Capabilities::read(&machine), Err(NoIsolation::NoStage2));
    pass_all(machine.clone()).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Ok(Hpa::new(0x1000)));
}

#[test]
fn every_kind_of_smmu_starts_attaches_and_detaches() {
    for (kind, ids) in kinds() {
        let (machine, mut smmu) = start(ids);
        let mut domain = Domain::new(&machine, 3);
        let frame = domain.map(0x5000);
        smmu.attach(NIC, domain.stage2()).unwrap();
        assert_eq!(
            write(&machine, NIC, 0x5008),
            Ok(Hpa::new(frame.get() + 8)),
            "{kind}"
        );
        smmu.detach(NIC).unwrap();
        assert_eq!(write(&machine, NIC, 0x5008), Err(Denied::Aborted), "{kind}");
        nothing_forbidden(&machine);
    }
}

#[test]
fn an_smmu_that_was_on_is_taken_over() {
    let (machine, mut former) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    domain.map(0x1000);
    former.attach(NIC, domain.stage2()).unwrap();
    assert!(write(&machine, NIC, 0x1000).is_ok());
    machine.raise(1 << 2);
    let _smmu = start_on(&machine);
    assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    assert!(!machine.wants_service() || machine.violations().is_empty());
    nothing_forbidden(&machine);
}

#[test]
fn an_smmu_that_does_not_acknowledge_is_given_up() {
    let machine = Machine::new(Ids::default());
    machine.stop_acknowledging();
    let capabilities = Capabilities::read(&machine).unwrap();
    let error = Smmu::start(machine.clone(), capabilities, SETUP).unwrap_err();
    assert_eq!(error, IommuError::TimedOut("an update of GBPA"));
}

#[test]
fn without_memory_there_is_an_error_each_time() {
    let machine = Machine::new(Ids::default());
    let capabilities = Capabilities::read(&machine).unwrap();
    for allocations in 0..3 {
        machine.limit_allocations(allocations);
        let error = Smmu::start(machine.clone(), capabilities, SETUP).unwrap_err();
        assert!(matches!(error, IommuError::NoMemory { .. }), "{error}");
        assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    }
}

#[test]
fn memory_that_the_smmu_cannot_address_is_not_used() {
    let machine = Machine::new(Ids::default());
    machine.allocate_from(Hpa::new(1 << 44));
    let capabilities = Capabilities::read(&machine).unwrap();
    let error = Smmu::start(machine.clone(), capabilities, SETUP).unwrap_err();
    assert!(matches!(error, IommuError::NoMemory { .. }), "{error}");
    assert_eq!(machine.allocated(), 0);
}

#[test]
fn it_takes_little_memory() {
    let (machine, mut smmu) = start(Ids::default());
    assert_eq!(machine.allocated(), 20 << 10);
    let domain = Domain::new(&machine, 1);
    let before = machine.allocated();
    // A function on each of 16 buses, and all functions of another.
    let streams = (0..16).map(|bus| bus << 8).chain(0x2000..0x2100);
    for stream in streams.clone() {
        smmu.attach(StreamId::new(stream), domain.stage2()).unwrap();
    }
    assert_eq!(machine.allocated() - before, (16 + 4) * PAGE_SIZE);
    for stream in streams {
        let stream = StreamId::new(stream);
        assert_eq!(smmu.attached_to(stream), Some(domain.vmid()));
    }
}
