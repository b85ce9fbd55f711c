//! `/dev/xen/evtchn`: event channels (Linux's `xen/evtchn.h`).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use xen_abi::DomId;

use super::device::{self, PlainRequest, plain_request};

/// The device; ports that are bound by it belong to it and are closed with it.
#[derive(Debug)]
pub struct Events(File);

/// A port of the control domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Port(u32);

impl Events {
    /// Opens the device.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Self> {
        let file = device::open("/dev/xen/evtchn")?;
        rustix::fs::fcntl_setfl(&file, OFlags::NONBLOCK)?;
        Ok(Self(file))
    }

    /// A port bound to one of `domain`.
    ///
    /// # Errors
    /// The driver's.
    pub fn bind(&self, domain: DomId, port: u32) -> io::Result<Port> {
        let words = [u32::from(domain.get()), port];
        self.port(plain_request(&self.0, PlainRequest::BindInterdomain, words))
    }

    /// A port for a virtual interrupt.
    ///
    /// # Errors
    /// The driver's: another has it, for one.
    pub fn bind_virq(&self, virq: u32) -> io::Result<Port> {
        self.port(plain_request(&self.0, PlainRequest::BindVirq, [virq]))
    }

    fn port(&self, returned: io::Result<i64>) -> io::Result<Port> {
        let port = u32::try_from(returned?).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Port(port))
    }

    /// Raises the event at the other end of a port.
    ///
    /// # Errors
    /// The driver's.
    pub fn notify(&self, port: Port) -> io::Result<()> {
        plain_request(&self.0, PlainRequest::Notify, [port.0]).map(drop)
    }

    /// Closes a port.
    ///
    /// # Errors
    /// The driver's.
    pub fn unbind(&self, port: Port) -> io::Result<()> {
        plain_request(&self.0, PlainRequest::Unbind, [port.0]).map(drop)
    }

    /// Ports with events, which are masked until [`Events::unmask`].
    ///
    /// # Errors
    /// The driver's.
    pub fn pending(&self) -> io::Result<Vec<Port>> {
        let mut bytes = [0; 256];
        let count = match (&self.0).read(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let ports = bytes.get(..count).unwrap_or_default().as_chunks().0;
        Ok(ports
            .iter()
            .map(|port| Port(u32::from_ne_bytes(*port)))
            .collect())
    }

    /// Lets events of a port through again.
    ///
    /// # Errors
    /// The driver's.
    pub fn unmask(&self, port: Port) -> io::Result<()> {
        (&self.0).write_all(&port.0.to_ne_bytes())
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
