//! CPUs on and off, and the end of the machine.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use xen_abi::hypercall::Hypercall;
use xen_abi::sched::{SchedOp, Shutdown, ShutdownReason};

use crate::machine::Machine;
use crate::{exception, firmware, hypercall, mmu, read_sysreg};

/// The most CPUs that a guest uses.
pub const CPUS: usize = 2;

/// The stack of the second CPU.
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; 0x4000]>);

// SAFETY: only the second CPU uses it.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; 0x4000]));

/// What a CPU runs.
pub type Main = fn(&'static Machine);

/// What the second CPU runs, a [`Main`], and the machine for it.
static SECOND: AtomicUsize = AtomicUsize::new(0);
static MACHINE: AtomicPtr<Machine> = AtomicPtr::new(core::ptr::null_mut());

unsafe extern "C" {
    fn second_cpu();
}

/// The number of this CPU: its affinity level 0.
#[inline(always)]
pub fn this_cpu() -> u32 {
    read_sysreg!("mpidr_el1") as u32 & 1
}

/// Where the second CPU has to be entered, and with what in x0.
pub fn second_cpu_entry() -> (u64, u64) {
    let top = STACK.0.get() as u64 + size_of::<Stack>() as u64;
    (second_cpu as *const () as u64, top)
}

/// Starts the second CPU at `main`; returns what PSCI says, zero for success.
pub fn start_second_cpu(machine: &'static Machine, main: Main) -> u64 {
    MACHINE.store(core::ptr::from_ref(machine).cast_mut(), Ordering::Relaxed);
    SECOND.store(main as usize, Ordering::Relaxed);
    let (entry, stack) = second_cpu_entry();
    firmware::call(firmware::CPU_ON.into(), [1, entry, stack])
}

/// What entry.S enters on the second CPU. It is switched off when its function returns, or at once if
/// [`start_second_cpu`] gave it none.
pub extern "C" fn second_cpu_main() -> ! {
    mmu::enable();
    exception::install();
    let main = SECOND.load(Ordering::Relaxed);
    if main != 0 {
        // SAFETY: only `start_second_cpu` writes the two: a function of this type, and a machine that
        // lives as long as the guest and that nobody changes.
        let (main, machine) = unsafe {
            let main = core::mem::transmute::<usize, Main>(main);
            (main, &*MACHINE.load(Ordering::Relaxed))
        };
        main(machine);
    }
    loop {
        firmware::call(firmware::CPU_OFF.into(), [0; 3]);
    }
}

/// Switches the machine off: as Xen's control domain, or where there is no Xen, by PSCI.
pub fn off() -> ! {
    let request = Shutdown {
        reason: ShutdownReason::PowerOff.number(),
    };
    let address = &raw const request as u64;
    hypercall::call(Hypercall::SchedOp, [SchedOp::Shutdown.number(), address, 0]);
    firmware::call(firmware::SYSTEM_OFF.into(), [0; 3]);
    loop {
        // SAFETY: waits.
        unsafe {
            asm!("wfi", options(nomem, nostack));
        }
    }
}

/// Tells the machine's other CPUs that this one only waits; QEMU lets them run.
#[inline(always)]
pub fn relax() {
    // SAFETY: a hint.
    unsafe {
        asm!("yield", options(nomem, nostack));
    }
}

/// Lets the second CPU take interrupts of the machine's controller.
pub fn accept_interrupts(machine: &Machine, ids: &[u32]) {
    machine.gic.set_up_cpu();
    for id in ids {
        machine.gic.enable(*id);
    }
    exception::unmask();
}
