//! Device files of Xen's drivers: requests with a structure, and memory mapped from them.
//!
//! This is the only file of the toolstack with unsafe code.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, ProtFlags};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a page of the ABI.
pub const PAGE_SIZE: usize = 4096;

/// Opens a device for reading and writing.
///
/// # Errors
/// The system's.
pub fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

struct Request<'a, T> {
    number: u32,
    argument: &'a mut T,
}

// SAFETY: the argument is exclusively borrowed for the call, any bytes are a value of its type, and
// `request` demands that the driver writes no further than its size.
unsafe impl<T: FromBytes + IntoBytes> Ioctl for Request<'_, T> {
    type Output = i64;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        Opcode::from(self.number)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.argument).cast()
    }

    unsafe fn output_from_ptr(
        returned: IoctlOutput,
        _argument: *mut c_void,
    ) -> rustix::io::Result<i64> {
        Ok(i64::from(returned))
    }
}

/// Makes a request whose structure the driver reads and writes; returns what the driver returns.
///
/// # Errors
/// The driver's error.
///
/// # Safety
/// The driver takes a structure of this layout for this number, and what the structure points to is
/// memory that may be written.
unsafe fn request<T: FromBytes + IntoBytes>(
    device: &File,
    number: u32,
    argument: &mut T,
) -> io::Result<i64> {
    let request = Request { number, argument };
    // SAFETY: the caller's promise.
    Ok(unsafe { rustix::ioctl::ioctl(device, request) }?)
}

