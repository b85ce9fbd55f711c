//! The other CPUs: started one at a time, each with a stack and data of its own.
//!
//! A CPU that does not come up in time is reported and left out. Should it come later, it finds
//! that the record names another CPU, or that its start was called off, and parks.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use log::{info, warn};
use platform_dt::{Cpu, EnableMethod};
use smccc::psci::error::Error as PsciError;
use spin::Once;
use xen_types::{Hpa, Interrupt};

use crate::arch::percpu::{self, CpuId, PerCpu};
use crate::arch::{barrier, cache, firmware, interrupts, time};
use crate::gic;
use crate::memory::space;
use crate::memory::stack::{self, StackError};

/// How long a CPU may take from the firmware call to its first line of Rust.
const PATIENCE_MICROSECONDS: u64 = 5_000_000;

/// What `secondary_entry` reads with the MMU off.
#[repr(C)]
pub struct BootRecord {
    /// Only this CPU may go on.
    pub affinity: AtomicU64,
    /// Root of the EL2 tables.
    pub root: AtomicU64,
    /// Top of its stack.
    pub stack: AtomicU64,
    /// Its `PerCpu`.
    pub cpu: AtomicU64,
}

/// Names the CPU that is being started.
pub static BOOT_RECORD: BootRecord = BootRecord {
    affinity: AtomicU64::new(u64::MAX),
    root: AtomicU64::new(0),
    stack: AtomicU64::new(0),
    cpu: AtomicU64::new(0),
};

/// How far the CPU of the boot record is.
static PROGRESS: AtomicU32 = AtomicU32::new(IDLE);
const IDLE: u32 = 0;
const CALLED: u32 = 1;
const UP: u32 = 2;
const FAILED: u32 = 3;

static TIMER: Once<Interrupt> = Once::new();

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
    #[error("{0}")]
    Stack(#[from] StackError),
    #[error("cannot reach its spin table at {0}")]
    SpinTable(Hpa),
}

unsafe extern "C" {
    fn secondary_entry();
}

/// Starts every CPU of the tree but this one. Returns those that run, this one first.
pub fn start_all(cpus: &[Cpu], timer: Interrupt) -> Vec<&'static PerCpu> {
    TIMER.call_once(|| timer);
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
    let stack = stack::allocate(id)?;
    let emergency = stack::allocate_emergency().map_err(StackError::from)?;
    let data: &'static PerCpu = Box::leak(Box::new(PerCpu::new(id, cpu.affinity, emergency)));
    data.set_stack(stack.clone());
    publish(data, stack.end);
    let called = call(cpu);
    let result = called.and_then(|()| wait_for_arrival());
    // From here on a late arrival finds no record that names it.
    BOOT_RECORD.affinity.store(u64::MAX, Ordering::Relaxed);
    cache::clean_to_memory(&BOOT_RECORD);
    result.map(|()| data)
}

fn publish(data: &'static PerCpu, stack_top: u64) {
    PROGRESS.store(CALLED, Ordering::Release);
    let record = &BOOT_RECORD;
    record.root.store(space::root().get(), Ordering::Relaxed);
    record.stack.store(stack_top, Ordering::Relaxed);
    let address = core::ptr::from_ref(data) as u64;
    record.cpu.store(address, Ordering::Relaxed);
    record
        .affinity
        .store(data.affinity.get(), Ordering::Relaxed);
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

fn wait_for_arrival() -> Result<(), StartError> {
    let arrived = || PROGRESS.load(Ordering::Acquire) != CALLED;
    time::wait_until(PATIENCE_MICROSECONDS, arrived);
    match PROGRESS.swap(IDLE, Ordering::AcqRel) {
        UP => Ok(()),
        FAILED => Err(StartError::Interrupts),
        _ => Err(StartError::Late),
    }
}

/// The first Rust of another CPU: on its own stack, with the tables of all.
pub extern "C" fn secondary(cpu: &'static PerCpu) -> ! {
    percpu::install(cpu);
    time::enable_event_stream();
    let ready = TIMER
        .get()
        .is_some_and(|timer| gic::init_cpu(*timer).is_ok());
    let outcome = if ready { UP } else { FAILED };
    let in_time = PROGRESS
        .compare_exchange(CALLED, outcome, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok();
    barrier::dsb_ish();
    barrier::sev();
    if !ready || !in_time {
        crate::report::halt();
    }
    idle()
}

/// Waits for interrupts.
pub fn idle() -> ! {
    interrupts::enable();
    loop {
        barrier::wfi();
    }
}
