//! A domain's physical address space: its stage 2 tables and the registers that name them.

use log::info;
use smmu::{Stage2, Vmid, Walk};
use xen_abi::DomId;
use xen_core::p2m::{Displaced, P2m, P2mError};
use xen_core::paging::stage2::{Attributes, Geometry};
use xen_core::paging::{MapError, OutOfTables};
use xen_types::{Gfn, Gpa, GpaRange, Hpa, Mfn, PAGE_SIZE};

use super::tables::{Stage2Tables, with_vttbr};
use crate::arch::features::Features;
use crate::arch::sysreg::write_sysreg;
use crate::arch::{barrier, interrupts, percpu};
use crate::memory::frames;

/// What a domain's physical addresses lead to.
pub struct Space {
    p2m: P2m,
    memory: Stage2Tables,
    vmid: Vmid,
    /// How often it may have changed.
    changes: u64,
}

/// A page of a domain's RAM that is read again and again: where it was found, which holds for as long as
/// the domain's space does not change.
#[derive(Clone, Copy, Default)]
pub struct Window {
    gfn: Gfn,
    page: Hpa,
    /// [`Space::changes`] when it was found, 0 if it never was.
    found: u64,
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
        Ok(Self {
            p2m,
            memory,
            vmid,
            changes: 1,
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
        self.changes += 1;
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

    /// Copies doublewords of a page of the domain's own RAM, from a multiple of their size on. Nobody
    /// else gets the page meanwhile: that takes a change of this space first.
    ///
    /// # Errors
    /// [`P2mError`].
    #[inline]
    pub fn read_words<const COUNT: usize>(
        &self,
        at: Gpa,
        window: &mut Window,
    ) -> Result<[u64; COUNT], P2mError> {
        let gfn = at.frame();
        if window.found != self.changes || window.gfn != gfn {
            *window = self.find(gfn)?;
        }
        let from = window.page.get() + at.offset_in_page();
        if !from.is_multiple_of(8) || at.offset_in_page() + 8 * COUNT as u64 > PAGE_SIZE {
            return Err(P2mError::NotOwnRam(gfn));
        }
        // SAFETY: RAM of the domain, aligned, within the page. Each word is read once, so a vCPU that
        // writes at the same time changes what is read and no more.
        Ok(core::array::from_fn(|word| unsafe {
            core::ptr::read_volatile((from as *const u64).wrapping_add(word))
        }))
    }

    #[cold]
    fn find(&self, gfn: Gfn) -> Result<Window, P2mError> {
        let mfn = self.reference_ram(gfn, false)?;
        // What the space leads to stays the domain's without a reference.
        frames::put(mfn);
        Ok(Window {
            gfn,
            page: mfn.address().ok_or(P2mError::NotOwnRam(gfn))?,
            found: self.changes,
        })
    }

    /// Puts a frame at a guest frame, whatever RAM was there before.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn put(&mut self, gfn: Gfn, mfn: Mfn, attributes: Attributes) -> Result<(), P2mError> {
        self.changes += 1;
        let displaced = self.p2m.put(&mut self.memory, gfn, mfn, attributes)?;
        give_back(displaced);
        Ok(())
    }

    /// Takes away what is at a guest frame.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn remove(&mut self, gfn: Gfn) -> Result<(), P2mError> {
        self.changes += 1;
        let displaced = self.p2m.remove(&mut self.memory, gfn)?;
        give_back(displaced);
        Ok(())
    }

    /// Takes away the domain's own RAM at a guest frame; the frame stays the domain's.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn take_ram(&mut self, gfn: Gfn) -> Result<Mfn, P2mError> {
        self.changes += 1;
        self.p2m.take_ram(&mut self.memory, gfn)
    }

    /// Takes away a granted frame, if it is still at a guest frame.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn remove_granted(&mut self, gfn: Gfn, mfn: Mfn) -> Result<(), P2mError> {
        self.changes += 1;
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
        if let Err(error) = self.p2m.table_mut().unmap(&mut self.memory, 0, all) {
            info!("stage 2: {error}");
        }
        super::tables::free(self.p2m.table().root());
    }
}

fn give_back(displaced: Displaced) {
    if let Some(mfn) = displaced.reference() {
        frames::put(mfn);
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
