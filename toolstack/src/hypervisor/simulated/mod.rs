//! A hypervisor that is none: it keeps the rules of Xen's calls, counts them, and can let one fail.

mod domain;
mod domains;
mod functions;
mod ram;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use xen_abi::{DomId, Errno};

pub use self::domain::{Domain, SimulatedMemory};
use super::device::PAGE_SIZE;
use super::error::HypervisorError;
use super::info::{DomainInfo, EndReason, Machine, Scheduler, Version};
use super::{FunctionInfo, Host, Result};
use crate::pci::Sbdf;

/// The hypervisor; copies are the same one.
#[derive(Clone, Debug)]
pub struct Simulated(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    domains: BTreeMap<u16, Domain>,
    next: u16,
    free_pages: u64,
    functions: BTreeMap<Sbdf, FunctionInfo>,
    calls: Vec<&'static str>,
    /// Which calls fail, counted from 0, and how.
    failure: Option<(Range<usize>, Errno)>,
    /// Orders above this find no memory.
    max_order: u32,
}

impl Default for Simulated {
    fn default() -> Self {
        Self::with_memory(4 << 30)
    }
}

impl Simulated {
    /// One with so many bytes of free memory.
    pub fn with_memory(bytes: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            domains: BTreeMap::new(),
            next: 1,
            free_pages: bytes / PAGE_SIZE as u64,
            functions: BTreeMap::new(),
            calls: Vec::new(),
            failure: None,
            max_order: 18,
        })))
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<&'static str> {
        self.0.borrow().calls.clone()
    }

    /// The `nth` call from now on, counted from 0, fails.
    pub fn fail(&self, nth: usize, errno: Errno) {
        let mut state = self.0.borrow_mut();
        let nth = state.calls.len() + nth;
        state.failure = Some((nth..nth + 1, errno));
    }

    /// The `nth` call from now on, counted from 0, fails, and all behind it.
    pub fn fail_from(&self, nth: usize, errno: Errno) {
        let mut state = self.0.borrow_mut();
        let nth = state.calls.len() + nth;
        state.failure = Some((nth..usize::MAX, errno));
    }

    /// There is no memory in larger pieces than 2^`order` pages.
    pub fn limit_order(&self, order: u32) {
        self.0.borrow_mut().max_order = order;
    }

    /// The machine has a function, in place of the one of that name.
    pub fn plug(&self, info: FunctionInfo) {
        let mut state = self.0.borrow_mut();
        state.functions.insert(info.function, info);
    }

    /// Pages that are free.
    pub fn free_pages(&self) -> u64 {
        self.0.borrow().free_pages
    }

    /// A copy of a domain.
    pub fn look(&self, domain: DomId) -> Option<Domain> {
        self.0.borrow().domains.get(&domain.get()).cloned()
    }

    /// The domain ends by itself.
    pub fn end(&self, domain: DomId, reason: EndReason) {
        if let Some(domain) = self.0.borrow_mut().domains.get_mut(&domain.get()) {
            domain.ended = Some(reason);
        }
    }

    fn call<T>(
        &self,
        call: &'static str,
        body: impl FnOnce(&mut State) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        let state = &mut *self.0.borrow_mut();
        let number = state.calls.len();
        state.calls.push(call);
        let outcome = match &state.failure {
            Some((calls, errno)) if calls.contains(&number) => Err(*errno),
            _ => body(state),
        };
        outcome.map_err(|errno| HypervisorError::Call {
            call,
            error: io::Error::from_raw_os_error(errno.number().into()),
        })
    }

    /// A call about a domain that exists.
    fn on<T>(
        &self,
        call: &'static str,
        domain: DomId,
        body: impl FnOnce(&mut Domain) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        self.call(call, |state| {
            let domain = state.domains.get_mut(&domain.get());
            body(domain.ok_or(Errno::NoDomain)?)
        })
    }
}

impl Host for Simulated {
    fn version(&self) -> Result<Version> {
        self.call("xen_version", |_| {
            Ok(Version {
                number: (4, 20),
                extra: ".0-simulated".into(),
                capabilities: "xen-3.0-aarch64".into(),
                command_line: String::new(),
                changeset: String::new(),
            })
        })
    }

    fn machine(&self) -> Result<Machine> {
        self.call("physinfo", |state| {
            Ok(Machine {
                cpus: 4,
                max_cpu: 3,
                timer_khz: 62_500,
                total_kib: 4 << 20,
                free_kib: state.free_pages * 4,
                passthrough: false,
            })
        })
    }

    fn scheduler(&self) -> Result<Scheduler> {
        self.call("sched_id", |_| Ok(Scheduler::Credit2))
    }

    fn log(&self, _clear: bool) -> Result<Vec<u8>> {
        self.call("readconsole", |_| Ok(b"simulated\n".to_vec()))
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        self.call("getdomaininfolist", |state| {
            let domains = state.domains.iter();
            Ok(domains.map(|(id, domain)| domain.info(*id)).collect())
        })
    }
}
