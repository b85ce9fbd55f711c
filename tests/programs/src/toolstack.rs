//! What a toolstack does: domains are made, filled, run and ended, by domctls and `memory_op`.

#![allow(unsafe_code)]

use std::io;

use anyhow::{Context as _, Result, ensure};
use xen_abi::domctl::{
    self, CONTEXT_ONLINE, Context, CreateDomain, Domctl, DomctlOp, GetDomainInfo, MaxMem, MaxVcpus,
    PagingMempool, VUART_VPL011, VcpuContext, VuartOp, create_flags,
};
use xen_abi::hypercall::Hypercall;
use xen_abi::layout;
use xen_abi::memory::{MemoryOp, Reservation};
use xen_abi::sysctl::{self, GetDomainInfoList, PhysInfo, Sysctl, SysctlOp};
use xen_abi::{DomId, GuestHandle};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use crate::device::{self, Mapping, PAGE_SIZE};
use crate::privcmd::Privcmd;

const MMAP_BATCH: u32 = 0x0020_5004;

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct Batch {
    count: u32,
    domain: u16,
    pad: u16,
    address: u64,
    frames: u64,
    errors: u64,
}

/// A toolstack.
pub struct Toolstack {
    privcmd: Privcmd,
    /// Where lists and structures that structures point to lie.
    lists: Mapping,
}

impl Toolstack {
    /// Opens the devices.
    ///
    /// # Errors
    /// If they are not there.
    pub fn open() -> Result<Self> {
        Ok(Self {
            privcmd: Privcmd::open()?,
            lists: Mapping::with_guard(4)?,
        })
    }

