//! The vCPUs of a domain: their registers, where they run, and how much.

use xen_abi::Errno;
use xen_abi::domctl::{
    Context, GetVcpuInfo, MaxVcpus, SchedulerCommand, SchedulerId, SchedulerOp, VcpuAffinity,
    VcpuContext, affinity_flags,
};
use xen_core::psci::State;
use xen_core::sched::{CpuSet, Doing, Policy};
use xen_core::vgic::CpuId;

use super::info::cpu_time;
use super::{Call, Outcome};
use crate::domain::hypercall::bitmap;
use crate::domain::memory::{read, write};
use crate::domain::{Domain, Vcpu, schedule, vcpu_context};

/// The scheduler that the ABI has for what is here.
pub fn scheduler_id() -> SchedulerId {
    match schedule::policy() {
        Policy::TimeSharing => SchedulerId::Credit2,
        Policy::Null => SchedulerId::Null,
    }
}

fn vcpu(domain: &Domain, number: u32) -> Result<&Vcpu, Errno> {
    let id = CpuId::new(number as usize).ok_or(Errno::Invalid)?;
    domain.vcpu(id).ok_or(Errno::Invalid)
}

/// A domain has the vCPUs that it was created with.
pub fn max(call: &Call<'_>) -> Outcome {
    let request: MaxVcpus = call.payload()?;
    let target = call.other()?;
    if request.max as usize == target.vcpus.len() {
        Ok(0)
    } else {
        Err(Errno::Invalid.into())
    }
}

/// Sets the registers of a vCPU whose domain is held.
pub fn set_context(call: &Call<'_>) -> Outcome {
    let request: VcpuContext = call.payload()?;
    let target = call.other()?;
    let vcpu = vcpu(&target, request.vcpu)?;
    if request.context.is_null() {
        return Err(Errno::Invalid.into());
    }
    let context: Context = read(call.caller, request.context.get())?;
    while_held(&target, || vcpu_context::set(&target, vcpu, &context))?;
    Ok(0)
}

/// Reads the registers of a vCPU.
pub fn get_context(call: &Call<'_>) -> Outcome {
    let request: VcpuContext = call.payload()?;
    let target = call.other()?;
    let vcpu = vcpu(&target, request.vcpu)?;
    let context = while_held(&target, || vcpu_context::get(&target, vcpu))?;
    write(call.caller, request.context.get(), &context)?;
    Ok(0)
}

/// Does something while no CPU runs the domain.
fn while_held<R>(target: &Domain, act: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
    if target.life.lock().is_dying() {
        return Err(Errno::Invalid);
    }
    target.pause()?;
    let result = act();
    target.unpause()?;
    result
}

/// What a vCPU does.
pub fn info(call: &Call<'_>) -> Outcome {
    let request: GetVcpuInfo = call.payload()?;
    let target = call.target()?;
    let vcpu = vcpu(&target, request.vcpu)?;
    let online = target.power.lock().state(vcpu.id.get()) != State::Off;
    let doing = schedule::runstate(vcpu).map(|runstate| runstate.doing);
    let settings = schedule::settings(vcpu);
    call.answer(&GetVcpuInfo {
        vcpu: request.vcpu,
        online: online.into(),
        blocked: (doing == Some(Doing::Blocked)).into(),
        running: (doing == Some(Doing::Running)).into(),
        pad1: 0,
        cpu_time: cpu_time(vcpu),
        cpu: settings.map_or(0, |settings| settings.cpu as u32),
        pad2: 0,
    })
}

/// Says where a vCPU may run, and tells where it may. Where it should rather is a hint that is not
/// taken.
pub fn set_affinity(call: &Call<'_>) -> Outcome {
    let request: VcpuAffinity = call.payload()?;
    let target = call.target()?;
    let vcpu = vcpu(&target, request.vcpu)?;
    if request.flags & (affinity_flags::HARD | affinity_flags::SOFT) == 0 {
        return Err(Errno::Invalid.into());
    }
    if request.flags & affinity_flags::HARD != 0 {
        let cpus = bitmap::read(call.caller, &request.hard)?;
        if !cpus.meets(&schedule::cpus()) {
            return Err(Errno::Invalid.into());
        }
        schedule::set_affinity(vcpu, cpus);
    }
    show_affinity(call, vcpu, &request)
}

/// Where a vCPU may run.
pub fn get_affinity(call: &Call<'_>) -> Outcome {
    let request: VcpuAffinity = call.payload()?;
    let target = call.target()?;
    let vcpu = vcpu(&target, request.vcpu)?;
    if request.flags & (affinity_flags::HARD | affinity_flags::SOFT) == 0 {
        return Err(Errno::Invalid.into());
    }
    show_affinity(call, vcpu, &request)
}

fn show_affinity(call: &Call<'_>, vcpu: &Vcpu, request: &VcpuAffinity) -> Outcome {
    let settings = schedule::settings(vcpu);
    let hard = settings.map_or(CpuSet::ALL, |settings| settings.affinity);
    if request.flags & affinity_flags::HARD != 0 {
        bitmap::write(call.caller, &request.hard, &hard)?;
    }
    if request.flags & affinity_flags::SOFT != 0 {
        bitmap::write(call.caller, &request.soft, &CpuSet::ALL)?;
    }
    Ok(0)
}

/// The share of a domain.
pub fn scheduler_op(call: &Call<'_>) -> Outcome {
    let mut request: SchedulerOp = call.payload()?;
    let target = call.target()?;
    if request.sched_id != scheduler_id().number() {
        return Err(Errno::Invalid.into());
    }
    match SchedulerCommand::from_number(request.cmd) {
        Some(SchedulerCommand::PutInfo) => {
            if request.cap != 0 {
                return Err(Errno::NotSupported.into());
            }
            // As under Xen a weight of 0 leaves it as it is.
            if request.weight != 0 {
                for vcpu in &target.vcpus {
                    schedule::set_weight(vcpu, request.weight);
                }
            }
            Ok(0)
        }
        Some(SchedulerCommand::GetInfo) => {
            let first = target.vcpus.first().and_then(schedule::settings);
            request.weight = first.map_or(0, |settings| settings.weight);
            request.cap = 0;
            call.answer(&request)
        }
        _ => Err(Errno::NotSupported.into()),
    }
}
