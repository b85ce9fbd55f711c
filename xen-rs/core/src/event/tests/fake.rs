//! Domains without hardware: tables behind cells that panic when locked twice, pages in memory.

extern crate std;
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::vec;
use std::vec::Vec;

use xen_abi::DomId;
use xen_abi::event_channel::TWO_LEVEL_CHANNELS;

use super::super::*;

/// vCPUs of every domain.
pub const VCPUS: u32 = 2;

pub fn port(number: u32) -> Port {
    Port::new(number).unwrap()
}

/// The page of a domain, and which bits were written in which order.
pub struct Page {
    pending: Vec<Cell<bool>>,
    mask: Vec<Cell<bool>>,
    selectors: Vec<Cell<u64>>,
    upcalls: Vec<Cell<bool>>,
    trace: RefCell<Vec<&'static str>>,
}

impl Page {
    fn new() -> Self {
        let bits = || vec![Cell::new(false); TWO_LEVEL_CHANNELS as usize];
        Self {
            pending: bits(),
            mask: bits(),
            selectors: vec![Cell::new(0); VCPUS as usize],
            upcalls: vec![Cell::new(false); VCPUS as usize],
            trace: RefCell::default(),
        }
    }

    fn note(&self, what: &'static str) {
        self.trace.borrow_mut().push(what);
    }

    /// Whether some vCPU is going to look at the port.
    pub fn is_announced(&self, port: Port) -> bool {
        let looks = |(selector, upcall): (&Cell<u64>, &Cell<bool>)| {
            upcall.get() && selector.get() & 1 << port.word() != 0
        };
        self.selectors.iter().zip(&self.upcalls).any(looks)
    }
}

impl SharedPage for Page {
    fn set_pending(&self, port: Port) -> bool {
        self.note("pending");
        self.pending[port.get() as usize].replace(true)
    }

    fn clear_pending(&self, port: Port) {
        self.pending[port.get() as usize].set(false);
    }

    fn is_pending(&self, port: Port) -> bool {
        self.pending[port.get() as usize].get()
    }

    fn is_masked(&self, port: Port) -> bool {
        self.note("masked?");
        self.mask[port.get() as usize].get()
    }

    fn clear_mask(&self, port: Port) -> bool {
        self.mask[port.get() as usize].replace(false)
    }

    fn set_selector(&self, vcpu: VcpuId, word: u32) -> bool {
        self.note("selector");
        let selector = &self.selectors[vcpu.get() as usize];
        selector.replace(selector.get() | 1 << word) & 1 << word != 0
    }

    fn set_all_selectors(&self, vcpu: VcpuId) {
        self.selectors[vcpu.get() as usize].set(u64::MAX);
    }

    fn set_upcall(&self, vcpu: VcpuId) -> bool {
        self.note("upcall");
        self.upcalls[vcpu.get() as usize].replace(true)
    }
}

struct Domain {
    table: RefCell<PortTable>,
    page: Page,
}

/// What another CPU does as soon as no lock is held.
type Meanwhile = Box<dyn FnOnce(&World)>;

/// Some domains, numbered from 0.
pub struct World {
    domains: RefCell<Vec<Option<Domain>>>,
    meanwhile: Cell<Option<Meanwhile>>,
}

impl World {
    pub fn new(domains: u16, highest_port: u32) -> Self {
        let domain = |id| {
            let table = PortTable::new(DomId::new(id), VCPUS, highest_port).unwrap();
            Some(Domain {
                table: RefCell::new(table),
                page: Page::new(),
            })
        };
        Self {
            domains: RefCell::new((0..domains).map(domain).collect()),
            meanwhile: Cell::new(None),
        }
    }

    /// Has another CPU do something right after the next look at a single domain.
    pub fn meanwhile(&self, f: impl FnOnce(&Self) + 'static) {
        self.meanwhile.set(Some(Box::new(f)));
    }

    fn locked<R>(&self, domain: DomId, f: impl FnOnce(Side<'_, Page>) -> R) -> Option<R> {
        let domains = self.domains.borrow();
        let Domain { table, page } = domains.get(usize::from(domain.get()))?.as_ref()?;
        let ports = &mut *table.borrow_mut();
        Some(f(Side { ports, page }))
    }

    pub fn remove(&self, domain: DomId) {
        self.domains.borrow_mut()[usize::from(domain.get())] = None;
    }

    pub fn side<R>(&self, domain: DomId, f: impl FnOnce(Side<'_, Page>) -> R) -> R {
        self.one(domain, f).unwrap()
    }

    pub fn table<R>(&self, domain: DomId, f: impl FnOnce(&mut PortTable) -> R) -> R {
        self.side(domain, |side| f(side.ports))
    }

    pub fn state(&self, domain: DomId, port: u32) -> Result<PortState, EventError> {
        self.table(domain, |table| {
            table.status(port).map(|status| status.state)
        })
    }

    pub fn set_mask(&self, domain: DomId, port: Port) {
        self.side(domain, |side| side.page.mask[port.get() as usize].set(true));
    }

    pub fn trace(&self, domain: DomId) -> Vec<&'static str> {
        self.side(domain, |side| side.page.trace.borrow().clone())
    }

    pub fn clear_trace(&self, domain: DomId) {
        self.side(domain, |side| side.page.trace.borrow_mut().clear());
    }

    /// What a guest does on an event interrupt: takes all unmasked events that its selector leads
    /// to.
    pub fn consume(&self, domain: DomId, vcpu: VcpuId) -> Vec<Port> {
        self.side(domain, |side| {
            let page = side.page;
            if !page.upcalls[vcpu.get() as usize].replace(false) {
                return Vec::new();
            }
            let selector = page.selectors[vcpu.get() as usize].replace(0);
            let seen = |port: &Port| {
                let index = port.get() as usize;
                selector & 1 << port.word() != 0
                    && !page.mask[index].get()
                    && page.pending[index].replace(false)
            };
            let ports = (1..TWO_LEVEL_CHANNELS).map(port);
            ports.filter(seen).collect()
        })
    }
}

impl Domains for World {
    type Page = Page;

    fn one<R>(&self, domain: DomId, f: impl FnOnce(Side<'_, Page>) -> R) -> Option<R> {
        let result = self.locked(domain, f);
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile(self);
        }
        result
    }

    fn two<R>(
        &self,
        first: DomId,
        second: DomId,
        f: impl FnOnce(Pair<'_, Page>) -> R,
    ) -> Option<R> {
        if first == second {
            return self.locked(first, |side| f(Pair::Same(side)));
        }
        self.locked(first, |first| {
            self.locked(second, |second| f(Pair::Two(first, second)))
        })?
    }
}
