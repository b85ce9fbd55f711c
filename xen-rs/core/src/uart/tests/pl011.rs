//! PL011 and SBSA UART. Bytes that wait below half of the FIFO interrupt by the timeout.

use super::*;

struct Pl011<const WORD: bool, const SBSA: bool> {
    line: Line,
    control: u32,
    mask: u32,
    raw: u32,
    dma: u32,
}

const RX: u32 = 1 << 4;
const RT: u32 = 1 << 6;
const CTS_FLOW: u32 = 1 << 15;

impl<const WORD: bool, const SBSA: bool> Pl011<WORD, SBSA> {
    fn check(offset: usize, width: Width) {
        assert_eq!(width, if WORD { Width::Word } else { Width::Half });
        assert!(!SBSA || ![0x30, 0x48].contains(&offset), "not in SBSA");
    }

    fn update(&mut self) {
        if self.line.receive.len() >= 8 {
            self.raw |= RX;
        } else if self.line.has_received() {
            self.raw |= RT;
        } else {
            self.raw &= !(RX | RT);
        }
    }
}

impl<const WORD: bool, const SBSA: bool> Chip for Pl011<WORD, SBSA> {
    const MODEL: Model = match (WORD, SBSA) {
        (false, _) => Model::Pl011,
        (true, false) => Model::Pl011Word,
        (true, true) => Model::Sbsa,
    };

    fn careless() -> Self {
        Self {
            line: Line::new(16),
            // Transmit only, with flow control.
            control: CTS_FLOW | 1 << 8,
            mask: 1 << 1 | 1 << 10,
            raw: 1 << 10,
            dma: 1,
        }
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        Self::check(offset, width);
        self.line.tick();
        let value = match offset {
            0x00 => self.line.take() | 1 << 8,
            0x18 => {
                u32::from(!self.line.is_idle()) << 3
                    | u32::from(!self.line.has_received()) << 4
                    | u32::from(self.line.is_full()) << 5
                    | u32::from(self.line.is_idle()) << 7
            }
            0x30 => self.control,
            _ => panic!("read of {offset:#x}"),
        };
        self.update();
        value
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        Self::check(offset, width);
        self.line.tick();
        match offset {
            0x00 => self.line.send(value),
            0x30 => self.control = value,
            0x38 => self.mask = value,
            0x44 => self.raw &= !value,
            0x48 => self.dma = value,
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn arrive(&mut self, byte: u8) {
        self.line.receive.push_back(byte);
        self.update();
    }

    fn is_ready(&mut self) -> bool {
        SBSA || (self.control, self.dma) == (CTS_FLOW | 0x301, 0)
    }

    fn interrupts(&mut self) -> bool {
        self.mask & self.raw != 0
    }
}

mod half {
    use super::*;
    for_chip!(Pl011<false, false>);
}

mod word {
    use super::*;
    for_chip!(Pl011<true, false>);
}

mod sbsa {
    use super::*;
    for_chip!(Pl011<true, true>);
}

#[test]
fn a_running_port_is_not_disturbed() {
    struct Running(Pl011<false, false>);
    impl Registers for &RefCell<Running> {
        fn read(&self, offset: usize, width: Width) -> u32 {
            self.borrow_mut().0.read(offset, width)
        }
        fn write(&self, offset: usize, width: Width, value: u32) {
            assert_ne!(
                offset, 0x30,
                "CR is written while a character is on its way"
            );
            self.borrow_mut().0.write(offset, width, value);
        }
    }
    let mut chip = Pl011::careless();
    chip.control = 0x301;
    let _uart = Uart::new(Model::Pl011, &RefCell::new(Running(chip)));
}
