//! Dom0: the control domain, made from the boot modules and the host's device tree.
//!
//! What it is made of goes back where it came from if a later step fails: each piece is kept by a
//! value that sees to that.

mod banks;
mod ram;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use log::{info, warn};
use platform_dt::dom0::{
    self, Dom0Error, Dom0Plan, Dom0Resources, GuestGic, GuestIts, GuestV2m, HypervisorNode,
};
use platform_dt::{BootInfo, Gic, Host, HostTree, Module, ModuleKind};
use smmu::Vmid;
use spin::Once;
use xen_abi::DomId;
use xen_abi::domctl::{create_flags, gic_version};
use xen_abi::event_channel::TWO_LEVEL_CHANNELS;
use xen_core::cmdline::Options;
use xen_core::event::EventError;
use xen_core::hvm_params::Parameters;
use xen_core::kernel::{KernelError, KernelFile, Placement};
use xen_core::life::Life;
use xen_core::memory::layout::{self, Bank};
use xen_core::paging::stage2::Attributes;
use xen_core::paging::{MapError, OutOfTables};
use xen_core::psci::Power;
use xen_core::sched::AddError as SchedulerError;
use xen_core::vgic::{CpuId, CreateError, Effects, LinkError, Region, Version, Vgic};
use xen_core::vits::VitsError;
use xen_types::{Gpa, GpaRange, Hpa, HpaRange, IntId, PAGE_SIZE};

use self::banks::Banks;
use self::ram::Ram;
use super::complaints::Complaints;
use super::grants::{DEFAULT_FRAMES, DEFAULT_MAPTRACK_FRAMES, Grants};
use super::interrupts::Masking;
use super::memory::before_start;
use super::messages::{LPI_BITS, Messages};
use super::space::{self, Space};
use super::table::{self, Reserved, Taken};
use super::timer::TimerInterrupts;
use super::{Config, Domain, Vcpu, events, guest, schedule};
use crate::arch::cache;
use crate::arch::percpu::PerCpu;
use crate::gic::its::{self, Place};
use crate::gic::v2m;
use crate::lock::IrqLock;
use crate::memory::frames::OutOfFrames;
use crate::memory::page::Page;
use crate::{gic, image, iommu, memory, pci};

const DOM0: DomId = DomId::new(0);
/// Memory without `dom0_mem=`, as Xen has it.
const DEFAULT_MEMORY: u64 = 512 << 20;
/// Bytes of a redistributor without virtual LPIs.
const REDISTRIBUTOR: u64 = 0x2_0000;
/// Bytes of a GICv2 CPU interface, real or virtual.
const CPU_INTERFACE: u64 = 0x2000;

