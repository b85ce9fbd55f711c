//! A domain's physical address space: its stage 2 tables and the registers that name them.

use log::info;
use xen_core::paging::stage2::{Attributes, Geometry, Stage2};
use xen_core::paging::{MapError, OutOfTables, PageTable};
use xen_types::{Gpa, GpaRange, Hpa};

use super::tables::Stage2Tables;
use crate::arch::features::Features;
use crate::arch::sysreg::write_sysreg;
use crate::arch::{barrier, percpu};

/// Tells the translations of domains apart in TLBs. 0 is never given out: it is what the register
/// holds before any domain runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vmid(u16);

impl Vmid {
    /// The id `number`, which every CPU can hold; `None` for 0.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number as u16))
        }
    }
}

/// What a domain's physical addresses lead to.
pub struct Space {
    table: PageTable<Stage2>,
    memory: Stage2Tables,
    vmid: Vmid,
}

/// How stage 2 is walked here: by what this CPU can do.
pub fn geometry() -> Geometry {
    let features = percpu::this().features.call_once(Features::detect);
    Geometry::new(features.physical_address_bits(), features.vmid_bits() == 16)
}

impl Space {
    /// An empty space.
    ///
    /// # Errors
    /// If there is no memory for its first table.
    pub fn new(vmid: Vmid) -> Result<Self, OutOfTables> {
        let mut memory = Stage2Tables;
        let table = PageTable::new(&mut memory)?;
        Ok(Self {
            table,
            memory,
            vmid,
        })
    }

    /// Maps `guest` to the host's memory from `host` on.
    ///
    /// # Errors
    /// [`MapError`]; nothing has changed.
    pub fn map(
        &mut self,
        guest: GpaRange,
        host: Hpa,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let (start, size) = (guest.start().get(), guest.size());
        self.table
            .map(&mut self.memory, start, host, size, attributes)
    }

    /// Puts a frame at a guest's page, whatever was there before.
    ///
    /// # Errors
    /// [`MapError`]; the page may have been taken away.
    pub fn replace(&mut self, page: GpaRange, frame: Hpa) -> Result<(), MapError> {
        self.table
            .unmap(&mut self.memory, page.start().get(), page.size())?;
        self.map(page, frame, Attributes::Ram)
    }

    /// The host's address behind a guest's, if that is RAM which the guest may write.
    pub fn writable_ram(&self, address: Gpa) -> Option<Hpa> {
        let found = self.table.lookup(&self.memory, address.get())?;
        (found.attributes == Attributes::Ram).then_some(found.output)
    }

    /// Whether a guest's address leads anywhere.
    pub fn is_mapped(&self, address: Gpa) -> bool {
        self.table.lookup(&self.memory, address.get()).is_some()
    }

    /// What has a CPU translate lower exception levels through this space. What an earlier owner of
    /// its VMID left in the CPUs' TLBs is gone.
    ///
    /// # Errors
    /// If there is no table to start at.
    pub fn translation(&self) -> Result<Translation, OutOfTables> {
        let geometry = geometry();
        let root = geometry.hardware_root(&self.table, &self.memory);
        let root = root.and_then(|root| root.address()).ok_or(OutOfTables)?;
        let translation = Translation {
            vtcr: geometry.vtcr_el2(),
            vttbr: u64::from(self.vmid.0) << 48 | root.get(),
        };
        translation.activate();
        barrier::isb();
        flush_current_vmid();
        Ok(translation)
    }

    /// Takes all mappings and tables away. No CPU may run the domain any more.
    pub fn destroy(mut self) {
        let all = 1 << geometry().input_bits();
        if let Err(error) = self.table.unmap(&mut self.memory, 0, all) {
            info!("stage 2: {error}");
        }
        super::tables::free(self.table.root());
    }
}

/// The registers that name a space.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    vtcr: u64,
    vttbr: u64,
}

impl Translation {
    /// Gives them to this CPU, from the next synchronisation on.
    pub fn activate(self) {
        write_sysreg!("vtcr_el2", self.vtcr);
        write_sysreg!("vttbr_el2", self.vttbr);
    }
}

fn flush_current_vmid() {
    // SAFETY: removes cached translations of lower exception levels; memory does not change.
    unsafe { core::arch::asm!("dsb ishst", "tlbi vmalls12e1is", options(nostack)) };
    barrier::dsb_ish();
    barrier::isb();
}
