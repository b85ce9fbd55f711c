use alloc::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::Time;
use crate::bar::BarKind;
use crate::bridge::BusRange;
use crate::enumerate::{enumerate, virtual_functions};
use crate::reset::Progress;
use crate::resources::assign;
use crate::simulated::machines::{self, Machine, ecam};
use crate::simulated::{Fabric, Lie, Slot, samples};

type Names = Registry<u16>;

fn devices(machine: &Machine) -> Vec<Device> {
    let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
    assign(&machine.bridge, &mut devices);
    devices
}

fn registry(machine: &Machine) -> Names {
    Registry::new(devices(machine), |_| None)
}

fn machine(slots: impl IntoIterator<Item = Slot>) -> Machine {
    let fabric = Fabric::new(slots);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    Machine { fabric, bridge }
}

fn sbdf(text: &str) -> HostSbdf {
    text.parse().unwrap()
}

/// Resets a function by whatever works.
fn reset(machine: &Machine, registry: &mut Names, name: &str) -> ResetOutcome {
    loop {
        let mut reset = registry.begin_reset(sbdf(name), &machine.bridge).unwrap();
        let result = loop {
            match reset.step(&machine.bridge, Time::now(&machine.fabric)) {
                Ok(Progress::Wait(time)) => machine.fabric.wait(time),
                Ok(Progress::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match registry.end_reset(sbdf(name), result).unwrap() {
            ResetOutcome::TryAgain => {}
            outcome => return outcome,
        }
    }
}

fn refusal(registry: &Names, name: &str) -> Option<alloc::string::String> {
    let refusal = registry.refusal(sbdf(name), 1).unwrap();
    refusal.map(|refusal| refusal.to_string())
}

fn lie(machine: &Machine, name: &str, lie: Lie) {
    let requester = sbdf(name).requester();
    machine
        .fabric
        .with(requester, |function| function.set_lie(lie))
        .unwrap();
}

#[test]
fn a_function_goes_from_the_hardware_domain_to_a_guest_and_back() {
    for machine in machines::both() {
        let mut registry = registry(&machine);
        let disk = sbdf("03:00.0");
        assert_eq!(
            refusal(&registry, "03:00.0").unwrap(),
            "it belongs to the hardware domain"
        );
        registry.take(disk).unwrap();
        assert_eq!(
            refusal(&registry, "03:00.0").unwrap(),
            "it is not reset yet"
        );
        assert_eq!(
            reset(&machine, &mut registry, "03:00.0"),
            ResetOutcome::Clean
        );
        assert_eq!(refusal(&registry, "03:00.0"), None);
        registry.assign(disk, 7).unwrap();
        let error = registry.assign(disk, 8).unwrap_err();
        assert_eq!(
            error.to_string(),
            "0000:03:00.0 cannot be assigned: it belongs to domain 7"
        );
        assert!(registry.take(disk).is_err() && registry.give_back(disk).is_err());
        assert!(registry.release(disk, 8).is_err());
        registry.release(disk, 7).unwrap();
        assert_eq!(
            registry.give_back(disk).unwrap_err().to_string(),
            "0000:03:00.0 belongs to quarantine (not reset since its last use)"
        );
        assert_eq!(
            reset(&machine, &mut registry, "03:00.0"),
            ResetOutcome::Clean
        );
        registry.give_back(disk).unwrap();
        assert_eq!(registry.get(disk).unwrap().owner(), Owner::HardwareDomain);
    }
}

#[test]
fn the_functions_of_a_bus_are_found_by_its_number() {
    let machine = machines::both().remove(0);
    let registry = registry(&machine);
    for bus in 0..=u8::MAX {
        let on_bus: Vec<_> = registry.on_bus(0, bus).map(Entry::sbdf).collect();
        let all = registry.iter().map(Entry::sbdf);
        assert_eq!(
            on_bus,
            all.filter(|sbdf| sbdf.bus() == bus).collect::<Vec<_>>()
        );
    }
    assert_eq!(registry.on_bus(0, 4).count(), 2);
    assert_eq!(registry.on_bus(1, 4).count(), 0);
}

#[test]
fn a_group_moves_as_one() {
    let machine = machines::both().remove(0);
    let mut registry = registry(&machine);
    let (one, other) = (sbdf("09:01.0"), sbdf("09:02.0"));
    registry.take(one).unwrap();
    let error = registry.begin_reset(one, &machine.bridge).unwrap_err();
    assert_eq!(
        error.to_string(),
        "0000:09:01.0 can be reset only with 0000:09:02.0, which belongs to the hardware domain"
    );
    registry.take(other).unwrap();
    assert_eq!(
        reset(&machine, &mut registry, "09:01.0"),
        ResetOutcome::Clean
    );
    // The bus was reset: both are clean.
    registry.assign(one, 1).unwrap();
    assert_eq!(
        registry.assign(other, 2).unwrap_err().to_string(),
        "0000:09:02.0 cannot be assigned: 0000:09:01.0 is in its group and belongs to domain 1: \
         a group moves as one"
    );
    registry.assign(other, 1).unwrap();
    registry.release(one, 1).unwrap();
    // Now a reset would reset what the domain still has.
    assert!(matches!(
        registry.begin_reset(one, &machine.bridge),
        Err(RegistryError::ResetShared { .. })
    ));
}

#[test]
fn a_reset_that_does_nothing_is_not_tried_again() {
    let machine = machines::both().remove(0);
    let mut registry = registry(&machine);
    registry.take(sbdf("04:00.0")).unwrap();
    let methods = |registry: &Names| {
        registry
            .get(sbdf("04:00.0"))
            .unwrap()
            .reset_methods()
            .to_vec()
    };
    assert_eq!(
        methods(&registry),
        [Method::FunctionLevel, Method::PowerState]
    );
    lie(&machine, "04:00.0", Lie::IgnoresReset);
    assert_eq!(
        reset(&machine, &mut registry, "04:00.0"),
        ResetOutcome::Broken
    );
    assert_eq!(methods(&registry), [Method::PowerState]);
    assert_eq!(
        refusal(&registry, "04:00.0").unwrap(),
        "its last reset failed: 0000:04:00.0 was reset and kept its state: its reset does not work"
    );
    // Neither the hardware domain nor a guest gets it.
    assert!(registry.give_back(sbdf("04:00.0")).is_err());
    assert!(registry.assign(sbdf("04:00.0"), 1).is_err());
    lie(&machine, "04:00.0", Lie::Honest);
    assert_eq!(
        reset(&machine, &mut registry, "04:00.0"),
        ResetOutcome::Clean
    );
    registry.assign(sbdf("04:00.0"), 1).unwrap();
}

#[test]
fn xsa_461_what_cannot_be_assigned_says_why() {
    let memory = BarKind::Memory32 {
        prefetchable: false,
    };
    let tiny = || samples::nvme().with_bar(2, memory, 256);
    let large = samples::nvme().with_bar(2, memory, 1 << 31);
    let machine = machine([
        Slot::new(1, 0, samples::serial_card()),
        Slot::new(2, 0, tiny()),
        Slot::new(3, 0, tiny()),
        Slot::new(4, 0, large),
        Slot::new(5, 0, samples::root_port()),
    ]);
    let mut devices = devices(&machine);
    // Somebody else has put both in one page.
    for (device, offset) in devices[1..3].iter_mut().zip([0, 0x100]) {
        device.bars[2].as_mut().unwrap().address = Some(0x2000_0000 + offset);
    }
    let registry: Names = Registry::new(devices, |_| None);
    let why = |name| {
        let refusal = registry.lasting_refusal(sbdf(name)).unwrap();
        refusal.unwrap().to_string()
    };
    assert_eq!(
        why("00:01.0"),
        "there is no way to reset it: what one guest left in it, the next would find"
    );
    assert_eq!(
        why("00:02.0"),
        "BAR 2 is in a page with registers of 0000:00:03.0"
    );
    assert_eq!(
        why("00:04.0"),
        "BAR 2 has no address: the host bridge's windows are full"
    );
    assert_eq!(why("00:05.0"), "it is a bridge, which all behind it need");
    let unknown = registry.get(sbdf("00:06.0")).unwrap_err().to_string();
    assert_eq!(unknown, "0000:00:06.0: there is no such function");
}

#[test]
fn virtual_functions_come_and_go_with_their_physical_one() {
    let port = samples::root_port();
    let card = Slot::new(0, 0, samples::igb());
    let machine = machine([Slot::new(1, 0, port).with([card])]);
    let mut registry = registry(&machine);
    let physical = registry.get(sbdf("01:00.0")).unwrap().device().clone();
    let virtuals = enable(&machine, &physical, 7);
    assert_eq!(virtuals.len(), 7);
    registry.add(virtuals.clone(), |_| None).unwrap();
    assert_eq!(
        registry.add(virtuals, |_| None).unwrap_err().to_string(),
        "0000:02:10.0 is known already"
    );
    let third = sbdf("02:10.4");
    let device = registry.get(third).unwrap().device();
    assert_eq!((device.vendor, device.device), (0x8086, 0x10ca));
    let base = physical.sr_iov.unwrap().bars[3].unwrap();
    assert_eq!(
        device.bars[3].unwrap().address,
        Some(base.address.unwrap() + 2 * base.size)
    );
    assert_eq!(
        registry.get(third).unwrap().reset_methods(),
        [Method::FunctionLevel]
    );
    assert_eq!(
        refusal(&registry, "01:00.0").unwrap(),
        "its virtual functions are enabled: disable them in the hardware domain first"
    );
    registry.take(third).unwrap();
    assert_eq!(
        reset(&machine, &mut registry, "02:10.4"),
        ResetOutcome::Clean
    );
    registry.assign(third, 3).unwrap();
    assert!(registry.remove(physical.sbdf, |_| None).is_err());
    registry.release(third, 3).unwrap();
    registry.remove(physical.sbdf, |_| None).unwrap();
    assert_eq!(registry.iter().count(), 1);
}

/// Enables virtual functions, and reads them.
fn enable(machine: &Machine, physical: &Device, count: u16) -> Vec<Device> {
    use crate::config::{Function, Register};
    let function = Function::new(&machine.bridge, physical.sbdf);
    let sr_iov = physical.sr_iov.unwrap();
    let write = |at: u16, value: u16| {
        let register = Register::new(sr_iov.offset.checked_add(at).unwrap()).unwrap();
        function.write(register, value);
    };
    write(0x10, count);
    write(0x08, 0b1001);
    let placement = sr_iov.enabled(function).unwrap();
    virtual_functions(&machine.bridge, physical, placement)
}

#[test]
fn what_was_pulled_out_is_broken_until_it_is_removed() {
    let machine = machines::both().remove(0);
    let mut registry = registry(&machine);
    registry.take(sbdf("06:00.0")).unwrap();
    lie(&machine, "06:00.0", Lie::Gone);
    assert_eq!(
        reset(&machine, &mut registry, "06:00.0"),
        ResetOutcome::Broken
    );
    assert_eq!(
        refusal(&registry, "06:00.0").unwrap(),
        "its last reset failed: 0000:06:00.0 does not answer: was it removed?"
    );
    registry.remove(sbdf("06:00.0"), |_| None).unwrap();
    assert!(registry.get(sbdf("06:00.0")).is_err());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take,
    GiveBack,
    Begin,
    End(bool),
    Assign(u16),
    Release(u16),
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        Just(Step::Take),
        Just(Step::GiveBack),
        Just(Step::Begin),
        any::<bool>().prop_map(Step::End),
        (0..2_u16).prop_map(Step::Assign),
        (0..2_u16).prop_map(Step::Release),
    ];
    (0..6_usize, step)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No order of calls brings a function from one owner to another without a reset between.
    #[test]
    fn xsa_302_xsa_306_every_way_between_owners_leads_through_a_reset(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let machine = machines::both().remove(0);
        let mut registry = registry(&machine);
        let names = ["03:00.0", "04:00.0", "04:00.1", "06:00.0", "09:01.0", "09:02.0"];
        for (place, step) in steps {
            let name = sbdf(names[place]);
            let before: Vec<_> = registry.iter().map(Entry::owner).collect();
            let failed = ResetError::NotReady(name);
            let end = |works: bool| if works { Ok(()) } else { Err(failed) };
            let _ = match step {
                Step::Take => registry.take(name),
                Step::GiveBack => registry.give_back(name),
                Step::Begin => registry.begin_reset(name, &machine.bridge).map(|_| ()),
                Step::End(works) => registry.end_reset(name, end(works)).map(|_| ()),
                Step::Assign(domain) => registry.assign(name, domain),
                Step::Release(domain) => registry.release(name, domain),
            };
            for (entry, was) in registry.iter().zip(before) {
                let allowed = match (was, entry.owner()) {
                    (was, is) if was == is => true,
                    (Owner::HardwareDomain, Owner::Quarantine(is)) => is == Condition::Untouched,
                    (Owner::Quarantine(was), Owner::HardwareDomain) => {
                        matches!(was, Condition::Untouched | Condition::Clean)
                    }
                    (Owner::Quarantine(was), Owner::Domain(_)) => was == Condition::Clean,
                    (Owner::Domain(_), Owner::Quarantine(is)) => is == Condition::Used,
                    (Owner::Quarantine(was), Owner::Quarantine(Condition::Clean)) => {
                        was == Condition::Resetting
                    }
                    (Owner::Quarantine(_), Owner::Quarantine(_)) => true,
                    _ => false,
                };
                prop_assert!(allowed, "{:?} to {:?}", was, entry.owner());
            }
            // A group has one owner beside quarantine.
            for one in registry.iter() {
                for other in registry.iter() {
                    let pair = !one.device().is_bridge() && !other.device().is_bridge();
                    let free = |entry: &Entry<u16>| entry.owner().is_quarantine();
                    if pair && one.group() == other.group() && !free(one) && !free(other) {
                        prop_assert_eq!(one.owner(), other.owner());
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_reset_does_not_change_is_known_before() {
    let machine = machine([
        Slot::new(1, 0, samples::nvme()),
        Slot::new(2, 0, samples::nvme()),
    ]);
    let mut registry = registry(&machine);
    let (disk, name) = (sbdf("00:01.0"), "00:01.0");
    let after_reset =
        |registry: &Names, domain| registry.refusal_after_reset(disk, domain).unwrap();
    let owned = after_reset(&registry, 1);
    assert_eq!(owned, Some(Refusal::Owned(Owner::HardwareDomain)));
    registry.take(disk).unwrap();
    assert!(refusal(&registry, name).unwrap().contains("not reset yet"));
    assert_eq!(after_reset(&registry, 1), None);
    assert_eq!(reset(&machine, &mut registry, name), ResetOutcome::Clean);
    registry.assign(disk, 1).unwrap();
    let owned = after_reset(&registry, 2);
    assert_eq!(owned, Some(Refusal::Owned(Owner::Domain(1))));
    registry.release(disk, 1).unwrap();
    assert_eq!(after_reset(&registry, 2), None);
}
