//! `sched_op`: waiting, and the end of a domain.

use core::sync::atomic::Ordering;

use xen_abi::event_channel::TWO_LEVEL_CHANNELS;
use xen_abi::sched::{MAX_POLL_PORTS, Poll, RemoteShutdown, SchedOp, Shutdown, ShutdownReason};
use xen_abi::{DomId, Errno};
use xen_core::event::{Port, SharedPage as _};

use super::Outcome;
use crate::arch::time;
use crate::domain::memory::read;
use crate::domain::run::{self, Next, Running};
use crate::domain::table;

/// `sched_op`.
pub fn sched_op(
    running: &mut Running<'_>,
    operation: u64,
    buffer: u64,
    next: &mut Next,
) -> Outcome {
    match SchedOp::from_number(operation) {
        Some(SchedOp::Yield) => {
            *next = Next::Yield;
            Ok(0)
        }
        Some(SchedOp::Block) => {
            *next = Next::Wait;
            Ok(0)
        }
        Some(SchedOp::Shutdown) => {
            let request: Shutdown = read(running.domain, buffer)?;
            shut_down(running, request.reason, next)
        }
        Some(SchedOp::Poll) => {
            let request: Poll = read(running.domain, buffer)?;
            if poll(running, &request)? {
                *next = Next::Wait;
            }
            Ok(0)
        }
        Some(SchedOp::RemoteShutdown) => {
            let request: RemoteShutdown = read(running.domain, buffer)?;
            remote_shutdown(running, &request)
        }
        // A shutdown code says no more than that a shutdown comes.
        Some(SchedOp::ShutdownCode) => {
            let request: Shutdown = read(running.domain, buffer)?;
            let reason = ShutdownReason::from_number(request.reason);
            reason.map(|_| 0).ok_or(Errno::Invalid.into())
        }
        _ => Err(Errno::NoCall.into()),
    }
}

/// The domain ends.
fn shut_down(running: &Running<'_>, reason: u32, next: &mut Next) -> Outcome {
    let reason = ShutdownReason::from_number(reason).ok_or(Errno::Invalid)?;
    let control = running.domain.is_control();
    if control && matches!(reason, ShutdownReason::Suspend | ShutdownReason::SoftReset) {
        return Err(Errno::NotSupported.into());
    }
    *next = run::shut_down(running.domain, reason);
    Ok(0)
}

fn remote_shutdown(running: &Running<'_>, request: &RemoteShutdown) -> Outcome {
    if !running.domain.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    let reason = ShutdownReason::from_number(request.reason).ok_or(Errno::Invalid)?;
    let id = request.domain_id;
    if id == DomId::SELF || id == running.domain.id {
        return Err(Errno::Invalid.into());
    }
    let target = table::lookup(id).ok_or(Errno::NoDomain)?;
    target.shut_down(reason);
    Ok(0)
}

/// Whether the vCPU has to wait for one of some ports to have news, whether or not they are masked.
/// As under Xen it may end waiting for less: an interrupt, or an event of another port.
fn poll(running: &mut Running<'_>, request: &Poll) -> Result<bool, Errno> {
    let domain = running.domain;
    if request.nr_ports > MAX_POLL_PORTS {
        return Err(Errno::Invalid);
    }
    // Who makes a port pending looks after that at who polls.
    running.vcpu.polls.store(true, Ordering::SeqCst);
    for number in 0..u64::from(request.nr_ports) {
        let at = request.ports.get().wrapping_add(number * 4);
        let port: u32 = read(domain, at)?;
        let port = Port::new(port).filter(|port| port.get() < TWO_LEVEL_CHANNELS);
        if domain.is_pending(port.ok_or(Errno::Invalid)?) {
            return Ok(false);
        }
    }
    let deadline = (request.timeout != 0).then(|| time::at_nanoseconds(request.timeout));
    if deadline.is_some_and(|deadline| deadline <= time::now()) {
        return Ok(false);
    }
    running.poll_until(deadline);
    Ok(true)
}
