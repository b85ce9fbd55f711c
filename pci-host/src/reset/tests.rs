use alloc::vec::Vec;

use super::*;
use crate::bridge::BusRange;
use crate::enumerate::{BusNumbers, enumerate};
use crate::group::groups;
use crate::resources::assign;
use crate::simulated::machines::{self, Machine, ecam};
use crate::simulated::{Fabric, Lie, SimFunction, Slot, samples};
use crate::{RequesterId, Width};

fn devices(machine: &Machine) -> Vec<Device> {
    let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
    assign(&machine.bridge, &mut devices);
    devices.sort_by_key(|device| device.sbdf);
    devices
}

fn machine(function: SimFunction) -> Machine {
    let root = Slot::new(0, 0, samples::root_port()).with([Slot::new(0, 0, function)]);
    let fabric = Fabric::new([root]);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    Machine { fabric, bridge }
}

fn id(text: &str) -> RequesterId {
    text.parse::<HostSbdf>().unwrap().requester()
}

/// Runs the reset to its end, and says how long it took.
fn run(machine: &Machine, mut reset: Reset) -> Result<Duration, ResetError> {
    let start = crate::Time::now(&machine.fabric);
    loop {
        let now = crate::Time::now(&machine.fabric);
        match reset.step(&machine.bridge, now)? {
            Progress::Done => return Ok(now - start),
            Progress::Wait(time) => machine.fabric.advance(time.as_micros() as u64),
        }
    }
}

/// The one function behind the port, used by somebody, and reset by `method`.
fn reset_used(function: SimFunction, method: Method) -> (Machine, Result<Duration, ResetError>) {
    let machine = machine(function);
    let devices = devices(&machine);
    let target = devices.last().unwrap();
    let config = Function::new(&machine.bridge, target.sbdf);
    config.write(
        header::COMMAND,
        Command::DECODE | Command::BUS_MASTER | Command::SERR,
    );
    config.write(header::CACHE_LINE_SIZE, 0x10);
    if let Some(msi) = target.msi {
        let at = Register::<u16>::new(msi.offset.checked_add(2).unwrap()).unwrap();
        config.write(at, 1);
    }
    let before: Vec<_> = (0..6).map(|number| bar(&machine, number)).collect();
    let reset = Reset::new(&machine.bridge, method, [target]);
    let result = run(&machine, reset);
    if result.is_ok() {
        assert_eq!(config.read(header::COMMAND), Command::INTX_DISABLE);
        assert_eq!(config.read(header::CACHE_LINE_SIZE), 0x10);
        let after: Vec<_> = (0..6).map(|number| bar(&machine, number)).collect();
        assert_eq!(after, before);
        if let Some(msi) = target.msi {
            let at = Register::<u16>::new(msi.offset.checked_add(2).unwrap()).unwrap();
            assert_eq!(config.read(at) & 1, 0);
        }
    }
    (machine, result)
}

fn bar(machine: &Machine, number: u16) -> Option<u32> {
    let read = |function: &mut SimFunction| function.get(0x10 + 4 * number, Width::Dword);
    machine.fabric.with(id("01:00.0"), read)
}

fn resets(machine: &Machine) -> Option<u32> {
    machine
        .fabric
        .with(id("01:00.0"), |function| function.resets())
}

const BUS: Method = Method::SecondaryBus(HostSbdf::new(0, RequesterId::from_bits(0)));

fn features() -> SimFunction {
    samples::serial_card().with_advanced_features()
}

#[test]
fn each_method_resets_and_gives_back_what_was_set_up() {
    for (function, method) in [
        (samples::nvme(), Method::FunctionLevel),
        (samples::igb(), Method::FunctionLevel),
        (features(), Method::AdvancedFeatures),
        (samples::xhci(), Method::PowerState),
        (samples::gpu(), BUS),
        (samples::nvme().with_resizable_bar(0), Method::FunctionLevel),
    ] {
        let (machine, result) = reset_used(function, method);
        let time = result.unwrap();
        assert_eq!(resets(&machine), Some(1), "{method}");
        assert!(time >= POWER_DELAY && time < Duration::from_secs(1));
    }
}

#[test]
fn a_function_that_takes_its_time_is_waited_for() {
    let slow = samples::nvme().with_reset_time(20_000_000);
    let (_, result) = reset_used(slow, Method::FunctionLevel);
    let time = result.unwrap();
    assert!(time >= Duration::from_secs(20) && time < Duration::from_secs(22));
}

#[test]
fn a_reset_that_never_ends_is_given_up() {
    let (_, result) = reset_used(
        samples::nvme().lying(Lie::NeverReady),
        Method::FunctionLevel,
    );
    let error = result.unwrap_err();
    assert_eq!(error, ResetError::NotReady("01:00.0".parse().unwrap()));
    assert_eq!(
        alloc::format!("{error}"),
        "0000:01:00.0 did not come back from its reset within 60 seconds"
    );
}

#[test]
fn a_reset_without_effect_is_noticed() {
    for method in [Method::FunctionLevel, BUS] {
        let (_, result) = reset_used(samples::nvme().lying(Lie::IgnoresReset), method);
        let sbdf = "01:00.0".parse().unwrap();
        assert_eq!(result.unwrap_err(), ResetError::NoEffect(sbdf));
    }
}

