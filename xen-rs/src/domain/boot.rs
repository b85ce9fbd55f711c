//! Domains that are made at boot, of `xen,domain` nodes, with or without a Dom0: what a toolstack does by
//! domctls is done here by what those are made of, in the same order.

use alloc::sync::Arc;
use alloc::vec::Vec;

use log::{error, info};
use platform_dt::guest::{
    self as tree, GuestController, GuestHypervisor, GuestPlan, GuestTreeError,
};
use platform_dt::{BootDomain, Module};
use xen_abi::Errno;
use xen_abi::domctl::{CONTEXT_ONLINE, Context, CreateDomain, create_flags};
use xen_abi::layout::{self, Region};
use xen_core::guest_memory::{self, Blocks};
use xen_core::kernel::{KernelError, KernelFile, Placement};
use xen_core::life::LifeError;
use xen_core::paging::stage2::Attributes;
use xen_core::vgic::CpuId;
use xen_types::{Gpa, GpaRange, HpaRange, PAGE_SIZE};
use zerocopy::FromZeros as _;

use super::guest::Request;
use super::memory::before_start;
use super::reservation::{self, Done, ReservationError};
use super::table::{Reserved, Taken};
use super::teardown::{self, Progress};
use super::{Domain, guest, vcpu_context};
use crate::arch::cache;
use crate::memory::frames::{self, OutOfFrames};
use crate::memory::ram;

/// What a domain may have beside its RAM, in pages: as a toolstack allows it.
const SLACK: u64 = 256;
/// Shared interrupts of a domain with a serial port: that has the first.
const SPIS_WITH_VUART: u32 = 32;

