//! The commands of an ITS as 32 bytes in its queue (IHI 0069, 5.3).

use xen_types::{Hpa, Lpi};

/// Bytes of a command.
pub const SIZE: usize = 32;

/// The four doublewords of a command, in order.
pub type Words = [u64; 4];

/// What an ITS tells devices apart by, on the side that the type it is part of says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub u32);

/// What a message carries: which of a device's interrupts it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventId(pub u32);

/// A set of interrupts that go to the same CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CollectionId(pub u16);

/// A redistributor as commands name it: the 36 bits of RDbase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target(u64);

/// RDbase: bits 51:16 of its doubleword.
const TARGET_SHIFT: u32 = 16;
const TARGET_MASK: u64 = (1 << 36) - 1;

impl Target {
    /// By `GICR_TYPER.Processor_Number`, for an ITS with `GITS_TYPER.PTA` clear.
    pub const fn of_number(number: u16) -> Self {
        Self(number as u64)
    }

    /// By the address of its frames, for an ITS with `GITS_TYPER.PTA` set; `None` where the
    /// address has more than 52 bits or is no multiple of 64 KiB.
    pub const fn of_address(frames: Hpa) -> Option<Self> {
        let address = frames.get();
        if address & !(TARGET_MASK << TARGET_SHIFT) == 0 {
            Some(Self(address >> TARGET_SHIFT))
        } else {
            None
        }
    }

    /// The field: a processor number, or an address in units of 64 KiB.
    pub const fn field(self) -> u64 {
        self.0
    }

    const fn in_word(word: u64) -> Self {
        Self(word >> TARGET_SHIFT & TARGET_MASK)
    }

    const fn word(self) -> u64 {
        self.0 << TARGET_SHIFT
    }
}

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Gives a device a translation table, or takes it away.
    Mapd {
        /// Which device.
        device: DeviceId,
        /// The table, or nothing more.
        table: Option<TranslationTable>,
    },
    /// Sends a collection to a redistributor, or nowhere.
    Mapc {
        /// Which collection.
        collection: CollectionId,
        /// Where.
        target: Option<Target>,
    },
    /// Maps an event to an LPI of a collection. MAPI is the same with an LPI whose INTID is the
    /// event.
    Mapti {
        /// Which device.
        device: DeviceId,
        /// Which of its events.
        event: EventId,
        /// The INTID; 8192 and above are LPIs.
        intid: u32,
        /// Which collection.
        collection: CollectionId,
    },
    /// Puts an event into another collection, pending or not.
    Movi {
        /// Which device.
        device: DeviceId,
        /// Which of its events.
        event: EventId,
        /// Which collection.
        collection: CollectionId,
    },
    /// Ends the mapping of an event and its pending state.
    Discard {
        /// Which device.
        device: DeviceId,
        /// Which of its events.
        event: EventId,
    },
    /// Makes an event's LPI pending.
    Int {
        /// Which device.
        device: DeviceId,
        /// Which of its events.
        event: EventId,
    },
    /// Makes it not pending.
    Clear {
        /// Which device.
        device: DeviceId,
        /// Which of its events.
        event: EventId,
    },
    /// Has the configuration of an event's LPI read again.
    Inv {
        /// Which device.
        device: DeviceId,
        /// Which of its events.
        event: EventId,
    },
    /// Has the configuration of all LPIs of a collection read again.
    Invall {
        /// Which collection.
        collection: CollectionId,
    },
    /// Moves what is pending at a redistributor to another.
    Movall {
        /// From there.
        from: Target,
        /// To there.
        to: Target,
    },
    /// Waits until the effects of earlier commands at a redistributor can be seen.
    Sync {
        /// Which.
        target: Target,
    },
}

/// The translation table of a device, as MAPD gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TranslationTable {
    /// Its address, a multiple of 256.
    pub at: Hpa,
    /// Bits of its events, 1 to 32.
    pub event_bits: u8,
}

const MOVI: u8 = 0x01;
const INT: u8 = 0x03;
const CLEAR: u8 = 0x04;
const SYNC: u8 = 0x05;
const MAPD: u8 = 0x08;
const MAPC: u8 = 0x09;
const MAPTI: u8 = 0x0a;
const MAPI: u8 = 0x0b;
const INV: u8 = 0x0c;
const INVALL: u8 = 0x0d;
const MOVALL: u8 = 0x0e;
const DISCARD: u8 = 0x0f;

