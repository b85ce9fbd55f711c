//! The pages that calls point to.

use std::io;

use xen_abi::domctl::{self as dom, Domctl, DomctlOp};
use xen_abi::hypercall::Hypercall;
use xen_abi::sysctl::{self as sys, Sysctl, SysctlOp};
use xen_abi::{DomId, GuestHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::hypervisor::device::{PAGE_SIZE, Privcmd, SharedMemory};

/// How many: the driver has at most 64 for a file.
pub const BUFFER_PAGES: usize = 32;
/// Where lists begin; structures lie before.
pub const LIST: usize = 1024;
/// Bytes of lists.
pub const LIST_SIZE: usize = BUFFER_PAGES * PAGE_SIZE - LIST;
/// Bytes of a set of CPUs in a list.
const CPU_BYTES: usize = 512;

/// Pages that calls point to.
pub struct Buffer<'a> {
    pub privcmd: &'a Privcmd,
    pub memory: &'a SharedMemory,
}

impl Buffer<'_> {
    /// The address of a place in the pages.
    pub fn at(&self, offset: usize) -> u64 {
        self.memory.address() + offset as u64
    }

    pub fn handle(&self, offset: usize) -> GuestHandle {
        GuestHandle::new(self.at(offset))
    }

    /// Makes a call whose pointers lead into the pages.
    pub fn call(&self, call: Hypercall, arguments: [u64; 5]) -> io::Result<i64> {
        self.privcmd.call(call.number(), arguments)
    }

    /// A call with a structure, which comes back with what the call returns.
    pub fn operate<T: FromBytes + IntoBytes + Immutable>(
        &self,
        call: Hypercall,
        op: u64,
        argument: T,
    ) -> io::Result<(T, i64)> {
        self.memory.write(0, argument.as_bytes())?;
        let returned = self.call(call, [op, self.at(0), 0, 0, 0])?;
        Ok((self.take(0)?, returned))
    }

    pub fn take<T: FromBytes>(&self, offset: usize) -> io::Result<T> {
        let mut bytes = vec![0; size_of::<T>()];
        self.memory.read(offset, &mut bytes)?;
        T::read_from_bytes(&bytes).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    pub fn domctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        op: DomctlOp,
        domain: DomId,
        argument: T,
    ) -> io::Result<(T, DomId)> {
        let mut payload = [0; dom::PAYLOAD_WORDS];
        fill(payload.as_mut_bytes(), argument.as_bytes());
        let envelope = Domctl {
            cmd: op.number(),
            interface_version: dom::INTERFACE_VERSION,
            domain,
            pad: [0; 3],
            payload,
        };
        self.memory.write(0, envelope.as_bytes())?;
        self.call(Hypercall::Domctl, [self.at(0), 0, 0, 0, 0])?;
        let envelope: Domctl = self.take(0)?;
        let argument = T::read_from_prefix(envelope.payload.as_bytes());
        let (argument, _) = argument.map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((argument, envelope.domain))
    }

    pub fn sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        op: SysctlOp,
        argument: T,
    ) -> io::Result<T> {
        self.sysctl_of(op.number(), argument)
    }

    /// A sysctl of a number, which may be one that Xen does not have.
    pub fn sysctl_of<T: FromBytes + IntoBytes + Immutable>(
        &self,
        number: u32,
        argument: T,
    ) -> io::Result<T> {
        let mut payload = [0; sys::PAYLOAD_WORDS];
        fill(payload.as_mut_bytes(), argument.as_bytes());
        let envelope = Sysctl {
            cmd: number,
            interface_version: sys::INTERFACE_VERSION,
            payload,
        };
        self.memory.write(0, envelope.as_bytes())?;
        self.call(Hypercall::Sysctl, [self.at(0), 0, 0, 0, 0])?;
        let envelope: Sysctl = self.take(0)?;
        let argument = T::read_from_prefix(envelope.payload.as_bytes());
        Ok(argument.map_err(|_| io::ErrorKind::InvalidData)?.0)
    }

    /// A set of CPUs in the list part, the `place`th.
    pub fn cpus(&self, place: usize, cpus: &[u32]) -> io::Result<dom::Bitmap> {
        let mut bytes = [0; CPU_BYTES];
        for cpu in cpus {
            let byte = bytes.get_mut(*cpu as usize / 8);
            *byte.ok_or(io::ErrorKind::InvalidInput)? |= 1 << (cpu % 8);
        }
        let offset = LIST + place * CPU_BYTES;
        self.memory.write(offset, &bytes)?;
        Ok(dom::Bitmap {
            bytes: self.handle(offset),
            bits: 8 * CPU_BYTES as u32,
            pad: 0,
        })
    }

    pub fn cpus_back(&self, place: usize) -> io::Result<Vec<u32>> {
        let mut bytes = [0; CPU_BYTES];
        self.memory.read(LIST + place * CPU_BYTES, &mut bytes)?;
        let bit = |cpu: u32| {
            let byte = bytes.get(cpu as usize / 8).copied().unwrap_or(0);
            (byte >> (cpu % 8) & 1 == 1).then_some(cpu)
        };
        Ok((0..8 * CPU_BYTES as u32).filter_map(bit).collect())
    }
}

fn fill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