/// Why a domain is not made.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    /// It cannot be had, or there is no memory for the hypervisor's own part.
    #[error("it cannot be created: {0}")]
    Create(Errno),
    /// No id.
    #[error("{0}")]
    Taken(#[from] Taken),
    /// More than the layout has room for.
    #[error("a domain cannot have {0} KiB of memory")]
    Size(u64),
    /// No RAM.
    #[error("its memory: {0}")]
    Memory(#[from] ReservationError),
    /// The kernel is none.
    #[error("{0}")]
    Kernel(#[from] KernelError),
    /// No room to unpack the kernel.
    #[error("no room to unpack its kernel: {0}")]
    Room(#[from] OutOfFrames),
    /// No tree.
    #[error("{0}")]
    Tree(#[from] GuestTreeError),
    /// A piece does not lie in its RAM.
    #[error("{0} is not in its memory")]
    Place(Gpa),
    /// It cannot be started.
    #[error("it cannot be started: {0}")]
    Life(#[from] LifeError),
}

impl From<Errno> for BuildError {
    fn from(errno: Errno) -> Self {
        Self::Create(errno)
    }
}

/// Makes a domain and starts it; logs what comes of it.
pub fn make(from: &BootDomain<'_>) {
    if let Err(error) = build(from) {
        error!("{}: there is no such domain: {error}", from.node);
    }
}

fn build(from: &BootDomain<'_>) -> Result<(), BuildError> {
    let least = if from.vuart { SPIS_WITH_VUART } else { 0 };
    let mut asked = CreateDomain {
        flags: create_flags::HVM | create_flags::HAP,
        max_vcpus: from.vcpus,
        max_evtchn_port: -1,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 1,
        nr_spis: from.spis.unwrap_or(0).max(least),
        ..CreateDomain::new_zeroed()
    };
    let request = Request::parse(&mut asked)?;
    let domain = guest::create(&request, Reserved::any()?)?;
    let started = fill(&domain, from, &asked).and_then(|()| Ok(domain.unpause()?));
    if started.is_err() {
        domain.doom();
        while teardown::go_on(&domain) == Progress::Again {}
    }
    started
}

/// Gives a domain all that it starts with.
fn fill(
    domain: &Arc<Domain>,
    from: &BootDomain<'_>,
    made: &CreateDomain,
) -> Result<(), BuildError> {
    let size = BuildError::Size(from.memory_kib);
    let bytes = from.memory_kib.checked_mul(1 << 10);
    let banks = bytes.and_then(guest_memory::banks).ok_or(size)?;
    let pages = banks
        .iter()
        .map(|bank| bank.size() / PAGE_SIZE)
        .sum::<u64>();
    {
        let mut space = domain.space.lock();
        space.set_most(pages + SLACK);
        // libxl's formula: a page for each MiB, and some for each vCPU.
        space.set_table_limit(256 * u64::from(from.vcpus) + (pages >> 8) + 128);
    }
    for bank in &banks {
        populate(domain, *bank)?;
    }
    if from.vuart {
        domain.add_console_vuart()?;
    }
    let first = banks.first().ok_or(BuildError::Size(from.memory_kib))?;
    let place = load(domain, from, *first)?;
    let blob = device_tree(from, made, &banks, place.ramdisk)?;
    if blob.len() as u64 > place.tree.size() {
        return Err(GuestTreeError::TooLarge(blob.len()).into());
    }
    write(domain, place.tree.start(), &blob)?;
    info!(
        "{}: {}: {} vCPU(s), {} MiB, kernel at {}, device tree of {} bytes at {}",
        domain.id,
        from.node,
        from.vcpus,
        pages >> 8,
        place.kernel,
        blob.len(),
        place.tree.start(),
    );
    start(domain, &place)
}

/// Gives a domain RAM in the largest blocks that there are.
fn populate(domain: &Domain, bank: GpaRange) -> Result<(), ReservationError> {
    let mut blocks = Blocks::of(bank);
    while let Some((gfn, order)) = blocks.next() {
        match reservation::populate(domain, gfn, order) {
            Ok(Done::All) => blocks.advance(),
            Ok(Done::Part) => (),
            Err(ReservationError::NoMemory) if blocks.shrink() => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Copies kernel and ramdisk to their places.
fn load(domain: &Domain, from: &BootDomain<'_>, bank: GpaRange) -> Result<Placement, BuildError> {
    let bytes = |module: &Module<'_>| ram::module(module.range);
    let kernel = KernelFile::parse(bytes(&from.kernel))?;
    let ramdisk = from.ramdisk.as_ref().map(bytes).unwrap_or_default();
    let header = kernel.header()?;
    let place = Placement::within(bank, header, ramdisk.len() as u64)?;
    match kernel {
        KernelFile::Plain(image) => write(domain, place.kernel, image)?,
        KernelFile::Gzip(_) => unpack(domain, &kernel, place.kernel, header.image_size)?,
    }
    if let Some(range) = place.ramdisk {
        write(domain, range.start(), ramdisk)?;
    }
    Ok(place)
}

/// Unpacks a kernel to its place, over memory that is in one piece.
fn unpack(domain: &Domain, kernel: &KernelFile<'_>, at: Gpa, size: u64) -> Result<(), BuildError> {
    let room = frames::allocate_for_hypervisor(size as usize)?;
    // SAFETY: the allocator has just given it to this function alone.
    let unpacked = unsafe { ram::exclusive(room) };
    let length = kernel.load(unpacked, cache::copy);
    let written = length
        .map_err(BuildError::from)
        .and_then(|length| write(domain, at, unpacked.get(..length).unwrap_or_default()));
    frames::free_for_hypervisor(room);
    written
}

/// Copies bytes to a domain's RAM and on to memory: its kernel starts with its caches off.
fn write(domain: &Domain, at: Gpa, bytes: &[u8]) -> Result<(), BuildError> {
    let (mut at, mut rest) = (at, bytes);
    while !rest.is_empty() {
        let room = (PAGE_SIZE - at.offset_in_page()) as usize;
        let (now, later) = rest.split_at(room.min(rest.len()));
        let target = page_of(domain, at, now.len() as u64).ok_or(BuildError::Place(at))?;
        // SAFETY: the domain's own RAM, and it does not run yet.
        let target = unsafe { before_start(target) };
        cache::copy(target, now);
        cache::clean_slice_to_memory(target);
        at = at
            .checked_add(now.len() as u64)
            .ok_or(BuildError::Place(at))?;
        rest = later;
    }
    Ok(())
}

/// Bytes of a page of the domain's RAM.
fn page_of(domain: &Domain, at: Gpa, length: u64) -> Option<HpaRange> {
    let (mfn, attributes) = domain.space.lock().lookup(at.frame())?;
    let start = mfn.address()?.checked_add(at.offset_in_page())?;
    (attributes == Attributes::Ram)
        .then(|| HpaRange::new(start, length))
        .flatten()
}

fn device_tree(
    from: &BootDomain<'_>,
    made: &CreateDomain,
    banks: &[GpaRange],
    ramdisk: Option<GpaRange>,
) -> Result<Vec<u8>, GuestTreeError> {
    tree::build(&GuestPlan {
        memory: banks,
        vcpus: from.vcpus,
        gic: controller(made.gic_version),
        command_line: from.command_line,
        ramdisk,
        // There is nothing random here yet.
        seed: &[],
        timer: [layout::TIMER_SECURE, layout::TIMER_PHYS, layout::TIMER_VIRT],
        clock_frequency: None,
        hypervisor: from.enhanced.then(|| GuestHypervisor {
            grant_window: range(layout::GRANT_TABLE),
            extended_regions: &[],
            event_interrupt: layout::EVTCHN,
        }),
        uart: from
            .vuart
            .then(|| (range(layout::VPL011), layout::VPL011_SPI)),
        pci: None,
    })
}

fn controller(version: u8) -> GuestController {
    match version {
        xen_abi::domctl::gic_version::V2 => GuestController::V2 {
            distributor: range(layout::GICD_V2),
            cpu_interface: range(layout::GICC),
        },
        _ => GuestController::V3 {
            distributor: range(layout::GICD),
            redistributors: range(layout::GICR),
        },
    }
}

/// A region of the layout, none of which is empty.
fn range(region: Region) -> GpaRange {
    GpaRange::new(Gpa::new(region.base), region.size).expect("a region of the layout")
}

/// Where the first vCPU begins, by Linux's boot protocol.
fn start(domain: &Domain, place: &Placement) -> Result<(), BuildError> {
    let mut context = Context {
        flags: CONTEXT_ONLINE,
        pc: place.kernel.get(),
        cpsr: layout::CPSR_INIT,
        sctlr: layout::SCTLR_INIT,
        ..Context::new_zeroed()
    };
    if let Some(argument) = context.x.first_mut() {
        *argument = place.tree.start().get();
    }
    let first = CpuId::new(0).and_then(|id| domain.vcpu(id));
    let first = first.ok_or(Errno::Invalid)?;
    Ok(vcpu_context::set(domain, first, &context)?)
}
