//! Domains: made, set up, run and ended.

use uuid::Uuid;
use xen_abi::domctl::Context;
use xen_abi::sched::ShutdownReason;
use xen_abi::{DomId, Errno};

use super::{Domain, Simulated};
use crate::config::GicChoice;
use crate::hypervisor::device::PAGE_SIZE;
use crate::hypervisor::{DomainInfo, Domains, EndReason, NewDomain, Result, Scheduler, VcpuInfo};

impl Domains for Simulated {
    fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>> {
        self.call("getdomaininfo", |state| {
            let found = state.domains.get(&domain.get());
            Ok(found.map(|found| found.info(domain.get())))
        })
    }

    fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>> {
        self.call("getvcpuinfo", |state| {
            let Some(domain) = state.domains.get(&domain.get()) else {
                return Ok(None);
            };
            let all = || vec![0, 1, 2, 3];
            let affinity = domain.affinity.get(&vcpu).cloned();
            let (hard, soft) = affinity.unwrap_or((all(), all()));
            Ok((vcpu < domain.vcpus).then(|| VcpuInfo {
                number: vcpu,
                online: domain.contexts.contains_key(&vcpu),
                blocked: false,
                running: false,
                cpu_time: 0,
                cpu: 0,
                hard,
                soft,
            }))
        })
    }

    fn create(&self, new: &NewDomain) -> Result<(DomId, NewDomain)> {
        self.call("createdomain", |state| {
            let valid = (1..=128).contains(&new.vcpus)
                && new.spis <= 960
                && new.grant_frames <= 64
                && new.uuid != Uuid::nil();
            if !valid {
                return Err(Errno::Invalid);
            }
            let id = state.next;
            state.next += 1;
            let gic = match new.gic {
                GicChoice::Default => GicChoice::V3,
                version => version,
            };
            let made = NewDomain {
                gic,
                spis: new.spis.next_multiple_of(32),
                ..new.clone()
            };
            state.domains.insert(id, Domain::new(made.clone()));
            Ok((DomId::new(id), made))
        })
    }

    fn set_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        self.on("max_vcpus", domain, |domain| {
            if count != domain.new.vcpus {
                return Err(Errno::Invalid);
            }
            domain.vcpus = count;
            Ok(())
        })
    }

    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()> {
        self.on("max_mem", domain, |domain| {
            domain.max_memory = kib;
            Ok(())
        })
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        self.call("set_paging_mempool_size", |state| {
            let domain = state
                .domains
                .get_mut(&domain.get())
                .ok_or(Errno::NoDomain)?;
            let pages = bytes / PAGE_SIZE as u64;
            if !bytes.is_multiple_of(PAGE_SIZE as u64) {
                return Err(Errno::Invalid);
            }
            let free = state.free_pages + domain.pool;
            state.free_pages = free.checked_sub(pages).ok_or(Errno::NoMemory)?;
            domain.pool = pages;
            Ok(())
        })
    }

    fn set_64_bit(&self, domain: DomId) -> Result<()> {
        self.on("set_address_size", domain, |domain| {
            if !domain.extents.is_empty() {
                return Err(Errno::Busy);
            }
            domain.is_64_bit = true;
            Ok(())
        })
    }

    fn set_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        hard: Option<&[u32]>,
        soft: Option<&[u32]>,
    ) -> Result<()> {
        self.on("setvcpuaffinity", domain, |domain| {
            if vcpu >= domain.vcpus {
                return Err(Errno::Invalid);
            }
            let all = || vec![0, 1, 2, 3];
            let affinity = domain.affinity.entry(vcpu).or_insert((all(), all()));
            if let Some(hard) = hard {
                affinity.0 = hard.to_vec();
            }
            if let Some(soft) = soft {
                affinity.1 = soft.to_vec();
            }
            Ok(())
        })
    }

    fn set_share(
        &self,
        domain: DomId,
        _scheduler: Scheduler,
        weight: Option<u16>,
        cap: Option<u16>,
    ) -> Result<()> {
        self.on("scheduler_op", domain, |domain| {
            domain.share = Some((weight.unwrap_or(256), cap.unwrap_or(0)));
            Ok(())
        })
    }

    fn set_context(&self, domain: DomId, vcpu: u32, context: &Context) -> Result<()> {
        self.on("setvcpucontext", domain, |domain| {
            if vcpu >= domain.vcpus {
                return Err(Errno::Invalid);
            }
            domain.contexts.insert(vcpu, *context);
            Ok(())
        })
    }

    fn pause(&self, domain: DomId) -> Result<()> {
        self.on("pausedomain", domain, |domain| {
            domain.pauses += 1;
            Ok(())
        })
    }

    fn unpause(&self, domain: DomId) -> Result<()> {
        self.on("unpausedomain", domain, |domain| {
            domain.pauses = domain.pauses.checked_sub(1).ok_or(Errno::Invalid)?;
            domain.has_run |= domain.pauses == 0;
            Ok(())
        })
    }

    fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        self.on("remote_shutdown", domain, |domain| {
            domain.ended = Some(match reason {
                ShutdownReason::Reboot => EndReason::Reboot,
                _ => EndReason::Poweroff,
            });
            Ok(())
        })
    }

    fn destroy(&self, domain: DomId) -> Result<()> {
        self.call("destroydomain", |state| {
            let gone = state.domains.remove(&domain.get()).ok_or(Errno::NoDomain)?;
            assert_eq!(
                gone.mappings, 0,
                "memory of a domain is mapped when it goes"
            );
            state.free_pages += gone.pool + gone.page_count;
            state.quarantine(gone.slots.into_values());
            Ok(())
        })
    }
}