#[test]
fn what_was_pulled_out_is_not_reset() {
    let machine = machine(samples::nvme());
    let devices = devices(&machine);
    machine
        .fabric
        .with(id("01:00.0"), |disk| disk.set_lie(Lie::Gone));
    let reset = Reset::new(&machine.bridge, Method::FunctionLevel, devices.last());
    let sbdf = "01:00.0".parse().unwrap();
    assert_eq!(run(&machine, reset), Err(ResetError::Gone(sbdf)));
}

#[test]
fn what_comes_back_as_something_else_is_noticed() {
    let machine = machine(samples::nvme());
    let mut devices = devices(&machine);
    devices.last_mut().unwrap().device = 0x1234;
    let reset = Reset::new(&machine.bridge, Method::FunctionLevel, devices.last());
    let sbdf = "01:00.0".parse().unwrap();
    assert_eq!(run(&machine, reset), Err(ResetError::Changed(sbdf)));
}

#[test]
fn requests_under_way_are_waited_for_but_not_for_ever() {
    let machine = machine(samples::nvme());
    let devices = devices(&machine);
    let express = devices.last().unwrap().express.unwrap().offset.get();
    machine.fabric.with(id("01:00.0"), |disk| {
        disk.raise(express + 10, Width::Word, 1 << 5)
    });
    let reset = Reset::new(&machine.bridge, Method::FunctionLevel, devices.last());
    let time = run(&machine, reset).unwrap();
    assert!(time >= DRAIN_TIME && time < DRAIN_TIME * 2);
}

#[test]
fn a_function_that_sleeps_is_woken() {
    let machine = machine(samples::nvme());
    let devices = devices(&machine);
    let target = devices.last().unwrap();
    let function = Function::new(&machine.bridge, target.sbdf);
    target.power.unwrap().set_state(function, D3_HOT);
    run(
        &machine,
        Reset::new(&machine.bridge, Method::FunctionLevel, [target]),
    )
    .unwrap();
    assert_eq!(target.power.unwrap().state(function), 0);
    assert_eq!(resets(&machine), Some(1));
}

#[test]
fn the_reset_of_a_bus_gives_back_bridges_and_all_behind() {
    for machine in machines::both() {
        let devices = devices(&machine);
        let root = devices[0].sbdf;
        let numbers =
            |device: &Device| BusNumbers::read(Function::new(&machine.bridge, device.sbdf));
        let before: Vec<_> = devices.iter().map(numbers).collect();
        let below = behind(&devices, root).map(|(_, device)| device);
        let reset = Reset::new(&machine.bridge, Method::SecondaryBus(root), below);
        run(&machine, reset).unwrap();
        let after: Vec<_> = devices.iter().map(numbers).collect();
        assert_eq!(after, before);
        let again = self::devices(&machine);
        assert_eq!(again, devices);
    }
}

#[test]
fn methods_are_those_that_a_function_has_and_its_group_allows() {
    let machine = machines::both().remove(0);
    let devices = devices(&machine);
    let groups = groups(&devices, |_| None);
    let of = |name: &str| {
        let sbdf: HostSbdf = name.parse().unwrap();
        let target = devices.iter().find(|device| device.sbdf == sbdf).unwrap();
        methods(&devices, &groups, target)
    };
    let bus = |name: &str| Method::SecondaryBus(name.parse().unwrap());
    assert_eq!(of("03:00.0"), [Method::FunctionLevel, bus("02:00.0")]);
    // The other port of the card is in another group: their bus stays.
    assert_eq!(of("04:00.0"), [Method::FunctionLevel, Method::PowerState]);
    // Both cards on the conventional bus are of one group, and have no reset of their own.
    assert_eq!(of("09:01.0"), [bus("08:00.0")]);
    assert_eq!(of("02:00.0"), []);
}

#[test]
fn a_slot_does_not_take_a_reset_for_somebody_pulling_the_card() {
    let machine = machine(samples::gpu());
    let devices = devices(&machine);
    let port = &devices[0];
    let express = port.express.unwrap();
    let control = express
        .register::<u16>(express::register::SLOT_CONTROL)
        .unwrap();
    let status = express
        .register::<u16>(express::register::SLOT_STATUS)
        .unwrap();
    let function = Function::new(&machine.bridge, port.sbdf);
    function.write(control, 0x1028);
    let mut reset = Reset::new(
        &machine.bridge,
        Method::SecondaryBus(port.sbdf),
        devices.last(),
    );
    let now = crate::Time::now(&machine.fabric);
    assert_eq!(
        reset.step(&machine.bridge, now),
        Ok(Progress::Wait(HOLD_TIME))
    );
    assert_eq!(function.read(control), 0x0020);
    // The link is gone, and so seems the card.
    let at = status.offset().get();
    machine
        .fabric
        .with(id("00:00.0"), |port| port.raise(at, Width::Word, 0x0108));
    run(&machine, reset).unwrap();
    assert_eq!((function.read(control), function.read(status)), (0x1028, 0));
}
