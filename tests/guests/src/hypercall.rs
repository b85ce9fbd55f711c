//! Hypercalls: `HVC #0xEA1`, number in x16, arguments in x0 to x4, result in x0.

use core::arch::asm;

use xen_abi::hypercall::{HVC_TAG, Hypercall, MAX_ARGUMENTS};

/// Makes any hypercall at all.
#[inline(always)]
pub fn raw(number: u64, arguments: [u64; MAX_ARGUMENTS]) -> u64 {
    let [mut x0, x1, x2, x3, x4] = arguments;
    // SAFETY: the hypervisor writes memory only where the arguments say so, which the caller chose;
    // it may change the argument registers.
    unsafe {
        asm!(
            "hvc #{tag}",
            tag = const HVC_TAG,
            inout("x0") x0,
            inout("x1") x1 => _,
            inout("x2") x2 => _,
            inout("x3") x3 => _,
            inout("x4") x4 => _,
            inout("x16") number => _,
            options(nostack),
        );
    }
    x0
}

/// Makes a hypercall with up to three arguments.
#[inline(always)]
pub fn call(hypercall: Hypercall, [first, second, third]: [u64; 3]) -> u64 {
    raw(hypercall.number(), [first, second, third, 0, 0])
}
