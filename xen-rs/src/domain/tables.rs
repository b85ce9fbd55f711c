//! The memory of stage 2 tables: frames from the allocator, which go back to it.

use log::warn;
use smmu::{Invalidation, Iommu, IommuError, Translators, Vmid};
use xen_core::paging::{OutOfTables, Remembered, TableMemory, Unreachable};
use xen_types::{Gpa, GpaRange, Hpa, HpaRange, Mfn, PAGE_SIZE};

use crate::arch::sysreg::{read_sysreg_volatile, write_sysreg};
use crate::arch::{barrier, cache};
use crate::iommu;
use crate::memory::{frames, tables};

/// Tables for stage 2, and the register value that names them.
pub struct Stage2Tables {
    vmid: Vmid,
    /// Tables that there are, and that there may be.
    used: u64,
    limit: Option<u64>,
    /// `VTTBR_EL2`; 0 before the tables are given to a CPU, and once they are retired: no TLB holds
    /// anything of them.
    vttbr: u64,
}

impl Stage2Tables {
    /// The tables of a domain, whose translations TLBs know by `vmid`.
    pub const fn new(vmid: Vmid) -> Self {
        Self {
            vmid,
            used: 0,
            limit: None,
            vttbr: 0,
        }
    }

    /// They are given to CPUs, and then to IOMMUs, by this value of `VTTBR_EL2`. What an earlier owner
    /// of their VMID left in CPUs' TLBs is gone.
    pub fn give_out(&mut self, vttbr: u64) {
        self.vttbr = vttbr;
        self.invalidate_cpus(self.vmid, Invalidation::All);
    }

    /// Whether hardware may walk them.
    pub const fn is_given_out(&self) -> bool {
        self.vttbr != 0
    }

    /// How many tables there may be; how many there are, where there is no limit.
    pub fn pool(&self) -> u64 {
        self.limit.unwrap_or(self.used)
    }

    /// Says how many tables there may be. Returns false if there are more.
    pub const fn set_limit(&mut self, limit: u64) -> bool {
        let enough = limit >= self.used;
        if enough {
            self.limit = Some(limit);
        }
        enough
    }
}

/// Lets IOMMUs that read memory past the caches see an entry, or a whole table.
fn show_to_iommus(start: Option<Hpa>, bytes: u64) {
    if iommu::reads_memory()
        && let Some(range) = start.and_then(|start| HpaRange::new(start, bytes))
    {
        cache::clean_range(range);
    }
}

impl TableMemory for Stage2Tables {
    fn allocate(&mut self) -> Result<Mfn, OutOfTables> {
        if self.limit.is_some_and(|limit| self.used >= limit) {
            return Err(OutOfTables);
        }
        let frame = frames::allocate_table().map_err(|_| OutOfTables)?;
        // SAFETY: the allocator has just given this frame to this table alone.
        unsafe { tables::clear(frame) }?;
        self.used += 1;
        show_to_iommus(frame.address(), PAGE_SIZE);
        Ok(frame)
    }

    fn free(&mut self, table: Unreachable<Mfn>) {
        self.used = self.used.saturating_sub(1);
        if let Err(error) = frames::free_table(table) {
            warn!("stage 2: {error}");
        }
    }

    fn read(&self, table: Mfn, index: usize) -> u64 {
        // SAFETY: tables come from `allocate`.
        unsafe { tables::read(table, index) }
    }

    fn write(&mut self, table: Mfn, index: usize, descriptor: u64) {
        // SAFETY: as for reading; the owner of the space is its only writer.
        unsafe { tables::write(table, index, descriptor) };
        let entry = table
            .address()
            .and_then(|start| start.checked_add(8 * index as u64));
        show_to_iommus(entry, 8);
    }

    fn invalidate(&mut self, address: u64) -> Result<(), Remembered> {
        let page = GpaRange::new(Gpa::new(address), PAGE_SIZE);
        match page.filter(|_| self.is_given_out()) {
            Some(page) => self.forget(Invalidation::Range(page)),
            None => Ok(()),
        }
    }

    fn retire(&mut self) -> Result<(), Remembered> {
        if self.is_given_out() {
            self.forget(Invalidation::All)?;
            self.vttbr = 0;
        }
        Ok(())
    }
}

impl Stage2Tables {
    fn forget(&mut self, what: Invalidation) -> Result<(), Remembered> {
        // Which IOMMU it is was said when it was found.
        let vmid = self.vmid;
        smmu::forget(self, vmid, what).map_err(|_| Remembered)
    }
}

impl Translators for Stage2Tables {
    fn invalidate_cpus(&mut self, _: Vmid, what: Invalidation) {
        with_vttbr(self.vttbr, || match what {
            Invalidation::All => flush_current_vmid(),
            Invalidation::Range(range) => {
                let (first, end) = (range.start().get(), range.end().get());
                (first..end)
                    .step_by(PAGE_SIZE as usize)
                    .for_each(flush_page);
            }
        });
    }

    fn each_iommu(
        &mut self,
        visit: &mut dyn FnMut(&mut dyn Iommu) -> Result<(), IommuError>,
    ) -> Result<(), IommuError> {
        iommu::each(visit)
    }
}

/// Has all CPUs forget a page of the current VMID: by address for stage 2, then all of stage 1, whose
/// entries may combine both (D8.17.6).
fn flush_page(address: u64) {
    // SAFETY: removes cached translations of the current VMID; memory does not change.
    unsafe {
        core::arch::asm!(
            "tlbi ipas2e1is, {}", "dsb ish", "tlbi vmalle1is",
            in(reg) address >> 12, options(nostack)
        );
    }
    barrier::dsb_ish();
    barrier::isb();
}

/// Has all CPUs forget the current VMID.
fn flush_current_vmid() {
    // SAFETY: removes cached translations of lower exception levels; memory does not change.
    unsafe { core::arch::asm!("dsb ishst", "tlbi vmalls12e1is", options(nostack)) };
    barrier::dsb_ish();
    barrier::isb();
}

/// Has this CPU's maintenance of TLBs mean the space of `vttbr`, whichever is active: the instructions
/// act on the current VMID. The caller has IRQs masked.
fn with_vttbr<R>(vttbr: u64, maintain: impl FnOnce() -> R) -> R {
    let active = read_sysreg_volatile!("vttbr_el2");
    if active == vttbr {
        return maintain();
    }
    write_sysreg!("vttbr_el2", vttbr);
    barrier::isb();
    let result = maintain();
    write_sysreg!("vttbr_el2", active);
    barrier::isb();
    result
}
