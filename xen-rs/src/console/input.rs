//! What is typed on the console: kept until Dom0 reads it, a command for the hypervisor, or for the serial
//! port of a guest.

use core::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use log::{info, warn};
use xen_abi::DomId;
use xen_core::event::Virq;
use xen_core::input::{Input, Reader, Typed};
use xen_types::{IntId, Interrupt};

use super::{CONSOLE, keys};
use crate::domain::{self, events};
use crate::gic;
use crate::lock::IrqLock;

/// Characters that wait for Dom0 at most; more are lost, as in a serial port.
const ROOM: usize = 256;

static WAITING: IrqLock<ArrayVec<u8, ROOM>> = IrqLock::new(ArrayVec::new_const());

static INPUT: IrqLock<Input> = IrqLock::new(Input::new());

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
    let mut typed: ArrayVec<u8, ROOM> = ArrayVec::new();
    if let Some(port) = &mut CONSOLE.lock().port {
        while let Some(byte) = port.get() {
            let _ = typed.try_push(byte);
        }
        port.acknowledge_interrupt();
    }
    typed.into_iter().for_each(take);
    true
}

fn take(byte: u8) {
    let typed = INPUT.lock().take(byte);
    match typed {
        Typed::Nothing => (),
        Typed::SwitchedTo(reader) => announce(reader),
        Typed::ForDom0 { switches, byte } => {
            let mut waiting = WAITING.lock();
            let switches = core::iter::repeat_n(Input::SWITCH, switches.into());
            for byte in switches.chain([byte]) {
                // The oldest stay: a line that was begun can be ended.
                let _ = waiting.try_push(byte);
            }
            drop(waiting);
            events::raise(Virq::CONSOLE);
        }
        Typed::ForGuest {
            guest,
            switches,
            byte,
        } => {
            let switches = core::iter::repeat_n(Input::SWITCH, switches.into());
            domain::type_at(guest, switches.chain([byte]));
        }
        Typed::Command(key) => keys::press(key),
    }
}

fn announce(reader: Reader) {
    const SWITCH: &str = "(Ctrl-A three times switches)";
    match reader {
        Reader::Dom0 => info!("console: input goes to dom0 {SWITCH}"),
        Reader::Hypervisor => info!("console: input goes to xen-rs; h lists the keys {SWITCH}"),
        Reader::Guest(guest) => info!("console: input goes to {guest} {SWITCH}"),
    }
}

/// A guest's serial port leads here: input can be switched to it.
pub fn add(guest: DomId) {
    if !INPUT.lock().add(guest) {
        warn!("console: input cannot be switched to {guest}: there are too many guests");
    }
}

/// A guest is no more.
pub fn remove(guest: DomId) {
    INPUT.lock().remove(guest);
}

/// Whether a guest reads what is typed.
pub fn is_read_by(guest: DomId) -> bool {
    INPUT.lock().reader() == Reader::Guest(guest)
}

/// There is no Dom0 to read: the first guest does, if there is one.
pub fn without_dom0() {
    let mut input = INPUT.lock();
    input.without_dom0();
    let reader = input.reader();
    drop(input);
    if let Reader::Guest(_) = reader {
        announce(reader);
    }
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
