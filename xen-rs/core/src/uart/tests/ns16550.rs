//! 16550s of several layouts, and DesignWare's spurious requests.

use super::*;

struct Ns16550<const SHIFT: u8, const BYTES: usize> {
    line: Line,
    divisor_access: bool,
    interrupts: u32,
    modem: u32,
    fifo: bool,
    /// DesignWare: line control was written while busy; timeout without a byte.
    busy: bool,
    timeout: bool,
}

impl<const SHIFT: u8, const BYTES: usize> Ns16550<SHIFT, BYTES> {
    fn number(&mut self, offset: usize, width: Width) -> usize {
        let expected = match BYTES {
            1 => Width::Byte,
            2 => Width::Half,
            _ => Width::Word,
        };
        assert_eq!(width, expected);
        assert_eq!(offset % (1 << SHIFT), 0);
        self.line.tick();
        offset >> SHIFT
    }

    fn cause(&self) -> u32 {
        match () {
            () if self.busy => 0x7,
            () if self.interrupts & 1 != 0 && self.timeout => 0xc,
            () if self.interrupts & 1 != 0 && self.line.has_received() => 0x4,
            () if self.interrupts & 2 != 0 && self.line.is_idle() => 0x2,
            () => 0x1,
        }
    }
}

impl<const SHIFT: u8, const BYTES: usize> Chip for Ns16550<SHIFT, BYTES> {
    const MODEL: Model = Model::Ns16550 {
        shift: SHIFT,
        width: match BYTES {
            1 => Width::Byte,
            2 => Width::Half,
            _ => Width::Word,
        },
    };

    fn careless() -> Self {
        Self {
            line: Line::new(16),
            divisor_access: true,
            interrupts: 0xf,
            // Loop-back, with an auto flow control bit that must stay.
            modem: 1 << 4 | 1 << 5,
            fifo: false,
            busy: false,
            timeout: false,
        }
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        match self.number(offset, width) {
            0 => {
                assert!(!self.divisor_access);
                if core::mem::take(&mut self.timeout) && !self.line.has_received() {
                    return 0;
                }
                self.line.take()
            }
            2 => self.cause(),
            3 => u32::from(self.divisor_access) << 7 | 3,
            4 => self.modem,
            5 => {
                let idle = u32::from(self.line.is_idle());
                idle << 6 | idle << 5 | u32::from(self.line.has_received())
            }
            6 => 0,
            0x1f => {
                self.busy = false;
                0
            }
            number => panic!("read of {number}"),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        match self.number(offset, width) {
            0 => {
                assert!(!self.divisor_access, "the divisor is firmware's");
                self.line.send(value);
            }
            1 => {
                assert!(!self.divisor_access, "the divisor is firmware's");
                self.interrupts = value;
            }
            2 => {
                assert_eq!(value & 0b110, 0, "what firmware sent is still in the FIFO");
                self.fifo = value & 1 != 0;
            }
            3 => {
                assert_eq!(value, 3, "the frame is firmware's");
                self.divisor_access = false;
            }
            4 => self.modem = value,
            number => panic!("write of {number}"),
        }
    }

    fn is_ready(&mut self) -> bool {
        let gate = 1 << 3;
        self.fifo && !self.divisor_access && self.modem & !gate == 1 << 5 | 0b11
    }

    fn interrupts(&mut self) -> bool {
        self.cause() != 0x1
    }
}

mod bytes {
    use super::*;
    for_chip!(Ns16550<0, 1>);
}

mod halves {
    use super::*;
    for_chip!(Ns16550<1, 2>);
}

mod words {
    use super::*;
    for_chip!(Ns16550<2, 4>);
}

#[test]
fn designware_requests_without_a_byte_are_taken_back() {
    let chip = RefCell::new(Ns16550::<2, 4>::careless());
    let mut uart = Uart::new(Ns16550::<2, 4>::MODEL, &chip);
    uart.enable_receive_interrupt();
    chip.borrow_mut().timeout = true;
    chip.borrow_mut().busy = true;
    for _ in 0..2 {
        assert!(chip.borrow_mut().interrupts());
        assert_eq!(uart.get(), None);
        uart.acknowledge_interrupt();
    }
    assert!(!chip.borrow_mut().interrupts());
    assert_ne!(
        chip.borrow_mut().modem & 1 << 3,
        0,
        "OUT2 gates the interrupt"
    );
}
