//! The console and the log: each line goes into a ring and out of a serial port.
//!
//! Dom0's output shares them. What it has written of a line without an end (a prompt, a part of a
//! message) is repeated behind a message of the hypervisor that comes between, so that every line
//! appears whole.

pub mod input;
pub mod keys;
pub mod uart;

use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::{ArrayString, ArrayVec};
use log::{Level, Log, Metadata, Record, error, warn};
use platform_dt::{ConsoleChoice, Dtb};
use xen_abi::DomId;
use xen_core::event::Virq;
use xen_core::log::{Line, RateLimit, Read, Ring, Stamp, Thresholds, Verdict};
use xen_core::panic_watch::PanicWatch;
use xen_core::uart::Uart;

use self::uart::Driver;
use crate::arch::{percpu, time};
use crate::domain::events;
use crate::lock::{Guard, IrqLock};

/// Bytes of log that are kept.
const RING: usize = 64 * 1024;
/// How often a report looks whether the console is free before it takes it from who holds it.
const TRIES: usize = 10_000_000;
/// How much of a line of Dom0's is repeated.
const OPEN_LINE: usize = 256;

struct Console {
    port: Option<Driver>,
    ring: Ring<RING>,
    /// Up to where the ring was printed.
    printed: u64,
    /// Up to where the toolstack wants to see nothing any more.
    cleared: u64,
    thresholds: Thresholds,
    /// The same for what guests cause.
    guest_thresholds: Thresholds,
    /// For the messages between the two thresholds.
    rate: RateLimit,
    /// What Dom0 has written since its last end of line, at most so much of it.
    open: ArrayVec<u8, OPEN_LINE>,
    panic_watch: PanicWatch,
}

static CONSOLE: IrqLock<Console> = IrqLock::new(Console {
    port: None,
    ring: Ring::new(),
    printed: 0,
    cleared: 0,
    thresholds: Thresholds::DEFAULT,
    guest_thresholds: Thresholds::GUEST_DEFAULT,
    rate: RateLimit::DEFAULT,
    open: ArrayVec::new_const(),
    panic_watch: PanicWatch::new(),
});

struct Logger;

/// Sends `log`'s messages here. They wait in the ring until a port is opened.
pub fn start_log() {
    if log::set_logger(&Logger).is_ok() {
        set_threshold(Thresholds::DEFAULT);
    }
}

/// What `loglvl=` asks for.
pub fn set_threshold(thresholds: Thresholds) {
    CONSOLE.lock().thresholds = thresholds;
    log::set_max_level(thresholds.limited);
}

/// What `guest_loglvl=` asks for.
pub fn set_guest_threshold(thresholds: Thresholds) {
    CONSOLE.lock().guest_thresholds = thresholds;
}

/// Which messages that guests cause are logged.
pub fn guest_thresholds() -> Thresholds {
    CONSOLE.lock().guest_thresholds
}

/// There is new text in the log, and nobody has been told.
static NEWS: AtomicBool = AtomicBool::new(false);

/// Whoever logs may hold any lock: the control domain is told by this CPU before it enters a guest again.
fn announce_news() {
    NEWS.store(true, Ordering::Relaxed);
    percpu::this().must_look.store(true, Ordering::Relaxed);
}

/// Tells the control domain of new text in the log, if there is any. The caller holds no lock.
pub fn tell_news() {
    if NEWS.load(Ordering::Relaxed) && NEWS.swap(false, Ordering::Relaxed) {
        events::raise(Virq::CON_RING);
    }
}

/// Logs a message that a guest caused, which is to be.
pub fn log_of_guest(level: Level, message: fmt::Arguments<'_>) {
    CONSOLE.lock().write(stamp(), level, message);
}

fn stamp() -> Stamp {
    Stamp {
        ticks: time::since_entry(),
        frequency: time::frequency(),
    }
}

/// Opens the console that the tree names, or what the build wrote into the image in its stead, and
/// prints what was logged until now.
pub fn open(tree: Option<&Dtb<'_>>, choice: ConsoleChoice<'_>) {
    let named = tree.map(|tree| uart::of_tree(tree, choice));
    let (port, problem) = match named {
        Some(Ok(port)) => (Some(port), None),
        Some(Err(problem)) => (uart::fallback(), Some(problem)),
        None => (uart::fallback(), None),
    };
    if let Some(port) = port {
        let mut console = CONSOLE.lock();
        console.port = Some(port);
        console.print();
    }
    if let Some(problem) = problem {
        warn!("console: {problem}");
    }
}

/// Closes the console: `console=none`.
pub fn close() {
    CONSOLE.lock().port = None;
}

/// Where in the log a reader starts: at the low half of a position that it has from an earlier read, if
/// what is there has neither been overwritten nor cleared; or at the oldest text that there is.
pub fn log_position(index: Option<u32>) -> u64 {
    let console = CONSOLE.lock();
    let end = console.ring.end();
    let start = console.ring.start().max(console.cleared);
    let Some(index) = index else {
        return start;
    };
    let behind = u64::from((end as u32).wrapping_sub(index));
    end.checked_sub(behind)
        .map_or(start, |position| position.max(start))
}

/// Reads the log from a position on.
pub fn read_log(position: u64, into: &mut [u8]) -> Read {
    CONSOLE.lock().ring.read(position, into)
}

/// Who reads the log from its start sees what comes after a position.
pub fn clear_log(position: u64) {
    CONSOLE.lock().cleared = position;
}

