//! The end: a complete report of what went wrong, then stop or reset.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::backtrace::{CodeAddress, callers};
use crate::arch::exception::Frame;
use crate::arch::{barrier, firmware, interrupts, percpu};
use crate::{console, gic, image};

/// How many of the last log lines a report repeats.
const LOG_LINES: usize = 10;

/// Whether the end of a report is a reset (the default) or a halt (`noreboot`).
static RESET: AtomicBool = AtomicBool::new(true);
/// Set by the first CPU that reports; others stay silent.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// Halts after a report instead of resetting the machine.
pub fn halt_after_report() {
    RESET.store(false, Ordering::Relaxed);
}

/// Why the hypervisor stops.
pub enum Cause<'a> {
    /// A synchronous exception of EL2 itself.
    Exception(&'a Frame),
    /// An asynchronous error from the system.
    SystemError(&'a Frame),
    /// The stack ran into its guard.
    StackOverflow(&'a Frame),
    /// An exception that the set-up rules out.
    Unexpected(&'a Frame, &'static str),
    /// A broken invariant of our own.
    Panic(&'a PanicInfo<'a>),
}

impl Cause<'_> {
    fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Exception(frame)
            | Self::SystemError(frame)
            | Self::StackOverflow(frame)
            | Self::Unexpected(frame, _) => Some(frame),
            Self::Panic(_) => None,
        }
    }
}

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception(frame) => {
                write!(f, "{}", frame.syndrome())?;
                if frame.syndrome().has_fault_address() {
                    write!(f, " {:#x}", frame.far)?;
                }
                Ok(())
            }
            Self::SystemError(frame) => write!(f, "SError, syndrome {:#x}", frame.esr),
            Self::StackOverflow(frame) => write!(f, "stack overflow, stack at {:#x}", frame.sp),
            Self::Unexpected(frame, what) => write!(f, "unexpected {what}: {}", frame.syndrome()),
            Self::Panic(info) => {
                write!(f, "panic: {}", info.message())?;
                match info.location() {
                    Some(at) => write!(f, " at {}:{}", at.file(), at.line()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Prints the report and ends.
pub fn stop(cause: Cause<'_>) -> ! {
    let _masked = interrupts::mask();
    if REPORTING.swap(true, Ordering::Relaxed) {
        // A fault while reporting, or a second CPU with the same trouble: one report is enough.
        halt();
    }
    gic::stop_other_cpus();
    let mut out = console::emergency();
    // The console drops what it cannot write; there is nobody left to tell.
    let _ = write_report(&mut out, &cause);
    let _ = writeln!(out, "last log lines:");
    out.repeat_last_lines(LOG_LINES);
    let _ = writeln!(out, "*** end of report");
    drop(out);
    end()
}

fn write_report(out: &mut impl Write, cause: &Cause<'_>) -> fmt::Result {
    writeln!(out, "*** xen-rs stopped: {cause}")?;
    write!(out, "xen-rs {} at {}", crate::VERSION, image::start())?;
    match percpu::try_this() {
        Some(cpu) => writeln!(out, ", {}, affinity {}", cpu.id, cpu.affinity)?,
        None => writeln!(out, ", affinity {}", percpu::affinity())?,
    }
    let start = match cause.frame() {
        Some(frame) => {
            write_registers(out, frame)?;
            frame.frame_pointer()
        }
        None => frame_pointer(),
    };
    writeln!(out, "backtrace:")?;
    if let Some(frame) = cause.frame() {
        writeln!(out, "  {}", CodeAddress(frame.elr))?;
        // The caller of a function without a frame record of its own, or of no function at all.
        writeln!(out, "  {} (link register)", CodeAddress(frame.x[30]))?;
    }
    for caller in callers(start) {
        writeln!(out, "  {caller}")?;
    }
    Ok(())
}

fn write_registers(out: &mut impl Write, frame: &Frame) -> fmt::Result {
    writeln!(
        out,
        "ESR {:#018x}  FAR {:#018x}  HPFAR {:#018x}",
        frame.esr, frame.far, frame.hpfar
    )?;
    writeln!(
        out,
        "ELR {:#018x}  SPSR {:#018x}  SP {:#018x}",
        frame.elr, frame.spsr, frame.sp
    )?;
    for (row, values) in frame.x.chunks(4).enumerate() {
        for (column, value) in values.iter().enumerate() {
            write!(out, "x{:<2} {value:#018x}  ", row * 4 + column)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[inline(always)]
fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: copies a register.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) value, options(nomem, nostack)) };
    value
}

/// Ends for good: resets the machine unless `noreboot` was given, halts otherwise.
pub fn end() -> ! {
    if RESET.load(Ordering::Relaxed) {
        firmware::reset();
    }
    halt()
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    let _masked = interrupts::mask();
    loop {
        barrier::wfi();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop(Cause::Panic(info))
}
