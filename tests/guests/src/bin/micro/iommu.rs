//! Functions of PCI devices that are attached to an IOMMU.

use guests::hypercall::call;
use guests::time;
use xen_abi::hypercall::Hypercall;
use xen_abi::physdev::{PciDevice, PciDeviceAdd, PhysdevOp};

use super::{Cost, Row, config};

/// The functions of the root bus behind the first ones, which belong to the host bridge.
const FUNCTIONS: core::ops::Range<u64> = 8..248;

/// These are measured only where they are asked for: they need an IOMMU behind the first host bridge, and
/// a root bus that is full.
pub const ROWS: [Row; 2] = [
    // The function is found when the control domain first reads of it, and attached when it tells.
    ("iommu-attach", |machine, runs| {
        attach_again(runs, |devfn| config::look(machine, devfn))
    }),
    // It is found and attached when the control domain tells of it.
    ("iommu-attach-unseen", |_, runs| {
        attach_again(runs, |_| Some(()))
    }),
];

/// What it costs that the control domain tells of a function, which it has told to be gone before `ready`.
fn attach_again(runs: u64, ready: impl Fn(u8) -> Option<()>) -> Option<Cost> {
    let mut ticks = 0;
    for run in 0..runs {
        let number = FUNCTIONS.start + run % (FUNCTIONS.end - FUNCTIONS.start);
        let devfn = u8::try_from(number).ok()?;
        // The hypervisor has attached them before the control domain was there.
        let device = PciDevice {
            seg: 0,
            bus: 0,
            devfn,
        };
        let known = add(devfn);
        let removed = tell(PhysdevOp::PciDeviceRemove, &device);
        ready(devfn)?;
        let start = time::now();
        let added = add(devfn);
        ticks += time::now() - start;
        if [known, removed, added] != [0; 3] {
            return None;
        }
    }
    Some(Cost { ticks, base: 0 })
}

fn add(devfn: u8) -> u64 {
    let function = PciDeviceAdd {
        seg: 0,
        bus: 0,
        devfn,
        flags: 0,
        physfn_bus: 0,
        physfn_devfn: 0,
        pad: 0,
    };
    tell(PhysdevOp::PciDeviceAdd, &function)
}

fn tell<T>(operation: PhysdevOp, what: &T) -> u64 {
    let what = core::ptr::from_ref(what) as u64;
    call(Hypercall::PhysdevOp, [operation.number(), what, 0])
}
