//! `vcpu_op`: what vCPUs tell the hypervisor to keep for them.

use xen_abi::Errno;
use xen_abi::shared_info::VcpuInfo;
use xen_abi::vcpu::{RegisterRunstateMemoryArea, RegisterVcpuInfo, VcpuOp};
use xen_types::{Gfn, PAGE_SIZE};

use super::Outcome;
use crate::domain::memory::{read, write};
use crate::domain::run::Running;
use crate::domain::{events, runstate};
use crate::memory::frames;

/// `vcpu_op`.
pub fn vcpu_op(running: &mut Running<'_>, operation: u64, vcpu: u64, buffer: u64) -> Outcome {
    let number = usize::try_from(vcpu).map_err(|_| Errno::NoEntry)?;
    if number >= running.domain.vcpus.len() {
        return Err(Errno::NoEntry.into());
    }
    match VcpuOp::from_number(operation) {
        Some(VcpuOp::RegisterVcpuInfo) => {
            let request: RegisterVcpuInfo = read(running.domain, buffer)?;
            register_vcpu_info(running, number, &request)
        }
        Some(VcpuOp::RegisterRunstateMemoryArea) => {
            let request: RegisterRunstateMemoryArea = read(running.domain, buffer)?;
            let vcpu = running.domain.vcpus.get(number).ok_or(Errno::NoEntry)?;
            let address = request.address.get();
            write(running.domain, address, &runstate::info_of(vcpu))?;
            vcpu.runstate_area.set(address);
            Ok(0)
        }
        // As on Arm under Xen: PSCI starts and stops vCPUs, and says which run.
        _ => Err(Errno::Invalid.into()),
    }
}

/// Remembers where a vCPU wants to be told of events: writable RAM, aligned, on one page, once. The
/// frame stays referenced, so that what is written there is the domain's.
fn register_vcpu_info(
    running: &mut Running<'_>,
    number: usize,
    request: &RegisterVcpuInfo,
) -> Outcome {
    let offset = u64::from(request.offset);
    let fits = offset + size_of::<VcpuInfo>() as u64 <= PAGE_SIZE;
    if !fits || !offset.is_multiple_of(8) {
        return Err(Errno::NoAddress.into());
    }
    let vcpu = running.domain.vcpus.get(number).ok_or(Errno::NoEntry)?;
    if vcpu.info.is_completed() {
        return Err(Errno::Busy.into());
    }
    let space = running.domain.space.lock();
    let frame = space.reference_ram(Gfn::new(request.mfn), true);
    drop(space);
    let frame = frame.map_err(|_| Errno::Access)?;
    let host = frame.address().and_then(|page| page.checked_add(offset));
    let host = host.ok_or(Errno::Access)?;
    let mut first = false;
    vcpu.info.call_once(|| {
        first = true;
        host
    });
    if !first {
        frames::put(frame);
        return Err(Errno::Busy.into());
    }
    events::moved(running, number);
    Ok(0)
}
