//! Event channels of domains: the pages that the guests look at, and the hypercall.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EventChannelOp, Reset, Send,
    Status, Unmask,
};
use xen_abi::shared_info::{MASK, PENDING, PENDING_SELECTOR, UPCALL_PENDING};
use xen_abi::{DomId, Errno};
use xen_core::event::{
    self, Caller, Domains, EventError, Pair, Port, PortTable, Raised, SharedPage, Side, VcpuId,
    Virq,
};
use xen_core::vgic::{CpuId, Effects};
use xen_types::{Hpa, Ppi};
use zerocopy::{FromBytes, IntoBytes};

use super::hypercall::Outcome;
use super::memory::{BadAddress, copy_from, copy_to};
use super::run::Running;
use super::{Domain, dom0_domain};

/// The interrupt that says that an event is pending: INTID 31.
pub const PPI: Ppi = Ppi::new(15).expect("there are 16");

/// The pages of a domain that hold its event bits.
pub struct Pages<'a>(&'a Domain);

impl Pages<'_> {
    fn word(&self, offset: usize, index: u32) -> &AtomicU64 {
        let address = self.0.shared_page.start().get() + offset as u64 + u64::from(index) * 8;
        // SAFETY: inside the shared page, which is RAM of the domain for as long as that lives;
        // aligned; both sides change it by atomic accesses only.
        unsafe { AtomicU64::from_ptr(address as *mut u64) }
    }

    fn info(&self, vcpu: VcpuId) -> Option<Hpa> {
        let vcpu = self.0.vcpus.get(vcpu.get() as usize)?;
        let first = vcpu.id.get() == 0;
        let legacy = first.then(|| self.0.shared_page.start());
        vcpu.info.get().copied().or(legacy)
    }

    fn selector(&self, vcpu: VcpuId) -> Option<&AtomicU64> {
        let address = self.info(vcpu)?.get() + PENDING_SELECTOR as u64;
        // SAFETY: in a `vcpu_info` that was checked to lie, aligned, in RAM of the domain.
        Some(unsafe { AtomicU64::from_ptr(address as *mut u64) })
    }

    fn upcall(&self, vcpu: VcpuId) -> Option<&AtomicU8> {
        let address = self.info(vcpu)?.get() + UPCALL_PENDING as u64;
        // SAFETY: as for the selector.
        Some(unsafe { AtomicU8::from_ptr(address as *mut u8) })
    }
}

impl SharedPage for Pages<'_> {
    fn set_pending(&self, port: Port) -> bool {
        self.word(PENDING, port.word())
            .fetch_or(port.bit(), Ordering::SeqCst)
            & port.bit()
            != 0
    }

    fn clear_pending(&self, port: Port) {
        self.word(PENDING, port.word())
            .fetch_and(!port.bit(), Ordering::SeqCst);
    }

    fn is_pending(&self, port: Port) -> bool {
        self.word(PENDING, port.word()).load(Ordering::SeqCst) & port.bit() != 0
    }

    fn is_masked(&self, port: Port) -> bool {
        self.word(MASK, port.word()).load(Ordering::SeqCst) & port.bit() != 0
    }

    fn clear_mask(&self, port: Port) -> bool {
        self.word(MASK, port.word())
            .fetch_and(!port.bit(), Ordering::SeqCst)
            & port.bit()
            != 0
    }

    fn set_selector(&self, vcpu: VcpuId, word: u32) -> bool {
        let bit = 1 << (word & 63);
        self.selector(vcpu)
            .is_some_and(|selector| selector.fetch_or(bit, Ordering::SeqCst) & bit != 0)
    }

    fn set_all_selectors(&self, vcpu: VcpuId) {
        if let Some(selector) = self.selector(vcpu) {
            selector.store(u64::MAX, Ordering::SeqCst);
        }
    }

    fn set_upcall(&self, vcpu: VcpuId) -> bool {
        self.upcall(vcpu)
            .is_some_and(|upcall| upcall.swap(1, Ordering::SeqCst) != 0)
    }
}

/// The domains there are: Dom0.
struct All<'a>(&'a Domain);

impl<'a> Domains for All<'a> {
    type Page = Pages<'a>;

    fn one<R>(&self, domain: DomId, f: impl FnOnce(Side<'_, Pages<'a>>) -> R) -> Option<R> {
        if domain != self.0.id {
            return None;
        }
        let page = Pages(self.0);
        let mut ports = self.0.ports.lock();
        Some(f(Side {
            ports: &mut ports,
            page: &page,
        }))
    }