/// Whether there is a port.
pub fn is_open() -> bool {
    CONSOLE.lock().port.is_some()
}

impl Console {
    fn write(&mut self, stamp: Stamp, level: Level, message: fmt::Arguments<'_>) {
        let line = Line::new(stamp, level, message);
        if !self.open.is_empty() {
            self.ring.write(b"\n");
        }
        self.ring.write(line.as_str().as_bytes());
        self.ring.write(&self.open);
        self.print();
        announce_news();
    }

    /// A line of a guest, without its end.
    fn write_line_of(&mut self, guest: DomId, line: &[u8]) {
        if !self.open.is_empty() {
            self.ring.write(b"\n");
        }
        // The name of any domain fits.
        let mut prefix: ArrayString<16> = ArrayString::new();
        let _ = write!(prefix, "({guest}) ");
        for part in [prefix.as_bytes(), line, b"\n", &self.open] {
            self.ring.write(part);
        }
        self.print();
        announce_news();
    }

    /// Text of who reads the console, as it comes.
    fn write_text(&mut self, text: &[u8]) {
        self.ring.write(text);
        let unfinished = match text.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                self.open.clear();
                text.get(end + 1..).unwrap_or_default()
            }
            None => text,
        };
        let room = unfinished.len().min(self.open.remaining_capacity());
        self.open.extend(unfinished.iter().copied().take(room));
        self.print();
        announce_news();
    }

    /// Returns whether Dom0 says that its kernel has panicked.
    fn write_of_dom0(&mut self, text: &[u8]) -> bool {
        self.write_text(text);
        let watch = &mut self.panic_watch;
        // It is seen once: what follows does not matter.
        text.iter().any(|byte| watch.take(*byte))
    }

    /// Writes a message if the rate allows it, and before it how many the rate did not allow.
    fn write_limited(&mut self, stamp: Stamp, record: &Record<'_>) {
        let Some(admitted) = self.rate.admit(stamp.ticks, stamp.frequency) else {
            return;
        };
        if admitted.suppressed > 0 {
            let count = admitted.suppressed;
            self.write(
                stamp,
                record.level(),
                format_args!("{count} messages suppressed"),
            );
        }
        self.write(stamp, record.level(), *record.args());
    }

    /// Prints what the ring holds and the port has not seen.
    fn print(&mut self) {
        let Some(port) = &mut self.port else {
            return;
        };
        let from = self.printed.max(self.ring.start());
        for byte in (from..self.ring.end()).filter_map(|at| self.ring.byte(at)) {
            put_with_return(port, byte);
        }
        self.printed = self.ring.end();
    }
}

/// Sends a byte; a newline gets the carriage return that terminals want.
pub fn put_with_return<R: xen_core::uart::Registers>(port: &mut Uart<R>, byte: u8) {
    if byte == b'\n' {
        port.put(b'\r');
    }
    port.put(byte);
}

/// Prints what Dom0 writes to the hypervisor's console.
pub fn write_of_dom0(text: &[u8]) {
    let panicked = CONSOLE.lock().write_of_dom0(text);
    if panicked {
        error!(
            "dom0: its kernel has panicked; if it does not reset the machine (panic=SECONDS), \
             Ctrl-A three times and R do"
        );
    }
}

/// Prints a line of a guest's, with the guest's name in front.
pub fn write_line_of_guest(guest: DomId, line: &[u8]) {
    CONSOLE.lock().write_line_of(guest, line);
}

/// Prints what the guest writes that is at the console.
pub fn write_of_reader(text: &[u8]) {
    CONSOLE.lock().write_text(text);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let stamp = stamp();
        let mut console = CONSOLE.lock();
        match console.thresholds.verdict(record.level()) {
            Verdict::Drop => (),
            Verdict::Log => console.write(stamp, record.level(), *record.args()),
            Verdict::LogLimited => console.write_limited(stamp, record),
        }
    }

    fn flush(&self) {}
}

/// The console for a report: taken by force from a CPU that may have died with it.
pub struct Emergency(Guard<'static, Console>);

/// Takes the console for good.
pub fn emergency() -> Emergency {
    let console = CONSOLE.lock_within(TRIES).unwrap_or_else(|| {
        // SAFETY: the reporting CPU stopped all others and does not return; a CPU that still holds
        // the lock after this long is dead or is this one.
        unsafe { CONSOLE.break_open() };
        CONSOLE.lock()
    });
    Emergency(console)
}

impl Emergency {
    /// Repeats the last lines of the log, each behind two spaces.
    pub fn repeat_last_lines(&mut self, lines: usize) {
        let console = &mut *self.0;
        let Some(port) = &mut console.port else {
            return;
        };
        let mut at_start = true;
        for at in console.ring.last_lines(lines)..console.ring.end() {
            let Some(byte) = console.ring.byte(at) else {
                continue;
            };
            if at_start {
                port.put_text("  ");
            }
            at_start = byte == b'\n';
            put_with_return(port, byte);
        }
    }
}

impl fmt::Write for Emergency {
    /// Straight to the port: the report is not part of the log that it repeats.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(port) = &mut self.0.port {
            port.put_text(text);
        }
        Ok(())
    }
}

impl Drop for Emergency {
    fn drop(&mut self) {
        if let Some(port) = &self.0.port {
            port.flush();
        }
    }
}
