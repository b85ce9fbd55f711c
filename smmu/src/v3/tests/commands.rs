use super::*;
use crate::IommuError;
use crate::simulated::Pace;

#[test]
fn a_slow_smmu_is_waited_for() {
    let (machine, mut smmu) = start(Ids::default().without_ranges().queues(3, 3));
    machine.set_pace(Pace::PerLook(1));
    let mut domain = Domain::new(&machine, 1);
    let frame = domain.map(0x1000);
    for _ in 0..100 {
        smmu.attach(NIC, domain.stage2()).unwrap();
        assert_eq!(write(&machine, NIC, 0x1000), Ok(frame));
        // More commands than the queue has room for.
        let range = xen_types::GpaRange::new(Gpa::new(0), 40 * PAGE_SIZE).unwrap();
        smmu.invalidate(domain.vmid(), Invalidation::Range(range))
            .unwrap();
        smmu.sync().unwrap();
        assert_eq!(machine.reachable(frame, PAGE_SIZE), None);
        smmu.detach(NIC).unwrap();
        assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    }
    nothing_forbidden(&machine);
}

#[test]
fn xsa_373_a_time_out_is_no_success() {
    let (machine, mut smmu) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    let frame = domain.map(0x1000);
    smmu.attach(NIC, domain.stage2()).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Ok(frame));
    machine.set_pace(Pace::Stuck);
    assert_eq!(smmu.detach(NIC), Err(IommuError::TimedOut("CMD_SYNC")));
    smmu.invalidate(domain.vmid(), Invalidation::All).unwrap();
    assert_eq!(smmu.sync(), Err(IommuError::TimedOut("CMD_SYNC")));
    assert!(machine.reachable(frame, PAGE_SIZE).is_some());
    // Once it goes on, so does the driver.
    machine.set_pace(Pace::PerLook(2));
    smmu.detach(NIC).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    assert_eq!(machine.reachable(frame, PAGE_SIZE), None);
    nothing_forbidden(&machine);
}

#[test]
fn a_full_queue_that_does_not_move_is_an_error() {
    let (machine, mut smmu) = start(Ids::default().queues(2, 2));
    machine.set_pace(Pace::Stuck);
    let results: Vec<_> = (0..5)
        .map(|_| smmu.invalidate(Vmid::new(1), Invalidation::All))
        .collect();
    let full = Err(IommuError::TimedOut("a command of the SMMU"));
    assert_eq!(results, [Ok(()), Ok(()), Ok(()), Ok(()), full]);
    machine.set_pace(Pace::PerLook(1));
    smmu.sync().unwrap();
}

#[test]
fn xsa_386_a_stream_that_could_not_be_attached_aborts() {
    let (machine, mut smmu) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    domain.map(0x1000);
    machine.set_pace(Pace::Stuck);
    assert!(smmu.attach(NIC, domain.stage2()).is_err());
    assert_eq!(smmu.attached_to(NIC), None);
    machine.set_pace(Pace::PerLook(100));
    smmu.sync().unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    smmu.attach(NIC, domain.stage2()).unwrap();
    assert!(write(&machine, NIC, 0x1000).is_ok());
}

#[test]
fn a_command_that_could_not_be_read_is_read_again() {
    let (machine, mut smmu) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    domain.map(0x1000);
    machine.fail_command_fetches(3);
    smmu.attach(NIC, domain.stage2()).unwrap();
    assert!(write(&machine, NIC, 0x1000).is_ok());
    machine.fail_command_fetches(100);
    let error = smmu.detach(NIC).unwrap_err();
    assert_eq!(
        std::format!("{error}"),
        "the IOMMU refused command 0x3: it could not be read from memory"
    );
    machine.fail_command_fetches(0);
    smmu.detach(NIC).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    nothing_forbidden(&machine);
}

#[test]
fn an_illegal_command_is_taken_out_and_reported() {
    // The driver believes in ranges that the SMMU does not have.
    let machine = Machine::new(Ids::default().without_ranges());
    let capabilities = Capabilities {
        ranges: true,
        ..Capabilities::read(&machine).unwrap()
    };
    let mut smmu = Smmu::start(machine.clone(), capabilities, SETUP).unwrap();
    let mut domain = Domain::new(&machine, 1);
    let frame = domain.map(0x1000);
    smmu.attach(NIC, domain.stage2()).unwrap();
    assert!(write(&machine, NIC, 0x1000).is_ok());
    let range = xen_types::GpaRange::new(Gpa::new(0), 5 * PAGE_SIZE).unwrap();
    smmu.invalidate(domain.vmid(), Invalidation::Range(range))
        .unwrap();
    let reason = "it is illegal";
    let opcode = 0x2a;
    assert_eq!(smmu.sync(), Err(IommuError::Refused { opcode, reason }));
    assert!(machine.reachable(frame, PAGE_SIZE).is_some());
    // The queue goes on.
    smmu.invalidate(domain.vmid(), Invalidation::All).unwrap();
    smmu.sync().unwrap();
    assert_eq!(machine.reachable(frame, PAGE_SIZE), None);
}

#[test]
fn an_smmu_that_is_gone_is_no_success() {
    let (machine, mut smmu) = start(Ids::default());
    let domain = Domain::new(&machine, 1);
    smmu.attach(NIC, domain.stage2()).unwrap();
    machine.remove();
    let (register, value) = ("CMDQ_CONS", u32::MAX);
    let nonsense = Err(IommuError::Nonsense { register, value });
    assert_eq!(smmu.detach(NIC), nonsense);
    assert_eq!(smmu.sync(), nonsense);
    assert!(smmu.fence().is_err());
    // What could not be fenced does not count as fenced.
    assert_eq!(smmu.sync(), nonsense);
}

#[test]
fn a_fence_stops_everything() {
    let (machine, mut smmu) = start(Ids::default());
    let mut domain = Domain::new(&machine, 1);
    domain.map(0x1000);
    smmu.attach(NIC, domain.stage2()).unwrap();
    assert!(write(&machine, NIC, 0x1000).is_ok());
    machine.set_pace(Pace::Stuck);
    smmu.fence().unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    assert_eq!(smmu.attach(NIC, domain.stage2()), Err(IommuError::Fenced));
    assert_eq!(smmu.sync(), Err(IommuError::Fenced));
    assert_eq!(smmu.service(), Service::default());
}
