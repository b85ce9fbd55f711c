//! A guest's serial port (`xen_core::vpl011`): its ring in the guest's memory, the event channel to who
//! has the other end, and its interrupt.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use xen_abi::io::console;
use xen_abi::{DomId, Errno, layout};
use xen_core::event::{self, Port};
use xen_core::vgic::{Access, Effects};
use xen_core::vpl011::{NoAccess, Queue, Ring, Vpl011};
use xen_types::{Gfn, Gpa, Hpa, Mfn};

use super::Domain;
use super::events::{self, All};
use super::guest::VUART_SPI;
use crate::lock::IrqLock;
use crate::memory::frames;

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
}

impl State {
    fn set_line(&mut self, domain: &Domain, line: bool, effects: &mut Effects) {
        if line != self.line {
            self.line = line;
            domain.vgic.set_line(VUART_SPI, line, effects);
        }
    }
}

/// The ring: a page of the guest's RAM, referenced.
struct RingPage {
    frame: Mfn,
    start: Hpa,
    domain: DomId,
    port: Port,
}

impl RingPage {
    fn index(&self, offset: usize) -> &AtomicU32 {
        let address = self.start.get() + offset as u64;
        // SAFETY: aligned, in a frame of RAM that stays the domain's while it is referenced; both
        // sides change it by atomic accesses only.
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
        event::is_device_connected(&All, self.domain, self.port)
    }
}

impl Drop for RingPage {
    fn drop(&mut self) {
        frames::put(self.frame);
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
            frame,
            start,
            domain: self.id,
            port,
        };
        // Who comes second finds it done: its page goes, and its port stays until the domain goes.
        self.vuart.call_once(|| Vuart {
            state: IrqLock::new(State::default()),
            page,
        });
        Ok(port)
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
        drop(state);
        if done.notify {
            events::tell(event::send_for_device(&All, domain.id, self.page.port));
        }
        Ok(done.value.into())
    }

    fn update(&self, domain: &Domain, effects: &mut Effects) {
        let mut state = self.state.lock();
        let line = state.registers.line(&self.page);
        state.set_line(domain, line, effects);
    }
}
