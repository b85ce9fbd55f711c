//! What is typed on the console: kept until Dom0 reads it.

use core::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use xen_core::event::Virq;
use xen_types::{IntId, Interrupt};

use super::CONSOLE;
use crate::domain::events;
use crate::gic;
use crate::lock::IrqLock;

/// Characters that wait for Dom0 at most; more are lost, as in a serial port.
const ROOM: usize = 256;

static WAITING: IrqLock<ArrayVec<u8, ROOM>> = IrqLock::new(ArrayVec::new_const());

/// INTID of the port's interrupt; no INTID is that large.
static INTERRUPT: AtomicU32 = AtomicU32::new(u32::MAX);

/// Has the port interrupt when something is typed.
pub fn enable(interrupt: Interrupt) {
    INTERRUPT.store(interrupt.id.get(), Ordering::Relaxed);
    if let Some(port) = &mut CONSOLE.lock().port {
        port.enable_receive_interrupt();
    }
    gic::configure(interrupt.id, interrupt.trigger);
    gic::enable(interrupt.id);
}

/// Takes what was typed if `id` is the port's interrupt; false if it is not.
pub fn take_interrupt(id: IntId) -> bool {
    if id.get() != INTERRUPT.load(Ordering::Relaxed) {
        return false;
    }
    if let Some(port) = &mut CONSOLE.lock().port {
        let mut waiting = WAITING.lock();
        while let Some(byte) = port.get() {
            // The oldest stay: a line that was begun can be ended.
            let _ = waiting.try_push(byte);
        }
        port.acknowledge_interrupt();
    }
    events::raise(Virq::CONSOLE);
    true
}

/// Takes what waits, as far as it fits; returns how many bytes.
pub fn read(into: &mut [u8]) -> usize {
    let mut waiting = WAITING.lock();
    let count = waiting.len().min(into.len());
    for (slot, byte) in into.iter_mut().zip(waiting.drain(..count)) {
        *slot = byte;
    }
    count
}
