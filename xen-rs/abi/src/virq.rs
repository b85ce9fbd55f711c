//! Virtual interrupts (`xen.h`, `VIRQ_…`).

/// Numbers that a virtual interrupt can have (`NR_VIRQS`), used or not.
pub const NR_VIRQS: usize = 24;

/// Time for a vCPU's timer.
pub const TIMER: u32 = 0;
/// Asks for debug output.
pub const DEBUG: u32 = 1;
/// The console has input.
pub const CONSOLE: u32 = 2;
/// A domain was shut down or died.
pub const DOM_EXC: u32 = 3;
/// The trace buffer has records.
pub const TBUF: u32 = 4;
/// The debugger wants attention.
pub const DEBUGGER: u32 = 6;
/// A profiling sample.
pub const XENOPROF: u32 = 7;
/// The hypervisor's log has new text.
pub const CON_RING: u32 = 8;
/// A physical CPU came or went.
pub const PCPU_STATE: u32 = 9;
/// A domain's memory event.
pub const MEM_EVENT: u32 = 10;
/// A message between domains.
pub const ARGO: u32 = 11;
/// Memory is short.
pub const ENOMEM: u32 = 12;
/// The performance monitor.
pub const XENPMU: u32 = 13;
/// The first of eight of the architecture.
pub const ARCH_0: u32 = 16;
