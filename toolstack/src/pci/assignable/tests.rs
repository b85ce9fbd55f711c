use tempfile::TempDir;
use xen_abi::Errno;

use super::*;
use crate::hypervisor::Simulated;
use crate::pci::fake::{Linux, card};

struct World {
    hypervisor: Simulated,
    linux: Linux,
    remembered: Remembered,
    _folder: TempDir,
}

const CARD: Sbdf = Sbdf::from_number(8);

impl World {
    /// A card with a driver.
    fn new() -> Self {
        let hypervisor = Simulated::default();
        hypervisor.plug(card(CARD));
        let linux = Linux::default();
        linux.bind(CARD, "e1000e").unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            hypervisor,
            linux,
            remembered: Remembered::open(folder.path().join("pci")).unwrap(),
            _folder: folder,
        }
    }

    fn add(&self) -> Result<Added, AssignableError> {
        add(&self.hypervisor, &self.linux, &self.remembered, CARD)
    }

    fn remove(&self, rebind: bool) -> Result<Removed, AssignableError> {
        remove(
            &self.hypervisor,
            &self.linux,
            &self.remembered,
            CARD,
            rebind,
        )
    }

    fn state(&self) -> FunctionState {
        self.hypervisor.function(CARD).unwrap().unwrap().state
    }

    fn driver(&self) -> Option<String> {
        self.linux.driver(CARD).unwrap()
    }

    /// It is as if nothing had been tried.
    fn is_untouched(&self) -> bool {
        self.state() == FunctionState::Dom0
            && self.driver().as_deref() == Some("e1000e")
            && self.remembered.get(CARD).unwrap().is_none()
    }
}

#[test]
fn a_function_goes_without_its_driver_and_comes_back_to_it() {
    let world = World::new();
    assert_eq!(world.add().unwrap(), Added::Now(Some("e1000e".into())));
    assert_eq!(
        (world.state(), world.driver()),
        (FunctionState::Assignable, None)
    );
    assert_eq!(world.add().unwrap(), Added::Already);
    assert_eq!(world.remove(true).unwrap(), Removed::Bound("e1000e".into()));
    assert!(world.is_untouched());
    assert_eq!(world.remove(true).unwrap(), Removed::Already);
    // Without -r it stays without one.
    world.add().unwrap();
    let removed = Removed::Unbound(Some("e1000e".into()));
    assert_eq!(world.remove(false).unwrap(), removed);
    assert_eq!((world.state(), world.driver()), (FunctionState::Dom0, None));
    assert_eq!(world.add().unwrap(), Added::Now(None));
    assert_eq!(world.remove(true).unwrap(), Removed::Unbound(None));
    assert_eq!(world.linux.looked.get(), 3);
}

#[test]
fn every_call_that_fails_leaves_the_function_with_its_driver() {
    // Of `add`: a look, and the change.
    for nth in 0..2 {
        let world = World::new();
        world.hypervisor.fail(nth, Errno::Io);
        let error = world.add().unwrap_err();
        assert!(world.is_untouched(), "call {nth}: {error}");
    }
    let world = World::new();
    world.linux.keeps.set(true);
    let error = world.add().unwrap_err().to_string();
    assert!(
        error.starts_with("0000:00:01.0: its driver keeps it: "),
        "{error}"
    );
    assert!(world.is_untouched());
}

#[test]
fn what_cannot_be_undone_is_said() {
    let world = World::new();
    world.linux.rejects.set(true);
    world.hypervisor.fail(1, Errno::Io);
    let error = world.add().unwrap_err().to_string();
    assert!(
        error.contains("and then: 0000:00:01.0: its driver does not take it back"),
        "{error}"
    );
    // The driver is still known: it can have the function when it is there again.
    world.linux.rejects.set(false);
    assert_eq!(world.remove(true).unwrap(), Removed::Bound("e1000e".into()));
    assert!(world.is_untouched());
}

#[test]
fn a_driver_that_is_gone_stays_remembered() {
    let world = World::new();
    world.add().unwrap();
    world.linux.rejects.set(true);
    let error = world.remove(true).unwrap_err().to_string();
    assert!(
        error.contains("the driver that it had does not take it"),
        "{error}"
    );
    assert_eq!(world.state(), FunctionState::Dom0);
    world.linux.rejects.set(false);
    assert_eq!(world.remove(true).unwrap(), Removed::Bound("e1000e".into()));
}

#[test]
fn what_cannot_be_assigned_keeps_its_driver_and_says_why() {
    let world = World::new();
    let refused = |change: &dyn Fn(&mut FunctionInfo)| {
        let mut info = world.hypervisor.function(CARD).unwrap().unwrap();
        change(&mut info);
        world.hypervisor.plug(info);
        let error = world.add().unwrap_err().to_string();
        assert_eq!(world.driver().as_deref(), Some("e1000e"));
        error
    };
    let error = refused(&|info| {
        info.reason = Some("there is no way to reset it".into());
        info.reset = None;
    });
    assert_eq!(
        error,
        "0000:00:01.0 cannot be assigned: there is no way to reset it; behind a bridge of its own, a \
         bus reset would do"
    );
    let error = refused(&|info| {
        info.reason = Some("it is a bridge".into());
        info.class = 0x06_0400;
    });
    assert!(
        error.ends_with("it is a bridge; give the functions behind it"),
        "{error}"
    );
    let error = refused(&|info| {
        info.state = FunctionState::Guest;
        info.domain = Some(3);
    });
    assert_eq!(
        error,
        "0000:00:01.0 belongs to domain 3: it has to end first"
    );
    let other = Sbdf::from_number(16);
    let error = add(&world.hypervisor, &world.linux, &world.remembered, other).unwrap_err();
    assert_eq!(error.to_string(), "0000:00:02.0: there is no such function");
}
