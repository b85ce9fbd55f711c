//! What a toolstack is told of a domain.

use xen_abi::domctl::{GetDomainInfo, info_flags};
use xen_core::sched::Doing;

use crate::arch::time;
use crate::domain::{Domain, Vcpu, schedule};

/// Nanoseconds that a vCPU has run.
pub fn cpu_time(vcpu: &Vcpu) -> u64 {
    let runstate = schedule::runstate(vcpu);
    // In the order of the ABI: running, runnable, blocked, offline.
    let running = runstate.map_or(0, |runstate| {
        let [running, ..] = runstate.times(time::now());
        running
    });
    time::nanoseconds(running)
}

/// A domain as `getdomaininfo` shows it.
pub fn of(domain: &Domain) -> GetDomainInfo {
    let quota = domain.space.lock().quota();
    let address_bits = domain.space.lock().address_bits();
    let online = domain.power.lock().online();
    GetDomainInfo {
        domain: domain.id,
        pad1: 0,
        flags: flags(domain, online > 0),
        tot_pages: quota.pages,
        max_pages: quota.most,
        outstanding_pages: 0,
        shr_pages: 0,
        paged_pages: 0,
        // Whether and where the domain has it mapped is its own business.
        shared_info_frame: u64::MAX,
        cpu_time: domain.vcpus.iter().map(cpu_time).sum(),
        nr_online_vcpus: online as u32,
        max_vcpu_id: domain.vcpus.len().saturating_sub(1) as u32,
        ssidref: 0,
        handle: *domain.handle.lock(),
        cpupool: 0,
        gpaddr_bits: address_bits,
        pad2: [0; 7],
        gic_version: domain.config.gic_version,
        sve_vl: 0,
        tee_type: 0,
        nr_spis: domain.config.spis,
        clock_frequency: 0,
        pad3: 0,
    }
}

fn flags(domain: &Domain, online: bool) -> u32 {
    let doing = |vcpu: &Vcpu| schedule::runstate(vcpu).map(|runstate| runstate.doing);
    let any = |what| domain.vcpus.iter().any(|vcpu| doing(vcpu) == Some(what));
    let mut flags = info_flags::HVM | info_flags::HAP;
    let life = domain.life.lock().clone();
    // What a vCPU that may not run would do, nobody knows.
    if any(Doing::Running) {
        flags |= info_flags::RUNNING;
    } else if online && !life.is_held() && !any(Doing::Runnable) {
        flags |= info_flags::BLOCKED;
    }
    if life.is_paused() {
        flags |= info_flags::PAUSED;
    }
    if life.is_dying() {
        flags |= info_flags::DYING;
    }
    if let Some(reason) = life.shutdown() {
        flags |= info_flags::SHUTDOWN | reason.number() << info_flags::SHUTDOWN_SHIFT;
    }
    flags
}
