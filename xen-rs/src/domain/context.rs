//! The registers of a vCPU and the switch into and out of it.

use core::arch::global_asm;
use core::mem::offset_of;

use xen_core::syndrome::Syndrome;

use crate::arch::sysreg::{read_sysreg, write_sysreg};

/// EL1 with SP_EL1, all exceptions masked that can be.
pub const EL1H_MASKED: u64 = 0x3c5;

/// The registers of a guest that the hypervisor would overwrite, and what its last exit left.
#[repr(C)]
#[derive(Default)]
pub struct Context {
    /// General-purpose registers 0 to 30.
    x: [u64; 31],
    /// Where the guest goes on.
    elr: u64,
    /// Its processor state.
    spsr: u64,
    /// Syndrome of the exit.
    esr: u64,
    /// Virtual address of an abort.
    far: u64,
    /// Intermediate physical address of an abort.
    hpfar: u64,
}

global_asm!(
    include_str!("switch.S"),
    elr = const offset_of!(Context, elr),
    esr = const offset_of!(Context, esr),
    hpfar = const offset_of!(Context, hpfar),
);

unsafe extern "C" {
    fn enter_guest(context: *mut Context) -> u64;
}

/// Why a guest came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It did what only the hypervisor can do: the syndrome says what.
    Synchronous,
    /// An interrupt for the hypervisor.
    Irq,
    /// An FIQ, which nobody is set up for.
    Fiq,
    /// An asynchronous error while it ran.
    SystemError,
}

impl Context {
    /// A vCPU whose first instruction is at `entry`, in processor state `spsr`; other registers are
    /// zero.
    pub fn at(entry: u64, spsr: u64) -> Self {
        Self {
            elr: entry,
            spsr,
            ..Self::default()
        }
    }

    /// Runs the guest until it exits. Interrupts of this CPU are masked before and after.
    pub fn run(&mut self) -> Exit {
        // SAFETY: the context is exclusively ours, laid out as switch.S expects. What the guest can
        // reach is decided by its stage 2 and by the traps of HCR_EL2, which are set up before a
        // vCPU is first run; the switch keeps every register that Rust relies on.
        match unsafe { enter_guest(self) } {
            0 => Exit::Synchronous,
            1 => Exit::Irq,
            2 => Exit::Fiq,
            _ => Exit::SystemError,
        }
    }

    /// The syndrome of the last exit.
    pub fn syndrome(&self) -> Syndrome {
        Syndrome::new(self.esr)
    }

    /// The intermediate physical address of an abort: the page from HPFAR_EL2 and the offset from
    /// FAR_EL2 (Arm ARM D24.2.68).
    pub fn fault_address(&self) -> u64 {
        (self.hpfar & 0x0000_0fff_ffff_fff0) << 8 | self.far & 0xfff
    }

    /// The instruction that trapped, or the one behind it.
    pub fn program_counter(&self) -> u64 {
        self.elr
    }

    /// Gives EL1 the data abort that a bus without a device gives: a synchronous external abort.
    pub fn inject_data_abort(&mut self) {
        let class = if self.was_el0() { 0x24 } else { 0x25 };
        write_sysreg!("far_el1", self.far);
        // The instruction's length and direction stay as they were.
        self.inject(0, class << 26 | self.esr & (1 << 25 | 1 << 6) | 0x10);
    }

    /// Gives EL1 the same for a fetch.
    pub fn inject_instruction_abort(&mut self) {
        let class = if self.was_el0() { 0x20 } else { 0x21 };
        write_sysreg!("far_el1", self.far);
        self.inject(0, class << 26 | 1 << 25 | 0x10);
    }

    /// Gives EL1 the exception of an instruction that does not exist.
    pub fn inject_undefined(&mut self) {
        self.inject(0, 1 << 25);
    }

    /// Gives EL1 an SError.
    pub fn inject_system_error(&mut self) {
        self.inject(0x180, 0x2f << 26 | 1 << 25);
    }

    fn was_el0(&self) -> bool {
        self.spsr & 0xf == 0
    }

    /// Takes an exception to EL1 (Arm ARM D1.3.1): `vector` within its group, and a syndrome.
    fn inject(&mut self, vector: u64, syndrome: u64) {
        // From EL1 with SP_EL0, from EL1 with SP_EL1, from EL0 in AArch64, from AArch32.
        let group = match self.spsr & 0x1f {
            0b00100 => 0,
            0b00101 => 0x200,
            0b00000..=0b01111 => 0x400,
            _ => 0x600,
        };
        write_sysreg!("esr_el1", syndrome);
        write_sysreg!("elr_el1", self.elr);
        write_sysreg!("spsr_el1", self.spsr);
        // The base is whatever the guest wrote: an address that wraps is its own trouble.
        self.elr = read_sysreg!("vbar_el1").wrapping_add(group + vector);
        self.spsr = EL1H_MASKED;
    }

    /// Goes on behind the instruction that trapped.
    pub fn skip_instruction(&mut self) {
        let length = if self.esr & 1 << 25 != 0 { 4 } else { 2 };
        self.elr = self.elr.wrapping_add(length);
    }

    /// Its processor state.
    pub const fn processor_state(&self) -> u64 {
        self.spsr
    }

    /// Goes back to the hypercall that took the guest out: it is made again.
    pub fn repeat_instruction(&mut self) {
        self.elr = self.elr.wrapping_sub(4);
    }

    /// Register number `number` as an instruction names it: 31 is zero.
    pub fn register(&self, number: u8) -> u64 {
        self.x.get(usize::from(number)).copied().unwrap_or(0)
    }

    /// Writes a register; number 31 swallows it.
    pub fn set_register(&mut self, number: u8, value: u64) {
        if let Some(register) = self.x.get_mut(usize::from(number)) {
            *register = value;
        }
    }
}
