//! A guest's serial port (`xen_core::vpl011`): its ring, who has the other end of that, and its
//! interrupt.
//!
//! Where a toolstack has the other end, the ring is in the guest's memory, and an event channel says that
//! there is news. Where there was none, the hypervisor has both: what the guest says goes to the
//! console, in whole lines with its name in front; while it reads what is typed there, as it comes.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use arrayvec::ArrayVec;
use xen_abi::io::console;
use xen_abi::{DomId, Errno, layout};
use xen_core::event::{self, Port};
use xen_core::vgic::{Access, Effects};
use xen_core::vpl011::{NoAccess, Queue, Ring, Vpl011};
use xen_types::{Gfn, Gpa, Hpa, Mfn};

use super::Domain;
use super::events::{self, All};
use super::guest::VUART_SPI;
use crate::console::{self as hypervisor_console, input as console_input};
use crate::lock::IrqLock;
use crate::memory::frames;
use crate::memory::page::Page;

/// A guest's serial port.
pub struct Vuart {
    state: IrqLock<State>,
    page: RingPage,
}

#[derive(Default)]
struct State {
    registers: Vpl011,
    /// The interrupt's level, as the interrupt controller was told.
    line: bool,
    /// What the guest has said since its last end of line, for the console.
    said: ArrayVec<u8, LINE>,
}

/// Bytes of a line for the console; a longer one is broken.
const LINE: usize = 256;

impl State {
    fn set_line(&mut self, domain: &Domain, line: bool, effects: &mut Effects) {
        if line != self.line {
            self.line = line;
            domain.vgic.set_line(VUART_SPI, line, effects);
        }
    }
}

/// The ring.
struct RingPage {
    start: Hpa,
    domain: DomId,
    other: OtherEnd,
}

/// Who has the other end of a ring, and what its page is.
enum OtherEnd {
    /// A toolstack: a page of the guest's RAM, referenced.
    Toolstack { frame: Mfn, port: Port },
    /// The console: a page of the hypervisor's own.
    Console { _page: Page },
}

impl RingPage {
    fn index(&self, offset: usize) -> &AtomicU32 {
        let address = self.start.get() + offset as u64;
        // SAFETY: aligned, in a frame of RAM that stays the domain's while it is referenced, or the
        // ring's own; both sides change it by atomic accesses only.
        unsafe { AtomicU32::from_ptr(address as *mut u32) }
    }

    fn place(&self, queue: Queue, index: u32) -> &AtomicU8 {
        let start = match queue {
            Queue::In => console::IN,
            Queue::Out => console::OUT,
        };
        let offset = start as u64 + u64::from(index % queue.size());
        // SAFETY: as for an index.
        unsafe { AtomicU8::from_ptr((self.start.get() + offset) as *mut u8) }
    }
}

impl Ring for RingPage {
    fn produced(&self, queue: Queue) -> u32 {
        let offset = match queue {
            Queue::In => console::IN_PROD,
            Queue::Out => console::OUT_PROD,
        };
        self.index(offset).load(Ordering::Acquire)
    }

    fn consumed(&self, queue: Queue) -> u32 {
        let offset = match queue {
            Queue::In => console::IN_CONS,
            Queue::Out => console::OUT_CONS,
        };
        self.index(offset).load(Ordering::Acquire)
    }

    fn byte(&self, queue: Queue, index: u32) -> u8 {
        self.place(queue, index).load(Ordering::Relaxed)
    }

    fn set_byte(&self, index: u32, byte: u8) {
        self.place(Queue::Out, index).store(byte, Ordering::Relaxed);
    }

    fn set_produced(&self, index: u32) {
        self.index(console::OUT_PROD)
            .store(index, Ordering::Release);
    }

    fn set_consumed(&self, index: u32) {
        self.index(console::IN_CONS).store(index, Ordering::Release);
    }

    fn is_connected(&self) -> bool {
        match self.other {
            OtherEnd::Toolstack { port, .. } => event::is_device_connected(&All, self.domain, port),
            OtherEnd::Console { .. } => true,
        }
    }
}

impl RingPage {
    /// The console takes a byte that the guest has written.
    fn take(&self) -> Option<u8> {
        let from = self.consumed(Queue::Out);
        if from == self.produced(Queue::Out) {
            return None;
        }
        let byte = self.place(Queue::Out, from).load(Ordering::Relaxed);
        self.index(console::OUT_CONS)
            .store(from.wrapping_add(1), Ordering::Release);
        Some(byte)
    }

    /// Gives the guest a byte, if there is room.
    fn give(&self, byte: u8) {
        let (from, to) = (self.consumed(Queue::In), self.produced(Queue::In));
        if to.wrapping_sub(from) < Queue::In.size() {
            self.place(Queue::In, to).store(byte, Ordering::Relaxed);
            self.index(console::IN_PROD)
                .store(to.wrapping_add(1), Ordering::Release);
        }
    }
}

impl Drop for RingPage {
    fn drop(&mut self) {
        match self.other {
            OtherEnd::Toolstack { frame, .. } => frames::put(frame),
            OtherEnd::Console { .. } => console_input::remove(self.domain),
        }
    }
}

