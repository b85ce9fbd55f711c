use tempfile::TempDir;
use uuid::Uuid;
use xen_abi::Errno;

use super::*;
use crate::config::GicChoice;
use crate::hypervisor::{Domains as _, NewDomain, Simulated};
use crate::pci::fake::{Linux, card};
use crate::pci::{AssignableError, choose};

/// Four functions of device 1, each in a group of its own.
const CARDS: [Sbdf; 4] = [
    Sbdf::from_number(8),
    Sbdf::from_number(9),
    Sbdf::from_number(10),
    Sbdf::from_number(11),
];

struct World {
    hypervisor: Simulated,
    linux: Linux,
    remembered: Remembered,
    seized: Seized,
    domain: DomId,
    _folder: TempDir,
}

impl World {
    /// Cards with drivers, and a guest that may have devices.
    fn new() -> Self {
        let hypervisor = Simulated::default();
        let linux = Linux::default();
        for function in CARDS {
            hypervisor.plug(card(function));
            linux.bind(function, "e1000e").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        Self {
            domain: guest(&hypervisor, 1, true),
            hypervisor,
            linux,
            remembered: Remembered::open(folder.path().join("pci")).unwrap(),
            seized: Seized::new(folder.path().join("seized")),
            _folder: folder,
        }
    }

    fn seizer(&self) -> Seizer<'_, Linux> {
        Seizer {
            drivers: &self.linux,
            remembered: &self.remembered,
            seized: &self.seized,
        }
    }

    fn wanted(&self, list: &[&str]) -> Result<Vec<Wanted>, AssignError> {
        let list: Vec<_> = list.iter().map(|text| text.parse().unwrap()).collect();
        choose(&self.hypervisor.functions().unwrap(), &list)
    }

    fn attach(&self, list: &[&str]) -> Result<Vec<Given>, AssignError> {
        let wanted = self.wanted(list)?;
        attach(&self.hypervisor, &self.seizer(), self.domain, &wanted)
    }

    fn add(&self, function: Sbdf) {
        add(&self.hypervisor, &self.linux, &self.remembered, function).unwrap();
    }

    fn state(&self, function: Sbdf) -> FunctionState {
        self.hypervisor.function(function).unwrap().unwrap().state
    }

    /// All cards are the control domain's, and have their drivers.
    fn is_untouched(&self) -> bool {
        CARDS.into_iter().all(|function| {
            self.state(function) == FunctionState::Dom0
                && self.linux.driver(function).unwrap().is_some()
                && self.remembered.get(function).unwrap().is_none()
        }) && self.seized.all().unwrap().is_empty()
    }
}

fn guest(hypervisor: &Simulated, uuid: u128, devices: bool) -> DomId {
    let new = NewDomain {
        uuid: Uuid::from_u128(uuid),
        vcpus: 1,
        event_channels: 1023,
        grant_frames: 64,
        maptrack_frames: 1024,
        gic: GicChoice::V3,
        spis: 32,
        devices,
        clock_frequency: None,
    };
    hypervisor.create(&new).unwrap().0
}

#[test]
fn a_function_goes_to_a_guest_and_back_to_its_driver() {
    let world = World::new();
    let given = world
        .attach(&["00:01.0@5,seize=1", "00:01.1,seize=1"])
        .unwrap();
    let shown: Vec<_> = given
        .iter()
        .map(|given| format!("{} {}", given.function, given.guest))
        .collect();
    assert_eq!(
        shown,
        ["0000:00:01.0 0000:00:05.0", "0000:00:01.1 0000:00:01.0"]
    );
    assert_eq!(world.seized.all().unwrap(), CARDS[..2]);
    assert_eq!(world.linux.driver(CARDS[0]).unwrap(), None);
    take(&world.hypervisor, world.domain, CARDS[0]).unwrap();
    assert_eq!(world.state(CARDS[0]), FunctionState::Assignable);
    // The guest ends, and has the other to its end.
    world.hypervisor.destroy(world.domain).unwrap();
    world.seizer().release_all(&world.hypervisor).unwrap();
    assert!(world.is_untouched());
}

#[test]
fn what_was_assignable_before_stays_so() {
    let world = World::new();
    world.add(CARDS[0]);
    world.attach(&["00:01.0,seize=1"]).unwrap();
    world.hypervisor.destroy(world.domain).unwrap();
    world.seizer().release_all(&world.hypervisor).unwrap();
    assert_eq!(world.state(CARDS[0]), FunctionState::Assignable);
}

#[test]
fn every_call_that_fails_leaves_all_as_it_was() {
    let list = ["00:01.0,seize=1", "00:01.1,seize=1", "00:01.2@7,seize=1"];
    let world = World::new();
    let before = world.hypervisor.calls().len();
    world.attach(&list).unwrap();
    let calls = world.hypervisor.calls().len() - before;
    assert!(calls > 10, "{calls}");
    for nth in 0..calls {
        let world = World::new();
        let wanted = world.wanted(&list);
        world.hypervisor.fail(nth, Errno::Io);
        let outcome = wanted
            .and_then(|wanted| attach(&world.hypervisor, &world.seizer(), world.domain, &wanted));
        match outcome {
            Ok(_) => assert_eq!(nth, calls - 1, "call {nth}"),
            Err(error) => assert!(world.is_untouched(), "call {nth}: {error}"),
        }
    }
}