    /// Makes a domctl; its structure comes back, and the id in its envelope.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn domctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        operation: DomctlOp,
        domain: DomId,
        argument: &mut T,
    ) -> io::Result<DomId> {
        let mut call = Domctl {
            cmd: operation.number(),
            interface_version: domctl::INTERFACE_VERSION,
            domain,
            ..Domctl::new_zeroed()
        };
        let size = size_of::<T>();
        call.payload.as_mut_bytes()[..size].copy_from_slice(argument.as_bytes());
        let buffer = self.privcmd.buffer();
        buffer.write(0, call.as_bytes());
        let number = Hypercall::Domctl.number();
        self.privcmd.call(number, [buffer.address(), 0, 0, 0, 0])?;
        let answer = buffer.read(0, size_of::<Domctl>());
        let call = Domctl::read_from_bytes(&answer).map_err(|_| io::ErrorKind::InvalidData)?;
        let payload = call.payload.as_bytes().get(..size).unwrap_or_default();
        *argument = T::read_from_bytes(payload).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(call.domain)
    }

    /// Makes a sysctl; its structure comes back.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        operation: SysctlOp,
        argument: &mut T,
    ) -> io::Result<()> {
        let mut call = Sysctl {
            cmd: operation.number(),
            interface_version: sysctl::INTERFACE_VERSION,
            ..Sysctl::new_zeroed()
        };
        let size = size_of::<T>();
        call.payload.as_mut_bytes()[..size].copy_from_slice(argument.as_bytes());
        let buffer = self.privcmd.buffer();
        buffer.write(0, call.as_bytes());
        let number = Hypercall::Sysctl.number();
        self.privcmd.call(number, [buffer.address(), 0, 0, 0, 0])?;
        let answer = buffer.read(0, size_of::<Sysctl>());
        let call = Sysctl::read_from_bytes(&answer).map_err(|_| io::ErrorKind::InvalidData)?;
        let payload = call.payload.as_bytes().get(..size).unwrap_or_default();
        *argument = T::read_from_bytes(payload).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(())
    }

    /// Pages of the machine that are free, or tables of the control domain's own space: Linux maps what
    /// is others' at one place of its own or another, each of which may take a table.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn free_pages(&self) -> Result<u64> {
        let mut info = PhysInfo::new_zeroed();
        self.sysctl(SysctlOp::PhysInfo, &mut info)
            .context("physinfo")?;
        let mut tables = PagingMempool::new_zeroed();
        self.domctl(DomctlOp::GetPagingMempoolSize, DomId::SELF, &mut tables)
            .context("getpagingmempoolsize")?;
        Ok(info.free_pages + tables.size / PAGE_SIZE as u64)
    }

    /// The ids of all domains.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn domains(&self) -> Result<Vec<GetDomainInfo>> {
        let size = size_of::<GetDomainInfo>();
        let mut request = GetDomainInfoList {
            max_domains: (self.lists.bytes().len() / size) as u32,
            buffer: GuestHandle::new(self.lists.address()),
            ..GetDomainInfoList::new_zeroed()
        };
        self.sysctl(SysctlOp::GetDomainInfoList, &mut request)
            .context("getdomaininfolist")?;
        let entries = self.lists.read(0, request.num_domains as usize * size);
        let entry = |bytes: &[u8]| GetDomainInfo::read_from_bytes(bytes).ok();
        Ok(entries.chunks_exact(size).filter_map(entry).collect())
    }

    /// Makes a domain without memory.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn create(&self, vcpus: u32) -> Result<DomId> {
        self.create_with(vcpus, 0)
    }

    /// The same with flags that not all domains have.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn create_with(&self, vcpus: u32, flags: u32) -> Result<DomId> {
        let mut request = CreateDomain {
            handle: *b"xen-rs testguest",
            flags: create_flags::HVM | create_flags::HAP | flags,
            max_vcpus: vcpus,
            max_evtchn_port: 1023,
            max_grant_frames: 64,
            max_maptrack_frames: 1024,
            grant_opts: 1,
            nr_spis: 32,
            ..CreateDomain::new_zeroed()
        };
        let id = self
            .domctl(DomctlOp::CreateDomain, DomId::new(0), &mut request)
            .context("createdomain")?;
        ensure!(request.gic_version != 0, "the GIC's version stayed native");
        let mut max = MaxVcpus { max: vcpus };
        self.domctl(DomctlOp::MaxVcpus, id, &mut max)
            .context("max_vcpus")?;
        Ok(id)
    }

    /// Says how much memory a domain and its tables may have.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn allow_memory(&self, domain: DomId, mib: u64) -> Result<()> {
        let mut most = MaxMem {
            max_memkb: (mib + 1) << 10,
        };
        self.domctl(DomctlOp::MaxMem, domain, &mut most)
            .context("max_mem")?;
        let mut pool = PagingMempool {
            size: (mib + 128 + 256) * 4096,
        };
        self.domctl(DomctlOp::SetPagingMempoolSize, domain, &mut pool)
            .context("set_paging_mempool_size")?;
        Ok(())
    }

    /// Gives a domain memory: extents of 2^`order` pages from a guest frame on. Returns how many it
    /// has got.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn populate(&self, domain: DomId, first: u64, count: u64, order: u32) -> Result<u64> {
        let mut done = 0;
        while done < count {
            let now = (count - done).min(512);
            for number in 0..now {
                let gfn = first + ((done + number) << order);
                self.lists.write(number as usize * 8, &gfn.to_le_bytes());
            }
            let mut request = Reservation {
                extent_start: GuestHandle::new(self.lists.address()),
                nr_extents: now,
                extent_order: order,
                mem_flags: 0,
                domid: domain,
                pad: [0; 3],
            };
            let operation = MemoryOp::PopulatePhysmap.number();
            let got = self
                .privcmd
                .operate(Hypercall::MemoryOp, operation, &mut request)
                .context("populate_physmap")?;
            done += got as u64;
            if (got as u64) < now {
                break;
            }
        }
        Ok(done)
    }

    /// Gives a domain so many MiB from the start of its RAM, in the largest blocks that there are, and
    /// its magic pages.
    ///
    /// # Errors
    /// What the hypervisor answers, and if there is not so much memory.
    pub fn fill(&self, domain: DomId, mib: u64) -> Result<()> {
        let first = layout::RAM0.base >> 12;
        let mut pages = 0;
        for order in [18, 9, 0] {
            let wanted = ((mib << 8) - pages) >> order;
            pages += self.populate(domain, first + pages, wanted, order)? << order;
        }
        ensure!(pages == mib << 8, "{pages} pages of {mib} MiB");
        let magic = self.populate(domain, layout::MAGIC.base >> 12, 4, 0)?;
        ensure!(magic == 4, "{magic} magic pages");
        Ok(())
    }

    /// Maps pages of a domain.
    ///
    /// # Errors
    /// The driver's, and the hypervisor's for any of them.
    pub fn map(&self, domain: DomId, first: u64, pages: usize) -> io::Result<Mapping> {
        let mapping = Mapping::of_device(self.privcmd.device(), 0, pages)?;
        let frames: Vec<u64> = (first..first + pages as u64).collect();
        let mut errors = vec![0_i32; pages];
        let mut request = Batch {
            count: pages as u32,
            domain: domain.get(),
            pad: 0,
            address: mapping.address(),
            frames: frames.as_ptr() as u64,
            errors: errors.as_mut_ptr() as u64,
        };
        // SAFETY: the layout of `privcmd_mmapbatch_v2`; the lists have as many entries as it says, and
        // the driver puts pages into a mapping of its own.
        unsafe { device::request(self.privcmd.device(), MMAP_BATCH, &mut request) }?;
        match errors.iter().find(|error| **error != 0) {
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => Ok(mapping),
        }
    }

    /// Copies bytes to a domain's memory.
    ///
    /// # Errors
    /// The driver's.
    pub fn write(&self, domain: DomId, address: u64, bytes: &[u8]) -> Result<()> {
        const AT_ONCE: usize = 64;
        for (number, part) in bytes.chunks(AT_ONCE * PAGE_SIZE).enumerate() {
            let first = (address >> 12) + (number * AT_ONCE) as u64;
            let pages = part.len().div_ceil(PAGE_SIZE);
            self.map(domain, first, pages)?.write(0, part);
        }
        let mut request = domctl::CacheFlush {
            start_pfn: address >> 12,
            nr_pfns: bytes.len().div_ceil(PAGE_SIZE) as u64,
        };
        self.domctl(DomctlOp::CacheFlush, domain, &mut request)
            .context("cacheflush")?;
        Ok(())
    }

    /// Gives a domain its serial port. Returns the port of its event channel.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn add_vuart(&self, domain: DomId) -> Result<u32> {
        let mut request = VuartOp {
            cmd: 0,
            kind: VUART_VPL011,
            gfn: (layout::MAGIC.base >> 12) + layout::magic::VUART,
            console_domid: DomId::new(0),
            pad: 0,
            evtchn: 0,
        };
        self.domctl(DomctlOp::VuartOp, domain, &mut request)
            .context("vuart_op")?;
        Ok(request.evtchn)
    }

    /// Sets where the first vCPU starts, with what in x0, and switches it on.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn start_at(&self, domain: DomId, entry: u64, argument: u64) -> Result<()> {
        let mut context = Context {
            flags: CONTEXT_ONLINE,
            pc: entry,
            cpsr: layout::CPSR_INIT,
            sctlr: layout::SCTLR_INIT,
            ..Context::new_zeroed()
        };
        context.x[0] = argument;
        self.lists.write(0, context.as_bytes());
        let mut request = VcpuContext {
            vcpu: 0,
            pad: 0,
            context: GuestHandle::new(self.lists.address()),
        };
        self.domctl(DomctlOp::SetVcpuContext, domain, &mut request)
            .context("setvcpucontext")?;
        Ok(())
    }

    /// A domctl without a structure.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn command(&self, operation: DomctlOp, domain: DomId) -> io::Result<()> {
        self.domctl(operation, domain, &mut 0_u64).map(drop)
    }

    /// What is known of a domain.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn info(&self, domain: DomId) -> io::Result<GetDomainInfo> {
        let mut info = GetDomainInfo::new_zeroed();
        self.domctl(DomctlOp::GetDomainInfo, domain, &mut info)?;
        Ok(info)
    }
}
