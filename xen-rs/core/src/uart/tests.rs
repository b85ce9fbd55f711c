//! Each driver against a model of its port: FIFOs, flags, access widths, and the registers that
//! firmware set and nobody else may write.

extern crate std;

mod bcm_aux;
mod imx;
mod ns16550;
mod pl011;
mod scif;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::vec::Vec;

use super::{Model, PATIENCE, Registers, Uart, Width};

/// Accesses that a byte takes to leave.
const ACCESSES_PER_BYTE: u32 = 20;

/// The two FIFOs and what is on the wire.
struct Line {
    transmit: VecDeque<u8>,
    receive: VecDeque<u8>,
    depth: usize,
    wire: Vec<u8>,
    /// Nothing leaves: the clock is off, or the other side holds the line.
    held: bool,
    accesses: u32,
}

impl Line {
    fn new(depth: usize) -> Self {
        Self {
            transmit: VecDeque::new(),
            receive: VecDeque::new(),
            depth,
            wire: Vec::new(),
            held: false,
            accesses: 0,
        }
    }

    /// Time passes with each access. Returns whether the last byte left.
    fn tick(&mut self) -> bool {
        self.accesses += 1;
        if self.held || !self.accesses.is_multiple_of(ACCESSES_PER_BYTE) {
            return false;
        }
        let Some(byte) = self.transmit.pop_front() else {
            return false;
        };
        self.wire.push(byte);
        self.transmit.is_empty()
    }

    fn send(&mut self, byte: u32) {
        assert!(self.transmit.len() < self.depth, "the FIFO overflows");
        self.transmit.push_back(u8::try_from(byte).unwrap());
    }

    fn take(&mut self) -> u32 {
        self.receive
            .pop_front()
            .expect("read of an empty FIFO")
            .into()
    }

    fn is_full(&self) -> bool {
        self.transmit.len() == self.depth
    }

    fn is_idle(&self) -> bool {
        self.transmit.is_empty()
    }

    fn has_received(&self) -> bool {
        !self.receive.is_empty()
    }
}

/// A model of a port.
trait Chip {
    /// The driver that it is for.
    const MODEL: Model;
    /// As a careless boot loader leaves it: off, with interrupts on.
    fn careless() -> Self;
    fn line(&mut self) -> &mut Line;
    fn read(&mut self, offset: usize, width: Width) -> u32;
    fn write(&mut self, offset: usize, width: Width, value: u32);
    /// A byte comes in.
    fn arrive(&mut self, byte: u8) {
        self.line().receive.push_back(byte);
    }
    /// Whether it sends and receives, and firmware's other settings are as they were.
    fn is_ready(&mut self) -> bool;
    /// Whether it asserts its interrupt.
    fn interrupts(&mut self) -> bool;
}

impl<C: Chip> Registers for &RefCell<C> {
    fn read(&self, offset: usize, width: Width) -> u32 {
        self.borrow_mut().read(offset, width)
    }

    fn write(&self, offset: usize, width: Width, value: u32) {
        self.borrow_mut().write(offset, width, value);
    }
}

fn sends_everything_in_order<C: Chip>() {
    let chip = RefCell::new(C::careless());
    let mut uart = Uart::new(C::MODEL, &chip);
    // More than the largest FIFO.
    let text = "0123456789abcdef".repeat(20);
    uart.put_text(&text);
    uart.put_text("\n");
    uart.flush();
    assert_eq!(uart.dropped(), 0);
    assert!(chip.borrow_mut().line().is_idle(), "flush came back early");
    let wire = chip.borrow_mut().line().wire.clone();
    assert_eq!(wire, [text.as_bytes(), b"\r\n"].concat());
}

fn is_ready_and_silent_after_init<C: Chip>() {
    let chip = RefCell::new(C::careless());
    assert!(chip.borrow_mut().interrupts(), "the model starts careless");
    let _uart = Uart::new(C::MODEL, &chip);
    assert!(chip.borrow_mut().is_ready());
    assert!(!chip.borrow_mut().interrupts());
    chip.borrow_mut().arrive(b'x');
    assert!(!chip.borrow_mut().interrupts());
}

fn a_full_fifo_is_told<C: Chip>() {
    let chip = RefCell::new(C::careless());
    let mut uart = Uart::new(C::MODEL, &chip);
    chip.borrow_mut().line().held = true;
    let taken = (0..1000).take_while(|_| uart.try_put(b'x')).count();
    assert_eq!(taken, chip.borrow_mut().line().transmit.len());
    assert!((1..=chip.borrow_mut().line().depth).contains(&taken));
}

