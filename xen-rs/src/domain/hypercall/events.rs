//! `event_channel_op`: ports of the caller, with the two-level ABI.

use xen_abi::Errno;
use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EventChannelOp, Reset, Send,
    Status, Unmask,
};
use xen_core::event::{self, Caller, EventError, Raised};

use super::Outcome;
use crate::domain::events::{self, All};
use crate::domain::memory::{BadAddress, read, write};
use crate::domain::run::Running;

/// Why an operation failed, as the guest is told.
struct Failure(Errno);

impl From<EventError> for Failure {
    fn from(error: EventError) -> Self {
        Self(error.errno())
    }
}

impl From<BadAddress> for Failure {
    fn from(error: BadAddress) -> Self {
        Self(error.into())
    }
}

/// `event_channel_op`.
pub fn event_channel_op(running: &Running<'_>, operation: u64, buffer: u64) -> Outcome {
    let raised = operate(running, operation, buffer).map_err(|Failure(errno)| errno)?;
    events::tell(raised);
    Ok(0)
}

fn operate(running: &Running<'_>, operation: u64, buffer: u64) -> Result<Option<Raised>, Failure> {
    let domain = running.domain;
    let caller = Caller {
        domain: domain.id,
        privileged: domain.is_control(),
    };
    let raised = match EventChannelOp::from_number(operation) {
        Some(EventChannelOp::AllocUnbound) => {
            let mut request: AllocUnbound = read(domain, buffer)?;
            let (dom, remote) = (request.dom, request.remote_dom);
            request.port = event::alloc_unbound(&All, caller, dom, remote)?.get();
            write(domain, buffer, &request)?;
            None
        }
        Some(EventChannelOp::BindInterdomain) => {
            let mut request: BindInterdomain = read(domain, buffer)?;
            let (remote, port) = (request.remote_dom, request.remote_port);
            let (port, raised) = event::bind_interdomain(&All, caller, remote, port)?;
            request.local_port = port.get();
            write(domain, buffer, &request)?;
            raised
        }
        Some(EventChannelOp::BindVirq) => {
            let mut request: BindVirq = read(domain, buffer)?;
            let port = domain.ports.lock().bind_virq(request.virq, request.vcpu)?;
            request.port = port.get();
            write(domain, buffer, &request)?;
            None
        }
        Some(EventChannelOp::BindIpi) => {
            let mut request: BindIpi = read(domain, buffer)?;
            request.port = domain.ports.lock().bind_ipi(request.vcpu)?.get();
            write(domain, buffer, &request)?;
            None
        }
        Some(EventChannelOp::Close) => {
            let request: Close = read(domain, buffer)?;
            event::close(&All, caller, request.port)?;
            None
        }
        Some(EventChannelOp::Send) => {
            let request: Send = read(domain, buffer)?;
            event::send(&All, caller, request.port)?
        }
        Some(EventChannelOp::Status) => {
            let mut request: Status = read(domain, buffer)?;
            let found = event::status(&All, caller, request.dom, request.port)?;
            let (status, vcpu, detail) = found.to_abi();
            request.status = status.number();
            request.vcpu = vcpu;
            request.detail = detail;
            write(domain, buffer, &request)?;
            None
        }
        Some(EventChannelOp::BindVcpu) => {
            let request: BindVcpu = read(domain, buffer)?;
            domain.ports.lock().bind_vcpu(request.port, request.vcpu)?;
            None
        }
        Some(EventChannelOp::Unmask) => {
            let request: Unmask = read(domain, buffer)?;
            domain.ports.lock().unmask(domain, request.port)?
        }
        Some(EventChannelOp::Reset) => {
            let request: Reset = read(domain, buffer)?;
            event::reset(&All, caller, request.dom)?;
            None
        }
        Some(EventChannelOp::BindPirq) => return Err(Failure(Errno::NotSupported)),
        // The FIFO ABI is not offered: Linux goes on with two levels.
        _ => return Err(Failure(Errno::NoCall)),
    };
    Ok(raised)
}
