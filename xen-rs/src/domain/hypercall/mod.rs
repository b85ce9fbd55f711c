//! Hypercalls: `HVC #0xEA1`, number in x16, arguments in x0 to x4, result in x0.
//!
//! A file for each family. What a guest hands over is copied once, checked, and not looked at
//! again. A call whose length the guest chooses does a bounded part of its work; for the rest the
//! guest makes it again, with the progress in its arguments: its vCPU then takes interrupts and
//! shares its CPU in between, and nothing is kept for it here.

mod assignable;
mod bitmap;
mod console;
mod domctl;
mod events;
mod grants;
mod hvm;
mod memory;
mod physdev;
mod platform;
mod sched;
mod sysctl;
mod vcpu;
mod version;
mod vm_assist;

use xen_abi::Errno;
use xen_abi::hypercall::Hypercall;

use super::memory::BadAddress;
use super::run::{Next, Running};

pub use self::version::set_command_line;

/// What a call returns: a value that is not negative, or why there is none.
pub type Outcome = Result<u64, NoValue>;

/// Why a call returns no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoValue {
    /// It failed.
    Error(Errno),
    /// A part is done: the guest makes the call again, with these as its first arguments.
    Again([u64; 3]),
}

impl From<Errno> for NoValue {
    fn from(error: Errno) -> Self {
        Self::Error(error)
    }
}

impl From<BadAddress> for Errno {
    fn from(_: BadAddress) -> Self {
        Self::Fault
    }
}

impl From<BadAddress> for NoValue {
    fn from(error: BadAddress) -> Self {
        Self::Error(error.into())
    }
}

/// Carries out the hypercall that took the vCPU out. Returns what the vCPU does next.
pub fn call(running: &mut Running<'_>) -> Next {
    let mut next = Next::Run;
    match dispatch(running, &mut next) {
        Ok(value) => running.context.set_register(0, value),
        Err(NoValue::Error(error)) => {
            let value = error.to_return_value();
            running.context.set_register(0, value as u64);
        }
        Err(NoValue::Again(arguments)) => {
            for (number, value) in (0..).zip(arguments) {
                running.context.set_register(number, value);
            }
            running.context.repeat_instruction();
        }
    }
    next
}

fn dispatch(running: &mut Running<'_>, next: &mut Next) -> Outcome {
    let number = running.context.register(16);
    let [a, b, c] = [0, 1, 2].map(|number| running.context.register(number));
    match Hypercall::from_number(number) {
        Some(Hypercall::PlatformOp) => platform::platform_op(running, a),
        Some(Hypercall::MemoryOp) => memory::memory_op(running, a, b),
        Some(Hypercall::XenVersion) => version::xen_version(running, a, b),
        Some(Hypercall::ConsoleIo) => console::console_io(running, a, b, c),
        Some(Hypercall::GrantTableOp) => grants::grant_table_op(running, a, b, c),
        Some(Hypercall::VmAssist) => vm_assist::vm_assist(running, a, b),
        Some(Hypercall::VcpuOp) => vcpu::vcpu_op(running, a, b, c),
        Some(Hypercall::SchedOp) => sched::sched_op(running, a, b, next),
        Some(Hypercall::EventChannelOp) => events::event_channel_op(running, a, b),
        Some(Hypercall::PhysdevOp) => physdev::physdev_op(running, a, b),
        Some(Hypercall::Sysctl) => {
            assignable::sysctl(running, a).unwrap_or_else(|| sysctl::sysctl(running, a))
        }
        Some(Hypercall::Domctl) => {
            assignable::domctl(running, a).unwrap_or_else(|| domctl::domctl(running, a))
        }
        Some(Hypercall::HvmOp) => hvm::hvm_op(running, a, b),
        _ => Err(Errno::NoCall.into()),
    }
}
