//! What has to happen because of a guest's writes, a part at a time.

use pci_host::config::Function;
use pci_host::reset::{Method, Progress, Reset};
use pci_host::{Device, Time as _};
use vpci::effect::{Effect, Piece};
use xen_core::paging::stage2::Attributes;

use super::State;
use crate::domain::Domain;
use crate::memory::heap;
use crate::pci::Pci;
use crate::pci::registers::Clock;

/// How much is done at once: a piece of a BAR is at most a table's worth of entries.
const BUDGET: u32 = 64;
const PIECE: u32 = 8;
const VECTOR: u32 = 1;
/// More heap than a reset takes.
const RESET_HEAP: usize = 8 << 10;

impl State {
    /// Does a part of what has still to happen. Returns whether that was all.
    pub fn settle(&mut self, pci: &Pci, domain: &Domain) -> bool {
        let Some(place) = self.unsettled else {
            return true;
        };
        let Self {
            functions, given, ..
        } = self;
        let Some(given) = given.iter_mut().find(|given| given.place == place) else {
            self.unsettled = None;
            return true;
        };
        let config = &pci.bridges;
        let function = Function::new(config, given.device.sbdf);
        let mut budget = BUDGET;
        loop {
            if let Some(reset) = &mut given.reset {
                match reset.step(config, Clock.now()) {
                    Ok(Progress::Wait(_)) => return false,
                    Ok(Progress::Done) => {}
                    Err(error) => domain.complain(format_args!("pci: {error}")),
                }
                given.reset = None;
                given.sender.after_reset();
                if let Some(function) = functions.get_mut(place) {
                    function.after_reset(config);
                }
            }
            if budget == 0 {
                return false;
            }
            let effect = functions.next_effect(config, place);
            let Some(effect) = effect else {
                given.sender.settle(function, &given.device);
                self.unsettled = None;
                return true;
            };
            let cost = match effect {
                Effect::Map(piece) => {
                    if !map(domain, piece) {
                        functions.fail(place, piece);
                    }
                    PIECE
                }
                Effect::Unmap(piece) => {
                    unmap(domain, piece);
                    PIECE
                }
                Effect::Msi(wanted) => {
                    if let Some(msi) = given.device.msi {
                        given.sender.set_msi(function, msi, wanted);
                    }
                    VECTOR
                }
                Effect::MsiX(wanted) => {
                    let guest = functions.get(place);
                    let enabled = guest.is_some_and(|guest| guest.msi_x_enabled());
                    if let Some(msi_x) = given.device.msi_x {
                        given.sender.set_vector(function, msi_x, enabled, wanted);
                    }
                    VECTOR
                }
                Effect::Reset => {
                    given.reset = begin_reset(pci, domain, &given.device);
                    if given.reset.is_none()
                        && let Some(function) = functions.get_mut(place)
                    {
                        function.after_reset(config);
                    }
                    PIECE
                }
            };
            budget = budget.saturating_sub(cost);
        }
    }
}

/// Begins a reset that the guest has asked for, of a function that can be reset like this. Without memory
/// for it the guest finds that it did nothing.
#[cold]
fn begin_reset(pci: &Pci, domain: &Domain, device: &Device) -> Option<Reset> {
    if heap::ensure(RESET_HEAP).is_err() {
        domain.complain(format_args!("pci: {}: no memory to reset it", device.sbdf));
        return None;
    }
    Some(Reset::new(&pci.bridges, Method::FunctionLevel, [device]))
}

/// Maps a piece; false if that fails.
fn map(domain: &Domain, piece: Piece) -> bool {
    let (guest, host) = (piece.guest, piece.host);
    let mut space = domain.space.lock();
    let mapped = space.map(guest, host.start(), Attributes::Device);
    drop(space);
    mapped
        .inspect_err(|error| {
            domain.complain(format_args!("pci: {}: {guest}: {error}", domain.id));
        })
        .is_ok()
}

fn unmap(domain: &Domain, piece: Piece) {
    let unmapped = domain.space.lock().unmap(piece.guest);
    if let Err(error) = unmapped {
        domain.complain(format_args!("pci: {}: {}: {error}", domain.id, piece.guest));
    }
}
