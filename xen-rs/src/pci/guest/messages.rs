//! MSI and MSI-X of a guest's function, as hardware has them.
//!
//! A guest says where it wants a message written, and what. That becomes a message only where the guest
//! names the doorbell of its interrupt controller: hardware then writes to the doorbell that its messages
//! have in the guest's address space, as the hypervisor chose it. What is written tells the events of the
//! device apart and nothing else, as an ITS knows the device by itself: it is the guest's. To a frame of
//! GICv2m it says which interrupt, and becomes the host's that stands for it. Any other message is not
//! sent at all.

use pci_host::Device;
use pci_host::capability::{Msi, MsiMessage, MsiX};
use pci_host::config::{ConfigAccess, Function};
use vpci::guest::{MsiState, VectorState};
use xen_abi::layout;
use xen_core::its::layout::GITS_TRANSLATER;
use xen_core::v2m::{GuestFrame, MSI_SETSPI};
use xen_types::Gpa;

use crate::memory::device::Registers;

/// Bytes of an entry of the table, and where its fields are (PCI Local Bus 3.0, 6.8.2).
const ENTRY: usize = 16;
const ADDRESS_HIGH: usize = 4;
const DATA: usize = 8;
const CONTROL: usize = 12;
/// Vector control: masked.
const MASKED: u32 = 1;

/// Where a function's messages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// To an ITS, by this doorbell in the guest's address space.
    Its {
        /// Where the host's ITS is there.
        doorbell: Gpa,
    },
    /// To a frame of GICv2m.
    V2m(GuestFrame),
}

impl Source {
    /// What hardware writes, and where, for 2^`vectors_log2` messages that the guest wants; `None` if
    /// they are none.
    fn message(self, address: u64, data: u32, vectors_log2: u8) -> Option<(u64, u32)> {
        match self {
            Self::Its { doorbell } => {
                let own = layout::ITS.base.checked_add(GITS_TRANSLATER.into())?;
                (address == own).then_some((doorbell.get(), data))
            }
            Self::V2m(frame) => {
                let own = layout::V2M.base.checked_add(MSI_SETSPI)?;
                let data = frame.to_host(data, vectors_log2)?;
                (address == own).then_some((address, data))
            }
        }
    }
}

/// What a function's message registers are set to.
pub struct Sender {
    source: Option<Source>,
    /// The table of MSI-X.
    table: Option<(Registers, usize)>,
    /// What MSI is set to, as the guest wanted it.
    msi: MsiState,
    /// Whether MSI-X is enabled, and whether the function mask is set meanwhile.
    msi_x: Option<Held>,
}

/// Whether all vectors of MSI-X are masked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Back,
    Not,
}

impl Sender {
    /// Of a function that has just been reset.
    pub fn new(source: Option<Source>, table: Option<(Registers, usize)>) -> Self {
        Self {
            source,
            table,
            msi: MsiState::default(),
            msi_x: None,
        }
    }

    /// As [`Sender::new`] has it.
    pub fn after_reset(&mut self) {
        (self.msi, self.msi_x) = (MsiState::default(), None);
    }

    /// What hardware writes, and where, for what the guest wants; `None` if that is no message.
    fn message(&self, address: u64, data: u32, vectors_log2: u8) -> Option<(u64, u32)> {
        self.source?.message(address, data, vectors_log2)
    }

    /// Sets MSI to what the guest wants.
    pub fn set_msi<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        msi: Msi,
        wanted: MsiState,
    ) {
        let before = core::mem::replace(&mut self.msi, wanted);
        let only_masks = MsiState {
            mask: wanted.mask,
            ..before
        };
        let message = self.message(wanted.address, wanted.data.into(), wanted.vectors_log2);
        match message.filter(|_| wanted.enabled) {
            None => msi.disable(function),
            // Nothing is lost that arrives meanwhile.
            Some(_) if only_masks == wanted => msi.set_masks(function, wanted.mask),
            Some((address, data)) => msi.enable(
                function,
                MsiMessage {
                    address,
                    // An interrupt's number, or what has 16 bits as it was.
                    data: data as u16,
                    vectors_log2: wanted.vectors_log2,
                    mask: wanted.mask,
                },
            ),
        }
    }

    /// Sets a vector of MSI-X to what the guest wants, who has MSI-X enabled or not.
    pub fn set_vector<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        msi_x: MsiX,
        enabled: bool,
        wanted: VectorState,
    ) {
        match (enabled, self.msi_x) {
            // Nothing is sent before all vectors are as they should be.
            (true, None) => {
                msi_x.enable(function, true);
                self.msi_x = Some(Held::Back);
            }
            (false, Some(_)) => {
                msi_x.disable(function);
                self.msi_x = None;
            }
            _ => {}
        }
        let Some((table, start)) = self.table else {
            return;
        };
        let entry = start.wrapping_add(usize::from(wanted.vector).wrapping_mul(ENTRY));
        let field = |offset: usize| entry.wrapping_add(offset);
        table.write32(field(CONTROL), MASKED);
        if let Some((address, data)) = self.message(wanted.address, wanted.data, 0)
            && !wanted.masked
        {
            table.write32(entry, address as u32);
            table.write32(field(ADDRESS_HIGH), (address >> 32) as u32);
            table.write32(field(DATA), data);
            table.write32(field(CONTROL), 0);
        }
        // It has arrived when this is read.
        let _ = table.read32(field(CONTROL));
    }

    /// All that the guest wanted is set: messages are sent.
    pub fn settle<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>, device: &Device) {
        if let (Some(Held::Back), Some(msi_x)) = (self.msi_x, device.msi_x) {
            msi_x.enable(function, false);
            self.msi_x = Some(Held::Not);
        }
    }
}
