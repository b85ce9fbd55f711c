//! Exceptions taken to EL2 (Arm ARM D1.3.1): the vectors, the saved registers, the dispatch.

use core::arch::global_asm;
use core::mem::offset_of;

use xen_core::syndrome::Syndrome;

use super::percpu::PerCpu;
use super::probe;
use super::sysreg::read_sysreg;
use crate::gic;
use crate::report::{self, Cause};

/// The registers at the moment of an exception, as `exception.S` stores them.
#[repr(C)]
pub struct Frame {
    /// General-purpose registers 0 to 30.
    pub x: [u64; 31],
    /// The stack pointer before the exception.
    pub sp: u64,
    /// Where to return to.
    pub elr: u64,
    /// The state to return to.
    pub spsr: u64,
    /// Syndrome.
    pub esr: u64,
    /// Virtual address of an abort.
    pub far: u64,
    /// Intermediate physical address of a stage 2 abort.
    pub hpfar: u64,
    /// Which vector was taken: `Vector` as a number.
    vector: u64,
}

const FRAME_SIZE: usize = size_of::<Frame>();
const _: () = assert!(FRAME_SIZE.is_multiple_of(16));

/// What a handler, or a report, may need of the stack that it interrupts.
const RESERVE: usize = 0x2000;

/// Vector numbers that `exception.S` puts into a frame.
mod vector {
    pub const SYNC: u64 = 0;
    pub const IRQ: u64 = 1;
    pub const FIQ: u64 = 2;
    pub const SERROR: u64 = 3;
    /// Any vector of the current level that found no room on the stack.
    pub const OVERFLOW: u64 = 4;
    /// A vector that cannot be taken as this hypervisor runs: EL2 with SP_EL0.
    pub const UNEXPECTED: u64 = 5;
}

global_asm!(
    include_str!("exception.S"),
    frame = const FRAME_SIZE,
    reserve = const RESERVE,
    frame_elr = const offset_of!(Frame, elr),
    frame_esr = const offset_of!(Frame, esr),
    frame_hpfar = const offset_of!(Frame, hpfar),
    frame_x30 = const offset_of!(Frame, x) + 30 * 8,
    emergency_stack = const offset_of!(PerCpu, emergency_stack_top),
    sync = const vector::SYNC,
    irq = const vector::IRQ,
    fiq = const vector::FIQ,
    serror = const vector::SERROR,
    overflow = const vector::OVERFLOW,
    unexpected = const vector::UNEXPECTED,
    handler = sym handle,
);

impl Frame {
    /// The syndrome in words.
    pub fn syndrome(&self) -> Syndrome {
        Syndrome::new(self.esr)
    }

    /// The frame pointer, where a backtrace starts.
    pub fn frame_pointer(&self) -> u64 {
        self.x[29]
    }
}

extern "C" fn handle(frame: &mut Frame) {
    match frame.vector {
        vector::IRQ => gic::handle_irq(),
        vector::SYNC => {
            if !probe::recover(frame) {
                report::stop(Cause::Exception(frame));
            }
        }
        vector::SERROR => {
            if !probe::expected_system_error() {
                report::stop(Cause::SystemError(frame));
            }
        }
        vector::OVERFLOW => {
            frame.sp = read_sysreg!("tpidrro_el0") + (FRAME_SIZE + RESERVE) as u64;
            report::stop(Cause::StackOverflow(frame));
        }
        vector::FIQ => report::stop(Cause::Unexpected(frame, "FIQ")),
        _ => report::stop(Cause::Unexpected(frame, "exception from another context")),
    }
}
