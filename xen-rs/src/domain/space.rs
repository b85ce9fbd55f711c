//! A domain's physical address space: its stage 2 tables and the registers that name them.

use log::error;
use smmu::{Stage2, Vmid, Walk};
use xen_abi::DomId;
use xen_core::p2m::{Displaced, NotAdded, P2m, P2mError};
use xen_core::paging::stage2::{Attributes, Geometry};
use xen_core::paging::{Leaf, MapError, OutOfTables, Remembered, Unreachable};
use xen_types::{Gfn, Gpa, GpaRange, Hpa, HpaRange, Mfn, PAGE_SIZE};

use super::tables::Stage2Tables;
use crate::arch::features::Features;
use crate::arch::sysreg::write_sysreg;
use crate::arch::{interrupts, percpu};
use crate::memory::frames;

/// How much RAM a domain has and may have, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// What it has.
    pub pages: u64,
    /// What it may have.
    pub most: u64,
    /// What it has stays its own when it is unmapped: its frames are the host's of the same numbers.
    pub fixed: bool,
}

/// What a domain's physical addresses lead to.
pub struct Space {
    p2m: P2m,
    memory: Stage2Tables,
    vmid: Vmid,
    quota: Quota,
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
        let quota = Quota {
            pages: 0,
            most: 0,
            fixed: false,
        };
        Ok(Self {
            p2m,
            memory,
            vmid,
            quota,
            changes: 1,
        })
    }

    /// How much RAM the domain has and may have.
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// Says how much RAM the domain may have, which may be less than it has.
    pub const fn set_most(&mut self, pages: u64) {
        self.quota.most = pages;
    }

    /// The domain has this much RAM for good.
    pub const fn fix(&mut self, pages: u64) {
        self.quota = Quota {
            pages,
            most: pages,
            fixed: true,
        };
    }

    /// How many tables the space may have; how many it has, where there is no limit.
    pub fn table_pool(&self) -> u64 {
        self.memory.pool()
    }

    /// Says how many tables the space may have. Returns false if it has more.
    pub const fn set_table_limit(&mut self, tables: u64) -> bool {
        self.memory.set_limit(tables)
    }

    /// The highest guest frame that ever led anywhere.
    pub fn highest(&self) -> Gfn {
        self.p2m.highest()
    }

    /// Bits of the domain's addresses.
    pub fn address_bits(&self) -> u8 {
        self.p2m.address_bits()
    }

    /// Sets RAM aside that the domain is about to get. False if it may not have so much.
    pub const fn claim(&mut self, pages: u64) -> bool {
        match self.quota.pages.checked_add(pages) {
            Some(all) if all <= self.quota.most => {
                self.quota.pages = all;
                true
            }
            _ => false,
        }
    }

    /// Takes back what [`Space::claim`] has set aside, or RAM that the domain has not any more.
    pub const fn unclaim(&mut self, pages: u64) {
        self.quota.pages = self.quota.pages.saturating_sub(pages);
    }

    /// Puts RAM of the domain's, claimed, at guest frames: where nothing is, or a page in the place of
    /// what is no RAM.
    ///
    /// # Errors
    /// [`NotAdded`]; nothing has changed.
    pub fn add_ram(&mut self, gfn: Gfn, ram: Unreachable<HpaRange>) -> Result<(), NotAdded> {
        self.changes += 1;
        let displaced = self.p2m.add_ram(&mut self.memory, gfn, ram)?;
        self.give_back(displaced);
        Ok(())
    }

    /// The first RAM of the domain's own that ends above `from`.
    pub fn next_ram(&self, from: Gpa) -> Option<Leaf<Attributes>> {
        self.p2m.next_ram(&self.memory, from)
    }

    /// Nothing is mapped from now on, and nothing of what is will be used: no CPU runs the domain any
    /// more, and no device of it reaches memory.
    pub fn close(&mut self) {
        self.changes += 1;
        if self.p2m.close(&mut self.memory).is_err() {
            error!("stage 2: what {} has mapped is lost", self.p2m.owner());
        }
    }

    /// Takes the first thing that ends above `from` away, after [`Space::close`]. Returns where it
    /// was; RAM is to be freed by the caller, in the blocks that it is returned as.
    pub fn take_next(&mut self, from: Gpa) -> Option<(GpaRange, Option<Unreachable<HpaRange>>)> {
        self.changes += 1;
        let (range, displaced) = self.p2m.take_next(&mut self.memory, from)?;
        let ram = match displaced {
            Displaced::Nothing => None,
            Displaced::Reference(frame) => {
                frames::put_mapped(frame);
                None
            }
            Displaced::Ram(ram) => {
                self.unclaim(range.size() / PAGE_SIZE);
                Some(ram)
            }
        };
        Some((range, ram))
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

    /// Takes away what is mapped at `guest`, which is no RAM.
    ///
    /// # Errors
    /// [`MapError`]; nothing has changed.
    pub fn unmap(&mut self, guest: GpaRange) -> Result<(), MapError> {
        self.changes += 1;
        let (start, size) = (guest.start().get(), guest.size());
        self.p2m.table_mut().unmap(&mut self.memory, start, size)
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
        self.give_back(displaced);
        Ok(())
    }

    /// Takes away what is at a guest frame.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn remove(&mut self, gfn: Gfn) -> Result<(), P2mError> {
        self.changes += 1;
        let displaced = self.p2m.remove(&mut self.memory, gfn)?;
        self.give_back(displaced);
        Ok(())
    }

    /// Takes away the domain's own RAM at a guest frame; the frame is nobody's then, unless the domain
    /// has its RAM for good.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed.
    pub fn drop_ram(&mut self, gfn: Gfn) -> Result<(), P2mError> {
        self.changes += 1;
        let ram = self.p2m.take_ram(&mut self.memory, gfn)?;
        self.give_back(Displaced::Ram(ram));
        Ok(())
    }

    /// Gives back what a mapping held that is gone.
    fn give_back(&mut self, displaced: Displaced) {
        match displaced {
            Displaced::Reference(frame) => frames::put_mapped(frame),
            Displaced::Ram(ram) if !self.quota.fixed => {
                self.unclaim(ram.held().size() / PAGE_SIZE);
                frames::give_up(ram, self.p2m.owner());
            }
            Displaced::Nothing | Displaced::Ram(_) => (),
        }
    }

    /// Takes away a granted frame, if it is still at a guest frame. Returns it: the domain does not
    /// reach it through there any more.
    ///
    /// # Errors
    /// [`P2mError`]; nothing has changed, or it may still be reached.
    pub fn remove_granted(&mut self, gfn: Gfn, mfn: Mfn) -> Result<Unreachable<Mfn>, P2mError> {
        self.changes += 1;
        self.p2m.remove_granted(&mut self.memory, gfn, mfn)
    }

    /// Whether a guest's address leads anywhere.
    pub fn is_mapped(&self, address: Gpa) -> bool {
        self.lookup(address.frame()).is_some()
    }

    /// The same tables, as an IOMMU needs to know them. Nothing if the domain's CPUs do not use them
    /// yet or any more, or in a way that no IOMMU can walk.
    pub fn stage2(&self) -> Option<Stage2> {
        if !self.memory.is_given_out() {
            return None;
        }
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
        let _masked = interrupts::mask();
        self.memory.give_out(translation.vttbr);
        Ok(translation)
    }
}

impl Drop for Space {
    /// Takes all tables away. No CPU runs the domain any more, and no device of it reaches memory.
    fn drop(&mut self) {
        let _masked = interrupts::mask();
        if let Err(Remembered) = self.p2m.dismantle(&mut self.memory) {
            error!("stage 2: the tables of {} are lost", self.p2m.owner());
        }
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
