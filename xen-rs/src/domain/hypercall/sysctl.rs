//! `sysctl`: the machine as the control domain's toolstack sees it.

use xen_abi::domctl::{GetDomainInfo, SchedulerCommand};
use xen_abi::sysctl::{
    AvailHeap, CpuPoolCommand, CpuPoolOp, CpuTopology, DebugKeys, GetDomainInfoList,
    INTERFACE_VERSION, NodeMemory, NumaInfo, PAYLOAD_OFFSET, PhysInfo, PoolSchedulerOp,
    ReadConsole, SchedId, SysctlHeader, SysctlOp, TopologyInfo, capabilities,
};
use xen_abi::{DomId, Errno};
use xen_types::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Outcome, bitmap, domctl};
use crate::arch::time;
use crate::console;
use crate::domain::Domain;
use crate::domain::memory::{BadAddress, copy_from, copy_to, read, write};
use crate::domain::run::Running;
use crate::domain::{schedule, table};
use crate::memory::{self, frames};

/// Bytes of the log in one go, which is all that is kept, and in one look at it.
const LOG_AT_ONCE: usize = 64 << 10;
const LOG_CHUNK: usize = 256;
/// Keys in one call.
const MOST_KEYS: u32 = 64;
/// Distance of a node to itself.
const LOCAL_DISTANCE: u32 = 10;

struct Call<'a> {
    caller: &'a Domain,
    payload: u64,
}

impl Call<'_> {
    fn payload<T: FromBytes + IntoBytes>(&self) -> Result<T, BadAddress> {
        read(self.caller, self.payload)
    }

    fn answer<T: IntoBytes + Immutable>(&self, payload: &T) -> Outcome {
        write(self.caller, self.payload, payload)?;
        Ok(0)
    }
}

/// `sysctl`.
pub fn sysctl(running: &Running<'_>, buffer: u64) -> Outcome {
    let caller = running.domain;
    if !caller.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    let header: SysctlHeader = read(caller, buffer)?;
    if header.interface_version != INTERFACE_VERSION {
        return Err(Errno::Access.into());
    }
    let call = Call {
        caller,
        payload: buffer.wrapping_add(PAYLOAD_OFFSET),
    };
    match SysctlOp::from_number(header.cmd).ok_or(Errno::NoCall)? {
        SysctlOp::ReadConsole => read_console(&call),
        SysctlOp::PhysInfo => call.answer(&phys_info()),
        SysctlOp::SchedId => {
            let sched_id = domctl::scheduler_id().number();
            call.answer(&SchedId { sched_id })
        }
        SysctlOp::GetDomainInfoList => domain_info_list(&call),
        SysctlOp::DebugKeys => debug_keys(&call),
        SysctlOp::AvailHeap => {
            let request: AvailHeap = call.payload()?;
            let avail_bytes = frames::free();
            call.answer(&AvailHeap {
                avail_bytes,
                ..request
            })
        }
        SysctlOp::CpuTopoInfo => cpu_topology(&call),
        SysctlOp::NumaInfo => numa_info(&call),
        SysctlOp::CpuPoolOp => cpu_pool(&call),
        SysctlOp::SchedulerOp => pool_scheduler(&call),
        SysctlOp::PciTopoInfo => Err(Errno::NoCall.into()),
    }
}

/// A part of the log: from the index that the caller brings, or what is there.
fn read_console(call: &Call<'_>) -> Outcome {
    let mut request: ReadConsole = call.payload()?;
    let from = (request.incremental != 0).then_some(request.index);
    let mut position = console::log_position(from);
    let room = (request.count as usize).min(LOG_AT_ONCE);
    let mut done = 0;
    while done < room {
        let mut chunk = [0; LOG_CHUNK];
        let part = chunk.get_mut(..LOG_CHUNK.min(room - done));
        let part = part.unwrap_or_default();
        let read = console::read_log(position, part);
        let text = part.get(..read.len).unwrap_or_default();
        if text.is_empty() {
            break;
        }
        let at = request.buffer.get().wrapping_add(done as u64);
        copy_to(call.caller, at, text)?;
        done += text.len();
        position = read.next;
    }
    if request.clear != 0 {
        console::clear_log(position);
    }
    request.index = position as u32;
    request.count = done as u32;
    call.answer(&request)
}