/// MAPD and MAPC: the mapping exists.
const VALID: u64 = 1 << 63;
/// MAPD: bits 51:8 of the table's address.
const TABLE: u64 = 0x000f_ffff_ffff_ff00;
/// MAPD: the bits of events, less one.
const TABLE_SIZE: u64 = 0x1f;

/// A command with an opcode that is not one of ours: reserved, or of GICv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no ITS command has opcode {0:#04x}")]
pub struct UnknownCommand(pub u8);

impl Command {
    /// The event that 32 bytes have happen, if they do.
    #[inline]
    pub const fn raised([first, second, ..]: Words) -> Option<(DeviceId, EventId)> {
        if first as u8 == INT {
            Some((DeviceId((first >> 32) as u32), EventId(second as u32)))
        } else {
            None
        }
    }

    /// What 32 bytes say. Reserved fields are ignored (5.3).
    ///
    /// # Errors
    /// [`UnknownCommand`].
    pub fn decode([first, second, third, fourth]: Words) -> Result<Self, UnknownCommand> {
        let device = DeviceId((first >> 32) as u32);
        let event = EventId(second as u32);
        let collection = CollectionId(third as u16);
        let valid = third & VALID != 0;
        Ok(match first as u8 {
            MOVI => Self::Movi {
                device,
                event,
                collection,
            },
            INT => Self::Int { device, event },
            CLEAR => Self::Clear { device, event },
            SYNC => Self::Sync {
                target: Target::in_word(third),
            },
            MAPD => Self::Mapd {
                device,
                table: valid.then_some(TranslationTable {
                    at: Hpa::new(third & TABLE),
                    event_bits: (second & TABLE_SIZE) as u8 + 1,
                }),
            },
            MAPC => Self::Mapc {
                collection,
                target: valid.then_some(Target::in_word(third)),
            },
            MAPTI => Self::Mapti {
                device,
                event,
                intid: (second >> 32) as u32,
                collection,
            },
            MAPI => Self::Mapti {
                device,
                event,
                intid: event.0,
                collection,
            },
            INV => Self::Inv { device, event },
            INVALL => Self::Invall { collection },
            MOVALL => Self::Movall {
                from: Target::in_word(third),
                to: Target::in_word(fourth),
            },
            DISCARD => Self::Discard { device, event },
            opcode => return Err(UnknownCommand(opcode)),
        })
    }

    /// The 32 bytes.
    pub fn encode(self) -> Words {
        let of_device =
            |opcode: u8, device: DeviceId| u64::from(opcode) | u64::from(device.0) << 32;
        let of_event =
            |opcode, device, event: EventId| [of_device(opcode, device), u64::from(event.0), 0, 0];
        let plain = |opcode: u8, third| [u64::from(opcode), 0, third, 0];
        match self {
            Self::Movi {
                device,
                event,
                collection,
            } => {
                let [first, second, _, fourth] = of_event(MOVI, device, event);
                [first, second, u64::from(collection.0), fourth]
            }
            Self::Int { device, event } => of_event(INT, device, event),
            Self::Clear { device, event } => of_event(CLEAR, device, event),
            Self::Inv { device, event } => of_event(INV, device, event),
            Self::Discard { device, event } => of_event(DISCARD, device, event),
            Self::Sync { target } => plain(SYNC, target.word()),
            Self::Invall { collection } => plain(INVALL, u64::from(collection.0)),
            Self::Movall { from, to } => [u64::from(MOVALL), 0, from.word(), to.word()],
            Self::Mapc { collection, target } => {
                let target = target.map_or(0, |target| VALID | target.word());
                plain(MAPC, target | u64::from(collection.0))
            }
            Self::Mapd { device, table } => {
                let (size, at) = table.map_or((0, 0), |table| {
                    let size = u64::from(table.event_bits.saturating_sub(1)) & TABLE_SIZE;
                    (size, VALID | table.at.get() & TABLE)
                });
                [of_device(MAPD, device), size, at, 0]
            }
            Self::Mapti {
                device,
                event,
                intid,
                collection,
            } => [
                of_device(MAPTI, device),
                u64::from(event.0) | u64::from(intid) << 32,
                u64::from(collection.0),
                0,
            ],
        }
    }

