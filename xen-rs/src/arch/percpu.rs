//! What each CPU has of its own, reached through `TPIDR_EL2`.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::Once;
use xen_core::vgic;
use xen_types::Affinity;

use super::features::Features;
use super::sysreg::{read_sysreg, write_sysreg};
use crate::domain::Domain;
use crate::lock::IrqLock;

/// A CPU's number: 0 is the one that booted, the others follow the device tree's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CpuId(pub u32);

impl CpuId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl core::fmt::Display for CpuId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cpu{}", self.0)
    }
}

/// How far the start of a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Firmware was told to start it.
    Called,
    /// It runs.
    Up,
    /// It came, but cannot take interrupts.
    Failed,
    /// It did not come in time, and must not go on if it comes now.
    CalledOff,
}

/// A [`Start`] that its CPU and the one that waits for it decide on together.
pub struct Progress(AtomicU32);

impl Progress {
    const fn new() -> Self {
        Self(AtomicU32::new(Start::Called as u32))
    }

    /// How far it is.
    pub fn get(&self) -> Start {
        Self::decode(self.0.load(Ordering::Acquire))
    }

    /// The CPU is here. False if its start was called off.
    pub fn arrive(&self, outcome: Start) -> bool {
        self.decide(outcome) == outcome
    }

    /// Calls the start off unless the CPU is here; returns what it is then.
    pub fn call_off(&self) -> Start {
        self.decide(Start::CalledOff)
    }

    /// The first decision stands.
    fn decide(&self, outcome: Start) -> Start {
        let called = Start::Called as u32;
        let decided =
            self.0
                .compare_exchange(called, outcome as u32, Ordering::AcqRel, Ordering::Acquire);
        decided.map_or_else(Self::decode, |_| outcome)
    }

    const fn decode(value: u32) -> Start {
        const UP: u32 = Start::Up as u32;
        const FAILED: u32 = Start::Failed as u32;
        const CALLED: u32 = Start::Called as u32;
        match value {
            CALLED => Start::Called,
            UP => Start::Up,
            FAILED => Start::Failed,
            _ => Start::CalledOff,
        }
    }
}

/// A CPU's own data.
#[repr(C)]
pub struct PerCpu {
    /// Where the stack of an overflow report starts. Read by `exception.S`.
    pub emergency_stack_top: usize,
    /// Lowest address of the emergency stack.
    pub emergency_stack_bottom: usize,
    /// Lowest address of the stack; it grows down to here, the guard lies below.
    stack_bottom: AtomicU64,
    /// First address above the stack.
    stack_top: AtomicU64,
    /// Number.
    pub id: CpuId,
    /// Place in the machine.
    pub affinity: Affinity,
    /// How far its start is.
    pub start: Progress,
    /// What it can do, once it has looked.
    pub features: Once<Features>,
    /// How the interrupt controller names this CPU as the target of an SGI.
    pub sgi_target: AtomicU64,
    /// The vCPU whose registers it has.
    pub resident: IrqLock<Option<(Arc<Domain>, vgic::CpuId)>>,
    /// It has told itself to look at what it runs.
    pub must_look: AtomicBool,
    /// That vCPU runs: it looks at its interrupts before it goes on.
    pub running: AtomicBool,
    /// An access is being made that may end in an SError.
    pub expects_system_error: AtomicBool,
    /// Timer interrupts taken.
    pub ticks: AtomicU32,
    /// Pings taken from other CPUs.
    pub pings: AtomicU32,
}

impl PerCpu {
    /// A CPU that has its emergency stack in `emergency_stack` and no other yet.
    pub fn new(id: CpuId, affinity: Affinity, emergency_stack: core::ops::Range<usize>) -> Self {
        Self {
            emergency_stack_top: emergency_stack.end,
            emergency_stack_bottom: emergency_stack.start,
            stack_bottom: AtomicU64::new(0),
            stack_top: AtomicU64::new(0),
            id,
            affinity,
            start: Progress::new(),
            features: Once::new(),
            sgi_target: AtomicU64::new(0),
            resident: IrqLock::new(None),
            must_look: AtomicBool::new(false),
            running: AtomicBool::new(false),
            expects_system_error: AtomicBool::new(false),
            ticks: AtomicU32::new(0),
            pings: AtomicU32::new(0),
        }
    }

    /// Remembers the stack, for backtraces.
    pub fn set_stack(&self, stack: core::ops::Range<u64>) {
        self.stack_bottom.store(stack.start, Ordering::Relaxed);
        self.stack_top.store(stack.end, Ordering::Relaxed);
    }

    /// Whether all of the 16 bytes of a frame record at `address` lie on a stack of this CPU.
    pub fn holds_frame_record(&self, address: u64) -> bool {
        let on = |bottom: u64, top: u64| bottom <= address && address.saturating_add(16) <= top;
        on(
            self.stack_bottom.load(Ordering::Relaxed),
            self.stack_top.load(Ordering::Relaxed),
        ) || on(
            self.emergency_stack_bottom as u64,
            self.emergency_stack_top as u64,
        )
    }
}

/// Makes `data` this CPU's.
pub fn install(data: &'static PerCpu) {
    write_sysreg!("tpidr_el2", core::ptr::from_ref(data) as u64);
    data.features.call_once(Features::detect);
}

/// This CPU's data; `None` before [`install`].
pub fn try_this() -> Option<&'static PerCpu> {
    let address = read_sysreg!("tpidr_el2") as *const PerCpu;
    // SAFETY: the register is 0 (entry.S) or what `install` put there: a reference that lives for
    // ever and is shared only as such.
    unsafe { address.as_ref() }
}

/// This CPU's data.
pub fn this() -> &'static PerCpu {
    try_this().expect("per-CPU data is installed before it is used")
}

/// This CPU's affinity, from the hardware.
pub fn affinity() -> Affinity {
    Affinity::from_mpidr(read_sysreg!("mpidr_el1"))
}
