//! `/dev/xen/privcmd`: hypercalls (`PRIVCMD_HYPERCALL` of Linux's `xen/privcmd.h`).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use anyhow::Result;
use xen_abi::hypercall::Hypercall;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::device::{self, Mapping, PAGE_SIZE};

const HYPERCALL: u32 = 0x0030_5000;

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct Call {
    number: u64,
    arguments: [u64; 5],
}

/// The device, and pages for the structures that calls point to.
pub struct Privcmd {
    device: File,
    buffer: Mapping,
}

impl Privcmd {
    /// Opens the device.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open() -> Result<Self> {
        Ok(Self {
            device: device::open("/dev/xen/privcmd")?,
            buffer: Mapping::with_guard(2)?,
        })
    }

    /// The device itself.
    pub(crate) fn device(&self) -> &File {
        &self.device
    }

    /// Two pages that calls may point to, with one behind them that cannot be accessed.
    pub fn buffer(&self) -> &Mapping {
        &self.buffer
    }

    /// Makes a hypercall. The hypervisor writes where the arguments point: this is a way to change
    /// any memory of the program, as `/proc/self/mem` is. Pointers lead into [`Privcmd::buffer`] or
    /// nowhere.
    ///
    /// # Errors
    /// What the hypervisor answers, if that is negative.
    pub fn call(&self, number: u64, arguments: [u64; 5]) -> io::Result<i64> {
        let mut call = Call { number, arguments };
        // SAFETY: the layout of `privcmd_hypercall`, which the driver only reads.
        unsafe { device::request(&self.device, HYPERCALL, &mut call) }
    }

    /// Makes a hypercall with a sub-operation and a structure that it may change; the structure lies
    /// across a page border.
    ///
    /// # Errors
    /// As [`Privcmd::call`].
    pub fn operate<T: FromBytes + IntoBytes + Immutable>(
        &self,
        number: Hypercall,
        operation: u64,
        structure: &mut T,
    ) -> io::Result<i64> {
        let size = size_of::<T>();
        let offset = PAGE_SIZE - (size / 2).next_multiple_of(8).min(PAGE_SIZE);
        self.buffer.write(offset, structure.as_bytes());
        let address = self.buffer.address() + offset as u64;
        let returned = self.call(number.number(), [operation, address, 0, 0, 0])?;
        if let Ok(changed) = T::read_from_bytes(&self.buffer.read(offset, size)) {
            *structure = changed;
        }
        Ok(returned)
    }
}