/// Memory that is shared with the hypervisor or with a guest: either may change it at any time, so
/// that it is reached by copies and single atomic accesses only.
#[derive(Debug)]
pub struct SharedMemory {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the memory belongs to the process, not to a thread, and all accesses are copies or atomic.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    /// Maps pages of a device from its beginning on.
    ///
    /// # Errors
    /// The driver's.
    pub fn of_device(device: &File, pages: usize) -> io::Result<Self> {
        let size = pages
            .checked_mul(PAGE_SIZE)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: no address is asked for, so nothing that is mapped is replaced.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, protection, flags, device, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, size })
    }

    /// Zeroed pages of the process's own, for tests.
    ///
    /// # Errors
    /// If there is no memory.
    #[cfg(test)]
    pub fn private(pages: usize) -> io::Result<Self> {
        let size = pages * PAGE_SIZE;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: no address is asked for, so nothing that is mapped is replaced.
        let start =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), size, protection, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, size })
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Its bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    fn check(&self, offset: usize, length: usize) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Copies bytes into it.
    ///
    /// # Errors
    /// If they reach out of it.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: both ranges are valid for their length: ours was checked and is mapped as long as
        // `self` lives. No reference to it exists.
        unsafe {
            let to = self.start.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        Ok(())
    }

    /// Copies bytes out of it.
    ///
    /// # Errors
    /// If they reach out of it.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: as in `write`, in the other direction.
        unsafe {
            let from = self.start.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    /// Fills bytes from a reader, without a copy in between. Of use only while nobody else reaches the
    /// memory.
    ///
    /// # Errors
    /// If they reach out of it, or the reader's.
    pub fn fill(&mut self, offset: usize, length: usize, from: &mut dyn Read) -> io::Result<()> {
        self.check(offset, length)?;
        // SAFETY: the range was checked and is mapped as long as `self`, which is exclusively
        // borrowed, lives. It is memory of a guest that has never run.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), length) };
        from.read_exact(bytes)
    }

    /// A byte that others change.
    pub fn byte(&self, offset: usize) -> Option<&AtomicU8> {
        self.check(offset, 1).ok()?;
        // SAFETY: checked, and mapped as long as `self` lives; atomic accesses suffer other writers.
        Some(unsafe { AtomicU8::from_ptr(self.start.as_ptr().add(offset)) })
    }

    /// An aligned word that others change.
    pub fn word(&self, offset: usize) -> Option<&AtomicU32> {
        self.check(offset, 4).ok()?;
        // SAFETY: checked, as long as `self` lives.
        let word = unsafe { self.start.as_ptr().add(offset) }.cast::<u32>();
        // SAFETY: as `byte`; the alignment is checked here.
        word.is_aligned()
            .then(|| unsafe { AtomicU32::from_ptr(word) })
    }

    /// Orders what was written to it before what follows.
    pub fn barrier() {
        fence(Ordering::SeqCst);
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: ours, and no reference to it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// `/dev/xen/privcmd` (Linux's `xen/privcmd.h`).
#[derive(Debug)]
pub struct Privcmd(File);

const HYPERCALL: u32 = 0x0030_5000;
const MMAPBATCH_V2: u32 = 0x0020_5004;
const MMAP_RESOURCE: u32 = 0x0020_5007;

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct Call {
    number: u64,
    arguments: [u64; 5],
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct MapBatch {
    count: u32,
    domain: u16,
    pad: u16,
    address: u64,
    frames: u64,
    errors: u64,
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct MapResource {
    domain: u16,
    pad: u16,
    kind: u32,
    id: u32,
    index: u32,
    count: u64,
    address: u64,
}

impl Privcmd {
    /// Opens the device.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Self> {
        open("/dev/xen/privcmd").map(Self)
    }

    /// Makes a hypercall, whose pointers must lead into memory for hypercalls: the hypervisor writes
    /// where they point.
    ///
    /// # Errors
    /// What the hypervisor answers, if that is negative.
    pub fn call(&self, number: u64, arguments: [u64; 5]) -> io::Result<i64> {
        let mut call = Call { number, arguments };
        // SAFETY: the layout of `privcmd_hypercall`, which the driver only reads. That the arguments
        // point to no other memory is what `hypercalls` takes care of, the only caller.
        unsafe { request(&self.0, HYPERCALL, &mut call) }
    }

    /// Maps frames of a domain, in this order.
    ///
    /// # Errors
    /// The driver's, or that of the first frame that cannot be mapped.
    pub fn map(&self, domain: u16, frames: &[u64]) -> io::Result<SharedMemory> {
        let memory = SharedMemory::of_device(&self.0, frames.len())?;
        let mut errors = vec![0_i32; frames.len()];
        let mut batch = MapBatch {
            count: u32::try_from(frames.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            domain,
            pad: 0,
            address: memory.address(),
            frames: frames.as_ptr() as u64,
            errors: errors.as_mut_ptr() as u64,
        };
        // SAFETY: the layout of `privcmd_mmapbatch_v2`: the driver reads the frames and writes the
        // errors, as many of each as `count` says, and maps over pages that it has just handed out.
        let mapped = unsafe { request(&self.0, MMAPBATCH_V2, &mut batch) };
        if let Some(error) = errors.into_iter().find(|error| *error != 0) {
            return Err(io::Error::from_raw_os_error(error.saturating_abs()));
        }
        mapped.map(|_| memory)
    }

    /// Maps frames that belong to a domain and are not in its memory.
    ///
    /// # Errors
    /// The driver's.
    pub fn map_resource(
        &self,
        domain: u16,
        kind: u32,
        id: u32,
        count: usize,
    ) -> io::Result<SharedMemory> {
        let memory = SharedMemory::of_device(&self.0, count)?;
        let mut resource = MapResource {
            domain,
            pad: 0,
            kind,
            id,
            index: 0,
            count: count as u64,
            address: memory.address(),
        };
        // SAFETY: the layout of `privcmd_mmap_resource`, which points to pages that the driver has
        // just handed out.
        unsafe { request(&self.0, MMAP_RESOURCE, &mut resource) }?;
        Ok(memory)
    }
}

/// Makes a request whose structure has numbers only, none of which points anywhere.
///
/// # Errors
/// The driver's.
pub fn plain_request<const N: usize>(
    device: &File,
    number: PlainRequest,
    mut words: [u32; N],
) -> io::Result<i64> {
    if size_of_val(&words) != number.size() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the size is that of the request's structure, and no word is a pointer.
    unsafe { request(device, number as u32, &mut words) }
}

/// Requests of `/dev/xen/evtchn` (Linux's `xen/evtchn.h`), whose structures are words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum PlainRequest {
    /// A port for a virtual interrupt: which.
    BindVirq = 0x0004_4500,
    /// A port bound to one of a domain: which domain, which port.
    BindInterdomain = 0x0008_4501,
    /// Closes a port.
    Unbind = 0x0004_4503,
    /// Raises the event at the other end of a port.
    Notify = 0x0004_4504,
}

impl PlainRequest {
    /// Bytes of its structure.
    fn size(self) -> usize {
        (self as u32 >> 16) as usize & 0x3fff
    }
}
