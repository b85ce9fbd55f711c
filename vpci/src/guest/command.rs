//! Command and status (PCI Express Base 6.0, 7.5.1.1.3 and 7.5.1.1.4).
//!
//! Hardware's command is what the hypervisor wants it to be, by what the guest's says.

use pci_host::config::{ConfigAccess, Function};
use pci_host::header::{self, Command, Status};

use super::GuestFunction;
use super::handler::Handler;
use crate::access::Lane;

/// The bits of the command register that a guest can change (PCI Express Base 6.0, 7.5.1.1.3).
pub(super) const GUEST_COMMAND: Command = Command::IO
    .union(Command::MEMORY)
    .union(Command::BUS_MASTER)
    .union(Command::PARITY_ERROR)
    .union(Command::SERR)
    .union(Command::INTX_DISABLE);
/// Those of them that hardware gets at once. Decode follows what is mapped; errors are reported to
/// the host or not at all (XSA-120).
pub(super) const HARDWARE_COMMAND: Command = Command::BUS_MASTER.union(Command::INTX_DISABLE);

impl GuestFunction {
    /// Command is the guest's own; of the status, hardware's events and the state of INTx are seen.
    pub(super) fn read_command<C: ConfigAccess + ?Sized>(&self, function: Function<'_, C>) -> u32 {
        let seen = Status::WRITE_1_TO_CLEAR | Status::INTX;
        let mut status = function.read(header::STATUS) & seen;
        let has_list = self.handlers.get(0x34 / 4) != Handler::Fixed(0);
        status.set(Status::CAPABILITIES, has_list);
        u32::from(status.bits()) << 16 | u32::from(self.command.bits())
    }

    pub(super) fn write_command<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        lane: Lane,
        bits: u32,
    ) {
        let command = lane.insert(self.command.bits().into(), bits);
        self.command = Command::from_bits_truncate(command as u16) & GUEST_COMMAND;
        let cleared = Status::from_bits_truncate((bits >> 16) as u16) & Status::WRITE_1_TO_CLEAR;
        let cleared = Status::from_bits_truncate((lane.mask() >> 16) as u16) & cleared;
        if !cleared.is_empty() {
            function.write(header::STATUS, cleared);
        }
        self.mappings
            .iter_mut()
            .flatten()
            .for_each(|mapping| mapping.retry());
        self.sync_command(function);
    }

    /// Brings hardware's command to what it should be, decode aside.
    pub(super) fn sync_command<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let mut wanted = self.command & HARDWARE_COMMAND | self.hardware & Command::DECODE;
        wanted.set(
            Command::INTX_DISABLE,
            self.intx_masked || self.command.contains(Command::INTX_DISABLE),
        );
        self.set_hardware(function, wanted);
    }

    pub(super) fn set_hardware<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        wanted: Command,
    ) {
        if wanted != self.hardware {
            function.write(header::COMMAND, wanted);
            self.hardware = wanted;
        }
    }

    /// Whether the function asserts its pin, unless the hypervisor holds it off: it says so (Interrupt
    /// Status), and the guest has not disabled it.
    pub fn asserts_intx<C: ConfigAccess + ?Sized>(&self, config: &C) -> bool {
        let status = Function::new(config, self.host).read(header::STATUS);
        status.contains(Status::INTX) && !self.command.contains(Command::INTX_DISABLE)
    }

    /// Holds the function's INTx off, or lets the guest decide: the hypervisor's part in sharing a
    /// line.
    pub fn mask_intx<C: ConfigAccess + ?Sized>(&mut self, config: &C, masked: bool) {
        self.intx_masked = masked;
        self.sync_command(Function::new(config, self.host));
    }
}
