//! `console_io`: the hypervisor's console, for the control domain.

use xen_abi::Errno;
use xen_abi::console::ConsoleOp;

use super::{NoValue, Outcome};
use crate::console;
use crate::domain::memory::{copy_from, copy_to};
use crate::domain::run::Running;

/// Bytes of output that one look at the guest's memory takes.
const CHUNK: usize = 128;
/// Bytes of output in one go; a longer call continues.
const MAX_OUTPUT: u64 = 1024;

/// `console_io`.
pub fn console_io(running: &mut Running<'_>, operation: u64, count: u64, buffer: u64) -> Outcome {
    if !running.domain.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    match ConsoleOp::from_number(operation) {
        Some(ConsoleOp::Write) => output(running, operation, count, buffer),
        Some(ConsoleOp::Read) => input(running, count, buffer),
        None => Err(Errno::NoCall.into()),
    }
}

fn output(running: &Running<'_>, operation: u64, count: u64, buffer: u64) -> Outcome {
    let now = count.min(MAX_OUTPUT);
    let mut chunk = [0; CHUNK];
    let mut done = 0;
    while done < now {
        let length = (now - done).min(CHUNK as u64);
        let part = chunk.get_mut(..length as usize).unwrap_or_default();
        copy_from(running.domain, buffer.wrapping_add(done), part)?;
        console::write_of_dom0(part);
        done += length;
    }
    if now < count {
        let rest = [operation, count - now, buffer.wrapping_add(now)];
        return Err(NoValue::Again(rest));
    }
    Ok(0)
}

fn input(running: &Running<'_>, count: u64, buffer: u64) -> Outcome {
    let mut chunk = [0; CHUNK];
    let room = count.min(CHUNK as u64) as usize;
    let read = console::input::read(chunk.get_mut(..room).unwrap_or_default());
    let bytes = chunk.get(..read).unwrap_or_default();
    copy_to(running.domain, buffer, bytes)?;
    Ok(read as u64)
}
