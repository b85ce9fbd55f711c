//! The process that stays with a guest: it serves the guest's consoles and does what is to be done when
//! the guest ends.
//!
//! It holds the lock of the guest's folder, which it gets as its standard input from whoever starts
//! it, and says `ready` on its standard output when the consoles can be reached. The end of a guest is
//! told by an event where nobody else has taken it, and is looked for now and then in any case.

mod line;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;
use xen_abi::{DomId, virq};

use crate::config::{EndAction, GuestName};
use crate::guest::{Blueprint, BlueprintError, BuildError, Built, Watch, build};
use crate::guests;
use crate::hypervisor::{
    DIE_AFTER, Domains as _, EndReason, Events, Host as _, HypervisorError, Port, Xen,
};
use crate::state::{Care, Channels, Phase, Record, State, StateError};
use line::Line;

/// How often to look whether the guest is still there.
const LOOK: Duration = Duration::from_millis(200);
/// A guest that lived for less is made anew only after a pause of this.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// Why a monitor cannot do its work.
#[derive(Debug, Error)]
pub enum MonitorError {
    /// It was not started by `xrs`.
    #[error("the monitor is started by `xrs create`, with the guest's lock as its standard input")]
    NotStarted,
    /// The guest's folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The hypervisor.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The guest cannot be made anew.
    #[error(transparent)]
    Blueprint(#[from] BlueprintError),
    /// The guest cannot be made anew.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// What was taken from the control domain's drivers for the guest did not go back.
    #[error("{0}")]
    NotReturned(String),
    /// The system.
    #[error("{what}: {error}")]
    Io {
        /// What was done.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// It ended before it was ready.
    #[error("the guest's monitor did not start: {why}")]
    Failed {
        /// What it has written.
        why: String,
    },
}

fn io(what: &'static str) -> impl FnOnce(io::Error) -> MonitorError {
    move |error| MonitorError::Io { what, error }
}

/// Starts the monitor of a guest and gives it the guest's lock; returns when it is ready. A guest that
/// was not started is started by its monitor, unless it is to stay `paused`: so there is no moment at
/// which a guest runs, or could, with nobody to take care of it.
///
/// # Errors
/// [`MonitorError`].
pub fn start(care: &Care, name: &GuestName, paused: bool) -> Result<(), MonitorError> {
    let log = care.folder().join("monitor.log");
    let failed = || {
        let why = fs::read_to_string(&log).unwrap_or_default();
        let why = why.trim_start_matches("xrs: ").trim().to_string();
        MonitorError::Failed { why }
    };
    let lock = care.share().map_err(io("the lock"))?;
    let errors = File::create(&log).map_err(io("monitor.log"))?;
    let mut child = Command::new("/proc/self/exe")
        .args(["monitor", name.as_str()])
        .args(paused.then_some("--paused"))
        .env_remove(DIE_AFTER)
        .stdin(lock)
        .stdout(Stdio::piped())
        .stderr(errors)
        .current_dir("/")
        .spawn()
        .map_err(io("cannot start the monitor"))?;
    let mut word = [0; READY.len()];
    let mut answer = child.stdout.take().ok_or_else(failed)?;
    io::Read::read_exact(&mut answer, &mut word).map_err(|_| failed())
}

/// What a monitor says when it is.
const READY: &[u8] = b"ready\n";

/// Stays with a guest until it is no more.
///
/// # Errors
/// [`MonitorError`]
pub fn run(state: &State, name: &GuestName, paused: bool) -> Result<(), MonitorError> {
    let lock = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let lock = lock.map_err(io("the lock"))?;
    let care = Care::of_monitor(state.folder(name), lock);
    if !is_lock(&care)? {
        return Err(MonitorError::NotStarted);
    }
    // Not a group leader where it matters: whoever starts it waits for it.
    let _ = rustix::process::setsid();
    let record = care.record().ok_or(MonitorError::NotStarted)?;
    let xen = Xen::open()?;
    let domains = xen.domains()?;
    let Some(domain) = domains.iter().find(|domain| domain.uuid == record.uuid) else {
        return forget(&xen, state, care);
    };
    let id = domain.id;
    let mut monitor = Monitor::new(xen, care, record, id)?;
    monitor.begin(paused)?;
    let mut stdout = io::stdout();
    // Whoever waited for it may have been killed; the guest is there all the same.
    let _ = stdout.write_all(READY).and_then(|()| stdout.flush());
    monitor.stay()?;
    let Monitor {
        xen, care, lines, ..
    } = monitor;
    // Who waits for the name to be free may count on the memory, too.
    drop(lines);
    forget(&xen, state, care)
}

/// The guest is no more.
fn forget(xen: &Xen, state: &State, care: Care) -> Result<(), MonitorError> {
    match guests::forget(xen, state, care)? {
        Some(error) => Err(MonitorError::NotReturned(error)),
        None => Ok(()),
    }
}

/// Whether standard input is the guest's lock.
fn is_lock(care: &Care) -> Result<bool, MonitorError> {
    let own = care.share().and_then(|lock| lock.metadata());
    let own = own.map_err(io("the lock"))?;
    let there = care.folder().join("lock").metadata();
    let there = there.map_err(|_| MonitorError::NotStarted)?;
    Ok((own.dev(), own.ino()) == (there.dev(), there.ino()))
}

struct Monitor {
    xen: Xen,
    events: Events,
    /// Where the end of any domain is told, unless another has it.
    ends: Option<Port>,
    care: Care,
    record: Record,
    domain: DomId,
    lines: Vec<Line>,
    since: Instant,
    looked: Instant,
}

impl Monitor {
    fn new(xen: Xen, care: Care, record: Record, domain: DomId) -> Result<Self, MonitorError> {
        let events = Events::open().map_err(|error| HypervisorError::Device {
            device: "/dev/xen/evtchn",
            error,
        })?;
        let ends = events.bind_virq(virq::DOM_EXC).ok();
        let now = Instant::now();
        let mut monitor = Self {
            xen,
            events,
            ends,
            care,
            record,
            domain,
            lines: Vec::new(),
            since: now,
            looked: now,
        };
        let (Phase::Built(channels) | Phase::Watched(channels)) = monitor.record.phase else {
            return Err(MonitorError::NotStarted);
        };
        let channels = [
            ("console.sock", Some(channels.console)),
            ("vuart.sock", channels.vuart),
        ];
        for (socket, channel) in channels {
            if let Some(channel) = channel {
                let mut line = Line::listen(&monitor.care.folder().join(socket))
                    .map_err(io("cannot serve the console"))?;
                line.connect(&monitor.xen, &monitor.events, domain, channel)?;
                monitor.lines.push(line);
            }
        }
        Ok(monitor)
    }

    /// Starts a guest that was not started yet.
    fn begin(&mut self, paused: bool) -> Result<(), MonitorError> {
        let Phase::Built(channels) = self.record.phase else {
            return Ok(());
        };
        if !paused {
            self.xen.unpause(self.domain)?;
        }
        self.since = Instant::now();
        self.record.phase = Phase::Watched(channels);
        Ok(self.care.write(&self.record)?)
    }

    /// Serves until the guest is no more.
    fn stay(&mut self) -> Result<(), MonitorError> {
        let mut preserved = false;
        loop {
            self.wait()?;
            let pending = self.events.pending().map_err(io("events"))?;
            for port in &pending {
                self.events.unmask(*port).map_err(io("events"))?;
            }
            let told = self.ends.is_some_and(|port| pending.contains(&port));
            for line in &mut self.lines {
                line.serve(&self.events);
            }
            if !told && self.looked.elapsed() < LOOK {
                continue;
            }
            self.looked = Instant::now();
            let Some(info) = self.xen.domain(self.domain)? else {
                return Ok(());
            };
            // Its memory stays as long as we map some of it.
            if info.uuid != self.record.uuid || info.dying {
                return Ok(());
            }
            let action = match info.ended.filter(|_| !preserved) {
                _ if self.care.is_to_end() => EndAction::Destroy,
                Some(reason) => self.action(reason),
                None => continue,
            };
            for line in &mut self.lines {
                line.serve(&self.events);
            }
            match action {
                EndAction::Preserve => preserved = true,
                action => {
                    self.disconnect();
                    guests::destroy(&self.xen, &info)?;
                    if action != EndAction::Restart || !self.rest() {
                        return Ok(());
                    }
                    self.restart()?;
                }
            }
        }
    }

    /// Waits until something happens, or it is time to look.
    fn wait(&self) -> Result<(), MonitorError> {
        let mut polled = vec![PollFd::new(&self.events, PollFlags::IN)];
        for line in &self.lines {
            line.poll(&mut polled);
        }
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK.subsec_nanos().into(),
        };
        match poll(&mut polled, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(io("poll")(error.into())),
        }
    }

    fn action(&self, reason: EndReason) -> EndAction {
        let actions = &self.record.config.on_end;
        match reason {
            EndReason::Poweroff => actions.poweroff,
            EndReason::Reboot => actions.reboot,
            EndReason::Crash => actions.crash,
            EndReason::Watchdog => actions.watchdog,
            // Nobody can save it or reset it in place.
            EndReason::Suspend | EndReason::SoftReset | EndReason::Other(_) => EndAction::Destroy,
        }
    }

    /// Lets go of all that is the guest's; who is at its consoles stays.
    fn disconnect(&mut self) {
        for line in &mut self.lines {
            line.disconnect(&self.events);
        }
    }

    /// Waits before a guest that lived for a short time starts again. Returns false if it is not to.
    fn rest(&self) -> bool {
        if self.since.elapsed() < SHORT_LIFE {
            let begin = Instant::now();
            while begin.elapsed() < SHORT_LIFE && !self.care.is_to_end() {
                thread::sleep(LOOK);
            }
        }
        !self.care.is_to_end()
    }

    /// Makes the guest anew, under the same name and identity.
    fn restart(&mut self) -> Result<(), MonitorError> {
        self.record.phase = Phase::Building;
        self.care.write(&self.record)?;
        let outcome = self.make();
        if let Err(error) = &outcome {
            let text = format!("\r\nxrs: cannot start the guest again: {error}\r\n");
            for line in &mut self.lines {
                line.show(text.as_bytes());
            }
        }
        outcome
    }

    fn make(&mut self) -> Result<(), MonitorError> {
        let blueprint = Blueprint::new(self.record.config.clone())?;
        let Built {
            domain,
            console,
            vuart,
            functions: _,
        } = build(&self.xen, &blueprint, self.record.uuid, &mut Alone)?;
        self.domain = domain;
        self.record.phase = Phase::Built(Channels { console, vuart });
        let channels = [Some(console), vuart];
        for (line, channel) in self.lines.iter_mut().zip(channels.into_iter().flatten()) {
            line.connect(&self.xen, &self.events, domain, channel)?;
        }
        self.begin(false)
    }
}

/// Nobody looks on.
struct Alone;

impl Watch for Alone {
    fn interrupted(&self) -> bool {
        false
    }

    fn progress(&mut self, _what: &'static str, _done: u64, _of: u64) {}

    fn note(&mut self, _text: &str) {}
}
