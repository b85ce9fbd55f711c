//! Memory of domains.

use xen_abi::DomId;
use xen_abi::domctl::{self as dom, DomctlOp};
use xen_abi::hypercall::Hypercall;
use xen_abi::memory::{MemoryOp, Reservation, Resource};
use zerocopy::IntoBytes as _;

use super::buffer::{LIST, LIST_SIZE};
use super::{Xen, answer};
use crate::hypervisor::device::SharedMemory;
use crate::hypervisor::error::HypervisorError;
use crate::hypervisor::{Ram, Result};

/// Extents of one call, so that one can be interrupted between two.
const EXTENTS: usize = 8192;

impl Ram for Xen {
    type Memory = SharedMemory;

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
}
