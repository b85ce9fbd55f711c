use super::*;
use crate::{Fault, Reason};

fn all_faults(smmu: &mut Smmu<Machine>) -> Vec<Fault> {
    core::iter::from_fn(|| smmu.take_fault()).collect()
}

#[test]
fn faults_say_who_where_and_why() {
    for (kind, ids) in super::start::kinds() {
        let (machine, mut smmu) = start(ids);
        let mut domain = Domain::new(&machine, 1);
        let frame = domain.map(0x1000);
        domain.tables.map(Gpa::new(0x2000), frame, 3, 0b01);
        smmu.attach(NIC, domain.stage2()).unwrap();
        let fault = |stream, reason, address: Option<u64>| Fault {
            stream,
            reason,
            access: address.map(|_| Access::Write),
            address: address.map(Gpa::new),
            count: 1,
        };
        for expected in [
            fault(NIC, Reason::Translation, Some(0x5018)),
            fault(NIC, Reason::Permission, Some(0x2008)),
            fault(StreamId::new(9), Reason::NotAttached, None),
            fault(StreamId::new(0x12345), Reason::UnknownStream, None),
        ] {
            let address = expected.address.map_or(0x1000, Gpa::get);
            assert!(write(&machine, expected.stream, address).is_err());
            assert!(machine.wants_service());
            let service = smmu.service();
            assert_eq!(
                (service.events, service.more, service.lost),
                (1, false, false)
            );
            assert!(!service.failed);
            assert!(!machine.wants_service());
            assert_eq!(all_faults(&mut smmu), [expected], "{kind}");
        }
        // Nobody ends what stalls if the driver does not.
        assert_eq!(machine.stalled(), 0);
        nothing_forbidden(&machine);
    }
}

#[test]
fn a_detached_device_is_silent() {
    let (machine, mut smmu) = start(Ids::default());
    let domain = Domain::new(&machine, 1);
    smmu.attach(NIC, domain.stage2()).unwrap();
    smmu.detach(NIC).unwrap();
    assert_eq!(write(&machine, NIC, 0x1000), Err(Denied::Aborted));
    assert_eq!(smmu.service(), Service::default());
}

#[test]
fn a_storm_is_counted_bounded_and_reported_as_lost() {
    let (machine, mut smmu) = start(Ids::default());
    let domain = Domain::new(&machine, 1);
    smmu.attach(NIC, domain.stage2()).unwrap();
    for round in 0..5_u64 {
        for _ in 0..1000 {
            let _ = write(&machine, NIC, 0x1000 * round);
        }
        // The queue has 256.
        let mut services = core::iter::from_fn(|| {
            let service = smmu.service();
            (service.events != 0).then_some(service)
        });
        let first = services.next().unwrap();
        assert_eq!((first.events, first.more, first.lost), (64, true, true));
        let rest: Vec<_> = services.collect();
        assert_eq!(rest.iter().map(|service| service.events).sum::<u32>(), 192);
        assert!(rest.iter().all(|service| !service.lost));
        let faults = all_faults(&mut smmu);
        assert_eq!((faults.len(), faults[0].count), (1, 256));
    }
    // And after it, everything works as before.
    let _ = write(&machine, NIC, 0x9000);
    assert_eq!(
        smmu.service(),
        Service {
            events: 1,
            ..Service::default()
        }
    );
}

#[test]
fn many_pages_leave_a_bounded_record() {
    let (machine, mut smmu) = start(Ids::default());
    let domain = Domain::new(&machine, 1);
    smmu.attach(NIC, domain.stage2()).unwrap();
    for page in 0..200_u64 {
        let _ = write(&machine, NIC, page << 12);
    }
    while smmu.service().more {}
    assert_eq!(all_faults(&mut smmu).len(), 64);
    assert_eq!(smmu.take_lost(), 200 - 64);
}

#[test]
fn global_errors_are_acknowledged_and_reported() {
    let (machine, mut smmu) = start(Ids::default());
    machine.raise(1 << 2);
    assert!(machine.wants_service());
    let service = smmu.service();
    assert_eq!((service.lost, service.failed), (true, false));
    assert!(!machine.wants_service());
    machine.raise(1 << 8);
    assert!(smmu.service().failed);
    assert_eq!(smmu.service(), Service::default());
}

#[test]
fn an_smmu_that_is_gone_has_failed() {
    let (machine, mut smmu) = start(Ids::default());
    machine.remove();
    assert!(smmu.service().failed);
    assert_eq!(smmu.take_fault(), None);
}