impl Domain {
    /// Gives the domain its serial port, with a ring in its RAM and a port that `peer` may bind to.
    ///
    /// # Errors
    /// `EPERM` for a domain that has run, `EEXIST` if it has one, `EINVAL` if the ring is not in its
    /// RAM or if it has no interrupt for it, and what opening a port returns.
    pub fn add_vuart(&self, ring: Gfn, peer: DomId) -> Result<Port, Errno> {
        if self.life.lock().has_started() {
            return Err(Errno::NotPermitted);
        }
        if self.vuart.is_completed() {
            return Err(Errno::Exists);
        }
        if self.vgic.spis() == 0 {
            return Err(Errno::Invalid);
        }
        let frame = self.space.lock().reference_ram(ring, true);
        let frame = frame.map_err(|_| Errno::Invalid)?;
        let opened = self.ports.lock().open_for_device(peer);
        let (Some(start), Ok(port)) = (frame.address(), opened) else {
            frames::put(frame);
            return Err(opened.err().map_or(Errno::Invalid, |error| error.errno()));
        };
        let page = RingPage {
            start,
            domain: self.id,
            other: OtherEnd::Toolstack { frame, port },
        };
        // Who comes second finds it done: its page goes, and its port stays until the domain goes.
        self.vuart.call_once(|| Vuart {
            state: IrqLock::new(State::default()),
            page,
        });
        Ok(port)
    }

    /// Gives the domain a serial port that leads to the console.
    ///
    /// # Errors
    /// `EINVAL` if it has no interrupt for it, `ENOMEM`.
    pub fn add_console_vuart(&self) -> Result<(), Errno> {
        if self.vgic.spis() == 0 {
            return Err(Errno::Invalid);
        }
        let page = Page::shared_by(self.id).map_err(|_| Errno::NoMemory)?;
        self.vuart.call_once(|| Vuart {
            state: IrqLock::new(State::default()),
            page: RingPage {
                start: page.start(),
                domain: self.id,
                other: OtherEnd::Console { _page: page },
            },
        });
        console_input::add(self.id);
        Ok(())
    }

    /// Something is typed at its serial port.
    pub fn type_at_vuart(&self, bytes: impl Iterator<Item = u8>) {
        if let Some(vuart) = self.vuart.get() {
            bytes.for_each(|byte| vuart.page.give(byte));
            self.hear_of_vuart();
        }
    }

    /// The register of the serial port at an address.
    pub fn vuart_register(&self, address: Gpa) -> Option<(&Vuart, u32)> {
        let vuart = self.vuart.get()?;
        let offset = address.get().checked_sub(layout::VPL011.base)?;
        let offset = u32::try_from(offset).ok()?;
        (u64::from(offset) < layout::VPL011.size).then_some((vuart, offset))
    }

    /// The other side of the serial port has news.
    pub fn hear_of_vuart(&self) {
        if let Some(vuart) = self.vuart.get() {
            let mut effects = Effects::new();
            vuart.update(self, &mut effects);
            self.carry_out(&mut effects);
        }
    }
}

impl Vuart {
    /// A load or store of the guest; what a load reads.
    ///
    /// # Errors
    /// [`NoAccess`].
    pub fn access(
        &self,
        domain: &Domain,
        access: Access,
        effects: &mut Effects,
    ) -> Result<u64, NoAccess> {
        let mut state = self.state.lock();
        let done = state.registers.access(&self.page, access)?;
        state.set_line(domain, done.line, effects);
        match self.page.other {
            OtherEnd::Console { .. } if done.notify => say(&self.page, &mut state.said),
            OtherEnd::Toolstack { port, .. } if done.notify => {
                drop(state);
                events::tell(event::send_for_device(&All, domain.id, port));
            }
            _ => (),
        }
        Ok(done.value.into())
    }

    fn update(&self, domain: &Domain, effects: &mut Effects) {
        let mut state = self.state.lock();
        let line = state.registers.line(&self.page);
        state.set_line(domain, line, effects);
    }
}

/// Puts what the guest has written on the console.
fn say(page: &RingPage, said: &mut ArrayVec<u8, LINE>) {
    let reads = console_input::is_read_by(page.domain);
    while let Some(byte) = page.take() {
        match byte {
            b'\n' if !reads => end_line(page.domain, said),
            b'\t' | b' '..=b'~' | 0x80.. => {
                if said.is_full() {
                    end_line(page.domain, said);
                }
                said.push(byte);
            }
            _ if reads => {
                // Who is at the console wants to see it as it is.
                hypervisor_console::write_of_reader(said);
                said.clear();
                hypervisor_console::write_of_reader(&[byte]);
            }
            _ => (),
        }
    }
    if reads {
        hypervisor_console::write_of_reader(said);
        said.clear();
    }
}

fn end_line(domain: DomId, said: &mut ArrayVec<u8, LINE>) {
    hypervisor_console::write_line_of_guest(domain, said);
    said.clear();
}
