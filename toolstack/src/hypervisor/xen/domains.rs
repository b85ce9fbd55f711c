//! Domains: made, set up, run and ended.

use uuid::Uuid;
use xen_abi::domctl::{self as dom, DomctlOp};
use xen_abi::hypercall::Hypercall;
use xen_abi::sched::{RemoteShutdown, SchedOp, ShutdownReason};
use xen_abi::{DomId, Errno};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::buffer::LIST;
use super::{Xen, answer};
use crate::config::GicChoice;
use crate::hypervisor::info::{DomainInfo, NewDomain, Scheduler, VcpuInfo};
use crate::hypervisor::{Domains, Result};

/// No argument.
const NOTHING: [u64; 0] = [];

impl Domains for Xen {
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
        let devices = match new.devices {
            true => dom::create_flags::IOMMU,
            false => 0,
        };
        let argument = dom::CreateDomain {
            ssidref: 0,
            handle: new.uuid.into_bytes(),
            flags: dom::create_flags::HVM | dom::create_flags::HAP | devices,
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
