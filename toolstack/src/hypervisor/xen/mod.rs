//! The hypervisor behind `/dev/xen/privcmd`.
//!
//! What calls point to lies in pages of `/dev/xen/hypercall`, which the kernel never moves: structures
//! at the start, lists behind them.

mod buffer;
mod domains;
mod functions;
mod host;
mod ram;
mod wiring;

use std::io;
use std::sync::Mutex;

use xen_abi::DomId;
use xen_abi::domctl::DomctlOp;
use xen_abi::sysctl::SysctlOp;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use self::buffer::{BUFFER_PAGES, Buffer};
use super::Result;
use super::device::{PAGE_SIZE, Privcmd, SharedMemory, open};
use super::error::HypervisorError;
use super::fuse::Fuse;

/// The hypervisor that this machine runs on.
#[derive(Debug)]
pub struct Xen {
    privcmd: Privcmd,
    buffer: Mutex<SharedMemory>,
    fuse: Fuse,
}

impl Xen {
    /// Opens the devices.
    ///
    /// # Errors
    /// [`HypervisorError::Device`].
    pub fn open() -> Result<Self> {
        let device = "/dev/xen/privcmd";
        let privcmd = Privcmd::open().map_err(|error| HypervisorError::Device { device, error })?;
        let device = "/dev/xen/hypercall";
        let buffer = open(device).and_then(|file| {
            let memory = SharedMemory::of_device(&file, BUFFER_PAGES)?;
            // Until it is written to, Linux maps a page for reading only, and the hypervisor could
            // not write there.
            for page in 0..BUFFER_PAGES {
                memory.write(page * PAGE_SIZE, &[0])?;
            }
            Ok(memory)
        });
        let buffer = buffer.map_err(|error| HypervisorError::Device { device, error })?;
        Ok(Self {
            privcmd,
            buffer: Mutex::new(buffer),
            fuse: Fuse::from_env(),
        })
    }

    /// Makes one or more calls with the pages that they may point to.
    fn with_buffer<T>(
        &self,
        call: &'static str,
        body: impl FnOnce(&Buffer<'_>) -> io::Result<T>,
    ) -> Result<T> {
        // A thread that panicked left nothing in the pages that the next call would read.
        let memory = self.buffer.lock().unwrap_or_else(|lock| lock.into_inner());
        let buffer = Buffer {
            privcmd: &self.privcmd,
            memory: &memory,
        };
        let outcome = body(&buffer);
        self.fuse.count();
        outcome.map_err(|error| HypervisorError::Call { call, error })
    }

    /// A domctl with a structure, which comes back.
    fn domctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        call: &'static str,
        op: DomctlOp,
        domain: DomId,
        argument: T,
    ) -> Result<T> {
        self.with_buffer(call, |buffer| {
            buffer
                .domctl(op, domain, argument)
                .map(|(argument, _)| argument)
        })
    }

    fn sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        call: &'static str,
        op: SysctlOp,
        argument: T,
    ) -> Result<T> {
        self.with_buffer(call, |buffer| buffer.sysctl(op, argument))
    }
}

fn answer(call: &'static str, what: impl Into<String>) -> HypervisorError {
    HypervisorError::Answer {
        call,
        what: what.into(),
    }
}
