//! Functions of PCI devices that are attached to an IOMMU.

use guests::hypercall::call;
use guests::time;
use xen_abi::hypercall::Hypercall;
use xen_abi::physdev::{PciDevice, PciDeviceAdd, PhysdevOp};

use super::{Cost, Row};

/// Buses of a segment behind the root bus.
const BUSES: u64 = 255;

/// These are measured only where they are asked for: they need an IOMMU behind the first host bridge.
pub const ROWS: [Row; 1] = [("iommu-attach", |_, runs| {
    let mut ticks = 0;
    for run in 0..runs {
        // Each on a bus of its own, so that no table is there that an earlier one had made.
        let bus = u8::try_from(1 + run % BUSES).ok()?;
        let device = PciDevice {
            seg: 0,
            bus,
            devfn: 0,
        };
        let start = time::now();
        let added = add(bus);
        ticks += time::now() - start;
        if added != 0 || tell(PhysdevOp::PciDeviceRemove, &device) != 0 {
            return None;
        }
    }
    Some(Cost { ticks, base: 0 })
})];

fn add(bus: u8) -> u64 {
    let function = PciDeviceAdd {
        seg: 0,
        bus,
        devfn: 0,
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
