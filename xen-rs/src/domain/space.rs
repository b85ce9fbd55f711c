//! A domain's physical address space: its stage 2 tables and the registers that name them.

use log::info;
use smmu::{Stage2, Vmid, Walk};
use xen_abi::DomId;
use xen_core::p2m::{Displaced, P2m, P2mError};
use xen_core::paging::stage2::{Attributes, Geometry};
use xen_core::paging::{MapError, OutOfTables, Unreachable};
use xen_types::{Gfn, Gpa, GpaRange, Hpa, Mfn};

use super::tables::{Stage2Tables, flush_current_vmid, with_vttbr};
use crate::arch::features::Features;
use crate::arch::sysreg::write_sysreg;
use crate::arch::{interrupts, percpu};
use crate::memory::frames;

/// What a domain's physical addresses lead to.
pub struct Space {
    p2m: P2m,
    memory: Stage2Tables,
    vmid: Vmid,
}

/// How stage 2 is walked here: by what this CPU can do.
pub fn geometry() -> Geometry {
    let features = percpu::this().features.call_once(Features::detect);
    Geometry::new(features.physical_address_bits(), features.vmid_bits() == 16)
}

impl Space {
    /// The empty space of a domain.
    ///
    /// # Errors
    /// If there is no memory for its first table.
    pub fn new(owner: DomId, vmid: Vmid) -> Result<Self, OutOfTables> {
        let mut memory = Stage2Tables::new(vmid);
        let p2m = P2m::new(owner, geometry().input_bits(), &mut memory)?;
        Ok(Self { p2m, memory, vmid })
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
        let table = self.p2m.table_mut();
        table.map(&mut self.memory, start, host, size, attributes)
    }

    /// What is at a guest frame, and where.
    pub fn lookup(&self, gfn: Gfn) -> Option<(Mfn, Attributes)> {
        let found = self.p2m.lookup(&self.memory, gfn)?;
        Some((found.output.frame(), found.attributes))
    }

    /// Takes a reference to the frame of the domain's own RAM at a guest frame, which the domain can
    /// write if `writable` is asked for. It is given back by [`frames::put`].
    ///
    /// # Errors
    /// [`P2mError`].
    pub fn reference_ram(&self, gfn: Gfn, writable: bool) -> Result<Mfn, P2mError> {
        let table = frames::table().ok_or(P2mError::NotOwnRam(gfn))?;
        self.p2m.reference_ram(&self.memory, table, gfn, writable)
    }

    /// Puts a frame at a guest frame, whatever RAM was there before.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn put(&mut self, gfn: Gfn, mfn: Mfn, attributes: Attributes) -> Result<(), P2mError> {
        let displaced = self.p2m.put(&mut self.memory, gfn, mfn, attributes)?;
        give_back(displaced);
        Ok(())
    }

    /// Takes away what is at a guest frame.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn remove(&mut self, gfn: Gfn) -> Result<(), P2mError> {
        let displaced = self.p2m.remove(&mut self.memory, gfn)?;
        give_back(displaced);
        Ok(())
    }

    /// Takes away the domain's own RAM at a guest frame; the frame stays the domain's.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn take_ram(&mut self, gfn: Gfn) -> Result<Unreachable<Mfn>, P2mError> {
        self.p2m.take_ram(&mut self.memory, gfn)
    }

    /// Takes away a granted frame, if it is still at a guest frame.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn remove_granted(&mut self, gfn: Gfn, mfn: Mfn) -> Result<Unreachable<Mfn>, P2mError> {
        self.p2m.remove_granted(&mut self.memory, gfn, mfn)
    }

    /// Whether a guest's address leads anywhere.
    pub fn is_mapped(&self, address: Gpa) -> bool {
        self.lookup(address.frame()).is_some()
    }

    /// The same tables, as an IOMMU needs to know them. Nothing if the domain's CPUs do not use them
    /// yet, or in a way that no IOMMU can walk.
    pub fn stage2(&self) -> Option<Stage2> {
        let geometry = geometry();
        let root = geometry.hardware_root(self.p2m.table(), &self.memory)?;
        let walk = Walk::from_vtcr_el2(geometry.vtcr_el2()).ok()?;
        Stage2::new(root.address()?, walk, self.vmid).ok()
    }

    /// What has a CPU translate lower exception levels through this space. What an earlier owner of
    /// its VMID left in the CPUs' TLBs is gone.
    ///
    /// # Errors
    /// If there is no table to start at.
    pub fn translation(&mut self) -> Result<Translation, OutOfTables> {
        let geometry = geometry();
        let root = geometry.hardware_root(self.p2m.table(), &self.memory);
        let root = root.and_then(|root| root.address()).ok_or(OutOfTables)?;
        let translation = Translation {
            vtcr: geometry.vtcr_el2(),
            vttbr: u64::from(self.vmid.get()) << 48 | root.get(),
        };
        self.memory.vttbr = translation.vttbr;
        let _masked = interrupts::mask();
        with_vttbr(translation.vttbr, flush_current_vmid);
        Ok(translation)
    }
}

impl Drop for Space {
    /// Takes all mappings and tables away. No CPU runs the domain any more.
    fn drop(&mut self) {
        let all = 1 << geometry().input_bits();
        let _masked = interrupts::mask();
        let root = self.p2m.table_mut().take_down(&mut self.memory, all);
        match root {
            Ok(root) => super::tables::free(root),
            Err(error) => info!("stage 2: {error}: its tables are lost"),
        }
    }
}

fn give_back(displaced: Displaced) {
    if let Some(frame) = displaced.reference() {
        frames::put_mapped(frame);
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
