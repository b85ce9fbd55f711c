//! The image's entry: what `entry.S` is made of, and the CPU that it starts on.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use spin::Once;
use xen_core::paging::stage1::{self, Attributes};
use xen_types::Hpa;

use crate::arch::percpu::{self, CpuId, PerCpu};
use crate::smp::{self, BOOT_RECORDS, BootRecord, MAX_CPUS};
use crate::{boot, wrong_level};

/// EL1 is AArch64, and physical interrupts and errors are taken to EL2 (`HCR_EL2`, D24.2.53):
/// RW, AMO, IMO, FMO. E2H and TGE clear: no host extensions.
pub const HCR: u64 = 1 << 31 | 1 << 5 | 1 << 4 | 1 << 3;
/// `CPTR_EL2` (D24.2.33): RES1 bits, of which TZ traps SVE, which nothing here saves; floating point
/// is not trapped.
const CPTR: u64 = 0x33ff;
/// Bits of `SCTLR_EL2` that are one where no feature uses them (D24.2.176).
const SCTLR_RES1: u64 = 0x30c5_0830;
/// MMU, data and instruction caches, stack alignment check, writable implies execute-never.
const SCTLR_ON: u64 = SCTLR_RES1 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;

global_asm!(
    include_str!("entry.S"),
    primary = sym boot::primary,
    wrong_level = sym wrong_level::complain,
    secondary = sym smp::secondary,
    boot_records = sym BOOT_RECORDS,
    max_cpus = const MAX_CPUS,
    record_size = const size_of::<BootRecord>(),
    record_affinity = const offset_of!(BootRecord, affinity),
    record_stack = const offset_of!(BootRecord, stack),
    record_cpu = const offset_of!(BootRecord, cpu),
    hcr = const HCR,
    cptr = const CPTR,
    sctlr_off = const SCTLR_RES1,
    sctlr_on = const SCTLR_ON,
    mair = const stage1::MAIR_EL2,
    tcr = const stage1::TCR_EL2,
    table = const 0b11,
    code = const Attributes::Code.page(),
    read_only = const Attributes::Constant.page(),
    read_write = const Attributes::Data.page(),
);

/// Stack for the report of an overflow of the boot CPU's stack: memory that only the exception
/// entry of that CPU uses.
#[repr(C, align(16))]
struct EmergencyStack(UnsafeCell<[u8; 0x4000]>);

// SAFETY: no code reads or writes it through Rust; only its address is taken.
unsafe impl Sync for EmergencyStack {}

static EMERGENCY: EmergencyStack = EmergencyStack(UnsafeCell::new([0; 0x4000]));

/// The data of the CPU that entered the image.
pub fn boot_cpu() -> &'static PerCpu {
    static BOOT_CPU: Once<PerCpu> = Once::new();
    BOOT_CPU.call_once(|| {
        let bottom = EMERGENCY.0.get() as usize;
        let emergency = bottom..bottom + size_of::<EmergencyStack>();
        PerCpu::new(CpuId(0), percpu::affinity(), emergency)
    })
}

/// The root of EL2's tables: first those of `entry.S`, which Rust goes on with.
pub fn root_table() -> Hpa {
    unsafe extern "C" {
        static entry_l0: u8;
    }
    Hpa::new((&raw const entry_l0) as u64)
}
