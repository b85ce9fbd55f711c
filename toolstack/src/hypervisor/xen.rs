//! The hypervisor behind `/dev/xen/privcmd`.
//!
//! What calls point to lies in pages of `/dev/xen/hypercall`, which the kernel never moves: structures
//! at the start, lists behind them.

use std::io;
use std::sync::Mutex;

use uuid::Uuid;
use xen_abi::domctl::{self as dom, Domctl, DomctlOp};
use xen_abi::event_channel::{AllocUnbound, EventChannelOp};
use xen_abi::hvm::{HvmOp, HvmParam, Param};
use xen_abi::hypercall::Hypercall;
use xen_abi::memory::{MemoryOp, Reservation, Resource};
use xen_abi::sched::{RemoteShutdown, SchedOp, ShutdownReason};
use xen_abi::sysctl::{self as sys, Sysctl, SysctlOp};
use xen_abi::version::{VarBufHeader, VersionOp};
use xen_abi::{DomId, Errno, GuestHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::device::{PAGE_SIZE, Privcmd, SharedMemory, open};
use super::error::HypervisorError;
use super::fuse::Fuse;
use super::info::{DomainInfo, Machine, NewDomain, Scheduler, VcpuInfo, Version};
use super::{Hypervisor, Result};
use crate::config::GicChoice;

/// Pages for hypercalls: the driver has at most 64 for a file.
const BUFFER_PAGES: usize = 32;
/// Where lists begin; structures lie before.
const LIST: usize = 1024;
/// Bytes of lists.
const LIST_SIZE: usize = BUFFER_PAGES * PAGE_SIZE - LIST;
/// Bytes of a set of CPUs in a list.
const CPU_BYTES: usize = 512;
/// Extents of one call, so that one can be interrupted between two.
const EXTENTS: usize = 8192;
/// Entries of one list of domains.
const DOMAINS: usize = 512;
/// Bytes of a text that is asked for.
const TEXT: usize = 4096;
/// Bytes of the log that are read at once.
const LOG_PART: usize = 64 << 10;

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

    /// A text of the hypervisor; empty if it does not tell.
    fn text(&self, op: VersionOp) -> Result<String> {
        let bytes = self.with_buffer("xen_version", |buffer| {
            let header = VarBufHeader { len: TEXT as u32 };
            buffer.memory.write(LIST, header.as_bytes())?;
            let length = match buffer.call(
                Hypercall::XenVersion,
                [op.number(), buffer.at(LIST), 0, 0, 0],
            ) {
                Ok(length) => (length as usize).min(TEXT),
                Err(_) => 0,
            };
            let mut bytes = vec![0; length];
            buffer
                .memory
                .read(LIST + size_of::<VarBufHeader>(), &mut bytes)?;
            Ok(bytes)
        })?;
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).trim().to_string())
    }
}

/// Pages that calls point to.
struct Buffer<'a> {
    privcmd: &'a Privcmd,
    memory: &'a SharedMemory,
}

