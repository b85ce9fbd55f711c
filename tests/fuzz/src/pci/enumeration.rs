//! A machine whose functions say of themselves what they like: any headers, lists that loop, bridges to
//! anywhere, registers that are random with each read.
//!
//! Whatever they say: all is looked at in a bounded number of accesses, each inside config space; no
//! function is found twice, and each behind a bridge of a lower bus; and what was found can be listed,
//! reset and given to guests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arbitrary::{Arbitrary, Unstructured};
use pci_host::bridge::{Bridge, Bridges, BusRange, Registers};
use pci_host::discovery::{self, Addresses};
use pci_host::registry::Registry;
use pci_host::reset::{Progress, ResetError};
use pci_host::simulated::{Fabric, Lie, SimEcam, SimFunction, Slot, machines, samples};
use pci_host::{ConfigOffset, Device, HostSbdf, Time, Width};
use vpci::access::GuestAccess;
use vpci::guest::{GuestFunction, Interrupts};
use vpci::hardware::HardwareFunction;
use xen_types::HpaRange;

/// Functions of one input, and bridges behind each other.
const MOST_FUNCTIONS: u32 = 24;
const MOST_DEPTH: u32 = 30;
/// Accesses that looking at all of them may take.
const MOST_ACCESSES: u32 = 40_000_000;
/// The fabric notes accesses, which nobody reads here.
const NOTED: u32 = 1 << 16;
/// Steps of a reset, and effects of a write.
const MOST_STEPS: usize = 20_000;
/// Functions of which more is tried than to find them.
const TRIED: usize = 64;

/// What there is to make functions of.
const KINDS: [fn() -> SimFunction; 11] = [
    samples::root_port,
    samples::upstream_port,
    samples::downstream_port,
    samples::legacy_bridge,
    samples::root_port_without_acs,
    samples::e1000e,
    samples::igb,
    samples::gpu,
    samples::nvme,
    samples::xhci,
    samples::serial_card,
];

/// A function, and how it departs from what it is made of.
#[derive(Debug, Arbitrary)]
struct Made {
    devfn: u8,
    kind: u8,
    is_multifunction: bool,
    lie: u8,
    patches: Vec<Patch>,
    behind: u8,
}

/// Registers that hold something else, and that can be written otherwise.
#[derive(Debug, Arbitrary)]
struct Patch {
    offset: u16,
    value: u32,
    is_extended: bool,
    writable: Option<u32>,
}

/// Config space that counts accesses.
struct Counted {
    fabric: Fabric,
    ecam: SimEcam,
    accesses: Arc<AtomicU32>,
}

impl Counted {
    fn count(&self) {
        let before = self.accesses.fetch_add(1, Ordering::Relaxed);
        assert!(before < MOST_ACCESSES, "there is no end to it");
        if before.is_multiple_of(NOTED) {
            self.fabric.take_seen();
        }
    }
}

impl Registers for Counted {
    fn size(&self) -> u64 {
        self.ecam.size()
    }

    fn read(&self, offset: u64, width: Width) -> u32 {
        self.count();
        self.ecam.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u32) {
        self.count();
        self.ecam.write(offset, width, value);
    }
}

pub fn run(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let mut left = MOST_FUNCTIONS;
    let mut slots = Vec::new();
    while left > 0 && !bytes.is_empty() {
        match slot(&mut bytes, &mut left, 0) {
            Some(slot) => slots.push(slot),
            None => break,
        }
    }
    let fabric = Fabric::new(slots);
    let buses = BusRange::new(0, 31).expect("a constant");
    let counted = Counted {
        fabric: fabric.clone(),
        ecam: SimEcam::new(&fabric, buses.first(), buses.count()),
        accesses: Arc::default(),
    };
    let description = machines::description("pci-host-ecam-generic", 0, buses);
    let bridge = Bridge::probe(description, Box::new(counted)).expect("a bridge that is driven");
    let mut bridges = Bridges::new();
    bridges.add(bridge).expect("the only one");
    look(&bridges, &fabric, &mut bytes);
}

