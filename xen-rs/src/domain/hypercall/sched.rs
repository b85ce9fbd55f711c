//! `sched_op`: waiting, and the end of a domain.

use xen_abi::event_channel::TWO_LEVEL_CHANNELS;
use xen_abi::sched::{MAX_POLL_PORTS, Poll, RemoteShutdown, SchedOp, Shutdown, ShutdownReason};
use xen_abi::{DomId, Errno};
use xen_core::event::{Port, SharedPage as _};

use super::{NoValue, Outcome};
use crate::arch::time;
use crate::domain::memory::read;
use crate::domain::run::{self, Next, Running};
use crate::domain::table;

/// `sched_op`.
pub fn sched_op(running: &Running<'_>, operation: u64, buffer: u64, next: &mut Next) -> Outcome {
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
            shut_down(running, request.reason)
        }
        Some(SchedOp::Poll) => {
            *next = Next::Yield;
            poll(running, operation, buffer)
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

/// The domain ends. Only the control domain is there to do it, and the machine ends with it.
fn shut_down(running: &Running<'_>, reason: u32) -> Outcome {
    match ShutdownReason::from_number(reason) {
        Some(ShutdownReason::PowerOff) => run::power_off(),
        Some(ShutdownReason::Reboot | ShutdownReason::Watchdog) => run::reset(),
        Some(ShutdownReason::Crash) => run::crashed(running.domain),
        Some(ShutdownReason::Suspend | ShutdownReason::SoftReset) => {
            Err(Errno::NotSupported.into())
        }
        None => Err(Errno::Invalid.into()),
    }
}

fn remote_shutdown(running: &Running<'_>, request: &RemoteShutdown) -> Outcome {
    if !running.domain.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    ShutdownReason::from_number(request.reason).ok_or(Errno::Invalid)?;
    let id = request.domain_id;
    if id == DomId::SELF || id == running.domain.id {
        return Err(Errno::Invalid.into());
    }
    table::lookup(id).ok_or(Errno::NoDomain)?;
    Err(Errno::NotSupported.into())
}

/// Waits for one of some ports to have news, whether or not they are masked. One look in one go: the
/// guest looks again by making the call again, and takes its interrupts in between.
fn poll(running: &Running<'_>, operation: u64, buffer: u64) -> Outcome {
    let domain = running.domain;
    let request: Poll = read(domain, buffer)?;
    if request.nr_ports > MAX_POLL_PORTS {
        return Err(Errno::Invalid.into());
    }
    for number in 0..u64::from(request.nr_ports) {
        let at = request.ports.get().wrapping_add(number * 4);
        let port: u32 = read(domain, at)?;
        let port = Port::new(port).filter(|port| port.get() < TWO_LEVEL_CHANNELS);
        if domain.is_pending(port.ok_or(Errno::Invalid)?) {
            return Ok(0);
        }
    }
    if request.timeout != 0 && time::nanoseconds(time::now()) >= request.timeout {
        return Ok(0);
    }
    Err(NoValue::Again([operation, buffer, 0]))
}