#[test]
fn a_driver_that_keeps_its_function_gives_back_the_others() {
    let world = World::new();
    world.add(CARDS[1]);
    world.linux.keeps.set(true);
    let error = world.attach(&["00:01.1", "00:01.0,seize=1"]).unwrap_err();
    assert!(error.to_string().contains("its driver keeps it"), "{error}");
    assert_eq!(world.state(CARDS[1]), FunctionState::Assignable);
    assert_eq!(world.state(CARDS[0]), FunctionState::Dom0);
    assert_eq!(world.seized.all().unwrap(), []);
}

#[test]
fn a_function_goes_back_when_its_reset_is_over() {
    let world = World::new();
    world.attach(&["00:01.0,seize=1"]).unwrap();
    world.hypervisor.destroy(world.domain).unwrap();
    // A look, and the first try.
    world.hypervisor.fail(1, Errno::Busy);
    world.seizer().release_all(&world.hypervisor).unwrap();
    assert!(world.is_untouched());
}

#[test]
fn what_does_not_go_back_is_not_forgotten() {
    let world = World::new();
    world
        .attach(&["00:01.0,seize=1", "00:01.1,seize=1"])
        .unwrap();
    world.hypervisor.destroy(world.domain).unwrap();
    world.linux.rejects.set(true);
    let error = world.seizer().release_all(&world.hypervisor).unwrap_err();
    assert!(error.to_string().contains("does not take it"), "{error}");
    assert_eq!(world.seized.all().unwrap(), CARDS[..2]);
    world.linux.rejects.set(false);
    world.seizer().release_all(&world.hypervisor).unwrap();
    assert!(world.is_untouched());
}

#[test]
fn what_a_dead_process_seized_goes_back() {
    // It died between its note and the hypervisor's call.
    let world = World::new();
    world.seized.put(CARDS[0]).unwrap();
    world.remembered.put(CARDS[0], "e1000e").unwrap();
    world.linux.unbind(CARDS[0], "e1000e").unwrap();
    world.seizer().release_all(&world.hypervisor).unwrap();
    assert!(world.is_untouched());
}

#[test]
fn what_means_nothing_or_too_much_is_refused() {
    let world = World::new();
    let refused = |list: &[&str], text: &str| {
        let error = world.wanted(list).unwrap_err().to_string();
        assert_eq!(error, text);
    };
    refused(&["00:02.0"], "0000:00:02.0: there is no such function");
    refused(&["00:01.*", "00:01.1"], "0000:00:01.1 is wanted twice");
    refused(
        &["00:01.*@3"],
        "0000:00:01.* has 4 functions, each of which needs a slot of its own: name them one by one",
    );
    assert_eq!(world.wanted(&["00:01.*"]).unwrap().len(), 4);
    // Those with a slot come first, so that nobody else takes it.
    let order = world.wanted(&["00:01.0", "00:01.1@1"]).unwrap();
    assert_eq!(order[0].slot, Some(1));
}

#[test]
fn who_has_it_is_told() {
    let world = World::new();
    let refused = |text: &str| {
        let error = world.attach(&["00:01.0"]).unwrap_err().to_string();
        assert_eq!(error, text);
    };
    refused(
        "0000:00:01.0 is the control domain's: `xrs pci-assignable-add 0000:00:01.0` makes it \
         assignable, or `seize=1` behind it here",
    );
    let change = |function: Sbdf, change: &dyn Fn(&mut FunctionInfo)| {
        let mut info = world.hypervisor.function(function).unwrap().unwrap();
        change(&mut info);
        world.hypervisor.plug(info);
    };
    world.add(CARDS[0]);
    change(CARDS[1], &|info| info.group = CARDS[0]);
    refused(
        "0000:00:01.0 moves with 0000:00:01.1, which the control domain has: it has to be \
         assignable, too",
    );
    let other = guest(&world.hypervisor, 2, true);
    world.add(CARDS[1]);
    world.hypervisor.assign(other, CARDS[1], None).unwrap();
    refused("0000:00:01.0 moves with 0000:00:01.1, which belongs to domain 2");
    change(CARDS[0], &|info| {
        info.state = FunctionState::Broken;
        info.reason = Some("it does not come back from its reset".into());
    });
    refused("0000:00:01.0 cannot be used: it does not come back from its reset");
    change(CARDS[0], &|info| {
        info.state = FunctionState::Guest;
        info.domain = Some(2);
    });
    refused("0000:00:01.0 belongs to domain 2");
}

#[test]
fn a_guest_without_iommu_gets_nothing_and_nothing_is_seized() {
    let mut world = World::new();
    world.domain = guest(&world.hypervisor, 2, false);
    let error = world.attach(&["00:01.0,seize=1"]).unwrap_err();
    assert!(matches!(error, AssignError::NotSupported), "{error}");
    assert!(world.is_untouched());
    let seizer = world.seizer();
    let wanted = world.wanted(&["00:01.0,seize=1"]).unwrap();
    let all = world.hypervisor.functions().unwrap();
    world.linux.keeps.set(true);
    let error = seizer.seize(&world.hypervisor, &all, &wanted).unwrap_err();
    assert!(
        matches!(
            error,
            AssignError::Assignable(AssignableError::Linux { .. })
        ),
        "{error}"
    );
    assert!(world.is_untouched());
}
