//! Barriers, events and hints (Arm ARM B2.7, D1.7).

/// An instruction without operands whose only effect is on ordering or on when the CPU goes on.
macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: a barrier or hint; it changes no register and no memory. Without `nomem` the
            // compiler moves no memory access across it.
            unsafe { core::arch::asm!($text, options(nostack, preserves_flags)) }
        }
    };
}

instruction!(
    /// Instructions after this see the system register writes before it.
    isb, "isb");
instruction!(
    /// All accesses before this have completed for the inner shareable domain.
    dsb_ish, "dsb ish");
instruction!(
    /// The inner shareable domain sees the accesses before this before those behind it.
    dmb_ish, "dmb ish");
instruction!(
    /// All accesses before this have completed for the whole system.
    dsb_sy, "dsb sy");
instruction!(
    /// Sleeps until an interrupt is pending, masked or not.
    wfi, "wfi");
instruction!(
    /// Sleeps until an event: `sev` of another CPU, the event stream of the timer, an interrupt.
    wfe, "wfe");
instruction!(
    /// Wakes all CPUs that wait in [`wfe`].
    sev, "sev");
instruction!(
    /// Tells the CPU that this loop only waits.
    yield_hint, "yield");
