//! SCIF and HSCIF. A flag is cleared by a 0 only if it was read as 1 since it was set, and is set
//! again at once while its cause lasts; DR comes once, when the line falls silent.

use super::*;

const TEND: u32 = 1 << 6;
const TDFE: u32 = 1 << 5;
const BRK: u32 = 1 << 4;
const ER: u32 = 1 << 7;
const RDF: u32 = 1 << 1;
const DR: u32 = 1;
const RIE: u32 = 1 << 6;
const REIE: u32 = 1 << 3;
/// Receive FIFO level of RDF.
const TRIGGER: usize = 2;

struct Scif<const DEPTH: usize> {
    line: Line,
    control: u32,
    flags: u32,
    /// Flags that were read as 1 since they were set.
    seen: u32,
    overrun: bool,
    overrun_seen: bool,
}

impl<const DEPTH: usize> Scif<DEPTH> {
    fn set(&mut self, flags: u32) {
        self.seen &= !(flags & !self.flags);
        self.flags |= flags;
    }

    fn pass_time(&mut self) {
        if self.line.tick() {
            self.set(TEND);
        }
        self.set_levels();
    }

    fn set_levels(&mut self) {
        if self.line.transmit.len() <= DEPTH / 2 {
            self.set(TDFE);
        }
        if self.line.receive.len() >= TRIGGER {
            self.set(RDF);
        }
    }
}

impl<const DEPTH: usize> Chip for Scif<DEPTH> {
    const MODEL: Model = match DEPTH {
        16 => Model::Scif,
        _ => Model::Hscif,
    };

    fn careless() -> Self {
        Self {
            line: Line::new(DEPTH),
            // All interrupts on, nothing enabled, external clock.
            control: 0xcc | 0b10,
            flags: TEND | TDFE | BRK | ER,
            seen: 0,
            overrun: true,
            overrun_seen: false,
        }
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        self.pass_time();
        let expected = if offset == 0x14 {
            Width::Byte
        } else {
            Width::Half
        };
        assert_eq!(width, expected, "{offset:#x}");
        match offset {
            0x08 => self.control,
            0x10 => {
                self.seen |= self.flags;
                self.flags
            }
            0x14 => self.line.take(),
            0x1c => (self.line.transmit.len() << 8 | self.line.receive.len()) as u32,
            0x24 => {
                self.overrun_seen |= self.overrun;
                u32::from(self.overrun)
            }
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        self.pass_time();
        let expected = if offset == 0x0c {
            Width::Byte
        } else {
            Width::Half
        };
        assert_eq!(width, expected, "{offset:#x}");
        match offset {
            0x08 => self.control = value,
            0x0c => self.line.send(value),
            0x10 => {
                assert_eq!(value & !0xff, 0, "the error counts");
                let cleared = !value & self.seen & 0xff;
                // Data that waits for a full trigger level has its DR only once.
                assert!(
                    cleared & DR == 0 || !self.line.has_received(),
                    "a byte is forgotten"
                );
                self.flags &= !cleared;
                self.seen &= !cleared;
                if self.line.is_idle() {
                    self.set(TEND);
                }
                self.set_levels();
            }
            0x24 => {
                if value & 1 == 0 && self.overrun_seen {
                    (self.overrun, self.overrun_seen) = (false, false);
                }
            }
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn arrive(&mut self, byte: u8) {
        assert!(
            !self.overrun && self.flags & BRK == 0,
            "reception is stopped"
        );
        self.line.receive.push_back(byte);
        self.set(DR);
        self.set_levels();
    }

    fn is_ready(&mut self) -> bool {
        self.control == 0x30 | 0b10 && !self.overrun && self.flags & (ER | BRK) == 0
    }

    fn interrupts(&mut self) -> bool {
        let received = self.control & RIE != 0 && self.flags & (RDF | DR) != 0;
        let failed =
            self.control & (RIE | REIE) != 0 && (self.flags & (ER | BRK) != 0 || self.overrun);
        let sent = self.control & 1 << 7 != 0 && self.flags & TDFE != 0;
        received || failed || sent
    }
}

mod scif16 {
    use super::*;
    for_chip!(Scif<16>);
}

mod hscif {
    use super::*;
    for_chip!(Scif<128>);
}

#[test]
fn an_overrun_does_not_end_reception() {
    let chip = RefCell::new(Scif::<16>::careless());
    let mut uart = Uart::new(Model::Scif, &chip);
    uart.enable_receive_interrupt();
    chip.borrow_mut().arrive(b'a');
    chip.borrow_mut().overrun = true;
    assert_eq!(uart.get(), Some(b'a'));
    chip.borrow_mut().arrive(b'b');
    assert_eq!(uart.get(), Some(b'b'));
    assert_eq!(uart.get(), None);
    chip.borrow_mut().set(BRK);
    assert!(chip.borrow_mut().interrupts());
    uart.acknowledge_interrupt();
    assert!(!chip.borrow_mut().interrupts());
}
