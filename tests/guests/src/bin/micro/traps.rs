//! What takes the vCPU out and straight back in.

use guests::hypercall::{call, raw};
use guests::mmio::read32;
use guests::{firmware, gic, read_sysreg, time};
use xen_abi::hypercall::Hypercall;
use xen_abi::sched::SchedOp;
use xen_abi::version::VersionOp;

use super::{Cost, Row};

/// A hypercall that no hypervisor has.
const UNKNOWN_HYPERCALL: u64 = 60;
/// A fast 32-bit call to owner 9, which DEN0028 (6.1) gives to nobody.
const UNKNOWN_FUNCTION: u64 = 0x8900_0000;

pub const ROWS: [Row; 8] = [
    ("xenver", |_, runs| {
        time(runs, || {
            call(Hypercall::XenVersion, [VersionOp::Version.number(), 0, 0])
        })
    }),
    ("unknown-hypercall", |_, runs| {
        time(runs, || raw(UNKNOWN_HYPERCALL, [0; 5]))
    }),
    ("psci-version", |_, runs| {
        time(runs, || {
            firmware::call(firmware::PSCI_VERSION.into(), [0; 3])
        })
    }),
    ("unknown-smccc", |_, runs| {
        time(runs, || firmware::call(UNKNOWN_FUNCTION, [0; 3]))
    }),
    ("gicd-typer", |machine, runs| {
        time(runs, || {
            read32(machine.gic.distributor() + gic::GICD_TYPER).into()
        })
    }),
    ("gicd-isenabler", |machine, runs| {
        // The second word: of SPIs, which the distributor has on both versions.
        time(runs, || {
            read32(machine.gic.distributor() + gic::GICD_ISENABLER + 4).into()
        })
    }),
    ("id-register", |_, runs| {
        time(runs, || read_sysreg!("id_aa64pfr0_el1"))
    }),
    ("yield", |_, runs| {
        time(runs, || {
            call(Hypercall::SchedOp, [SchedOp::Yield.number(), 0, 0])
        })
    }),
];

/// Times a service in a loop, and the loop without it.
#[inline(always)]
pub fn time(runs: u64, service: impl Fn() -> u64) -> Option<Cost> {
    // What the first run finds cold.
    service();
    let ticks = ticks(runs, &service);
    let base = self::ticks(runs, || 0);
    Some(Cost { ticks, base })
}

#[inline(always)]
fn ticks(runs: u64, service: impl Fn() -> u64) -> u64 {
    let start = time::now();
    for _ in 0..runs {
        core::hint::black_box(service());
    }
    time::now() - start
}
