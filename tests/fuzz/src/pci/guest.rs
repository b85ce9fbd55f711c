//! A guest that has a card, and what is mapped for it.

use pci_host::bar::Bar;
use pci_host::simulated::machines::Machine;
use pci_host::{ConfigOffset, Device};
use vpci::access::GuestAccess;
use vpci::effect::{Effect, Piece};
use vpci::guest::{GuestFunction, GuestWindows, Interrupts, VectorState};
use xen_types::{Gpa, GpaRange, HpaRange};

use super::devices::{self, Card};

/// Effects that one access may have at most: each piece of each BAR, and each vector.
const MOST_EFFECTS: usize = 4096;

/// The guest's card.
pub struct Guest {
    pub machine: Machine,
    pub device: Device,
    pub function: GuestFunction,
    windows: GuestWindows,
    mapped: Vec<Piece>,
    /// The last that was said of each vector.
    pub vectors: Vec<Option<VectorState>>,
}

impl Guest {
    pub fn new(card: Card) -> Self {
        let (machine, device) = devices::machine(card);
        let host = |bar: &Bar| place(&machine, bar);
        let function = GuestFunction::new(&machine.bridge, &device, Interrupts::ALL, host);
        let window = |start, size| GpaRange::new(Gpa::new(start), size).expect("constants");
        let windows = GuestWindows {
            memory: vec![
                window(0x2000_0000, 0x1000_0000),
                window(0x40_0000_0000, 0x40_0000_0000),
            ],
            io: Some(window(0x3eff_0000, 0x1_0000)),
        };
        Self {
            machine,
            device,
            function,
            windows,
            mapped: Vec::new(),
            vectors: vec![None; 2048],
        }
    }

    pub fn read(&self, access: GuestAccess) -> u64 {
        self.function.read(&self.machine.bridge, access)
    }

    pub fn write(&mut self, access: GuestAccess, value: u64) {
        self.function.write(&self.machine.bridge, access, value);
    }

    /// Does up to so many things that have to happen; the mapping of a piece fails if `fails`.
    /// Returns whether there is nothing more.
    pub fn work(&mut self, most: usize, fails: bool) -> bool {
        for _ in 0..most {
            let config = &self.machine.bridge;
            match self.function.next_effect(config, &self.windows, &|_| true) {
                None => return true,
                Some(Effect::Map(piece)) if fails => {
                    self.check(&piece);
                    self.function.fail(piece);
                }
                Some(Effect::Map(piece)) => {
                    self.check(&piece);
                    self.mapped.push(piece);
                }
                Some(Effect::Unmap(piece)) => self.unmap(&piece),
                Some(Effect::MsiX(state)) => {
                    let place = self.vectors.get_mut(usize::from(state.vector));
                    *place.expect("a vector that the card has") = Some(state);
                }
                Some(Effect::Reset) => self.function.after_reset(&self.machine.bridge),
                Some(Effect::Msi(_)) => {}
            }
        }
        false
    }

    /// Does all that has to happen.
    pub fn finish(&mut self) {
        assert!(self.work(MOST_EFFECTS, false), "work that does not end");
    }

    /// What is mapped is the card's own, where the guest may have it, and nothing else is there.
    fn check(&self, piece: &Piece) {
        let apart = |other: &Piece| !other.guest.overlaps(piece.guest);
        assert!(self.mapped.iter().all(apart), "{piece:?} is mapped twice");
        let io = self.windows.io.iter();
        let mut windows = self.windows.memory.iter().chain(io);
        let inside = |window: &GpaRange| window.contains_range(piece.guest);
        assert!(windows.any(inside), "{piece:?} is outside all windows");
        let bars = self.device.bars.iter().chain([&self.device.rom]);
        let mut bars = bars.flatten().filter_map(|bar| place(&self.machine, bar));
        let own = |bar: HpaRange| {
            let pages = bar.page_aligned_outwards();
            pages.is_some_and(|pages| pages.contains_range(piece.host))
        };
        assert!(bars.any(own), "{piece:?} is of no BAR");
        assert_eq!(piece.guest.size(), piece.host.size());
    }

    fn unmap(&mut self, piece: &Piece) {
        self.mapped.retain(|other| {
            let gone = piece.guest.contains_range(other.guest);
            let apart = !piece.guest.overlaps(other.guest);
            assert!(gone || apart, "{piece:?} unmaps a part of {other:?}");
            !gone
        });
    }

    /// The guest loses the card: nothing of it stays.
    pub fn end(mut self) {
        self.function.withdraw(&self.machine.bridge);
        self.finish();
        assert_eq!(self.mapped, []);
    }
}

fn place(machine: &Machine, bar: &Bar) -> Option<HpaRange> {
    let description = machine.bridge.description();
    description.to_host(!bar.kind.is_memory(), bar.address?, bar.size)
}

/// An access that a guest can make, if these are one.
pub fn access(offset: u16, log: u8) -> Option<GuestAccess> {
    GuestAccess::new(ConfigOffset::new(offset)?, 1 << (log & 3))
}
