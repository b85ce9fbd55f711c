//! A hypervisor that is none: it keeps the rules of Xen's calls, counts them, and can let one fail.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use std::rc::Rc;

use uuid::Uuid;
use xen_abi::domctl::Context;
use xen_abi::hvm::Param;
use xen_abi::sched::ShutdownReason;
use xen_abi::{DomId, Errno};

use super::device::PAGE_SIZE;
use super::error::HypervisorError;
use super::info::{DomainInfo, EndReason, Machine, NewDomain, Scheduler, VcpuInfo, Version};
use super::{
    Domains, FunctionInfo, FunctionState, Functions, GuestMemory, Host, Ram, Result, Wiring,
};
use crate::config::GicChoice;
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

/// A simulated domain.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Domain {
    pub new: NewDomain,
    pub vcpus: u32,
    pub max_memory: u64,
    pub pool: u64,
    pub is_64_bit: bool,
    /// First frame and order of each extent.
    pub extents: BTreeMap<u64, u32>,
    /// Pages that it has.
    pub page_count: u64,
    /// Pages that were written.
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Pages whose caches were cleaned.
    pub clean: BTreeSet<u64>,
    /// The first page of the grant table.
    pub grants: Vec<u8>,
    pub ports: u32,
    pub params: BTreeMap<Param, u64>,
    pub vuart: Option<u64>,
    pub contexts: BTreeMap<u32, Context>,
    pub affinity: BTreeMap<u32, (Vec<u32>, Vec<u32>)>,
    pub share: Option<(u16, u16)>,
    pub pauses: u32,
    pub has_run: bool,
    pub ended: Option<EndReason>,
    /// Mappings of its memory that others have.
    pub mappings: u32,
}

impl Domain {
    fn has_page(&self, frame: u64) -> bool {
        let before = self.extents.range(..=frame).next_back();
        before.is_some_and(|(first, order)| frame - first < 1 << order)
    }
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

/// Memory of a simulated domain.
#[derive(Debug)]
pub struct SimulatedMemory {
    of: Simulated,
    domain: DomId,
    /// The frames; none for the grant table.
    frames: Option<Vec<u64>>,
}

impl GuestMemory for SimulatedMemory {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.of.0.borrow_mut();
        let domain = state.domains.get_mut(&self.domain.get());
        let domain = domain.ok_or(io::ErrorKind::BrokenPipe)?;
        let (mut place, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let page = match &self.frames {
                None => Some(&mut domain.grants).filter(|_| place < PAGE_SIZE),
                Some(frames) => frames.get(place / PAGE_SIZE).map(|frame| {
                    domain.clean.remove(frame);
                    let page = domain.pages.entry(*frame);
                    page.or_insert_with(|| vec![0; PAGE_SIZE])
                }),
            };
            let rest = page.and_then(|page| page.get_mut(place % PAGE_SIZE..));
            let rest = rest.ok_or(io::ErrorKind::InvalidInput)?;
            let count = rest.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            rest.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            (place, bytes) = (place + count, later);
        }
        Ok(())
    }

    fn fill(&mut self, offset: usize, length: usize, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        self.write(offset, &bytes)
    }
}

impl Drop for SimulatedMemory {
    fn drop(&mut self) {
        let state = &mut *self.of.0.borrow_mut();
        if let Some(domain) = state.domains.get_mut(&self.domain.get()) {
            domain.mappings -= 1;
        }
    }
}

impl Simulated {
    fn info(id: u16, domain: &Domain) -> DomainInfo {
        DomainInfo {
            id: DomId::new(id),
            uuid: domain.new.uuid,
            memory_kib: domain.page_count * 4,
            max_memory_kib: domain.max_memory,
            online_vcpus: domain.contexts.len() as u32,
            vcpus: domain.vcpus,
            cpu_time: 0,
            address_bits: 40,
            running: false,
            blocked: false,
            paused: domain.pauses > 0,
            dying: false,
            ended: domain.ended,
        }
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
            Ok(domains
                .map(|(id, domain)| Self::info(*id, domain))
                .collect())
        })
    }
}

impl Domains for Simulated {
    fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>> {
        self.call("getdomaininfo", |state| {
            let found = state.domains.get(&domain.get());
            Ok(found.map(|found| Self::info(domain.get(), found)))
        })
    }

    fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>> {
        self.call("getvcpuinfo", |state| {
            let Some(domain) = state.domains.get(&domain.get()) else {
                return Ok(None);
            };
            let all = || vec![0, 1, 2, 3];
            let affinity = domain.affinity.get(&vcpu).cloned();
            let (hard, soft) = affinity.unwrap_or((all(), all()));
            Ok((vcpu < domain.vcpus).then(|| VcpuInfo {
                number: vcpu,
                online: domain.contexts.contains_key(&vcpu),
                blocked: false,
                running: false,
                cpu_time: 0,
                cpu: 0,
                hard,
                soft,
            }))
        })
    }

    fn create(&self, new: &NewDomain) -> Result<(DomId, NewDomain)> {
        self.call("createdomain", |state| {
            let valid = (1..=128).contains(&new.vcpus)
                && new.spis <= 960
                && new.grant_frames <= 64
                && new.uuid != Uuid::nil();
            if !valid {
                return Err(Errno::Invalid);
            }
            let id = state.next;
            state.next += 1;
            let gic = match new.gic {
                GicChoice::Default => GicChoice::V3,
                version => version,
            };
            let made = NewDomain {
                gic,
                spis: new.spis.next_multiple_of(32),
                ..new.clone()
            };
            let domain = Domain {
                new: made.clone(),
                vcpus: 0,
                max_memory: 0,
                pool: 0,
                is_64_bit: false,
                extents: BTreeMap::new(),
                page_count: 0,
                pages: BTreeMap::new(),
                clean: BTreeSet::new(),
                grants: vec![0; PAGE_SIZE],
                ports: 0,
                params: BTreeMap::new(),
                vuart: None,
                contexts: BTreeMap::new(),
                affinity: BTreeMap::new(),
                share: None,
                pauses: 1,
                has_run: false,
                ended: None,
                mappings: 0,
            };
            state.domains.insert(id, domain);
            Ok((DomId::new(id), made))
        })
    }

    fn set_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        self.on("max_vcpus", domain, |domain| {
            if count != domain.new.vcpus {
                return Err(Errno::Invalid);
            }
            domain.vcpus = count;
            Ok(())
        })
    }

    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()> {
        self.on("max_mem", domain, |domain| {
            domain.max_memory = kib;
            Ok(())
        })
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        self.call("set_paging_mempool_size", |state| {
            let domain = state
                .domains
                .get_mut(&domain.get())
                .ok_or(Errno::NoDomain)?;
            let pages = bytes / PAGE_SIZE as u64;
            if !bytes.is_multiple_of(PAGE_SIZE as u64) {
                return Err(Errno::Invalid);
            }
            let free = state.free_pages + domain.pool;
            state.free_pages = free.checked_sub(pages).ok_or(Errno::NoMemory)?;
            domain.pool = pages;
            Ok(())
        })
    }

    fn set_64_bit(&self, domain: DomId) -> Result<()> {
        self.on("set_address_size", domain, |domain| {
            if !domain.extents.is_empty() {
                return Err(Errno::Busy);
            }
            domain.is_64_bit = true;
            Ok(())
        })
    }

    fn set_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        hard: Option<&[u32]>,
        soft: Option<&[u32]>,
    ) -> Result<()> {
        self.on("setvcpuaffinity", domain, |domain| {
            if vcpu >= domain.vcpus {
                return Err(Errno::Invalid);
            }
            let all = || vec![0, 1, 2, 3];
            let affinity = domain.affinity.entry(vcpu).or_insert((all(), all()));
            if let Some(hard) = hard {
                affinity.0 = hard.to_vec();
            }
            if let Some(soft) = soft {
                affinity.1 = soft.to_vec();
            }
            Ok(())
        })
    }

    fn set_share(
        &self,
        domain: DomId,
        _scheduler: Scheduler,
        weight: Option<u16>,
        cap: Option<u16>,
    ) -> Result<()> {
        self.on("scheduler_op", domain, |domain| {
            domain.share = Some((weight.unwrap_or(256), cap.unwrap_or(0)));
            Ok(())
        })
    }

    fn set_context(&self, domain: DomId, vcpu: u32, context: &Context) -> Result<()> {
        self.on("setvcpucontext", domain, |domain| {
            if vcpu >= domain.vcpus {
                return Err(Errno::Invalid);
            }
            domain.contexts.insert(vcpu, *context);
            Ok(())
        })
    }

    fn pause(&self, domain: DomId) -> Result<()> {
        self.on("pausedomain", domain, |domain| {
            domain.pauses += 1;
            Ok(())
        })
    }

    fn unpause(&self, domain: DomId) -> Result<()> {
        self.on("unpausedomain", domain, |domain| {
            domain.pauses = domain.pauses.checked_sub(1).ok_or(Errno::Invalid)?;
            domain.has_run |= domain.pauses == 0;
            Ok(())
        })
    }

    fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        self.on("remote_shutdown", domain, |domain| {
            domain.ended = Some(match reason {
                ShutdownReason::Reboot => EndReason::Reboot,
                _ => EndReason::Poweroff,
            });
            Ok(())
        })
    }

    fn destroy(&self, domain: DomId) -> Result<()> {
        self.call("destroydomain", |state| {
            let gone = state.domains.remove(&domain.get()).ok_or(Errno::NoDomain)?;
            assert_eq!(
                gone.mappings, 0,
                "memory of a domain is mapped when it goes"
            );
            state.free_pages += gone.pool + gone.page_count;
            Ok(())
        })
    }
}

