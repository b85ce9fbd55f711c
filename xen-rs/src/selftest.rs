//! Tests of the machine at boot, and faults on request.
//!
//! The first is always run: each CPU must take an interrupt from another CPU and one from its own
//! timer. The second, `selftest=`, ends in the report that it is there to show, or shows that a
//! guest can run.

use core::sync::atomic::Ordering;

use log::{info, warn};
use xen_core::cmdline::SelfTest;

use crate::arch::percpu::PerCpu;
use crate::arch::{interrupts, time};
use crate::domain::trial;
use crate::{gic, image};

const PATIENCE_MICROSECONDS: u64 = 2_000_000;

/// Has every CPU take an SGI and then a tick of its EL2 timer; says how many did.
pub fn interrupts_of(cpus: &[&'static PerCpu]) {
    interrupts::enable();
    let mut passed = 0;
    for cpu in cpus {
        gic::ping(cpu);
        let answered = || cpu.ticks.load(Ordering::Acquire) > 0;
        if time::wait_until(PATIENCE_MICROSECONDS, answered) {
            passed += 1;
            continue;
        }
        let what = match cpu.pings.load(Ordering::Acquire) {
            0 => "does not take interrupts from other CPUs",
            _ => "does not take its timer interrupt",
        };
        warn!("{}: {what}", cpu.id);
    }
    info!("selftest: sgi and tick on {passed} of {} CPUs", cpus.len());
}

/// Does what was asked for; but for a guest's trial that ends in a fault.
pub fn perform(test: SelfTest) {
    match test {
        SelfTest::None => (),
        SelfTest::Guest => trial::run(),
        SelfTest::Panic => panic!("asked for by selftest=panic"),
        SelfTest::DataAbort => write_to_guard_page(),
        SelfTest::Undefined => undefined(),
        SelfTest::StackOverflow => {
            overflow(1);
        }
        SelfTest::ExecuteData => execute_data(),
    }
}

fn write_to_guard_page() {
    let address = image::boot_stack_guard().start().get() as *mut u32;
    // SAFETY: nothing maps the page, so that the write faults and changes nothing.
    unsafe { core::ptr::write_volatile(address, 0) }
}

fn undefined() {
    // SAFETY: UDF is undefined by definition: the exception it takes does not come back.
    unsafe { core::arch::asm!("udf #0") }
}

/// Each call needs the result of the next, so that the stack must grow.
#[inline(never)]
#[expect(unconditional_recursion, reason = "it ends in the guard page")]
fn overflow(depth: u64) -> u64 {
    let kept = core::hint::black_box([depth; 32]);
    overflow(depth + 1) + core::hint::black_box(kept)[0]
}

fn execute_data() {
    /// RET.
    static CODE: u32 = 0xd65f_03c0;
    // SAFETY: a constant is mapped execute-never, so that the call faults before it runs; if it
    // did run, it would return.
    let function: extern "C" fn() = unsafe { core::mem::transmute(&raw const CODE) };
    function();
}
