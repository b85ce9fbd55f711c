//! What has to happen until the guest may go on: unmapping, decode, mapping, interrupts, reset.

use pci_host::bar::BarKind;
use pci_host::config::{ConfigAccess, Function, Register};
use pci_host::header::{self, Command};
use xen_types::{Gpa, GpaRange};

use super::{BARS, GuestBar, GuestFunction, GuestMsiX, GuestWindows, IsFree, ROM};
use crate::effect::{Effect, Piece};

impl GuestFunction {
    /// What has to happen next; `None` when nothing has to any more. `is_free` tells whether guest
    /// memory is not taken by another function.
    pub fn next_effect<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        windows: &GuestWindows,
        is_free: IsFree<'_>,
    ) -> Option<Effect> {
        let function = Function::new(config, self.host);
        if let Some(piece) = self.unmap(windows) {
            return Some(Effect::Unmap(piece));
        }
        // Nothing reaches registers that hardware is about to stop answering for (CVE-2020-12888).
        self.begin_mappings(windows, is_free);
        self.sync_decode(function);
        if let Some(piece) = self.map() {
            return Some(Effect::Map(piece));
        }
        if core::mem::take(&mut self.msi_changed)
            && let Some(msi) = &self.msi
        {
            return Some(Effect::Msi(msi.state()));
        }
        if let Some(vector) = self.msi_x.as_mut().and_then(GuestMsiX::next) {
            return Some(Effect::MsiX(vector));
        }
        core::mem::take(&mut self.reset_wanted).then_some(Effect::Reset)
    }

    /// Whether a BAR has appeared somewhere or disappeared since the last call.
    pub(crate) fn take_moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    /// Mapping `piece` has failed: what is mapped of its BAR is taken back, and the guest goes on
    /// without.
    pub fn fail(&mut self, piece: Piece) {
        if let Some(Some(mapping)) = self.mappings.get_mut(usize::from(piece.bar)) {
            mapping.fail(piece);
        }
    }

    /// Where the guest wants a BAR now.
    fn wanted(&self, place: usize, windows: &GuestWindows) -> Option<Gpa> {
        let bar = self.bars.get(place)?.as_ref()?;
        let decode = decode_of(bar);
        let bar = Some(bar).filter(|_| self.command.contains(decode))?;
        Some(bar.place(windows)?.start())
    }

    fn unmap(&mut self, windows: &GuestWindows) -> Option<Piece> {
        for place in 0..BARS {
            let wanted = self.wanted(place, windows);
            let Some(Some(mapping)) = self.mappings.get_mut(place) else {
                continue;
            };
            if !mapping.must_unmap(wanted) {
                continue;
            }
            self.moved = true;
            if let Some(piece) = mapping.unmap() {
                return Some(piece);
            }
        }
        None
    }

    /// Claims memory for what is wanted somewhere and mapped nowhere. Nothing is to be unmapped.
    fn begin_mappings(&mut self, windows: &GuestWindows, is_free: IsFree<'_>) {
        for place in 0..BARS {
            let Some(wanted) = self.wanted(place, windows) else {
                continue;
            };
            let Some(Some(mapping)) = self.mappings.get(place) else {
                continue;
            };
            let size = self
                .bars
                .get(place)
                .copied()
                .flatten()
                .map(|bar| bar.size());
            let range = size.and_then(|size| GpaRange::new(wanted, size));
            let idle = mapping.claim().is_none() && !mapping.has_failed();
            // Two BARs at one place: the first has it.
            let free = |range: GpaRange| is_free(range) && !self.claims_any(range);
            let begins = idle && range.is_some_and(free);
            if let (true, Some(Some(mapping))) = (begins, self.mappings.get_mut(place)) {
                mapping.begin(wanted);
                self.moved = true;
            }
        }
    }

    fn map(&mut self) -> Option<Piece> {
        self.mappings
            .iter_mut()
            .flatten()
            .filter(|mapping| mapping.claim().is_some())
            .find_map(|mapping| mapping.map())
    }

    /// Hardware decodes what is mapped, or about to be.
    pub(super) fn sync_decode<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let mut decode = Command::empty();
        let mut rom = false;
        for (bar, mapping) in self.bars.iter().zip(&self.mappings) {
            if let (Some(bar), Some(mapping)) = (bar, mapping)
                && mapping.claim().is_some()
            {
                decode |= decode_of(bar);
                rom |= bar.kind() == BarKind::Rom;
            }
        }
        let others = self.hardware - Command::DECODE;
        self.set_hardware(function, others | decode);
        self.sync_rom(function, rom);
    }

    /// The ROM has an enable bit of its own.
    fn sync_rom<C: ConfigAccess + ?Sized>(&self, function: Function<'_, C>, enabled: bool) {
        if self.bar(ROM).is_none() {
            return;
        }
        let register: Register<u32> = header::ROM;
        let before = function.read(register);
        let after = before & !1 | u32::from(enabled);
        if after != before {
            function.write(register, after);
        }
    }
}

fn decode_of(bar: &GuestBar) -> Command {
    if bar.kind().is_memory() {
        Command::MEMORY
    } else {
        Command::IO
    }
}
