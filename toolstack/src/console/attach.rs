//! A person, or a file, at a guest's console.
//!
//! The monitor of the guest sends what was shown and what is shown; what is typed goes to it as it is.
//! On a terminal all keys but one are the guest's.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use thiserror::Error;

/// The key that leaves: Ctrl-].
const ESCAPE: u8 = 0x1d;

/// How often to look whether to stop.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Why there is no console.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// Nobody serves it.
    #[error("cannot reach the guest's console: {0}")]
    Connect(io::Error),
    /// The terminal or the connection failed.
    #[error("the console failed: {0}")]
    Io(#[from] io::Error),
}

/// Why one is no longer at a console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// The guest has ended.
    Ended,
    /// The person has left.
    Escaped,
}

/// A terminal that passes every key on, until it is dropped.
struct RawTerminal {
    terminal: File,
    before: Termios,
}

impl RawTerminal {
    fn new(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Shows a console on standard output until the guest ends or the person leaves; types what is typed at a
/// terminal.
///
/// # Errors
/// [`ConsoleError`].
pub fn attach(socket: &Path, stop: &dyn Fn() -> bool) -> Result<Left, ConsoleError> {
    let mut socket = UnixStream::connect(socket).map_err(ConsoleError::Connect)?;
    let stdin = io::stdin();
    let raw = match stdin.is_terminal() {
        false => None,
        true => {
            eprintln!("(Ctrl-] leaves the console)");
            let terminal = File::from(std::os::fd::AsFd::as_fd(&stdin).try_clone_to_owned()?);
            Some(RawTerminal::new(terminal)?)
        }
    };
    let mut keyboard = match &raw {
        Some(raw) => Some(raw.terminal.try_clone()?),
        None => None,
    };
    let mut output = io::stdout().lock();
    let mut buffer = [0; 4096];
    while !stop() {
        let (shown, typed) = {
            let mut polled = vec![PollFd::new(&socket, PollFlags::IN)];
            if let Some(keyboard) = &keyboard {
                polled.push(PollFd::new(keyboard, PollFlags::IN));
            }
            // A signal may come just before: it is looked for now and then.
            match poll(&mut polled, Some(&LOOK)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            }
            let ready = |place: usize| {
                polled
                    .get(place)
                    .is_some_and(|one: &PollFd<'_>| !one.revents().is_empty())
            };
            (ready(0), ready(1))
        };
        if shown {
            let count = socket.read(&mut buffer)?;
            if count == 0 {
                output.flush()?;
                return Ok(Left::Ended);
            }
            output.write_all(buffer.get(..count).unwrap_or_default())?;
            output.flush()?;
        }
        if let Some(terminal) = keyboard.as_mut().filter(|_| typed) {
            let count = terminal.read(&mut buffer)?;
            let keys = buffer.get(..count).unwrap_or_default();
            let escape = keys.iter().position(|key| *key == ESCAPE);
            let before = escape.map_or(keys, |escape| keys.get(..escape).unwrap_or(keys));
            // A guest that has just ended reads no more; its last words still come.
            let _ = socket.write_all(before);
            if escape.is_some() {
                return Ok(Left::Escaped);
            }
            if count == 0 {
                keyboard = None;
            }
        }
    }
    Ok(Left::Escaped)
}