impl Buffer<'_> {
    /// The address of a place in the pages.
    fn at(&self, offset: usize) -> u64 {
        self.memory.address() + offset as u64
    }

    fn handle(&self, offset: usize) -> GuestHandle {
        GuestHandle::new(self.at(offset))
    }

    /// Makes a call whose pointers lead into the pages.
    fn call(&self, call: Hypercall, arguments: [u64; 5]) -> io::Result<i64> {
        self.privcmd.call(call.number(), arguments)
    }

    /// A call with a structure, which comes back with what the call returns.
    fn operate<T: FromBytes + IntoBytes + Immutable>(
        &self,
        call: Hypercall,
        op: u64,
        argument: T,
    ) -> io::Result<(T, i64)> {
        self.memory.write(0, argument.as_bytes())?;
        let returned = self.call(call, [op, self.at(0), 0, 0, 0])?;
        Ok((self.take(0)?, returned))
    }

    fn take<T: FromBytes>(&self, offset: usize) -> io::Result<T> {
        let mut bytes = vec![0; size_of::<T>()];
        self.memory.read(offset, &mut bytes)?;
        T::read_from_bytes(&bytes).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn domctl<T: FromBytes + IntoBytes + Immutable>(
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

    fn sysctl<T: FromBytes + IntoBytes + Immutable>(
        &self,
        op: SysctlOp,
        argument: T,
    ) -> io::Result<T> {
        let mut payload = [0; sys::PAYLOAD_WORDS];
        fill(payload.as_mut_bytes(), argument.as_bytes());
        let envelope = Sysctl {
            cmd: op.number(),
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
    fn cpus(&self, place: usize, cpus: &[u32]) -> io::Result<dom::Bitmap> {
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

    fn cpus_back(&self, place: usize) -> io::Result<Vec<u32>> {
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

/// No argument.
const NOTHING: [u64; 0] = [];

impl Hypervisor for Xen {
    type Memory = SharedMemory;

    fn version(&self) -> Result<Version> {
        let number = self.with_buffer("xen_version", |buffer| {
            let op = VersionOp::Version.number();
            buffer.call(Hypercall::XenVersion, [op, 0, 0, 0, 0])
        })?;
        Ok(Version {
            number: ((number >> 16) as u16, number as u16),
            extra: self.text(VersionOp::ExtraVersion2)?,
            capabilities: self.text(VersionOp::Capabilities2)?,
            command_line: self.text(VersionOp::CommandLine2)?,
            changeset: self.text(VersionOp::Changeset2)?,
        })
    }

    fn machine(&self) -> Result<Machine> {
        let empty = sys::PhysInfo::read_from_bytes(&[0; size_of::<sys::PhysInfo>()]);
        let empty = empty.map_err(|_| answer("physinfo", "its size"))?;
        let info = self.sysctl("physinfo", SysctlOp::PhysInfo, empty)?;
        Ok(Machine {
            cpus: info.nr_cpus,
            max_cpu: info.max_cpu_id,
            timer_khz: info.cpu_khz,
            total_kib: info.total_pages.saturating_mul(4),
            free_kib: info.free_pages.saturating_mul(4),
            passthrough: info.capabilities & sys::capabilities::DIRECT_IO != 0,
        })
    }

    fn scheduler(&self) -> Result<Scheduler> {
        let id = self.sysctl("sched_id", SysctlOp::SchedId, sys::SchedId { sched_id: 0 })?;
        Ok(match dom::SchedulerId::from_number(id.sched_id) {
            Some(dom::SchedulerId::Credit) => Scheduler::Credit,
            Some(dom::SchedulerId::Credit2) => Scheduler::Credit2,
            Some(dom::SchedulerId::Null) => Scheduler::Null,
            _ => Scheduler::Other(id.sched_id),
        })
    }

    fn log(&self, clear: bool) -> Result<Vec<u8>> {
        let mut log = Vec::new();
        let mut index = 0;
        self.with_buffer("readconsole", |buffer| {
            loop {
                let part = buffer.sysctl(
                    SysctlOp::ReadConsole,
                    sys::ReadConsole {
                        clear: 0,
                        incremental: 1,
                        pad1: 0,
                        index,
                        buffer: buffer.handle(LIST),
                        count: LOG_PART as u32,
                        pad2: 0,
                    },
                )?;
                let count = (part.count as usize).min(LOG_PART);
                let mut bytes = vec![0; count];
                buffer.memory.read(LIST, &mut bytes)?;
                log.extend(bytes);
                index = part.index;
                if count < LOG_PART {
                    break;
                }
            }
            if clear {
                buffer.sysctl(
                    SysctlOp::ReadConsole,
                    sys::ReadConsole {
                        clear: 1,
                        incremental: 0,
                        pad1: 0,
                        index: 0,
                        buffer: buffer.handle(LIST),
                        count: LOG_PART as u32,
                        pad2: 0,
                    },
                )?;
            }
            Ok(log)
        })
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        const ENTRY: usize = size_of::<dom::GetDomainInfo>();
        const { assert!(DOMAINS * ENTRY <= LIST_SIZE) };
        let mut all = Vec::new();
        let mut first = 0;
        loop {
            let part = self.with_buffer("getdomaininfolist", |buffer| {
                let list = buffer.sysctl(
                    SysctlOp::GetDomainInfoList,
                    sys::GetDomainInfoList {
                        first_domain: DomId::new(first),
                        pad1: 0,
                        max_domains: DOMAINS as u32,
                        buffer: buffer.handle(LIST),
                        num_domains: 0,
                        pad2: 0,
                    },
                )?;
                let count = (list.num_domains as usize).min(DOMAINS);
                let infos = (0..count).map(|place| buffer.take(LIST + place * ENTRY));
                infos.collect::<io::Result<Vec<dom::GetDomainInfo>>>()
            })?;
            all.extend(part.iter().map(DomainInfo::new));
            match part.last() {
                Some(last) if part.len() == DOMAINS => first = last.domain.get().saturating_add(1),
                _ => return Ok(all),
            }
        }
    }

    fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>> {
        let empty = dom::GetDomainInfo::read_from_bytes(&[0; size_of::<dom::GetDomainInfo>()]);
        let empty = empty.map_err(|_| answer("getdomaininfo", "its size"))?;
        match self.domctl("getdomaininfo", DomctlOp::GetDomainInfo, domain, empty) {
            // An older hypervisor answers with the next domain.
            Ok(info) if info.domain == domain => Ok(Some(DomainInfo::new(&info))),
            Ok(_) => Ok(None),
            Err(error) if error.errno() == Some(Errno::NoDomain) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>> {
        let empty = dom::GetVcpuInfo {
            vcpu,
            online: 0,
            blocked: 0,
            running: 0,
            pad1: 0,
            cpu_time: 0,
            cpu: 0,
            pad2: 0,
        };
        let info = match self.domctl("getvcpuinfo", DomctlOp::GetVcpuInfo, domain, empty) {
            Ok(info) => info,
            Err(error) => {
                return match error.errno() {
                    Some(Errno::NoDomain | Errno::Invalid) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let (hard, soft) = self.with_buffer("getvcpuaffinity", |buffer| {
            let affinity = dom::VcpuAffinity {
                vcpu,
                flags: dom::affinity_flags::HARD | dom::affinity_flags::SOFT,
                hard: buffer.cpus(0, &[])?,
                soft: buffer.cpus(1, &[])?,
            };
            buffer.domctl(DomctlOp::GetVcpuAffinity, domain, affinity)?;
            Ok((buffer.cpus_back(0)?, buffer.cpus_back(1)?))
        })?;
        Ok(Some(VcpuInfo {
            number: vcpu,
            online: info.online != 0,
            blocked: info.blocked != 0,
            running: info.running != 0,
            cpu_time: info.cpu_time,
            cpu: info.cpu,
            hard,
            soft,
        }))
    }

    fn create(&self, new: &NewDomain) -> Result<(DomId, NewDomain)> {
        let call = "createdomain";
        let argument = dom::CreateDomain {
            ssidref: 0,
            handle: new.uuid.into_bytes(),
            flags: dom::create_flags::HVM | dom::create_flags::HAP,
            iommu_opts: 0,
            max_vcpus: new.vcpus,
            max_evtchn_port: new.event_channels.cast_signed(),
            max_grant_frames: new.grant_frames.cast_signed(),
            max_maptrack_frames: new.maptrack_frames.cast_signed(),
            grant_opts: 1,
            altp2m_opts: 0,
            vmtrace_size: 0,
            cpupool_id: 0,
            gic_version: new.gic.number(),
            sve_vl: 0,
            tee_type: 0,
            nr_spis: new.spis,
            clock_frequency: 0,
        };
        let (made, domain) = self.with_buffer(call, |buffer| {
            // No such id: the hypervisor takes the next that is free.
            buffer.domctl(DomctlOp::CreateDomain, DomId::new(0), argument)
        })?;
        if !domain.is_domain() || domain.get() == 0 {
            return Err(answer(call, format!("domain {domain}")));
        }
        let gic = GicChoice::from_number(made.gic_version)
            .ok_or_else(|| answer(call, format!("GIC version {}", made.gic_version)))?;
        let new = NewDomain {
            uuid: Uuid::from_bytes(made.handle),
            gic,
            spis: made.nr_spis,
            clock_frequency: (made.clock_frequency != 0).then_some(made.clock_frequency),
            ..new.clone()
        };
        Ok((domain, new))
    }

    fn set_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        let argument = dom::MaxVcpus { max: count };
        self.domctl("max_vcpus", DomctlOp::MaxVcpus, domain, argument)
            .map(drop)
    }

    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()> {
        let argument = dom::MaxMem { max_memkb: kib };
        self.domctl("max_mem", DomctlOp::MaxMem, domain, argument)
            .map(drop)
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        let argument = dom::PagingMempool { size: bytes };
        let op = DomctlOp::SetPagingMempoolSize;
        self.domctl("set_paging_mempool_size", op, domain, argument)
            .map(drop)
    }

    fn set_64_bit(&self, domain: DomId) -> Result<()> {
        let argument = dom::AddressSize { size: 64 };
        self.domctl(
            "set_address_size",
            DomctlOp::SetAddressSize,
            domain,
            argument,
        )
        .map(drop)
    }

    fn set_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        hard: Option<&[u32]>,
        soft: Option<&[u32]>,
    ) -> Result<()> {
        self.with_buffer("setvcpuaffinity", |buffer| {
            let flag = |set: Option<&[u32]>, flag| if set.is_some() { flag } else { 0 };
            let affinity = dom::VcpuAffinity {
                vcpu,
                flags: flag(hard, dom::affinity_flags::HARD)
                    | flag(soft, dom::affinity_flags::SOFT),
                hard: buffer.cpus(0, hard.unwrap_or_default())?,
                soft: buffer.cpus(1, soft.unwrap_or_default())?,
            };
            buffer
                .domctl(DomctlOp::SetVcpuAffinity, domain, affinity)
                .map(drop)
        })
    }

    fn set_share(
        &self,
        domain: DomId,
        scheduler: Scheduler,
        weight: Option<u16>,
        cap: Option<u16>,
    ) -> Result<()> {
        let sched_id = match scheduler {
            Scheduler::Credit => dom::SchedulerId::Credit.number(),
            Scheduler::Credit2 => dom::SchedulerId::Credit2.number(),
            Scheduler::Null => dom::SchedulerId::Null.number(),
            Scheduler::Other(number) => number,
        };
        let ask = dom::SchedulerOp {
            sched_id,
            cmd: dom::SchedulerCommand::GetInfo.number(),
            weight: 0,
            cap: 0,
            pad: [0; 3],
        };
        let call = "scheduler_op";
        let old = self.domctl(call, DomctlOp::SchedulerOp, domain, ask)?;
        let new = dom::SchedulerOp {
            cmd: dom::SchedulerCommand::PutInfo.number(),
            weight: weight.unwrap_or(old.weight),
            cap: cap.unwrap_or(old.cap),
            ..old
        };
        self.domctl(call, DomctlOp::SchedulerOp, domain, new)
            .map(drop)
    }

    fn populate(&self, domain: DomId, order: u32, frames: &[u64]) -> Result<usize> {
        const { assert!(EXTENTS * size_of::<u64>() <= LIST_SIZE) };
        let frames = frames.get(..EXTENTS).unwrap_or(frames);
        let done = self.with_buffer("populate_physmap", |buffer| {
            buffer.memory.write(LIST, frames.as_bytes())?;
            let argument = Reservation {
                extent_start: buffer.handle(LIST),
                nr_extents: frames.len() as u64,
                extent_order: order,
                mem_flags: 0,
                domid: domain,
                pad: [0; 3],
            };
            let op = MemoryOp::PopulatePhysmap.number();
            let (_, done) = buffer.operate(Hypercall::MemoryOp, op, argument)?;
            Ok(done)
        })?;
        match usize::try_from(done) {
            Ok(done) if done <= frames.len() => Ok(done),
            _ => Err(answer("populate_physmap", format!("{done} extents"))),
        }
    }

    fn map(&self, domain: DomId, frames: &[u64]) -> Result<SharedMemory> {
        let call = "mapping of guest memory";
        let memory = self.privcmd.map(domain.get(), frames);
        self.fuse.count();
        memory.map_err(|error| HypervisorError::Call { call, error })
    }

    fn map_grant_table(&self, domain: DomId) -> Result<SharedMemory> {
        let call = "mapping of the grant table";
        let kind = u32::from(Resource::GrantTable.number());
        let memory = self.privcmd.map_resource(domain.get(), kind, 0, 1);
        self.fuse.count();
        memory.map_err(|error| HypervisorError::Call { call, error })
    }

    fn clean_caches(&self, domain: DomId, first: u64, count: u64) -> Result<()> {
        let mut done = 0;
        while done < count {
            let nr_pfns = (count - done).min(dom::CACHE_FLUSH_PAGES);
            let argument = dom::CacheFlush {
                start_pfn: first + done,
                nr_pfns,
            };
            self.domctl("cacheflush", DomctlOp::CacheFlush, domain, argument)?;
            done += nr_pfns;
        }
        Ok(())
    }

    fn allocate_port(&self, domain: DomId, remote: DomId) -> Result<u32> {
        let argument = AllocUnbound {
            dom: domain,
            remote_dom: remote,
            port: 0,
        };
        let op = EventChannelOp::AllocUnbound.number();
        let (made, _) = self.with_buffer("alloc_unbound", |buffer| {
            buffer.operate(Hypercall::EventChannelOp, op, argument)
        })?;
        Ok(made.port)
    }

    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()> {
        let argument = HvmParam {
            domid: domain,
            pad: 0,
            index: param.number(),
            value,
        };
        let op = HvmOp::SetParam.number();
        self.with_buffer("set_param", |buffer| {
            buffer.operate(Hypercall::HvmOp, op, argument).map(drop)
        })
    }

    fn param(&self, domain: DomId, param: Param) -> Result<u64> {
        let argument = HvmParam {
            domid: domain,
            pad: 0,
            index: param.number(),
            value: 0,
        };
        let op = HvmOp::GetParam.number();
        let (answer, _) = self.with_buffer("get_param", |buffer| {
            buffer.operate(Hypercall::HvmOp, op, argument)
        })?;
        Ok(answer.value)
    }

    fn init_vuart(&self, domain: DomId, frame: u64, console: DomId) -> Result<u32> {
        let argument = dom::VuartOp {
            cmd: dom::VuartCommand::Init.number(),
            kind: dom::VUART_VPL011,
            gfn: frame,
            console_domid: console,
            pad: 0,
            evtchn: 0,
        };
        let made = self.domctl("vuart_op", DomctlOp::VuartOp, domain, argument)?;
        Ok(made.evtchn)
    }

    fn set_context(&self, domain: DomId, vcpu: u32, context: &dom::Context) -> Result<()> {
        self.with_buffer("setvcpucontext", |buffer| {
            buffer.memory.write(LIST, context.as_bytes())?;
            let argument = dom::VcpuContext {
                vcpu,
                pad: 0,
                context: buffer.handle(LIST),
            };
            buffer
                .domctl(DomctlOp::SetVcpuContext, domain, argument)
                .map(drop)
        })
    }

    fn pause(&self, domain: DomId) -> Result<()> {
        self.domctl("pausedomain", DomctlOp::PauseDomain, domain, NOTHING)
            .map(drop)
    }

    fn unpause(&self, domain: DomId) -> Result<()> {
        self.domctl("unpausedomain", DomctlOp::UnpauseDomain, domain, NOTHING)
            .map(drop)
    }

    fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        let argument = RemoteShutdown {
            domain_id: domain,
            pad: 0,
            reason: reason.number(),
        };
        let op = SchedOp::RemoteShutdown.number();
        self.with_buffer("remote_shutdown", |buffer| {
            buffer.operate(Hypercall::SchedOp, op, argument).map(drop)
        })
    }

    fn destroy(&self, domain: DomId) -> Result<()> {
        loop {
            match self.domctl("destroydomain", DomctlOp::DestroyDomain, domain, NOTHING) {
                Err(error) if error.errno() == Some(Errno::Again) => {}
                outcome => return outcome.map(drop),
            }
        }
    }
}

fn answer(call: &'static str, what: impl Into<String>) -> HypervisorError {
    HypervisorError::Answer {
        call,
        what: what.into(),
    }
}