fn phys_info() -> PhysInfo {
    let cpus = schedule::cpus();
    let count = cpus.iter().count() as u32;
    let highest = frames::table().and_then(|table| table.banks().last());
    PhysInfo {
        threads_per_core: 1,
        cores_per_socket: count,
        nr_cpus: count,
        max_cpu_id: cpus.iter().last().unwrap_or(0) as u32,
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: (time::frequency() / 1000) as u32,
        capabilities: capabilities::HVM | capabilities::HAP | capabilities::GNTTAB_V1,
        arch_capabilities: 0,
        pad: 0,
        total_pages: frames::table().map_or(0, |table| table.frames()),
        free_pages: memory::usage().free / PAGE_SIZE,
        scrub_pages: 0,
        outstanding_pages: 0,
        max_mfn: highest.map_or(0, |bank| bank.end().frame().get().saturating_sub(1)),
        hw_cap: [0; 8],
    }
}

fn domain_info_list(call: &Call<'_>) -> Outcome {
    let mut request: GetDomainInfoList = call.payload()?;
    let mut next = table::next(request.first_domain);
    let mut count: u32 = 0;
    while let Some(domain) = next.filter(|_| count < request.max_domains) {
        let size = size_of::<GetDomainInfo>() as u64;
        let at = request.buffer.get().wrapping_add(u64::from(count) * size);
        write(call.caller, at, &domctl::info_of(&domain))?;
        count += 1;
        let after = domain.id.get().checked_add(1).map(DomId::new);
        next = after.and_then(table::next);
    }
    request.num_domains = count;
    call.answer(&request)
}

fn debug_keys(call: &Call<'_>) -> Outcome {
    let request: DebugKeys = call.payload()?;
    if request.nr_keys > MOST_KEYS {
        return Err(Errno::TooBig.into());
    }
    for number in 0..u64::from(request.nr_keys) {
        let mut key = [0];
        let at = request.keys.get().wrapping_add(number);
        copy_from(call.caller, at, &mut key)?;
        let [key] = key;
        console::keys::press(key);
    }
    Ok(0)
}

/// Each CPU is a core of the one socket on the one node.
fn cpu_topology(call: &Call<'_>) -> Outcome {
    let mut request: TopologyInfo = call.payload()?;
    let cpus = schedule::cpus();
    let count = cpus.iter().last().map_or(0, |last| last as u32 + 1);
    if !request.entries.is_null() {
        for cpu in 0..count.min(request.num) {
            let entry = if cpus.contains(cpu as usize) {
                CpuTopology {
                    core: cpu,
                    socket: 0,
                    node: 0,
                }
            } else {
                let none = xen_abi::sysctl::INVALID_ID;
                CpuTopology {
                    core: none,
                    socket: none,
                    node: none,
                }
            };
            let size = size_of::<CpuTopology>() as u64;
            let at = request.entries.get().wrapping_add(u64::from(cpu) * size);
            write(call.caller, at, &entry)?;
        }
    }
    request.num = count;
    call.answer(&request)
}

fn numa_info(call: &Call<'_>) -> Outcome {
    let mut request: NumaInfo = call.payload()?;
    if request.num_nodes > 0 {
        if !request.meminfo.is_null() {
            let node = NodeMemory {
                memsize: frames::table().map_or(0, |table| table.frames()) * PAGE_SIZE,
                memfree: frames::free(),
            };
            write(call.caller, request.meminfo.get(), &node)?;
        }
        if !request.distance.is_null() {
            write(call.caller, request.distance.get(), &LOCAL_DISTANCE)?;
        }
    }
    request.num_nodes = 1;
    call.answer(&request)
}

/// There is one pool, of all CPUs.
fn cpu_pool(call: &Call<'_>) -> Outcome {
    let mut request: CpuPoolOp = call.payload()?;
    match CpuPoolCommand::from_number(request.op) {
        Some(CpuPoolCommand::Info) if request.cpupool_id == 0 => {
            request.sched_id = domctl::scheduler_id().number();
            request.n_dom = table::count() as u32;
            bitmap::write(call.caller, &request.cpumap, &schedule::cpus())?;
            call.answer(&request)
        }
        Some(CpuPoolCommand::Info) => Err(Errno::NoEntry.into()),
        Some(CpuPoolCommand::FreeInfo) => {
            let none = xen_core::sched::CpuSet::EMPTY;
            bitmap::write(call.caller, &request.cpumap, &none)?;
            call.answer(&request)
        }
        Some(_) => Err(Errno::NotSupported.into()),
        None => Err(Errno::NoCall.into()),
    }
}

fn pool_scheduler(call: &Call<'_>) -> Outcome {
    let mut request: PoolSchedulerOp = call.payload()?;
    if request.cpupool_id != 0 || request.sched_id != domctl::scheduler_id().number() {
        return Err(Errno::Invalid.into());
    }
    match SchedulerCommand::from_number(request.cmd) {
        Some(SchedulerCommand::GetInfo) => {
            request.ratelimit_us = 0;
            call.answer(&request)
        }
        _ => Err(Errno::NotSupported.into()),
    }
}