/// Why there is no Dom0.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The host's lacks what a virtual one needs.
    #[error("the interrupt controller has no virtual CPU interface (GICH, GICV) or redistributor")]
    Gic,
    /// The kernel is none.
    #[error("{0}")]
    Kernel(#[from] KernelError),
    /// It was given none.
    #[error("it has no memory")]
    NoMemory,
    /// No memory.
    #[error("{0}")]
    Memory(#[from] OutOfFrames),
    /// No tables.
    #[error("{0}")]
    Tables(#[from] OutOfTables),
    /// Addresses that cannot be mapped.
    #[error("{0}")]
    Map(#[from] MapError),
    /// No interrupt controller.
    #[error("{0}")]
    Vgic(#[from] CreateError),
    /// An interrupt that cannot be passed on.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// No ITS.
    #[error("{0}")]
    Messages(#[from] VitsError),
    /// The timers have no private interrupts.
    #[error("the timers' interrupts are not private to a CPU (PPIs)")]
    Timers,
    /// The scheduler takes no more.
    #[error("{0}")]
    Scheduler(#[from] SchedulerError),
    /// No event channels.
    #[error("{0}")]
    Events(#[from] EventError),
    /// No device tree.
    #[error("{0}")]
    Tree(#[from] Dom0Error),
    /// There is another.
    #[error("{0}")]
    Taken(#[from] Taken),
    /// The tree is larger than its place.
    #[error("the device tree of {0} bytes does not fit its place")]
    TreeSize(usize),
}

/// What Dom0 is made of.
pub struct Ingredients<'a> {
    /// What the boot loader left.
    pub info: &'a BootInfo<'static>,
    /// The command line.
    pub options: &'a Options<'static>,
    /// The host's tree.
    pub tree: &'a HostTree,
    /// What it describes.
    pub host: &'a Host,
    /// The CPUs that run.
    pub cpus: &'a [&'static PerCpu],
    /// The path of the console that the hypervisor keeps.
    pub console: Option<&'a str>,
}

impl Ingredients<'_> {
    /// Dom0's kernel, if there is one.
    pub fn kernel(&self) -> Option<&Module<'static>> {
        self.info
            .modules
            .iter()
            .find(|module| module.is_dom0_kernel())
    }

    fn ramdisk(&self) -> Option<&Module<'static>> {
        let mut modules = self.info.modules.iter();
        modules.find(|module| module.kind == ModuleKind::Ramdisk && module.domain.is_none())
    }
}

/// Makes Dom0 and starts its first vCPU.
///
/// # Errors
/// [`BuildError`]: there is no Dom0 then.
pub fn build(from: &Ingredients<'_>, kernel: &Module<'static>) -> Result<(), BuildError> {
    let limit = Frames::most_vcpus(&from.host.gic);
    let asked = from.options.dom0_max_vcpus;
    let vcpus = asked.map_or(from.cpus.len(), |vcpus| {
        vcpus.count(from.cpus.len() as u32) as usize
    });
    if vcpus > limit {
        warn!(
            "dom0: {limit} vCPUs rather than {vcpus}: the interrupt controller has room for no more"
        );
    }
    let vcpus = vcpus.clamp(1, limit);
    let frames = Frames::of_host(&from.host.gic, vcpus)?;

    let size = from.options.dom0_mem.and_then(|memory| memory.size);
    let banks = Banks::allocate(size.unwrap_or(DEFAULT_MEMORY), DOM0)?;
    let ram = Ram::of(from, &banks);
    let pieces = Pieces::place(from, kernel, &ram.banks)?;
    let (tree, resources) = device_tree(from, &frames, &ram, pieces.place.ramdisk, vcpus)?;
    pieces.load(&tree)?;

    let place = Reserved::id(DOM0)?;
    let mut space = map(&ram.banks, &resources, &frames, place.vmid())?;
    let translation = space.translation()?;
    let pages = ram.size() / PAGE_SIZE;
    if ram.is_direct {
        space.fix(pages);
    } else {
        space.set_most(pages);
        space.claim(pages);
    }
    let mut effects = Effects::new();
    let vgic = interrupt_controller(&resources, &frames, vcpus, &mut effects)?;
    let domain = Arc::new(Domain {
        id: DOM0,
        is_direct_mapped: ram.is_direct,
        translation,
        messages: Messages::of_host(frames.its(), vcpus, vgic.lpis())?,
        timers: timers(from)?,
        last_ran: guest::last_ran(cpu_numbers(from.cpus)),
        life: IrqLock::new(Life::running()),
        teardown: IrqLock::new(None),
        populating: IrqLock::new(None),
        handle: IrqLock::new([0; 16]),
        config: Config {
            flags: create_flags::HVM | create_flags::HAP,
            gic_version: match frames.version() {
                Version::V2 => gic_version::V2,
                Version::V3 => gic_version::V3,
            },
            spis: vgic.spis() as u32,
        },
        pci: None,
        vuart: Once::new(),
        _place: place,
        complaints: Complaints::new(),
        marks_runstate_updates: AtomicBool::new(false),
        space: IrqLock::new(space),
        vgic,
        power: IrqLock::new(Power::new(vcpus as u8).ok_or(OutOfTables)?),
        gic_frames: frames.emulated(),
        vcpus: create_vcpus(vcpus)?,
        ports: IrqLock::new(events::ports(DOM0, vcpus, TWO_LEVEL_CHANNELS - 1)?),
        shared_page: Page::shared_by(DOM0)?,
        grants: Grants::new(DOM0, DEFAULT_FRAMES, DEFAULT_MAPTRACK_FRAMES),
        parameters: IrqLock::new(Parameters::new(events::PPI)),
    });
    table::insert(&domain);
    banks.keep();
    super::set_owner_of_interrupts(domain.clone());
    schedule::introduce(&domain);
    let stage2 = domain.space.lock().stage2();
    if let Some(stage2) = stage2 {
        iommu::attach_nodes(&resources.masters, DOM0, stage2);
    }
    pci::introduce(&domain);
    domain.carry_out(&mut effects);
    announce(&domain, ram.banks.len(), &pieces.place, tree.len());
    if let Some(first) = CpuId::new(0) {
        let tree = pieces.place.tree.start();
        domain.start(first, pieces.place.kernel, tree.get());
    }
    Ok(())
}

/// Where Dom0 finds its interrupt controller: where the host's is.
enum Frames {
    V2 {
        distributor: GpaRange,
        cpu_interface: GpaRange,
        /// The host's frame that the guest reaches in place of its CPU interface.
        virtual_cpu_interface: HpaRange,
    },
    V3 {
        distributor: GpaRange,
        redistributors: GpaRange,
        /// One for each of the host's, in their order.
        its: Vec<GpaRange>,
    },
}

impl Frames {
    /// How many vCPUs a controller at the host's place can serve.
    fn most_vcpus(gic: &Gic) -> usize {
        match gic {
            Gic::V2(_) => Version::V2.max_cpus(),
            Gic::V3(gic) => {
                let room = gic.redistributors.first().map_or(0, |first| first.size());
                let frames = (room / REDISTRIBUTOR) as usize;
                frames.clamp(1, Version::V3.max_cpus())
            }
        }
    }

    fn of_host(gic: &Gic, vcpus: usize) -> Result<Self, BuildError> {
        match gic {
            Gic::V2(gic) => Self::of_v2(gic).ok_or(BuildError::Gic),
            Gic::V3(gic) => Self::of_v3(gic, vcpus).ok_or(BuildError::Gic),
        }
    }

    fn of_v2(gic: &platform_dt::GicV2) -> Option<Self> {
        gic.hypervisor_interface?;
        let host = gic.vcpu_interface?;
        Some(Self::V2 {
            distributor: GpaRange::new(direct(gic.distributor).start(), PAGE_SIZE)?,
            cpu_interface: GpaRange::new(direct(gic.cpu_interface).start(), CPU_INTERFACE)?,
            virtual_cpu_interface: HpaRange::new(host.start(), CPU_INTERFACE)?,
        })
    }

    fn of_v3(gic: &platform_dt::GicV3, vcpus: usize) -> Option<Self> {
        let first = direct(*gic.redistributors.first()?).start();
        Some(Self::V3 {
            distributor: direct(gic.distributor),
            redistributors: GpaRange::new(first, REDISTRIBUTOR * vcpus as u64)?,
            its: its::places()
                .iter()
                .map(|its| direct(its.registers))
                .collect(),
        })
    }

    const fn version(&self) -> Version {
        match self {
            Self::V2 { .. } => Version::V2,
            Self::V3 { .. } => Version::V3,
        }
    }

    /// The registers of its ITSs.
    fn its(&self) -> &[GpaRange] {
        match self {
            Self::V2 { .. } => &[],
            Self::V3 { its, .. } => its,
        }
    }

    /// The frames of the interrupt controller itself that trap.
    fn emulated(&self) -> Vec<(Region, GpaRange)> {
        match *self {
            Self::V2 { distributor, .. } => Vec::from([(Region::Distributor, distributor)]),
            Self::V3 {
                distributor,
                redistributors,
                ..
            } => Vec::from([
                (Region::Distributor, distributor),
                (Region::Redistributors, redistributors),
            ]),
        }
    }
}

/// The kernel and the ramdisk, and where they go.
struct Pieces {
    place: Placement,
    kernel: KernelFile<'static>,
    /// The memory that the kernel asks for.
    kernel_room: u64,
    ramdisk: Option<&'static [u8]>,
    /// The bank where all of them go.
    bank: Bank,
}

impl Pieces {
    fn place(
        from: &Ingredients<'_>,
        kernel: &Module<'static>,
        banks: &[Bank],
    ) -> Result<Self, BuildError> {
        let kernel = KernelFile::parse(memory::ram::module(kernel.range))?;
        let header = kernel.header()?;
        let ramdisk = from
            .ramdisk()
            .map(|module| memory::ram::module(module.range));
        let size = ramdisk.map_or(0, |bytes| bytes.len() as u64);
        let bank = banks.first().copied().ok_or(BuildError::NoMemory)?;
        Ok(Self {
            place: Placement::within(bank.guest(), header, size)?,
            bank,
            kernel,
            kernel_room: header.image_size,
            ramdisk,
        })
    }

    /// Copies all to their places.
    fn load(&self, tree: &[u8]) -> Result<(), BuildError> {
        if tree.len() as u64 > self.place.tree.size() {
            return Err(BuildError::TreeSize(tree.len()));
        }
        self.load_kernel()?;
        self.load_bytes(self.place.tree.start(), tree);
        if let (Some(range), Some(bytes)) = (self.place.ramdisk, self.ramdisk) {
            self.load_bytes(range.start(), bytes);
        }
        Ok(())
    }

    /// The room of so many bytes at an address of Dom0's.
    fn room(&self, at: Gpa, bytes: u64) -> Option<&'static mut [u8]> {
        let host = self.bank.host_of(GpaRange::new(at, bytes)?)?;
        // SAFETY: a part of Dom0's bank, which the allocator has given it, and Dom0 does not run.
        Some(unsafe { before_start(host) })
    }

    /// Copies a piece to its place, and to memory: the kernel starts with its caches off.
    fn load_bytes(&self, at: Gpa, bytes: &[u8]) {
        if let Some(room) = self.room(at, bytes.len() as u64) {
            room.copy_from_slice(bytes);
            cache::clean_slice_to_memory(room);
        }
    }

    /// Copies or unpacks the kernel to its place.
    fn load_kernel(&self) -> Result<(), KernelError> {
        let Some(room) = self.room(self.place.kernel, self.kernel_room) else {
            return Ok(());
        };
        let length = self.kernel.load(room, cache::copy)?;
        cache::clean_slice_to_memory(room.get(..length).unwrap_or_default());
        Ok(())
    }
}

fn device_tree(
    from: &Ingredients<'_>,
    frames: &Frames,
    ram: &Ram,
    ramdisk: Option<GpaRange>,
    vcpus: usize,
) -> Result<(Vec<u8>, Dom0Resources), BuildError> {
    let its: Vec<GuestIts<'_>> = its::places()
        .iter()
        .zip(frames.its())
        .map(|(host, registers)| GuestIts {
            path: &host.path,
            registers: *registers,
        })
        .collect();
    // Without an IOMMU no guest has devices that could send messages.
    let guests_share = iommu::translates();
    let v2m_frames: Vec<GuestV2m<'_>> = v2m::frames()
        .iter()
        .filter_map(|frame| {
            let spis = frame.take(guests_share)?;
            Some(GuestV2m {
                path: &frame.path,
                base: spis.first(),
                count: spis.count(),
            })
        })
        .collect();
    // A direct-mapped Dom0's devices need no IOMMU to reach what it means.
    let unguarded = match ram.is_direct {
        true => Vec::new(),
        false => ram::unguarded_masters(from.tree),
    };
    if let Some(first) = unguarded.first() {
        let count = unguarded.len();
        warn!("dom0: without {count} devices that no IOMMU holds back, {first} the first");
    }
    let hidden: Vec<&str> = unguarded.iter().map(|path| path.as_str()).collect();
    let plan = Dom0Plan {
        memory: &layout::seen(&ram.banks),
        vcpus: vcpus as u32,
        command_line: from.info.dom0_command_line,
        ramdisk,
        hypervisor: HypervisorNode {
            // Where the image is, Dom0 has nothing else.
            grant_window: direct(image::range()),
            extended_regions: &[],
            extended_space: GpaRange::new(Gpa::new(0), 1 << space::geometry().input_bits()),
            event_ppi: events::PPI,
        },
        gic: match frames {
            Frames::V2 {
                distributor,
                cpu_interface,
                ..
            } => GuestGic::V2 {
                distributor: *distributor,
                cpu_interface: *cpu_interface,
                v2m_frames: &v2m_frames,
            },
            Frames::V3 {
                distributor,
                redistributors,
                ..
            } => GuestGic::V3 {
                distributor: *distributor,
                redistributors: core::slice::from_ref(redistributors),
                stride: None,
                its: &its,
            },
        },
        console: from.console,
        hidden: &hidden,
        passthrough: &[],
        bridges: &pci::guest_bridges(),
        keeps_pci: pci::hides_any(),
    };
    let (tree, resources) = dom0::build(from.tree, from.host, &plan)?;
    for withheld in &resources.withheld {
        warn!("dom0: {withheld}");
    }
    Ok((tree, resources))
}

fn map(
    banks: &[Bank],
    resources: &Dom0Resources,
    frames: &Frames,
    vmid: Vmid,
) -> Result<Space, BuildError> {
    let mut space = Space::new(DOM0, vmid)?;
    for bank in banks {
        space.map(bank.guest(), bank.host().start(), Attributes::Ram)?;
    }
    for range in &resources.reserved {
        space.map(direct(*range), range.start(), Attributes::Ram)?;
    }
    map_devices(&mut space, &resources.mmio, Attributes::Device)?;
    if let Frames::V2 {
        cpu_interface,
        virtual_cpu_interface,
        ..
    } = frames
    {
        let host = virtual_cpu_interface.start();
        space.map(*cpu_interface, host, Attributes::Device)?;
    }
    if iommu::translates() {
        // A device's message passes the translation of its memory accesses. What a CPU writes there
        // would be some device's message, too.
        let doorbells: Vec<HpaRange> = its::places().iter().map(Place::doorbell).collect();
        map_devices(&mut space, &doorbells, Attributes::Doorbell)?;
    }
    Ok(space)
}

/// The virtual interrupt controller, with the host's interrupts that are Dom0's behind it.
fn interrupt_controller(
    resources: &Dom0Resources,
    frames: &Frames,
    vcpus: usize,
    effects: &mut Effects,
) -> Result<Vgic<Masking>, BuildError> {
    let mut vgic = Vgic::new(frames.version(), vcpus, gic::shared_interrupts())?;
    if !frames.its().is_empty() {
        vgic.offer_lpis(LPI_BITS)?;
    }
    for interrupt in &resources.interrupts {
        if let IntId::Spi(spi) = interrupt.id {
            gic::configure(interrupt.id, interrupt.trigger);
            vgic.link(spi, interrupt.id, effects)?;
        }
    }
    Ok(vgic)
}

/// The timers' interrupts are the host's: Dom0 knows them from the host's device tree.
fn timers(from: &Ingredients<'_>) -> Result<TimerInterrupts, BuildError> {
    let timer = &from.host.timer;
    match (timer.virt.id, timer.non_secure.id) {
        (IntId::Ppi(virtual_timer), IntId::Ppi(physical_timer)) => Ok(TimerInterrupts {
            virtual_timer,
            physical_timer,
        }),
        _ => Err(BuildError::Timers),
    }
}

fn create_vcpus(count: usize) -> Result<Vec<Vcpu>, BuildError> {
    let ids = (0..count).filter_map(CpuId::new);
    ids.map(|id| Ok(Vcpu::new(id, schedule::add()?))).collect()
}

/// One more than the highest number of a CPU.
fn cpu_numbers(cpus: &[&'static PerCpu]) -> usize {
    cpus.iter().map(|cpu| cpu.id.index() + 1).max().unwrap_or(0)
}

fn announce(domain: &Domain, banks: usize, place: &Placement, tree: usize) {
    info!(
        "dom0: {} vCPU(s), {} MiB in {} bank(s), kernel at {}, device tree of {tree} bytes at {}",
        domain.vcpus.len(),
        (domain.pages() * PAGE_SIZE) >> 20,
        banks,
        place.kernel,
        place.tree.start(),
    );
}

/// The guest's addresses that are the same as the host's.
fn direct(range: HpaRange) -> GpaRange {
    GpaRange::new(Gpa::new(range.start().get()), range.size()).expect("a range is not empty")
}

/// Maps registers and windows 1:1, as far as stage 2 reaches on this machine.
fn map_devices(
    space: &mut Space,
    ranges: &[HpaRange],
    attributes: Attributes,
) -> Result<(), MapError> {
    let reach = HpaRange::new(Hpa::new(0), 1 << space::geometry().input_bits());
    for range in ranges {
        let usable = reach.and_then(|reach| range.intersection(reach));
        if usable != Some(*range) {
            warn!("dom0: {range} lies in part or whole beyond what stage 2 reaches here");
        }
        if let Some(usable) = usable {
            space.map(direct(usable), usable.start(), attributes)?;
        }
    }
    Ok(())
}
