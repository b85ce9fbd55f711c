//! The other CPUs: started one at a time, each with a stack and data of its own.
//!
//! A CPU that does not come up in time is reported and left out. Each has a record, a stack and data
//! that are never another's, so that one that comes later finds its own, learns that its start was
//! called off, and parks.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use log::{info, warn};
use platform_dt::{Cpu, EnableMethod};
use smccc::psci::error::Error as PsciError;
use xen_types::Hpa;

use crate::arch::percpu::{self, CpuId, PerCpu, Start};
use crate::arch::{barrier, cache, firmware, time};
use crate::domain::{schedule, traps};
use crate::gic;
use crate::memory::space;
use crate::memory::stack::{self, StackError};

/// How long a CPU may take from the firmware call to its first line of Rust.
const PATIENCE_MICROSECONDS: u64 = 5_000_000;

/// The most CPUs besides the first.
pub const MAX_CPUS: usize = 511;

/// What `secondary_entry` reads with the MMU off. Written once.
#[repr(C)]
pub struct BootRecord {
    /// The CPU that may go on with it.
    pub affinity: AtomicU64,
    /// Top of its stack; 0 as long as the record is not used.
    pub stack: AtomicU64,
    /// Its `PerCpu`.
    pub cpu: AtomicU64,
}

/// The CPUs that were started, in the order of their numbers.
pub static BOOT_RECORDS: [BootRecord; MAX_CPUS] = [const {
    BootRecord {
        affinity: AtomicU64::new(0),
        stack: AtomicU64::new(0),
        cpu: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// Why a CPU is left out.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the firmware says: {0}")]
    Firmware(PsciError),
    #[error("its device tree node says neither psci nor spin-table (enable-method)")]
    NoMethod,
    #[error("it did not arrive within {} seconds", PATIENCE_MICROSECONDS / 1_000_000)]
    Late,
    #[error("its interrupt interface does not work")]
    Interrupts,
    #[error("there are more than {MAX_CPUS} others")]
    TooMany,
    #[error("{0}")]
    Stack(#[from] StackError),
    #[error("cannot reach its spin table at {0}")]
    SpinTable(Hpa),
}

unsafe extern "C" {
    fn secondary_entry();
}

/// Starts every CPU of the tree but this one. Returns those that run, this one first.
pub fn start_all(cpus: &[Cpu]) -> Vec<&'static PerCpu> {
    let this = percpu::this();
    announce(this, this);
    let mut up = Vec::from([this]);
    let others = cpus.iter().filter(|cpu| cpu.affinity != this.affinity);
    for (number, cpu) in (1..).zip(others) {
        let id = CpuId(number);
        match start(id, cpu) {
            Ok(started) => {
                announce(started, this);
                up.push(started);
            }
            Err(error) => warn!("{id}: did not come up: {error} ({})", cpu.path),
        }
    }
    up
}

/// Says that a CPU is up, and what it can do where that differs from the first one.
fn announce(cpu: &PerCpu, first: &PerCpu) {
    let alike = cpu.id != first.id && cpu.features.get() == first.features.get();
    match cpu.features.get().filter(|_| !alike) {
        Some(features) => info!("{}: up, affinity {}, {features}", cpu.id, cpu.affinity),
        None => info!("{}: up, affinity {}", cpu.id, cpu.affinity),
    }
}

fn start(id: CpuId, cpu: &Cpu) -> Result<&'static PerCpu, StartError> {
    let record = free_record().ok_or(StartError::TooMany)?;
    let stack = stack::allocate(id)?;
    let emergency = stack::allocate_emergency().map_err(StackError::from)?;
    let data: &'static PerCpu = Box::leak(Box::new(PerCpu::new(id, cpu.affinity, emergency)));
    data.set_stack(stack.clone());
    publish(record, data, stack.end);
    if let Err(error) = call(cpu) {
        data.start.call_off();
        return Err(error);
    }
    wait_for_arrival(data)?;
    Ok(data)
}

fn free_record() -> Option<&'static BootRecord> {
    BOOT_RECORDS
        .iter()
        .find(|record| record.stack.load(Ordering::Relaxed) == 0)
}

fn publish(record: &'static BootRecord, data: &'static PerCpu, stack_top: u64) {
    let address = core::ptr::from_ref(data) as u64;
    record.cpu.store(address, Ordering::Relaxed);
    record
        .affinity
        .store(data.affinity.get(), Ordering::Relaxed);
    record.stack.store(stack_top, Ordering::Relaxed);
    cache::clean_to_memory(record);
}

fn call(cpu: &Cpu) -> Result<(), StartError> {
    let entry = Hpa::new(secondary_entry as *const () as u64);
    match &cpu.boot {
        EnableMethod::Psci => {
            firmware::cpu_on(cpu.affinity, entry, 0).map_err(StartError::Firmware)
        }
        EnableMethod::SpinTable { release } => write_spin_table(*release, entry),
        EnableMethod::Unknown(_) | EnableMethod::None => Err(StartError::NoMethod),
    }
}

/// Writes the entry point where the CPU polls for it with its caches off (Linux arm64 booting
/// document, "CPU enable method spin-table").
fn write_spin_table(release: Hpa, entry: Hpa) -> Result<(), StartError> {
    space::write_uncached(release, entry.get()).map_err(|_| StartError::SpinTable(release))?;
    barrier::dsb_sy();
    barrier::sev();
    Ok(())
}

fn wait_for_arrival(data: &PerCpu) -> Result<(), StartError> {
    time::wait_until(PATIENCE_MICROSECONDS, || data.start.get() != Start::Called);
    match data.start.call_off() {
        Start::Up => Ok(()),
        Start::Failed => Err(StartError::Interrupts),
        Start::Called | Start::CalledOff => Err(StartError::Late),
    }
}

/// The first Rust of another CPU: on its own stack, with the tables of all.
pub extern "C" fn secondary(cpu: &'static PerCpu) -> ! {
    percpu::install(cpu);
    time::enable_event_stream();
    firmware::note_workarounds();
    traps::init();
    let ready = gic::init_cpu().is_ok();
    let outcome = if ready { Start::Up } else { Start::Failed };
    let in_time = cpu.start.arrive(outcome);
    barrier::dsb_ish();
    barrier::sev();
    if !ready || !in_time {
        crate::report::halt();
    }
    schedule::run_cpu()
}
