//! What an input says.

use arbitrary::{Arbitrary, Unstructured};
use xen_core::its::command::{Command, TranslationTable};
use xen_core::its::{CollectionId, DeviceId, EventId, Target};
use xen_types::Hpa;

/// One thing that happens.
#[derive(Clone, Debug, Arbitrary)]
pub enum Step {
    /// A domain puts a command into its queue.
    Command(Which, Likely),
    /// A domain puts 32 bytes into its queue.
    Bytes(Which, [u64; 4]),
    /// A domain loads or stores a register of its ITS.
    Register(Which, Place, u8, Option<u64>),
    /// A domain writes to its memory.
    Write(Which, u16, u64),
    /// A domain's memory is taken away or given back.
    Memory(Which),
    /// Its ITS makes a few steps only.
    Pause(Which, u8),
    /// A vCPU of a domain takes its interrupts.
    Take(Which, u8),
    /// A device sends a message.
    Message(Which, u8, u8),
    /// A domain loses its device, and gets it back.
    Reassign(Which),
    /// An ITS of the host hangs, or goes on.
    Hang(Which),
}

/// One of two.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Which(bool);

impl Which {
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// An offset, mostly of a register that exists.
#[derive(Clone, Copy, Debug)]
pub struct Place(pub u32);

impl<'a> Arbitrary<'a> for Place {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        const KNOWN: [u32; 8] = [0, 4, 8, 0x80, 0x88, 0x90, 0x100, 0x108];
        let choice: u8 = u.arbitrary()?;
        Ok(Self(match KNOWN.get(usize::from(choice)) {
            Some(offset) => *offset,
            None => u.int_in_range(0..=0x1_ffff)?,
        }))
    }
}

/// A command that mostly names what exists: 16 devices, events and collections, 64 LPIs.
#[derive(Clone, Copy, Debug)]
pub struct Likely(pub Command);

impl<'a> Arbitrary<'a> for Likely {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let kind = u.int_in_range(0..=11_u8)?;
        let names: u16 = u.arbitrary()?;
        let detail: u8 = u.arbitrary()?;
        let device = DeviceId(u32::from(names & 0xf));
        let event = EventId(u32::from(names >> 4 & 0xf));
        let collection = CollectionId(names >> 8 & 0xf);
        let target = Target::of_number(names >> 12 & 0x7);
        let valid = names >> 15 == 0;
        Ok(Self(match kind {
            0 => Command::Mapd {
                device,
                table: valid.then_some(TranslationTable {
                    at: Hpa::new(0),
                    event_bits: detail % 20 + 1,
                }),
            },
            1 => Command::Mapc {
                collection,
                target: valid.then_some(target),
            },
            2 | 3 => Command::Mapti {
                device,
                event,
                intid: 8188 + u32::from(detail & 0x7f),
                collection,
            },
            4 => Command::Movi {
                device,
                event,
                collection,
            },
            5 => Command::Discard { device, event },
            6 => Command::Int { device, event },
            7 => Command::Clear { device, event },
            8 => Command::Inv { device, event },
            9 => Command::Invall { collection },
            10 => Command::Movall {
                from: target,
                to: Target::of_number((detail & 0x7).into()),
            },
            _ => Command::Sync { target },
        }))
    }
}