    fn two<R>(
        &self,
        first: DomId,
        second: DomId,
        f: impl FnOnce(Pair<'_, Pages<'a>>) -> R,
    ) -> Option<R> {
        if first != second {
            return None;
        }
        self.one(first, |side| f(Pair::Same(side)))
    }
}

/// Raises a virtual interrupt of Dom0.
pub fn raise(virq: Virq) {
    if let Some(domain) = dom0_domain() {
        let raised = event::raise_virq(&All(domain), domain.id, virq, VcpuId::ZERO);
        let mut effects = Effects::new();
        tell(domain, raised, &mut effects);
        domain.carry_out(&mut effects);
    }
}

/// Interrupts the vCPU that shall look.
fn tell(domain: &Domain, raised: Option<Raised>, effects: &mut Effects) {
    let upcall = raised.and_then(|raised| raised.upcall);
    if let Some(cpu) = upcall.and_then(|vcpu| CpuId::new(vcpu.get() as usize)) {
        domain.vgic.inject_private(cpu, PPI, effects);
    }
}

/// A vCPU has told where it looks for events: it looks at once.
pub fn moved(running: &mut Running<'_>, vcpu: usize) {
    let id = VcpuId::new(vcpu as u32);
    if event::vcpu_info_moved(&Pages(running.domain), id)
        && let Some(cpu) = CpuId::new(vcpu)
    {
        running
            .domain
            .vgic
            .inject_private(cpu, PPI, &mut running.effects);
    }
}

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
pub fn event_channel_op(running: &mut Running<'_>, operation: u64, buffer: u64) -> Outcome {
    let raised = operate(running, operation, buffer).map_err(|Failure(errno)| errno)?;
    tell(running.domain, raised, &mut running.effects);
    Ok(0)
}

fn operate(running: &Running<'_>, operation: u64, buffer: u64) -> Result<Option<Raised>, Failure> {
    let domain = running.domain;
    let all = All(domain);
    let caller = Caller {
        domain: domain.id,
        privileged: true,
    };
    let raised = match EventChannelOp::from_number(operation) {
        Some(EventChannelOp::AllocUnbound) => {
            let mut request: AllocUnbound = read(domain, buffer)?;
            let (dom, remote) = (request.dom, request.remote_dom);
            request.port = event::alloc_unbound(&all, caller, dom, remote)?.get();
            write(domain, buffer, &request)?;
            None
        }
        Some(EventChannelOp::BindInterdomain) => {
            let mut request: BindInterdomain = read(domain, buffer)?;
            let (remote, port) = (request.remote_dom, request.remote_port);
            let (port, raised) = event::bind_interdomain(&all, caller, remote, port)?;
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
            event::close(&all, caller, request.port)?;
            None
        }
        Some(EventChannelOp::Send) => {
            let request: Send = read(domain, buffer)?;
            event::send(&all, caller, request.port)?
        }
        Some(EventChannelOp::Status) => {
            let mut request: Status = read(domain, buffer)?;
            let found = event::status(&all, caller, request.dom, request.port)?;
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
            domain.ports.lock().unmask(&Pages(domain), request.port)?
        }
        Some(EventChannelOp::Reset) => {
            let request: Reset = read(domain, buffer)?;
            event::reset(&all, caller, request.dom)?;
            None
        }
        Some(EventChannelOp::BindPirq) => return Err(Failure(Errno::NotSupported)),
        // The FIFO ABI is not offered: Linux goes on with two levels.
        _ => return Err(Failure(Errno::NoCall)),
    };
    Ok(raised)
}

fn read<T: FromBytes + IntoBytes>(domain: &Domain, buffer: u64) -> Result<T, BadAddress> {
    let mut request = T::new_zeroed();
    copy_from(domain, buffer, request.as_mut_bytes())?;
    Ok(request)
}

fn write<T: IntoBytes + zerocopy::Immutable>(
    domain: &Domain,
    buffer: u64,
    answer: &T,
) -> Result<(), BadAddress> {
    copy_to(domain, buffer, answer.as_bytes())
}

/// The ports of a domain of so many vCPUs.
///
/// # Errors
/// If there is no memory for them.
pub fn ports(domain: DomId, vcpus: usize) -> Result<PortTable, EventError> {
    PortTable::new(
        domain,
        vcpus as u32,
        xen_abi::event_channel::TWO_LEVEL_CHANNELS - 1,
    )
}
