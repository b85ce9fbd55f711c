//! Event channels of domains: the pages that the guests look at, and how their vCPUs are told.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use xen_abi::DomId;
use xen_abi::shared_info::{MASK, PENDING, PENDING_SELECTOR, UPCALL_PENDING};
use xen_core::event::{
    self, Domains, EventError, Pair, Port, PortTable, Raised, SharedPage, Side, VcpuId, Virq,
};
use xen_core::vgic::{CpuId, Effects};
use xen_types::{Hpa, Ppi};

use super::run::Running;
use super::{Domain, dom0_domain, schedule, table};

/// The interrupt that says that an event is pending: INTID 31.
pub const PPI: Ppi = Ppi::new(15).expect("there are 16");

/// Where a domain's event bits are.
impl Domain {
    fn event_word(&self, offset: usize, index: u32) -> &AtomicU64 {
        let address = self.shared_page.start().get() + offset as u64 + u64::from(index) * 8;
        // SAFETY: inside the shared page, which is there for as long as the domain lives; aligned;
        // both sides change it by atomic accesses only.
        unsafe { AtomicU64::from_ptr(address as *mut u64) }
    }

    fn vcpu_info(&self, vcpu: VcpuId) -> Option<Hpa> {
        let vcpu = self.vcpus.get(vcpu.get() as usize)?;
        let first = vcpu.id.get() == 0;
        let legacy = first.then(|| self.shared_page.start());
        vcpu.info.get().copied().or(legacy)
    }

    fn event_selector(&self, vcpu: VcpuId) -> Option<&AtomicU64> {
        let address = self.vcpu_info(vcpu)?.get() + PENDING_SELECTOR as u64;
        // SAFETY: in a `vcpu_info` that was checked to lie, aligned, in RAM of the domain, which is
        // referenced for as long as the domain lives.
        Some(unsafe { AtomicU64::from_ptr(address as *mut u64) })
    }

    fn event_upcall(&self, vcpu: VcpuId) -> Option<&AtomicU8> {
        let address = self.vcpu_info(vcpu)?.get() + UPCALL_PENDING as u64;
        // SAFETY: as for the selector.
        Some(unsafe { AtomicU8::from_ptr(address as *mut u8) })
    }
}

impl SharedPage for Domain {
    fn set_pending(&self, port: Port) -> bool {
        self.event_word(PENDING, port.word())
            .fetch_or(port.bit(), Ordering::SeqCst)
            & port.bit()
            != 0
    }

    fn clear_pending(&self, port: Port) {
        self.event_word(PENDING, port.word())
            .fetch_and(!port.bit(), Ordering::SeqCst);
    }

    fn is_pending(&self, port: Port) -> bool {
        self.event_word(PENDING, port.word()).load(Ordering::SeqCst) & port.bit() != 0
    }

    fn is_masked(&self, port: Port) -> bool {
        self.event_word(MASK, port.word()).load(Ordering::SeqCst) & port.bit() != 0
    }

    fn clear_mask(&self, port: Port) -> bool {
        self.event_word(MASK, port.word())
            .fetch_and(!port.bit(), Ordering::SeqCst)
            & port.bit()
            != 0
    }

    fn set_selector(&self, vcpu: VcpuId, word: u32) -> bool {
        let bit = 1 << (word & 63);
        self.event_selector(vcpu)
            .is_some_and(|selector| selector.fetch_or(bit, Ordering::SeqCst) & bit != 0)
    }

    fn set_all_selectors(&self, vcpu: VcpuId) {
        if let Some(selector) = self.event_selector(vcpu) {
            selector.store(u64::MAX, Ordering::SeqCst);
        }
    }

    fn set_upcall(&self, vcpu: VcpuId) -> bool {
        self.event_upcall(vcpu)
            .is_some_and(|upcall| upcall.swap(1, Ordering::SeqCst) != 0)
    }
}

/// The domains there are.
pub struct All;

impl Domains for All {
    type Page = Domain;

    fn one<R>(&self, domain: DomId, f: impl FnOnce(Side<'_, Domain>) -> R) -> Option<R> {
        let domain = table::lookup(domain)?;
        let mut ports = domain.ports.lock();
        Some(f(Side {
            ports: &mut ports,
            page: &*domain,
        }))
    }

    fn two<R>(
        &self,
        first: DomId,
        second: DomId,
        f: impl FnOnce(Pair<'_, Domain>) -> R,
    ) -> Option<R> {
        if first == second {
            return self.one(first, |side| f(Pair::Same(side)));
        }
        let (first, second) = (table::lookup(first)?, table::lookup(second)?);
        // The lower id's lock first, whoever asks.
        let (mut ports, mut others);
        if first.id < second.id {
            ports = first.ports.lock();
            others = second.ports.lock();
        } else {
            others = second.ports.lock();
            ports = first.ports.lock();
        }
        let one = Side {
            ports: &mut ports,
            page: &*first,
        };
        let two = Side {
            ports: &mut others,
            page: &*second,
        };
        Some(f(Pair::Two(one, two)))
    }
}

/// Raises a virtual interrupt of Dom0.
pub fn raise(virq: Virq) {
    if let Some(domain) = dom0_domain() {
        tell(event::raise_virq(&All, domain.id, virq, VcpuId::ZERO));
    }
}

/// Interrupts the vCPU that shall look, of any domain.
pub fn tell(raised: Option<Raised>) {
    let Some(raised) = raised else {
        return;
    };
    let Some(domain) = table::lookup(raised.domain) else {
        return;
    };
    if raised.of_device {
        return domain.hear_of_vuart();
    }
    for vcpu in &domain.vcpus {
        if vcpu.polls.load(Ordering::SeqCst) {
            schedule::has_news(vcpu);
        }
    }
    let upcall = raised.upcall;
    if let Some(cpu) = upcall.and_then(|vcpu| CpuId::new(vcpu.get() as usize)) {
        let mut effects = Effects::new();
        domain.vgic.inject_private(cpu, PPI, &mut effects);
        domain.carry_out(&mut effects);
    }
}

/// A vCPU has told where it looks for events: it looks at once.
pub fn moved(running: &mut Running<'_>, vcpu: usize) {
    let id = VcpuId::new(vcpu as u32);
    if event::vcpu_info_moved(running.domain, id)
        && let Some(cpu) = CpuId::new(vcpu)
    {
        running
            .domain
            .vgic
            .inject_private(cpu, PPI, &mut running.effects);
    }
}

/// The ports of a domain of so many vCPUs, up to a highest one.
///
/// # Errors
/// If there is no memory for them.
pub fn ports(domain: DomId, vcpus: usize, highest: u32) -> Result<PortTable, EventError> {
    PortTable::new(domain, vcpus as u32, highest)
}
