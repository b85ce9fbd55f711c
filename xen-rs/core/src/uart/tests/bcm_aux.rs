//! The mini UART: 8 bytes of FIFO, room while bit 5 of the line status is set.

use super::*;

struct BcmAux {
    line: Line,
    divisor_access: bool,
    interrupts: u32,
    control: u32,
}

/// Flow control of firmware's.
const AUTO_RTS: u32 = 1 << 2;

impl Chip for BcmAux {
    const MODEL: Model = Model::BcmAux;

    fn careless() -> Self {
        Self {
            line: Line::new(8),
            divisor_access: true,
            interrupts: 0b1111,
            control: AUTO_RTS,
        }
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        self.line.tick();
        match offset {
            0x00 => self.line.take(),
            0x0c => u32::from(self.divisor_access) << 7 | 3,
            0x14 => {
                u32::from(self.line.is_idle()) << 6
                    | u32::from(!self.line.is_full()) << 5
                    | u32::from(self.line.has_received())
            }
            0x20 => self.control,
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        self.line.tick();
        match offset {
            0x00 => {
                assert!(!self.divisor_access, "the divisor is firmware's");
                self.line.send(value);
            }
            0x04 => {
                assert!(!self.divisor_access, "the divisor is firmware's");
                self.interrupts = value;
            }
            0x0c => {
                assert_eq!(value, 3, "the frame is firmware's");
                self.divisor_access = false;
            }
            0x20 => self.control = value,
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn is_ready(&mut self) -> bool {
        self.control == AUTO_RTS | 0b11
    }

    fn interrupts(&mut self) -> bool {
        let received = self.interrupts & 0b1101 == 0b1101 && self.line.has_received();
        let room = self.interrupts & 0b10 != 0 && !self.line.is_full();
        received || room
    }
}

for_chip!(BcmAux);