/// A function, and all behind it.
fn slot(bytes: &mut Unstructured<'_>, left: &mut u32, depth: u32) -> Option<Slot> {
    *left = left.checked_sub(1)?;
    let made = Made::arbitrary(bytes).ok()?;
    let kind = KINDS.get(usize::from(made.kind) % KINDS.len())?;
    let mut function = kind();
    if made.is_multifunction {
        function = function.multifunction();
    }
    for patch in made.patches.iter().take(64) {
        // Headers and first capabilities are where most is decided.
        let reach = if patch.is_extended { 0xffc } else { 0x0fc };
        let offset = patch.offset & reach;
        function = function.with(offset, Width::Dword, patch.value);
        if let Some(mask) = patch.writable {
            function = function.with_writable(offset, Width::Dword, mask);
        }
    }
    function = function.lying(match made.lie {
        0 => Lie::Random(made.devfn.into()),
        1 => Lie::NeverReady,
        2 => Lie::IgnoresReset,
        3 => Lie::Gone,
        _ => Lie::Honest,
    });
    let mut all = Slot::ari(made.devfn, function);
    if depth < MOST_DEPTH {
        for _ in 0..made.behind % 5 {
            let Some(behind) = slot(bytes, left, depth + 1) else {
                break;
            };
            all = all.with([behind]);
        }
    }
    Some(all)
}

/// All that the hypervisor does with what it finds.
fn look(bridges: &Bridges, fabric: &Fabric, bytes: &mut Unstructured<'_>) {
    let found = discovery::discover(bridges, fabric, Addresses::Completed);
    for (place, device) in found.devices.iter().enumerate() {
        let earlier = found.devices.get(..place).unwrap_or_default();
        assert!(earlier.iter().all(|other| other.sbdf != device.sbdf));
        let parent = device.parent;
        assert!(parent.is_none_or(|parent| parent.bus() < device.sbdf.bus()));
        assert!(parent.is_none_or(|parent| earlier.iter().any(|other| other.sbdf == parent)));
    }
    let stream = |device: &Device| discovery::stream_number(bridges, device);
    let mut registry: Registry<u16> = Registry::new(found.devices.clone(), stream);
    for device in found.devices.iter().take(TRIED) {
        let sbdf = device.sbdf;
        registry
            .lasting_refusal(sbdf)
            .expect("a function that is there");
        registry.aliases(sbdf);
        view(bridges, device);
        hardware(bridges, device, bytes);
        if registry.take(sbdf).is_ok() {
            reset(bridges, fabric, &mut registry, sbdf);
        }
    }
}

/// A guest could have it.
fn view(bridges: &Bridges, device: &Device) {
    let place = |bar: &pci_host::bar::Bar| locate(bridges, bar.kind, bar.address?, bar.size);
    let guest = GuestFunction::new(bridges, device, Interrupts::ALL, place);
    for offset in (0..4096).step_by(4).filter_map(ConfigOffset::new) {
        if let Some(access) = GuestAccess::new(offset, 4) {
            guest.read(bridges, access);
        }
    }
}

/// The hardware domain has it, and writes to it.
fn hardware(bridges: &Bridges, device: &Device, bytes: &mut Unstructured<'_>) {
    let mut function = HardwareFunction::new(bridges, device);
    let locate = |kind, address, size| locate(bridges, kind, address, size);
    for _ in 0..4 {
        let Ok((offset, log, value)) = <(u16, u8, u64)>::arbitrary(bytes) else {
            break;
        };
        let offset = ConfigOffset::new(offset & 0xfc);
        let access = offset.and_then(|offset| GuestAccess::new(offset, 1 << (log & 3)));
        if let Some(access) = access {
            function.write(bridges, access, value);
            function.read(bridges, access);
        }
        let effects = core::iter::from_fn(|| function.next_effect(bridges, &locate));
        assert!(effects.take(MOST_STEPS).count() < MOST_STEPS);
    }
    function.withdraw(bridges);
    let effects = core::iter::from_fn(|| function.next_effect(bridges, &locate));
    assert!(effects.take(MOST_STEPS).count() < MOST_STEPS);
    assert!(function.is_idle());
}

fn locate(
    bridges: &Bridges,
    kind: pci_host::bar::BarKind,
    address: u64,
    size: u64,
) -> Option<HpaRange> {
    let description = bridges.iter().next()?.description();
    description.to_host(!kind.is_memory(), address, size)
}

/// It is reset, or found to be broken.
fn reset(bridges: &Bridges, fabric: &Fabric, registry: &mut Registry<u16>, sbdf: HostSbdf) {
    let Ok(mut reset) = registry.begin_reset(sbdf, bridges) else {
        return;
    };
    let mut outcome = Err(ResetError::NotReady(sbdf));
    for step in 0.. {
        assert!(step < MOST_STEPS, "a reset that does not end");
        match reset.step(bridges, Time::now(fabric)) {
            Ok(Progress::Wait(time)) => fabric.wait(time),
            Ok(Progress::Done) => {
                outcome = Ok(());
                break;
            }
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    registry.end_reset(sbdf, outcome).expect("it was begun");
}
