//! The registers of an R-Car Gen3 PCI Express controller in front of a fabric, whose function 0 is
//! the root port.
//!
//! It is as strict as the hardware: registers have 32 bits, the data register is touched only while
//! requests are sent, touching it after a failed request or while the link is between states aborts,
//! and a sequence that is begun must be ended before the next. Each breach panics, which fails the
//! test.

use alloc::sync::Arc;

use spin::Mutex;

use super::Fabric;
use super::function::access;
use crate::RequesterId;
use crate::bridge::Registers;
use crate::config::Width;

/// The controller.
#[derive(Clone)]
pub struct SimRCar {
    fabric: Fabric,
    root_bus: u8,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Default)]
struct State {
    address: Option<u32>,
    control: u32,
    errors: u32,
    link_down: bool,
    power: u32,
    /// Whether a failing request is known when it is enabled, or only with its data.
    early: bool,
}

const SEND_ENABLE: u32 = 1 << 31;
const TYPE1: u32 = 1 << 8;
const UNSUPPORTED: u32 = 1 << 4;

impl SimRCar {
    /// In front of `fabric`, whose root bus has this number.
    pub fn new(fabric: &Fabric, root_bus: u8) -> Self {
        Self {
            fabric: fabric.clone(),
            root_bus,
            state: Arc::default(),
        }
    }

    /// With failures that are known as soon as a request is enabled; touching the data then aborts.
    pub fn failing_early(self) -> Self {
        self.state.lock().early = true;
        self
    }

    /// Takes the link down or brings it up.
    pub fn set_link(&self, up: bool) {
        self.state.lock().link_down = !up;
    }

    /// The other end has asked for L1, and the link is on its way there.
    pub fn enter_l1(&self) {
        self.state.lock().power = 1 << 23;
    }

    fn root_port(&self) -> RequesterId {
        RequesterId::ari(self.root_bus, 0)
    }

    /// The function that the address and the type mean; `None` for one that cannot take it.
    fn target(&self, state: &State) -> Option<RequesterId> {
        let address = state.address.expect("a request without an address");
        let function = RequesterId::from_bits((address >> 24 << 8 | address >> 16 & 0xff) as u16);
        let secondary = self
            .fabric
            .with(self.root_port(), |port| port.get(0x19, Width::Byte));
        let secondary = secondary.unwrap_or(0) as u8;
        if state.control & TYPE1 == 0 {
            // Whatever the bus and device numbers, the other end takes it.
            return RequesterId::new(secondary, 0, function.function());
        }
        // What is on the link does not take type 1 for itself.
        (function.bus() != secondary).then_some(function)
    }

    fn exists(&self, state: &State) -> bool {
        let target = self.target(state);
        target.is_some_and(|target| self.fabric.with(target, |_| ()).is_some())
    }

    fn data(&self, state: &mut State, written: Option<u32>) -> u32 {
        assert!(state.control & SEND_ENABLE != 0, "data without a request");
        assert!(
            state.errors & UNSUPPORTED == 0,
            "abort: data of a failed request"
        );
        assert!(!state.link_down, "abort: the link is down");
        assert!(
            state.power & 1 << 23 == 0,
            "abort: the link is between states"
        );
        let offset = state.address.unwrap_or(0) as u16 & 0xffc;
        let access = access(offset, Width::Dword);
        let answer = self.target(state).and_then(|target| match written {
            None => self.fabric.config_read(target, access),
            Some(value) => self.fabric.config_write(target, access, value).map(|()| 0),
        });
        answer.unwrap_or_else(|| {
            state.errors |= UNSUPPORTED;
            0
        })
    }
}

impl Registers for SimRCar {
    fn size(&self) -> u64 {
        0x8_0000
    }

    fn read(&self, offset: u64, width: Width) -> u32 {
        assert_eq!(width, Width::Dword, "a narrow read of register {offset:#x}");
        let mut state = self.state.lock();
        match offset {
            0x10 => state.address.unwrap_or(0),
            0x18 => state.control,
            0x20 => self.data(&mut state, None),
            0x2004 => u32::from(!state.link_down),
            0x2020 => state.errors,
            0x1_105c => state.power,
            0x1_0000..0x1_1000 => {
                let access = access((offset - 0x1_0000) as u16, width);
                let answer = self.fabric.config_read(self.root_port(), access);
                answer.unwrap_or(u32::MAX)
            }
            _ => panic!("a read of register {offset:#x}, which is not modelled"),
        }
    }

    fn write(&self, offset: u64, width: Width, value: u32) {
        assert_eq!(
            width,
            Width::Dword,
            "a narrow write of register {offset:#x}"
        );
        let mut state = self.state.lock();
        match offset {
            0x10 => {
                assert_eq!(state.address, None, "two accesses interleave");
                state.address = Some(value);
            }
            0x18 if value == 0 => {
                state.control = 0;
                state.address = None;
            }
            0x18 => {
                assert_eq!(state.control, 0, "two accesses interleave");
                state.control = value;
                if state.early && !self.exists(&state) {
                    state.errors |= UNSUPPORTED;
                }
            }
            0x20 => {
                self.data(&mut state, Some(value));
            }
            0x2020 => state.errors &= !value,
            0x1_105c => state.power &= !value,
            // On its way to L1: it arrives.
            0x1_1060 => state.power |= value & 1 << 31,
            0x1_0000..0x1_1000 => {
                let access = access((offset - 0x1_0000) as u16, width);
                let _ = self.fabric.config_write(self.root_port(), access, value);
            }
            _ => panic!("a write of register {offset:#x}, which is not modelled"),
        }
    }
}
