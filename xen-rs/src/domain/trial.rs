//! `selftest=guest`: a guest of a few instructions at EL1, each of which must come back as the
//! architecture says. It proves stage 2 and the switch before a kernel depends on them.

use core::arch::global_asm;

use log::{info, warn};
use smmu::Vmid;
use xen_abi::DomId;
use xen_core::paging::stage2::Attributes;
use xen_core::paging::{MapError, OutOfTables};
use xen_types::{Gpa, GpaRange, HpaRange, PAGE_SIZE};

use super::context::{Context, EL1H_MASKED, Exit};
use super::space::Space;
use crate::arch::sysreg::write_sysreg;
use crate::arch::{barrier, interrupts};
use crate::memory::frames::{self, OutOfFrames};
use crate::memory::ram;

/// Where the guest finds its code, and a page that it may only read.
const CODE: Gpa = Gpa::new(0x4000_0000);
const CONSTANT: Gpa = Gpa::new(0x4020_0000);
/// What the page holds, and what the hypercall answers.
const MAGIC: u64 = 0x5845_4e52_5354_4553;
const ANSWER: u64 = 0x4_0014;
/// An address that nothing is mapped at.
const HOLE: Gpa = Gpa::new(0x4040_0000);

/// `SCTLR_EL1`: RES1 bits; MMU and caches off (D24.2.175).
const SCTLR_EL1: u64 = 0x30d0_0800;
/// `HCR_EL2` for a guest: EL1 is AArch64, stage 2 on, interrupts and errors come here, SMC traps.
const HCR_GUEST: u64 = 1 << 31 | 1 << 19 | 1 << 5 | 1 << 4 | 1 << 3 | 1;

global_asm!(
    ".section .rodata.trial, \"a\"",
    ".balign 8",
    ".global trial_start",
    "trial_start:",
    "    hvc   #0xea1",
    "    mov   x19, x0",
    "    ldr   x20, [x1]",
    "    str   x20, [x1]",
    "    ldr   x21, [x2]",
    "    smc   #0",
    "    hvc   #1",
    ".balign 8",
    ".global trial_end",
    "trial_end:",
    ".text",
);

/// Why the trial could not be held.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// No frames.
    #[error(transparent)]
    Memory(#[from] OutOfFrames),
    /// No tables.
    #[error(transparent)]
    Tables(#[from] OutOfTables),
    /// The pages cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The guest did not do what it should.
    #[error("at step {step} the guest came back with {exit:?}, {syndrome}, address {address:#x}")]
    Unexpected {
        /// Which exit, from 0.
        step: usize,
        /// Kind of the exit.
        exit: Exit,
        /// Syndrome in words.
        syndrome: xen_core::syndrome::Syndrome,
        /// Address of an abort.
        address: u64,
    },
    /// It saw other values than it should.
    #[error("the guest saw {0:#x} and {1:#x}")]
    Values(u64, u64),
}

/// Runs the guest on this CPU and says how it went.
pub fn run() {
    match trial() {
        Ok(()) => info!("selftest: guest: hypercall, traps and stage 2 work"),
        Err(error) => warn!("selftest: guest: {error}"),
    }
}

fn trial() -> Result<(), TrialError> {
    let memory = frames::allocate_for_hypervisor(2 * PAGE_SIZE as usize)?;
    let vmid = Vmid::new(1);
    let mut space = Space::new(DomId::XEN, vmid)?;
    let outcome = prepare(&mut space, memory).and_then(|()| steps(&mut space));
    write_sysreg!("vttbr_el2", 0);
    barrier::isb();
    drop(space);
    frames::free_for_hypervisor(memory);
    outcome
}

/// Copies the code and maps both pages.
fn prepare(space: &mut Space, memory: HpaRange) -> Result<(), TrialError> {
    // SAFETY: the two frames were just given to the trial alone, which gives them back at its end.
    let pages = unsafe { ram::exclusive(memory) };
    let (code, constant) = pages.split_at_mut(PAGE_SIZE as usize);
    let program = program();
    code.fill(0);
    code[..program.len()].copy_from_slice(program);
    constant[..8].copy_from_slice(&MAGIC.to_le_bytes());
    make_executable(code);
    let page = |at| GpaRange::new(at, PAGE_SIZE).expect("a page is a range");
    let second = memory
        .start()
        .checked_add(PAGE_SIZE)
        .expect("inside the block");
    space.map(page(CODE), memory.start(), Attributes::Ram)?;
    space.map(page(CONSTANT), second, Attributes::ReadOnlyRam)?;
    Ok(())
}

fn program() -> &'static [u8] {
    unsafe extern "C" {
        static trial_start: u8;
        static trial_end: u8;
    }
    let (start, end) = (&raw const trial_start, &raw const trial_end);
    // SAFETY: both label the same constant section of the image, the end above the start.
    unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// What was written as data is to be fetched as code, by a guest with its caches off.
fn make_executable(code: &[u8]) {
    crate::arch::cache::clean_slice_to_memory(code);
    // SAFETY: empties instruction caches; memory does not change.
    unsafe { core::arch::asm!("ic ialluis", options(nostack)) };
    barrier::dsb_ish();
    barrier::isb();
}

/// Exception classes (D24.2.41).
const HVC: u8 = 0x16;
const SMC: u8 = 0x17;
const DATA_ABORT: u8 = 0x24;

fn steps(space: &mut Space) -> Result<(), TrialError> {
    let _masked = interrupts::mask();
    let expected = [
        (HVC, None),
        (DATA_ABORT, Some(CONSTANT)),
        (DATA_ABORT, Some(HOLE)),
        (SMC, None),
        (HVC, None),
    ];
    let mut guest = Context::at(CODE.get(), EL1H_MASKED);
    guest.set_register(1, CONSTANT.get());
    guest.set_register(2, HOLE.get());
    write_sysreg!("sctlr_el1", SCTLR_EL1);
    let translation = space.translation()?;
    translation.activate();
    write_sysreg!("hcr_el2", HCR_GUEST);
    barrier::isb();
    let outcome = expected
        .into_iter()
        .enumerate()
        .try_for_each(|(step, expected)| expect(&mut guest, step, expected));
    write_sysreg!("hcr_el2", crate::entry::HCR);
    barrier::isb();
    outcome?;
    match (guest.register(19), guest.register(20)) {
        (ANSWER, MAGIC) => Ok(()),
        (answer, magic) => Err(TrialError::Values(answer, magic)),
    }
}

/// Runs the guest to its next exit, which must be of that class and, for an abort, at that address.
fn expect(
    guest: &mut Context,
    step: usize,
    (class, address): (u8, Option<Gpa>),
) -> Result<(), TrialError> {
    let exit = run_past_interrupts(guest);
    let right_class = exit == Exit::Synchronous && guest.syndrome().class() == class;
    let right_address = address.is_none_or(|at| at.get() == guest.fault_address());
    if !right_class || !right_address {
        return Err(TrialError::Unexpected {
            step,
            exit,
            syndrome: guest.syndrome(),
            address: guest.fault_address(),
        });
    }
    if class == HVC {
        guest.set_register(0, ANSWER);
    } else {
        // A trapped SMC and an abort leave the return address at the instruction itself.
        guest.skip_instruction();
    }
    Ok(())
}

fn run_past_interrupts(guest: &mut Context) -> Exit {
    loop {
        match guest.run() {
            Exit::Irq => crate::gic::handle_irq(),
            other => return other,
        }
    }
}
