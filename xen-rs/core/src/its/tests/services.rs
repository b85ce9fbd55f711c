//! Several ITSs together.

extern crate std;

use std::sync::Mutex;
use std::vec::Vec;

use platform_dt::MappedId;
use xen_abi::DomId;
use xen_types::Lpi;

use super::super::simulated::{ItsRegisters, Kind, Machine};
use super::super::{Config, DeviceId, EventId, Its, ItsError, Lpis, Owner, Services, Source};
use crate::vgic::Locking;

enum HostLocks {}

impl Locking for HostLocks {
    type Lock<T> = Mutex<T>;
}

const PHANDLES: [u32; 3] = [7, 9, 11];
const CPUS: u16 = 2;

/// Three ITSs; the one `hangs` does nothing while the second CPU comes up.
fn three(hangs: Option<usize>) -> (Machine, Services<ItsRegisters, HostLocks>) {
    let kind = Kind {
        speed: 8,
        ..Kind::default()
    };
    let mut machine = Machine::new(&[kind; PHANDLES.len()], CPUS);
    let lpis = Lpis::new(&mut machine, 14, true).unwrap();
    let mut services = Services::new(lpis, CPUS.into()).unwrap();
    for (number, phandle) in PHANDLES.into_iter().enumerate() {
        let config = Config {
            coherent: true,
            collections: CPUS,
        };
        let its = Its::start(machine.its(number), &mut machine, config).unwrap();
        assert_eq!(services.add(its, Some(phandle)), Ok(number));
    }
    for number in 0..CPUS {
        if let Some(its) = hangs.filter(|_| number == 1) {
            machine.hang(its, true);
        }
        let (registers, name) = (machine.redistributor(number), machine.name_of(number));
        let mut refusals = Vec::new();
        let refused = |its, error| refusals.push((its, error));
        let enabled = services.enable_on(&mut machine, number.into(), &registers, name, refused);
        assert_eq!(enabled, Ok(()));
        let expected = hangs.filter(|_| number == 1);
        let expected: Vec<_> = expected
            .map(|its| (its, ItsError::Timeout))
            .into_iter()
            .collect();
        assert_eq!(refusals, expected);
    }
    if let Some(its) = hangs {
        machine.hang(its, false);
    }
    (machine, services)
}

fn owner(domain: u16, number: u32) -> Owner {
    Owner {
        domain: DomId::new(domain),
        lpi: Lpi::new(number).unwrap(),
    }
}

#[test]
fn a_requester_is_known_to_the_its_that_the_tree_names() {
    let (_, services) = three(None);
    assert_eq!(services.count(), 3);
    for (number, controller) in PHANDLES.into_iter().enumerate() {
        let requester = MappedId {
            controller,
            id: 0x1_0008,
        };
        let expected = Some((number, DeviceId(0x1_0008)));
        assert_eq!(services.route(requester), expected);
    }
    // The phandle of something else.
    let elsewhere = MappedId {
        controller: 8,
        id: 0,
    };
    assert_eq!(services.route(elsewhere), None);
}

#[test]
fn devices_of_one_id_behind_several_itss_are_different_ones() {
    let (mut machine, services) = three(None);
    let (device, event) = (DeviceId(8), EventId(3));
    for its in 0..3 {
        let lpis = services.attach(&mut machine, its, device, 4).unwrap();
        let source = Source {
            its,
            device,
            event,
            lpi: lpis.get(event.0).unwrap(),
        };
        let mapped = services.map(&mut machine, source, owner(its as u16, 77), 1);
        assert_eq!(mapped, Ok(()));
    }
    for its in [2, 0, 1] {
        machine.message(its, device, event);
        let taken = machine.take(1).and_then(Lpi::from_intid).unwrap();
        assert_eq!(services.owner_of(taken), Some(owner(its as u16, 77)));
        assert_eq!(machine.take(1), None);
    }
    assert_eq!(machine.violations(), Vec::<std::string::String>::new());
}

#[test]
fn an_its_that_cannot_reach_a_cpu_uses_another_and_the_rest_goes_on() {
    let (mut machine, services) = three(Some(1));
    let (device, event) = (DeviceId(8), EventId(0));
    for (its, arrives_at) in [(0, 1), (1, 0), (2, 1)] {
        let lpis = services.attach(&mut machine, its, device, 1).unwrap();
        let source = Source {
            its,
            device,
            event,
            lpi: lpis.get(0).unwrap(),
        };
        let mapped = services.map(&mut machine, source, owner(0, its as u32), 1);
        assert_eq!(mapped, Ok(()));
        machine.message(its, device, event);
        assert_eq!(machine.take(1 - arrives_at), None);
        let taken = machine.take(arrives_at).and_then(Lpi::from_intid);
        assert_eq!(taken, Some(source.lpi));
        // It stays there when it is sent to the CPU that cannot be reached.
        assert_eq!(services.send_to(&mut machine, source, 1), Ok(()));
        assert_eq!(services.unmap(&mut machine, source), Ok(()));
        assert_eq!(services.owner_of(source.lpi), None);
        assert_eq!(services.detach(&mut machine, its, device, lpis), Ok(()));
    }
}

#[test]
fn an_its_that_does_not_exist_has_no_devices() {
    let (mut machine, services) = three(None);
    let device = DeviceId(8);
    let unknown = Err(ItsError::UnknownDevice(device));
    assert_eq!(services.attach(&mut machine, 3, device, 1), unknown);
}

#[test]
fn what_is_not_attached_takes_no_lpis() {
    let (mut machine, services) = three(None);
    // 8192 LPIs: a device more than they are enough for.
    for id in 0..4 {
        assert!(services.attach(&mut machine, 0, DeviceId(id), 2048).is_ok());
    }
    let refused = services.attach(&mut machine, 1, DeviceId(0), 32);
    assert!(matches!(refused, Err(ItsError::NoMemory { .. })));
    // A table that the ITS cannot have gives its LPIs back.
    let (mut machine, services) = three(None);
    for _ in 0..1000 {
        let refused = services.attach(&mut machine, 0, DeviceId(1 << 16), 32);
        assert!(matches!(refused, Err(ItsError::DeviceId { .. })));
    }
    assert!(services.attach(&mut machine, 0, DeviceId(0), 2048).is_ok());
}
