//! `/dev/xen/gntalloc` and `/dev/xen/gntdev`: granting pages and mapping what is granted (Linux's
//! `xen/gntalloc.h` and `xen/gntdev.h`).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use anyhow::Result;
use zerocopy::{FromBytes, IntoBytes};

use crate::device::{self, Mapping, PAGE_SIZE};

const ALLOCATE: u32 = 0x0018_4705;
const DEALLOCATE: u32 = 0x0010_4706;
const MAP: u32 = 0x0018_4700;
const UNMAP: u32 = 0x0010_4701;
/// The grant may be written.
const WRITABLE: u16 = 1;

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct AllocateRequest {
    grantee: u16,
    flags: u16,
    count: u32,
    index: u64,
    reference: u32,
    pad: u32,
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct MapRequest {
    count: u32,
    pad: u32,
    index: u64,
    granter: u32,
    reference: u32,
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct Range {
    index: u64,
    count: u32,
    pad: u32,
}

/// A page of the kernel's, granted to a domain.
pub struct Granted<'a> {
    device: &'a Granting,
    index: u64,
    /// By which the other domain names it.
    pub reference: u32,
    /// The page.
    pub page: Mapping,
}

/// The device that grants.
pub struct Granting(File);

impl Granting {
    /// Opens the device.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open() -> Result<Self> {
        device::open("/dev/xen/gntalloc").map(Self)
    }

    /// Grants a new page to `grantee`.
    ///
    /// # Errors
    /// The driver's.
    pub fn grant(&self, grantee: u16, writable: bool) -> io::Result<Granted<'_>> {
        let mut request = AllocateRequest {
            grantee,
            flags: if writable { WRITABLE } else { 0 },
            count: 1,
            index: 0,
            reference: 0,
            pad: 0,
        };
        // SAFETY: the layout of `ioctl_gntalloc_alloc_gref` with room for one reference.
        unsafe { device::request(&self.0, ALLOCATE, &mut request) }?;
        Ok(Granted {
            device: self,
            index: request.index,
            reference: request.reference,
            page: Mapping::of_device(&self.0, request.index, 1)?,
        })
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        let mut range = Range {
            index: self.index,
            count: 1,
            pad: 0,
        };
        // SAFETY: the layout of `ioctl_gntalloc_dealloc_gref`.
        let _ = unsafe { device::request(&self.device.0, DEALLOCATE, &mut range) };
    }
}

/// Pages of others, mapped.
pub struct Mapped<'a> {
    device: &'a Mapper,
    index: u64,
    page: Option<Mapping>,
}

/// The device that maps.
pub struct Mapper(File);

impl Mapper {
    /// Opens the device.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open() -> Result<Self> {
        device::open("/dev/xen/gntdev").map(Self)
    }

    /// Maps what `granter` grants by `reference`.
    ///
    /// # Errors
    /// The driver's: if the hypervisor refuses, mapping the page fails.
    pub fn map(&self, granter: u32, reference: u32) -> io::Result<Mapped<'_>> {
        let mut request = MapRequest {
            count: 1,
            pad: 0,
            index: 0,
            granter,
            reference,
        };
        // SAFETY: the layout of `ioctl_gntdev_map_grant_ref` with one reference.
        unsafe { device::request(&self.0, MAP, &mut request) }?;
        let mut mapped = Mapped {
            device: self,
            index: request.index,
            page: None,
        };
        mapped.page = Some(Mapping::of_device(&self.0, request.index, 1)?);
        Ok(mapped)
    }
}

impl Mapped<'_> {
    /// Writes bytes from `offset` on.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        if let Some(page) = &self.page {
            page.write(offset, bytes);
        }
    }

    /// The page's bytes.
    pub fn read(&self) -> Vec<u8> {
        let page = self.page.as_ref();
        page.map(|page| page.read(0, PAGE_SIZE)).unwrap_or_default()
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        self.page = None;
        let mut range = Range {
            index: self.index,
            count: 1,
            pad: 0,
        };
        // SAFETY: the layout of `ioctl_gntdev_unmap_grant_ref`.
        let _ = unsafe { device::request(&self.device.0, UNMAP, &mut range) };
    }
}