fn a_held_line_costs_one_wait<C: Chip>() {
    let chip = RefCell::new(C::careless());
    let mut uart = Uart::new(C::MODEL, &chip);
    chip.borrow_mut().line().held = true;
    while uart.try_put(b'a') {}
    let accesses = || chip.borrow_mut().line().accesses;

    let before = accesses();
    uart.put(b'b');
    assert!(accesses() - before <= PATIENCE, "a bounded wait");
    let before = accesses();
    (0..100).for_each(|_| uart.put(b'c'));
    uart.flush();
    assert!(accesses() - before <= 101, "then one look each");
    assert_eq!(uart.dropped(), 101);

    chip.borrow_mut().line().held = false;
    // Time passes, and the FIFO runs empty.
    (0..PATIENCE).for_each(|_| uart.flush());
    uart.put_text("back");
    uart.flush();
    let wire = chip.borrow_mut().line().wire.clone();
    assert!(wire.ends_with(b"aback"), "patient again once it sends");
    assert_eq!(uart.dropped(), 101);
}

fn receives_in_order<C: Chip>() {
    let chip = RefCell::new(C::careless());
    let mut uart = Uart::new(C::MODEL, &chip);
    assert_eq!(uart.get(), None);
    for byte in [b'a', 0, 0xff] {
        chip.borrow_mut().arrive(byte);
    }
    let got: Vec<_> = core::iter::from_fn(|| uart.get()).collect();
    assert_eq!(got, [b'a', 0, 0xff]);
    assert_eq!(uart.get(), None);
}

fn interrupts_until_drained<C: Chip>() {
    let chip = RefCell::new(C::careless());
    let mut uart = Uart::new(C::MODEL, &chip);
    uart.enable_receive_interrupt();
    assert!(!chip.borrow_mut().interrupts());
    for round in [&b"one"[..], b"2"] {
        round
            .iter()
            .for_each(|byte| chip.borrow_mut().arrive(*byte));
        assert!(chip.borrow_mut().interrupts());
        // One that is left keeps its request through the acknowledgement.
        assert_eq!(uart.get(), round.first().copied());
        uart.acknowledge_interrupt();
        assert!(round.len() == 1 || chip.borrow_mut().interrupts());
        while uart.get().is_some() {}
        uart.acknowledge_interrupt();
        assert!(!chip.borrow_mut().interrupts());
    }
    uart.put_text("sending does not interrupt");
    uart.flush();
    assert!(!chip.borrow_mut().interrupts());
}

fn sending_forgets_nothing_received<C: Chip>() {
    let chip = RefCell::new(C::careless());
    let mut uart = Uart::new(C::MODEL, &chip);
    uart.enable_receive_interrupt();
    chip.borrow_mut().arrive(b'x');
    uart.put_text("sent while a byte waits");
    uart.flush();
    assert!(chip.borrow_mut().interrupts());
    assert_eq!(uart.get(), Some(b'x'));
}

/// The tests that every port must pass.
macro_rules! for_chip {
    ($chip:ty) => {
        #[test]
        fn sends_everything_in_order() {
            crate::uart::tests::sends_everything_in_order::<$chip>();
        }
        #[test]
        fn is_ready_and_silent_after_init() {
            crate::uart::tests::is_ready_and_silent_after_init::<$chip>();
        }
        #[test]
        fn a_full_fifo_is_told() {
            crate::uart::tests::a_full_fifo_is_told::<$chip>();
        }
        #[test]
        fn a_held_line_costs_one_wait() {
            crate::uart::tests::a_held_line_costs_one_wait::<$chip>();
        }
        #[test]
        fn receives_in_order() {
            crate::uart::tests::receives_in_order::<$chip>();
        }
        #[test]
        fn sending_forgets_nothing_received() {
            crate::uart::tests::sending_forgets_nothing_received::<$chip>();
        }
        #[test]
        fn interrupts_until_drained() {
            crate::uart::tests::interrupts_until_drained::<$chip>();
        }
    };
}
use for_chip;

/// A port whose registers all read as `value` and take writes without effect.
struct Dead {
    value: u32,
}

impl Registers for Dead {
    fn read(&self, _: usize, _: Width) -> u32 {
        self.value
    }

    fn write(&self, _: usize, _: Width, _: u32) {}
}

#[test]
fn a_dead_port_hangs_nothing() {
    let ns16550 = Model::Ns16550 {
        shift: 0,
        width: Width::Byte,
    };
    let models = [
        Model::Pl011,
        Model::Pl011Word,
        Model::Sbsa,
        Model::Scif,
        Model::Hscif,
        ns16550,
        Model::BcmAux,
        Model::Imx,
    ];
    for model in models {
        for value in [0, u32::MAX] {
            let mut uart = Uart::new(model, Dead { value });
            uart.put_text("hello\n");
            uart.flush();
            uart.enable_receive_interrupt();
            uart.acknowledge_interrupt();
            let _ = uart.get();
        }
    }
}
