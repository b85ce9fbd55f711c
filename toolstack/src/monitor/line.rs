//! One console of a guest: its ring, what it has shown, and who is at it.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use xen_abi::DomId;

use super::MonitorError;
use crate::console::{Ring, Scrollback};
use crate::guest::Channel;
use crate::hypervisor::{Events, Port, Ram as _, Xen};

/// Bytes that wait for one who reads too slowly, who then is put off.
const MAX_WAITING: usize = 1 << 20;
/// Bytes typed that wait for the guest; more are dropped.
const MAX_TYPED: usize = 64 << 10;

/// A console.
pub struct Line {
    listener: UnixListener,
    people: Vec<Person>,
    scrollback: Scrollback,
    typed: VecDeque<u8>,
    ring: Option<(Ring, Port)>,
}

/// Someone at a console.
struct Person {
    stream: UnixStream,
    /// What was not sent yet.
    waiting: VecDeque<u8>,
    gone: bool,
}

impl Line {
    /// A console at a socket, without a guest as yet.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            people: Vec::new(),
            scrollback: Scrollback::default(),
            typed: VecDeque::new(),
            ring: None,
        })
    }

    /// Connects it to a guest's ring.
    pub fn connect(
        &mut self,
        xen: &Xen,
        events: &Events,
        domain: DomId,
        channel: Channel,
    ) -> Result<(), MonitorError> {
        let page = xen.map(domain, &[channel.frame])?;
        let port = events
            .bind(domain, channel.port)
            .map_err(super::io("cannot bind the console's port"))?;
        self.ring = Some((Ring::new(page), port));
        Ok(())
    }

    /// Lets go of the guest's ring.
    pub fn disconnect(&mut self, events: &Events) {
        if let Some((_, port)) = self.ring.take() {
            let _ = events.unbind(port);
        }
    }

    /// Adds what can happen to it.
    pub fn poll<'p>(&'p self, polled: &mut Vec<PollFd<'p>>) {
        polled.push(PollFd::new(&self.listener, PollFlags::IN));
        for person in &self.people {
            let mut flags = PollFlags::IN;
            if !person.waiting.is_empty() {
                flags |= PollFlags::OUT;
            }
            polled.push(PollFd::new(&person.stream, flags));
        }
    }

    /// Does all that can be done without waiting.
    pub fn serve(&mut self, events: &Events) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.people.push(Person {
                    stream,
                    waiting: self.scrollback.bytes().into(),
                    gone: false,
                });
            }
        }
        if let Some((ring, port)) = &self.ring {
            let shown = ring.read();
            let space = MAX_TYPED.saturating_sub(self.typed.len());
            for person in &mut self.people {
                self.typed.extend(person.typed().into_iter().take(space));
            }
            let typed = self.typed.make_contiguous();
            let given = ring.write(typed);
            self.typed.drain(..given);
            if given > 0 || !shown.is_empty() {
                let _ = events.notify(*port);
            }
            self.show(&shown);
        }
        for person in &mut self.people {
            person.send();
        }
        self.people.retain(|person| !person.gone);
    }

    /// Shows something, the guest's or our own.
    pub fn show(&mut self, bytes: &[u8]) {
        self.scrollback.push(bytes);
        for person in &mut self.people {
            person.waiting.extend(bytes);
            person.send();
        }
    }
}

impl Person {
    fn typed(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.gone = true,
            Ok(count) => {
                bytes.truncate(count);
                return bytes;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.gone = true,
        }
        Vec::new()
    }

    fn send(&mut self) {
        while !self.waiting.is_empty() && !self.gone {
            let (first, _) = self.waiting.as_slices();
            match self.stream.write(first) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
        }
        self.gone |= self.waiting.len() > MAX_WAITING;
    }
}

impl Drop for Line {
    /// Whoever reads gets the rest, if they read soon.
    fn drop(&mut self) {
        for person in &mut self.people {
            let time = Some(std::time::Duration::from_secs(1));
            let patient = person.stream.set_nonblocking(false).is_ok()
                && person.stream.set_write_timeout(time).is_ok();
            if patient {
                let rest = person.waiting.make_contiguous();
                let _ = person.stream.write_all(rest);
            }
        }
    }
}
