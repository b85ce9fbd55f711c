//! `/dev/xen/evtchn`: event channels (Linux's `xen/evtchn.h`).

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use anyhow::Result;
use zerocopy::{FromBytes, IntoBytes};

use crate::device;

const BIND_INTERDOMAIN: u32 = 0x0008_4501;
const BIND_UNBOUND_PORT: u32 = 0x0004_4502;
const UNBIND: u32 = 0x0004_4503;
const NOTIFY: u32 = 0x0004_4504;

/// The device; ports that are bound by it belong to it.
pub struct Events(File);

impl Events {
    /// Opens the device.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open() -> Result<Self> {
        device::open("/dev/xen/evtchn").map(Self)
    }

    fn request<T: FromBytes + IntoBytes>(&self, number: u32, mut argument: T) -> io::Result<i64> {
        // SAFETY: each number below comes with the words that Linux's header gives it, and none of
        // them points anywhere.
        unsafe { device::request(&self.0, number, &mut argument) }
    }

    /// A port to which `domain` may bind one of its own.
    ///
    /// # Errors
    /// The driver's.
    pub fn allocate(&self, domain: u32) -> io::Result<u32> {
        self.request(BIND_UNBOUND_PORT, domain)
            .map(|port| port as u32)
    }

    /// A port bound to one of `domain`.
    ///
    /// # Errors
    /// The driver's.
    pub fn bind(&self, domain: u32, port: u32) -> io::Result<u32> {
        self.request(BIND_INTERDOMAIN, [domain, port])
            .map(|port| port as u32)
    }

    /// Raises the event at the other end of a port.
    ///
    /// # Errors
    /// The driver's.
    pub fn notify(&self, port: u32) -> io::Result<()> {
        self.request(NOTIFY, port).map(drop)
    }

    /// Closes a port.
    ///
    /// # Errors
    /// The driver's.
    pub fn unbind(&self, port: u32) -> io::Result<()> {
        self.request(UNBIND, port).map(drop)
    }

    /// Waits for an event; returns its port, which is masked then.
    ///
    /// # Errors
    /// The driver's.
    pub fn wait(&mut self) -> io::Result<u32> {
        let mut port = [0; 4];
        self.0.read_exact(&mut port)?;
        Ok(u32::from_le_bytes(port))
    }

    /// Lets events of a port through again.
    ///
    /// # Errors
    /// The driver's.
    pub fn unmask(&mut self, port: u32) -> io::Result<()> {
        self.0.write_all(&port.to_le_bytes())
    }
}
