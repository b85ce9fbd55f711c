//! Pages that a guest shares with the hypervisor: where they are put, and what is written there.

use xen_abi::memory::{AddToPhysmap, MapSpace, MemoryOp};
use xen_abi::shared_info::VcpuInfo;
use xen_abi::vcpu::{RegisterRunstateMemoryArea, RegisterVcpuInfo, Runstate, RunstateInfo, VcpuOp};
use xen_abi::{DomId, Errno};
use xen_types::{Gfn, GpaRange, PAGE_SIZE};
use zerocopy::{FromZeros, IntoBytes};

use super::events;
use super::hypercall::Outcome;
use super::memory::{copy_from, copy_to};
use super::run::Running;

/// `memory_op`.
pub fn memory_op(running: &mut Running<'_>, operation: u64, buffer: u64) -> Outcome {
    match MemoryOp::from_number(operation) {
        Some(MemoryOp::AddToPhysmap) => {
            let mut request = AddToPhysmap::new_zeroed();
            copy_from(running.domain, buffer, request.as_mut_bytes())?;
            add_to_physmap(running, &request)
        }
        _ => Err(Errno::NoCall),
    }
}

fn add_to_physmap(running: &Running<'_>, request: &AddToPhysmap) -> Outcome {
    let domain = running.domain;
    if request.domid != DomId::SELF && request.domid != domain.id {
        return Err(Errno::NotPermitted);
    }
    match MapSpace::from_number(request.space) {
        Some(MapSpace::SharedInfo) if request.idx == 0 => {
            let page = page(request.gpfn).filter(|page| domain.is_ram(page.start()));
            let page = page.ok_or(Errno::Invalid)?;
            let frame = domain.shared_page.start();
            let replaced = domain.space.lock().replace(page, frame);
            replaced.map(|()| 0).map_err(|_| Errno::NoMemory)
        }
        Some(MapSpace::SharedInfo) => Err(Errno::Invalid),
        _ => Err(Errno::NoCall),
    }
}

fn page(number: u64) -> Option<GpaRange> {
    GpaRange::new(Gfn::new(number).address()?, PAGE_SIZE)
}

/// `vcpu_op`.
pub fn vcpu_op(running: &mut Running<'_>, operation: u64, vcpu: u64, buffer: u64) -> Outcome {
    let number = usize::try_from(vcpu).map_err(|_| Errno::NoEntry)?;
    if number >= running.domain.vcpus.len() {
        return Err(Errno::NoEntry);
    }
    match VcpuOp::from_number(operation) {
        Some(VcpuOp::RegisterVcpuInfo) => {
            let mut request = RegisterVcpuInfo::new_zeroed();
            copy_from(running.domain, buffer, request.as_mut_bytes())?;
            register_vcpu_info(running, number, &request)
        }
        Some(VcpuOp::RegisterRunstateMemoryArea) => {
            let mut request = RegisterRunstateMemoryArea::new_zeroed();
            copy_from(running.domain, buffer, request.as_mut_bytes())?;
            // A vCPU has a CPU to itself: it has run since it started, and will.
            let mut info = RunstateInfo::new_zeroed();
            info.state = Runstate::Running.number();
            copy_to(running.domain, request.address.get(), info.as_bytes())?;
            Ok(0)
        }
        _ => Err(Errno::Invalid),
    }
}

/// Remembers where a vCPU wants to be told of events: writable RAM, aligned, on one page, once.
fn register_vcpu_info(
    running: &mut Running<'_>,
    number: usize,
    request: &RegisterVcpuInfo,
) -> Outcome {
    let offset = u64::from(request.offset);
    let fits = offset + size_of::<VcpuInfo>() as u64 <= PAGE_SIZE;
    if !fits || !offset.is_multiple_of(8) {
        return Err(Errno::NoAddress);
    }
    let address = Gfn::new(request.mfn)
        .address()
        .and_then(|page| page.checked_add(offset));
    let address = address.ok_or(Errno::Invalid)?;
    let host = running.domain.space.lock().writable_ram(address);
    let host = host.ok_or(Errno::Access)?;
    let vcpu = running.domain.vcpus.get(number).ok_or(Errno::NoEntry)?;
    if vcpu.info.is_completed() {
        return Err(Errno::Busy);
    }
    vcpu.info.call_once(|| host);
    events::moved(running, number);
    Ok(0)
}
