//! Device files: requests with a structure, and pages mapped from them.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;

/// Opens a device for reading and writing.
///
/// # Errors
/// If it is not there or refuses.
pub fn open(path: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("cannot open {path}"))
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
pub(crate) unsafe fn request<T: FromBytes + IntoBytes>(
    device: &File,
    number: u32,
    argument: &mut T,
) -> io::Result<i64> {
    let request = Request { number, argument };
    // SAFETY: the caller's promise.
    Ok(unsafe { rustix::ioctl::ioctl(device, request) }?)
}

/// Pages mapped from a device, or of a program's own. Others may write them at any time.
pub struct Mapping {
    start: NonNull<c_void>,
    /// Bytes that can be read and written.
    size: usize,
    /// All bytes that are mapped.
    mapped: usize,
}

/// Integers that one access loads or stores.
trait Word {}

impl Word for AtomicU32 {}
impl Word for AtomicU64 {}

impl Mapping {
    /// Maps `pages` pages of a device from `offset`, shared.
    ///
    /// # Errors
    /// The driver's error.
    pub fn of_device(device: &File, offset: u64, pages: usize) -> io::Result<Self> {
        let size = pages * PAGE_SIZE;
        // SAFETY: no address is asked for, so nothing that is mapped is replaced.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                device,
                offset,
            )
        }?;
        Self::new(start, size, size)
    }

    /// Maps zeroed pages of the program's own, and behind them one that cannot be accessed.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn with_guard(pages: usize) -> io::Result<Self> {
        let size = pages * PAGE_SIZE;
        // SAFETY: no address is asked for, so nothing that is mapped is replaced.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                size + PAGE_SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::POPULATE,
            )
        }?;
        let mapping = Self::new(start, size, size + PAGE_SIZE)?;
        let guard = start.wrapping_byte_add(size);
        // SAFETY: the page behind those that `bytes` shows.
        unsafe { rustix::mm::mprotect(guard, PAGE_SIZE, MprotectFlags::empty()) }?;
        Ok(mapping)
    }

    /// Maps zeroed pages of the program's own that it may only read.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn read_only(pages: usize) -> io::Result<Self> {
        let mapping = Self::with_guard(pages)?;
        let start = mapping.start.as_ptr();
        // SAFETY: pages that nobody else knows of yet. To read them through `bytes` stays allowed; to
        // write them ends the program, as a write to any such page does.
        unsafe { rustix::mm::mprotect(start, mapping.size, MprotectFlags::READ) }?;
        Ok(mapping)
    }

    fn new(start: *mut c_void, size: usize, mapped: usize) -> io::Result<Self> {
        let start = NonNull::new(start).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            start,
            size,
            mapped,
        })
    }

    /// Where it starts.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Where what can be read and written ends.
    pub fn end(&self) -> u64 {
        self.address() + self.size as u64
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: mapped for reading and writing as long as `self` lives; other writers are no harm
        // to atomic bytes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.size) }
    }

    /// The 32 bits at a multiple of 4.
    ///
    /// # Panics
    /// If there are none.
    pub fn load32(&self, offset: usize) -> u32 {
        self.word::<AtomicU32>(offset).load(Ordering::Relaxed)
    }

    /// The 64 bits at a multiple of 8.
    ///
    /// # Panics
    /// If there are none.
    pub fn load64(&self, offset: usize) -> u64 {
        self.word::<AtomicU64>(offset).load(Ordering::Relaxed)
    }

    /// Stores 64 bits at a multiple of 8 by one access.
    ///
    /// # Panics
    /// If there are none.
    pub fn store64(&self, offset: usize, value: u64) {
        self.word::<AtomicU64>(offset)
            .store(value, Ordering::Relaxed);
    }

    /// A register, or a word of memory: `T` is an atomic integer.
    fn word<T: Word>(&self, offset: usize) -> &T {
        let inside = offset + size_of::<T>() <= self.size;
        assert!(
            inside && offset.is_multiple_of(size_of::<T>()),
            "no word at {offset:#x}"
        );
        // SAFETY: mapped as long as `self` lives, aligned as pages are, and other writers are no harm
        // to atomic integers, which any bits are.
        unsafe { &*self.start.as_ptr().wrapping_byte_add(offset).cast() }
    }

    /// Writes bytes from `offset` on, as far as there is room.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let places = self.bytes().iter().skip(offset);
        for (place, byte) in places.zip(bytes) {
            place.store(*byte, Ordering::SeqCst);
        }
    }

    /// Reads `count` bytes from `offset` on, as far as there are any.
    pub fn read(&self, offset: usize, count: usize) -> Vec<u8> {
        let places = self.bytes().iter().skip(offset).take(count);
        places.map(|place| place.load(Ordering::SeqCst)).collect()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, and no reference to it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.mapped) };
    }
}
