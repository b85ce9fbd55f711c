//! i.MX: 32 bytes of FIFO; each interrupt has its enable, a break too.

use super::*;

struct Imx {
    line: Line,
    control: [u32; 4],
    broken: bool,
}

/// What firmware set and must stay: infrared interface, word size, RXD multiplexer, CTS level.
const KEPT: [u32; 4] = [1 << 7, 1 << 14 | 1 << 5, 1 << 2, 16 << 10];

impl Chip for Imx {
    const MODEL: Model = Model::Imx;

    fn careless() -> Self {
        let requests = [1 << 13 | 1 << 9 | 1 << 3, 1 << 4, 1 << 12, 0b111];
        Self {
            line: Line::new(32),
            control: core::array::from_fn(|i| KEPT[i] | requests[i]),
            broken: true,
        }
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        assert_eq!(width, Width::Word);
        self.line.tick();
        match offset {
            0x00 => self.line.take() | 1 << 15,
            0x80..=0x8c => self.control[(offset - 0x80) / 4],
            0x98 => {
                u32::from(self.line.has_received())
                    | u32::from(self.broken) << 2
                    | u32::from(self.line.is_idle()) << 3
            }
            0xb4 => u32::from(self.line.is_full()) << 4,
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        assert_eq!(width, Width::Word);
        self.line.tick();
        match offset {
            0x40 => self.line.send(value),
            0x80..=0x8c => self.control[(offset - 0x80) / 4] = value,
            0x98 => self.broken &= value & 1 << 2 == 0,
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn is_ready(&mut self) -> bool {
        let on = [1, 0b111, 0, 0];
        self.control == core::array::from_fn(|i| KEPT[i] | on[i])
    }

    fn interrupts(&mut self) -> bool {
        let [ucr1, _, _, ucr4] = self.control;
        let received = ucr4 & 1 != 0 && self.line.has_received();
        let broken = ucr4 & 1 << 2 != 0 && self.broken;
        let room = ucr1 & 1 << 13 != 0 && !self.line.is_full();
        received || broken || room
    }
}

for_chip!(Imx);
