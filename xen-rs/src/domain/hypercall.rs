//! Hypercalls: `HVC #0xEA1`, number in x16, arguments in x0 to x4, result in x0.

use xen_abi::Errno;
use xen_abi::console::ConsoleOp;
use xen_abi::features::Feature;
use xen_abi::hypercall::Hypercall;
use xen_abi::sched::{SchedOp, Shutdown, ShutdownReason};
use xen_abi::version::{FeatureInfo, VersionOp, XEN_VERSION};
use zerocopy::{FromZeros, IntoBytes};

use super::memory::{BadAddress, copy_from, copy_to};
use super::run::{self, Next, Running};
use super::{events, guest_pages};
use crate::console;

/// What a call returns: a value that is not negative, or an error.
pub type Outcome = Result<u64, Errno>;

impl From<BadAddress> for Errno {
    fn from(_: BadAddress) -> Self {
        Self::Fault
    }
}

/// Bytes of console output that one look at the guest's memory takes.
const CHUNK: usize = 128;
/// Bytes of console output in one call at most: the call stays short, and the guest goes on with the
/// rest.
const MAX_OUTPUT: u64 = 4096;

/// Carries out the hypercall that took the vCPU out. Returns what the vCPU does next.
pub fn call(running: &mut Running<'_>) -> Next {
    let number = running.context.register(16);
    let [operation, second, third] = [0, 1, 2].map(|number| running.context.register(number));
    let mut next = Next::Run;
    let outcome = match Hypercall::from_number(number) {
        Some(Hypercall::XenVersion) => version(running, operation, second),
        Some(Hypercall::ConsoleIo) => console_io(running, operation, second, third),
        Some(Hypercall::MemoryOp) => guest_pages::memory_op(running, operation, second),
        Some(Hypercall::VcpuOp) => guest_pages::vcpu_op(running, operation, second, third),
        Some(Hypercall::EventChannelOp) => events::event_channel_op(running, operation, second),
        Some(Hypercall::SchedOp) => sched_op(running, operation, second, &mut next),
        _ => Err(Errno::NoCall),
    };
    let value = match outcome {
        Ok(value) => value,
        Err(error) => error.to_return_value() as u64,
    };
    running.context.set_register(0, value);
    next
}

fn sched_op(running: &Running<'_>, operation: u64, buffer: u64, next: &mut Next) -> Outcome {
    match SchedOp::from_number(operation) {
        Some(SchedOp::Yield) => {
            *next = Next::Yield;
            Ok(0)
        }
        Some(SchedOp::Block) => {
            *next = Next::Wait;
            Ok(0)
        }
        Some(SchedOp::Shutdown) => {
            let mut request = Shutdown::new_zeroed();
            copy_from(running.domain, buffer, request.as_mut_bytes())?;
            match ShutdownReason::from_number(request.reason) {
                Some(ShutdownReason::PowerOff) => run::power_off(),
                Some(ShutdownReason::Reboot) => run::reset(),
                Some(ShutdownReason::Crash) => run::crashed(running.domain),
                _ => Err(Errno::NoCall),
            }
        }
        _ => Err(Errno::NoCall),
    }
}

fn version(running: &mut Running<'_>, operation: u64, buffer: u64) -> Outcome {
    match VersionOp::from_number(operation) {
        Some(VersionOp::Version) => Ok(XEN_VERSION.into()),
        Some(VersionOp::PageSize) => Ok(xen_types::PAGE_SIZE),
        Some(VersionOp::GetFeatures) => {
            let mut info = FeatureInfo::new_zeroed();
            copy_from(running.domain, buffer, info.as_mut_bytes())?;
            if info.submap_idx >= xen_abi::features::SUBMAPS {
                return Err(Errno::Invalid);
            }
            info.submap = features();
            copy_to(running.domain, buffer, info.as_bytes())?;
            Ok(0)
        }
        _ => Err(Errno::NoCall),
    }
}

/// What Dom0 is told that it can rely on.
fn features() -> u32 {
    [
        Feature::WritablePageTables,
        Feature::AutoTranslatedPhysmap,
        Feature::Dom0,
        Feature::MemoryOpVnodeSupported,
        Feature::ArmSmcccSupported,
        Feature::DirectMapped,
    ]
    .iter()
    .fold(0, |word, feature| word | feature.bit())
}

fn console_io(running: &mut Running<'_>, operation: u64, count: u64, buffer: u64) -> Outcome {
    match ConsoleOp::from_number(operation) {
        Some(ConsoleOp::Write) => {
            let mut chunk = [0; CHUNK];
            let mut done = 0;
            let count = count.min(MAX_OUTPUT);
            while done < count {
                let length = (count - done).min(CHUNK as u64) as usize;
                let part = chunk.get_mut(..length).unwrap_or_default();
                copy_from(running.domain, buffer.wrapping_add(done), part)?;
                console::write_of_dom0(part);
                done += length as u64;
            }
            Ok(0)
        }
        Some(ConsoleOp::Read) => {
            let mut chunk = [0; CHUNK];
            let room = count.min(CHUNK as u64) as usize;
            let read = console::input::read(chunk.get_mut(..room).unwrap_or_default());
            copy_to(
                running.domain,
                buffer,
                chunk.get(..read).unwrap_or_default(),
            )?;
            Ok(read as u64)
        }
        None => Err(Errno::NoCall),
    }
}