impl Functions for Simulated {
    fn functions(&self) -> Result<Vec<FunctionInfo>> {
        self.call("assignable", |state| {
            Ok(state.functions.values().cloned().collect())
        })
    }

    fn function(&self, function: Sbdf) -> Result<Option<FunctionInfo>> {
        self.call("assignable", |state| {
            Ok(state.functions.get(&function).cloned())
        })
    }

    fn set_assignable(&self, function: Sbdf, assignable: bool) -> Result<()> {
        self.call("assignable", |state| {
            let info = state.functions.get_mut(&function);
            let info = info.ok_or(Errno::NoDevice)?;
            if info.state == FunctionState::Guest {
                return Err(Errno::Busy);
            }
            info.state = match assignable {
                true => FunctionState::Assignable,
                false => FunctionState::Dom0,
            };
            Ok(())
        })
    }
}

impl Ram for Simulated {
    type Memory = SimulatedMemory;

    fn populate(&self, domain: DomId, order: u32, frames: &[u64]) -> Result<usize> {
        self.call("populate_physmap", |state| {
            let max_order = state.max_order;
            let domain = state
                .domains
                .get_mut(&domain.get())
                .ok_or(Errno::NoDomain)?;
            if domain.pool == 0 {
                return Err(Errno::NoMemory);
            }
            for (done, frame) in frames.iter().enumerate() {
                let pages = 1_u64 << order;
                let fits = order <= max_order
                    && frame.is_multiple_of(pages)
                    && (domain.page_count + pages) * 4 <= domain.max_memory
                    && !domain.has_page(*frame);
                if !fits || state.free_pages < pages {
                    return Ok(done);
                }
                state.free_pages -= pages;
                domain.page_count += pages;
                domain.extents.insert(*frame, order);
            }
            Ok(frames.len())
        })
    }

    fn map(&self, domain: DomId, frames: &[u64]) -> Result<SimulatedMemory> {
        self.on("map", domain, |of| {
            if !frames.iter().all(|frame| of.has_page(*frame)) {
                return Err(Errno::Invalid);
            }
            of.mappings += 1;
            Ok(SimulatedMemory {
                of: self.clone(),
                domain,
                frames: Some(frames.to_vec()),
            })
        })
    }

    fn map_grant_table(&self, domain: DomId) -> Result<SimulatedMemory> {
        self.on("acquire_resource", domain, |of| {
            of.mappings += 1;
            Ok(SimulatedMemory {
                of: self.clone(),
                domain,
                frames: None,
            })
        })
    }

    fn clean_caches(&self, domain: DomId, first: u64, count: u64) -> Result<()> {
        self.on("cacheflush", domain, |domain| {
            domain.clean.extend(first..first + count);
            Ok(())
        })
    }
}

impl Wiring for Simulated {
    fn allocate_port(&self, domain: DomId, _remote: DomId) -> Result<u32> {
        self.on("alloc_unbound", domain, |domain| {
            domain.ports += 1;
            Ok(domain.ports)
        })
    }

    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()> {
        self.on("set_param", domain, |domain| {
            domain.params.insert(param, value);
            Ok(())
        })
    }

    fn param(&self, domain: DomId, param: Param) -> Result<u64> {
        self.on("get_param", domain, |domain| {
            Ok(domain.params.get(&param).copied().unwrap_or(0))
        })
    }

    fn init_vuart(&self, domain: DomId, frame: u64, _console: DomId) -> Result<u32> {
        self.on("vuart_op", domain, |domain| {
            if domain.has_run || !domain.has_page(frame) {
                return Err(Errno::NotPermitted);
            }
            domain.vuart = Some(frame);
            domain.ports += 1;
            Ok(domain.ports)
        })
    }
}