    /// MAPTI with an LPI.
    pub const fn map(device: DeviceId, event: EventId, lpi: Lpi, collection: CollectionId) -> Self {
        Self::Mapti {
            device,
            event,
            intid: lpi.intid(),
            collection,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    const DEVICE: DeviceId = DeviceId(0x0001_0108);
    const EVENT: EventId = EventId(0x25);
    const COLLECTION: CollectionId = CollectionId(0x8003);

    /// The figures of IHI 0069, 5.3.2 to 5.3.14.
    #[test]
    fn commands_have_the_layout_of_the_specification() {
        let device = DEVICE;
        let event = EVENT;
        let collection = COLLECTION;
        let at = Hpa::new(0x000f_edcb_a987_6500);
        let target = Target::of_address(Hpa::new(0x000a_bcde_f012_0000)).unwrap();
        let number = Target::of_number(3);
        let table = TranslationTable { at, event_bits: 6 };
        let layouts = [
            (
                Command::Mapd {
                    device,
                    table: Some(table),
                },
                [0x0001_0108_0000_0008, 5, 0x800f_edcb_a987_6500, 0],
            ),
            (
                Command::Mapd {
                    device,
                    table: None,
                },
                [0x0001_0108_0000_0008, 0, 0, 0],
            ),
            (
                Command::Mapc {
                    collection,
                    target: Some(target),
                },
                [0x09, 0, 0x800a_bcde_f012_8003, 0],
            ),
            (
                Command::Mapc {
                    collection,
                    target: None,
                },
                [0x09, 0, 0x8003, 0],
            ),
            (
                Command::map(device, event, Lpi::new(1).unwrap(), collection),
                [0x0001_0108_0000_000a, 0x2001_0000_0025, 0x8003, 0],
            ),
            (
                Command::Movi {
                    device,
                    event,
                    collection,
                },
                [0x0001_0108_0000_0001, 0x25, 0x8003, 0],
            ),
            (
                Command::Discard { device, event },
                [0x0001_0108_0000_000f, 0x25, 0, 0],
            ),
            (
                Command::Int { device, event },
                [0x0001_0108_0000_0003, 0x25, 0, 0],
            ),
            (
                Command::Clear { device, event },
                [0x0001_0108_0000_0004, 0x25, 0, 0],
            ),
            (
                Command::Inv { device, event },
                [0x0001_0108_0000_000c, 0x25, 0, 0],
            ),
            (Command::Invall { collection }, [0x0d, 0, 0x8003, 0]),
            (
                Command::Movall {
                    from: number,
                    to: target,
                },
                [0x0e, 0, 0x3_0000, 0x000a_bcde_f012_0000],
            ),
            (Command::Sync { target: number }, [0x05, 0, 0x3_0000, 0]),
        ];
        for (command, words) in layouts {
            assert_eq!(command.encode(), words, "{command:?}");
            assert_eq!(Command::decode(words), Ok(command));
        }
    }

    #[test]
    fn mapi_names_the_lpi_by_the_event() {
        let words = [0x0001_0108_0000_000b, 8200, 0x8003, 0];
        let lpi = Lpi::from_intid(8200).unwrap();
        assert_eq!(
            Command::decode(words),
            Ok(Command::map(DEVICE, EventId(8200), lpi, COLLECTION))
        );
    }

    #[test]
    fn the_commands_of_gicv4_and_reserved_ones_are_unknown() {
        let known = [1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
        for opcode in 0..=255_u8 {
            let decoded = Command::decode([opcode.into(), 0, 0, 0]);
            match known.contains(&opcode) {
                true => assert!(decoded.is_ok()),
                false => assert_eq!(decoded, Err(UnknownCommand(opcode))),
            }
        }
    }

    #[test]
    fn redistributors_lie_on_multiples_of_64_kib_below_52_bits() {
        assert_eq!(Target::of_address(Hpa::new(0x080a_8000)), None);
        assert_eq!(Target::of_address(Hpa::new(1 << 52)), None);
    }

    proptest! {
        /// Reserved fields change nothing.
        #[test]
        fn any_32_bytes_decode_to_what_encodes_the_same(words: Words) {
            if let Ok(command) = Command::decode(words) {
                prop_assert_eq!(Command::decode(command.encode()), Ok(command));
            }
        }
    }
}
