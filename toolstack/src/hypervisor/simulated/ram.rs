//! Memory of domains, and what domains talk by.

use xen_abi::hvm::Param;
use xen_abi::{DomId, Errno};

use super::{Simulated, SimulatedMemory};
use crate::hypervisor::{Ram, Result, Wiring};

impl Ram for Simulated {
    type Memory = SimulatedMemory;

    fn populate(&self, domain: DomId, order: u32, frames: &[u64]) -> Result<usize> {
        self.call("populate_physmap", |state| {
            let max_order = state.max_order;
            let domain = state
                .domains
                .get_mut(&domain.get())
                .ok_or(Errno::NoDomain)?;
            if domain.pool == 0 {
                return Err(Errno::NoMemory);
            }
            for (done, frame) in frames.iter().enumerate() {
                let pages = 1_u64 << order;
                let fits = order <= max_order
                    && frame.is_multiple_of(pages)
                    && (domain.page_count + pages) * 4 <= domain.max_memory
                    && !domain.has_page(*frame);
                if !fits || state.free_pages < pages {
                    return Ok(done);
                }
                state.free_pages -= pages;
                domain.page_count += pages;
                domain.extents.insert(*frame, order);
            }
            Ok(frames.len())
        })
    }

    fn map(&self, domain: DomId, frames: &[u64]) -> Result<SimulatedMemory> {
        self.on("map", domain, |of| {
            if !frames.iter().all(|frame| of.has_page(*frame)) {
                return Err(Errno::Invalid);
            }
            of.mappings += 1;
            Ok(SimulatedMemory {
                of: self.clone(),
                domain,
                frames: Some(frames.to_vec()),
            })
        })
    }

    fn map_grant_table(&self, domain: DomId) -> Result<SimulatedMemory> {
        self.on("acquire_resource", domain, |of| {
            of.mappings += 1;
            Ok(SimulatedMemory {
                of: self.clone(),
                domain,
                frames: None,
            })
        })
    }

    fn clean_caches(&self, domain: DomId, first: u64, count: u64) -> Result<()> {
        self.on("cacheflush", domain, |domain| {
            domain.clean.extend(first..first + count);
            Ok(())
        })
    }
}

impl Wiring for Simulated {
    fn allocate_port(&self, domain: DomId, _remote: DomId) -> Result<u32> {
        self.on("alloc_unbound", domain, |domain| {
            domain.ports += 1;
            Ok(domain.ports)
        })
    }

    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()> {
        self.on("set_param", domain, |domain| {
            domain.params.insert(param, value);
            Ok(())
        })
    }

    fn param(&self, domain: DomId, param: Param) -> Result<u64> {
        self.on("get_param", domain, |domain| {
            Ok(domain.params.get(&param).copied().unwrap_or(0))
        })
    }

    fn init_vuart(&self, domain: DomId, frame: u64, _console: DomId) -> Result<u32> {
        self.on("vuart_op", domain, |domain| {
            if domain.has_run || !domain.has_page(frame) {
                return Err(Errno::NotPermitted);
            }
            domain.vuart = Some(frame);
            domain.ports += 1;
            Ok(domain.ports)
        })
    }
}
