//! Domains that a toolstack makes: empty ones, with the machine that Xen's guests have on Arm
//! (`xen_abi::layout`).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8};

use platform_dt::Gic;
use spin::Once;
use xen_abi::domctl::{CreateDomain, create_flags, gic_version};
use xen_abi::{DomId, Errno, layout};
use xen_core::hvm_params::Parameters;
use xen_core::life::Life;
use xen_core::paging::stage2::Attributes;
use xen_core::psci::Power;
use xen_core::vgic::{CpuId, Effects, Region, Version, Vgic};
use xen_types::{Gpa, GpaRange, HpaRange, Ppi, Spi};

use super::complaints::Complaints;
use super::grants::{DEFAULT_FRAMES, DEFAULT_MAPTRACK_FRAMES, Grants};
use super::interrupts::Masking;
use super::messages::{LPI_BITS, Messages, Vectors};
use super::space::Space;
use super::table::{self, Reserved, Taken};
use super::teardown::Teardown;
use super::timer::TimerInterrupts;
use super::{Config, Domain, Vcpu, events, schedule, wall_clock};
use crate::arch::percpu::PerCpu;
use crate::gic::its;
use crate::lock::IrqLock;
use crate::memory::page::Page;
use crate::memory::{heap, shortage};
use crate::pci::GuestBus;

/// Tables of a guest whose toolstack has not said how many it may have.
const DEFAULT_TABLES: u64 = 16;
/// Frames of its grant table at most, and frames' worth of handles.
const MOST_GRANT_FRAMES: u32 = 64;
const MOST_MAPTRACK_FRAMES: u32 = 1024;
/// Shared interrupts at most: what is rounded up to 32 and stays below 988.
const MOST_SPIS: u32 = 960;
/// Shared interrupts behind those that the toolstack asked for, where a guest may have devices; and of
/// these, the lines of the host bridge, which are the first, and the first for messages.
const DEVICE_SPIS: u32 = 32;
const LINES: u32 = 4;
const FIRST_MESSAGE: u32 = 16;
/// Heap for a domain, and for each of its vCPUs: more than either takes.
const HEAP: usize = 128 << 10;
const HEAP_VCPU: usize = 8 << 10;
/// The same for its LPIs, where it has an ITS.
const HEAP_LPIS: usize = 256 << 10;

const TIMERS: TimerInterrupts = TimerInterrupts {
    virtual_timer: Ppi::new(layout::TIMER_VIRT - 16).expect("a PPI"),
    physical_timer: Ppi::new(layout::TIMER_PHYS - 16).expect("a PPI"),
};

/// What guests get of the host.
struct Host {
    version: Version,
    /// GICv2: the host's frame that a guest reaches in place of its CPU interface.
    virtual_cpu_interface: Option<HpaRange>,
    /// One more than the highest number of a CPU.
    cpus: usize,
}

static HOST: Once<Host> = Once::new();

/// Says what the host has, before the first guest is made.
pub fn init(gic: &Gic, cpus: &[&'static PerCpu]) {
    let (version, virtual_cpu_interface) = match gic {
        Gic::V2(gic) => (Version::V2, gic.vcpu_interface),
        Gic::V3(_) => (Version::V3, None),
    };
    HOST.call_once(|| Host {
        version,
        virtual_cpu_interface,
        cpus: cpus.iter().map(|cpu| cpu.id.index() + 1).max().unwrap_or(0),
    });
}

/// No vCPU has run on any CPU.
pub fn last_ran(cpus: usize) -> Vec<AtomicU8> {
    (0..cpus).map(|_| AtomicU8::new(u8::MAX)).collect()
}

/// What a toolstack asked for, checked.
pub struct Request {
    vcpus: usize,
    version: Version,
    spis: u32,
    highest_port: u32,
    grant_frames: u32,
    maptrack_frames: u32,
    handle: [u8; 16],
    flags: u32,
}

impl Request {
    /// Checks what a toolstack asks for, and writes into it what it left to the hypervisor.
    ///
    /// # Errors
    /// `EINVAL` for what a guest cannot have.
    pub fn parse(from: &mut CreateDomain) -> Result<Self, Errno> {
        let host = HOST.get().ok_or(Errno::NoCall)?;
        let needed = create_flags::HVM | create_flags::HAP;
        let plain = from.flags & !create_flags::IOMMU == needed
            && from.iommu_opts == 0
            && from.altp2m_opts == 0
            && from.vmtrace_size == 0
            && from.cpupool_id == 0
            && from.sve_vl == 0
            && from.tee_type == 0
            && from.ssidref == 0
            && from.grant_opts <= 1;
        if !plain {
            return Err(Errno::Invalid);
        }
        let version = match (from.gic_version, host.version) {
            (gic_version::NATIVE, version) => version,
            (gic_version::V2, Version::V2) => Version::V2,
            (gic_version::V3, Version::V3) => Version::V3,
            _ => return Err(Errno::Invalid),
        };
        let most = version.max_cpus().min(layout::MAX_VCPUS as usize);
        let vcpus = from.max_vcpus as usize;
        let for_devices = match from.flags & create_flags::IOMMU {
            0 => 0,
            _ => DEVICE_SPIS,
        };
        if vcpus == 0 || vcpus > most || from.nr_spis > MOST_SPIS - for_devices {
            return Err(Errno::Invalid);
        }
        from.gic_version = match version {
            Version::V2 => gic_version::V2,
            Version::V3 => gic_version::V3,
        };
        // The timer's own register is right.
        from.clock_frequency = 0;
        Ok(Self {
            vcpus,
            version,
            spis: from.nr_spis,
            highest_port: u32::try_from(from.max_evtchn_port).unwrap_or(u32::MAX),
            grant_frames: limit(from.max_grant_frames, DEFAULT_FRAMES, MOST_GRANT_FRAMES)?,
            maptrack_frames: limit(
                from.max_maptrack_frames,
                DEFAULT_MAPTRACK_FRAMES,
                MOST_MAPTRACK_FRAMES,
            )?,
            handle: from.handle,
            flags: from.flags,
        })
    }
}

impl Request {
    /// Whether the guest may have devices.
    const fn may_have_devices(&self) -> bool {
        self.flags & create_flags::IOMMU != 0
    }

    /// Whether the guest has an ITS: its devices could use it.
    fn has_its(&self) -> bool {
        let host_has = its::services().is_some_and(|its| its.count() > 0);
        self.may_have_devices() && self.version == Version::V3 && host_has
    }

    /// The first of [`DEVICE_SPIS`]: behind what the toolstack uses, the serial port's at least.
    const fn first_device_spi(&self) -> u32 {
        let asked = if self.spis == 0 { 1 } else { self.spis };
        asked.next_multiple_of(32)
    }

    /// How many shared interrupts it has.
    const fn all_spis(&self) -> usize {
        match self.may_have_devices() {
            true => (self.first_device_spi() + DEVICE_SPIS) as usize,
            false => self.spis as usize,
        }
    }

    /// What a GICv2 has for messages.
    fn vectors(&self) -> Option<Vectors> {
        if !self.may_have_devices() || self.version != Version::V2 {
            return None;
        }
        Vectors::new(Spi::new(self.first_device_spi() + FIRST_MESSAGE)?)
    }

    /// Heap that is needed at most.
    fn heap(&self) -> usize {
        let lpis = if self.has_its() { HEAP_LPIS } else { 0 };
        HEAP + self.vcpus * HEAP_VCPU + lpis
    }
}

/// A limit of the toolstack's; negative is the default.
fn limit(asked: i32, default: u32, most: u32) -> Result<u32, Errno> {
    match u32::try_from(asked) {
        Err(_) => Ok(default),
        Ok(asked) if asked <= most => Ok(asked),
        Ok(_) => Err(Errno::Invalid),
    }
}

/// Makes a domain without memory, paused. Whatever fails, nothing is left of it.
///
/// # Errors
/// `ENOMEM`, and `EINVAL` for a guest that the host cannot have.
pub fn create(request: &Request, place: Reserved) -> Result<Arc<Domain>, Errno> {
    let host = HOST.get().ok_or(Errno::NoCall)?;
    shortage::begin();
    heap::ensure(request.heap()).map_err(|_| Errno::NoMemory)?;
    let id = place.get();
    let out_of_memory = Errno::NoMemory;
    let mut space = Space::new(id, place.vmid()).map_err(|_| out_of_memory)?;
    let gic_frames = map_interrupt_controller(request, host, &mut space)?;
    space.set_table_limit(DEFAULT_TABLES);
    let translation = space.translation().map_err(|_| out_of_memory)?;
    let (vgic, messages) = interrupt_controller(request, id, &mut space)?;
    let domain = Arc::new(Domain {
        id,
        is_direct_mapped: false,
        translation,
        config: Config {
            flags: request.flags,
            gic_version: match request.version {
                Version::V2 => gic_version::V2,
                Version::V3 => gic_version::V3,
            },
            spis: vgic.spis() as u32,
        },
        vgic,
        space: IrqLock::new(space),
        power: IrqLock::new(Power::all_off(request.vcpus as u8).ok_or(out_of_memory)?),
        life: IrqLock::new(Life::created()),
        teardown: IrqLock::new(Some(Teardown::default())),
        populating: IrqLock::new(None),
        handle: IrqLock::new(request.handle),
        gic_frames,
        messages,
        pci: request.may_have_devices().then(GuestBus::new),
        vuart: Once::new(),
        timers: TIMERS,
        vcpus: create_vcpus(request.vcpus)?,
        last_ran: last_ran(host.cpus),
        ports: {
            let ports = events::ports(id, request.vcpus, request.highest_port);
            IrqLock::new(ports.map_err(|error| error.errno())?)
        },
        shared_page: Page::shared_by(id).map_err(|_| out_of_memory)?,
        grants: Grants::new(id, request.grant_frames, request.maptrack_frames),
        parameters: IrqLock::new(Parameters::new(events::PPI)),
        marks_runstate_updates: AtomicBool::new(false),
        complaints: Complaints::new(),
        _place: place,
    });
    schedule::hold(&domain, true);
    wall_clock::show_now(&domain);
    schedule::introduce(&domain);
    table::insert(&domain);
    Ok(domain)
}

impl From<Taken> for Errno {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Same(_) => Self::Exists,
            Taken::Place(_) | Taken::Full => Self::NoSpace,
        }
    }
}

fn create_vcpus(count: usize) -> Result<Vec<Vcpu>, Errno> {
    let ids = (0..count).filter_map(CpuId::new);
    ids.map(|id| {
        let slot = schedule::add().map_err(|_| Errno::NoMemory)?;
        Ok(Vcpu::new(id, slot))
    })
    .collect()
}

impl Domain {
    /// The first of the four lines of a guest's host bridge.
    pub fn first_line(&self) -> Option<Spi> {
        self.pci.as_ref()?;
        let first = self.vgic.spis().checked_sub(DEVICE_SPIS as usize)?;
        Spi::new(u32::try_from(first).ok()?)
    }
}

/// The guest's interrupt controller, and what it has for messages of devices.
fn interrupt_controller(
    request: &Request,
    id: DomId,
    space: &mut Space,
) -> Result<(Vgic<Masking>, Messages), Errno> {
    let vgic = Vgic::new(request.version, request.vcpus, request.all_spis());
    let mut vgic = vgic.map_err(|_| Errno::NoMemory)?;
    if request.may_have_devices() {
        let lines = (0..LINES).filter_map(|pin| Spi::new(request.first_device_spi() + pin));
        for line in lines {
            let watched = vgic.watch(line, &mut Effects::new());
            watched.map_err(|_| Errno::Invalid)?;
        }
    }
    if request.has_its() {
        vgic.offer_lpis(LPI_BITS).map_err(|_| Errno::NoMemory)?;
        let messages = Messages::of_guest(request.vcpus, vgic.lpis());
        return Ok((vgic, messages.map_err(|_| Errno::NoMemory)?));
    }
    let vectors = request.vectors();
    if let Some(vectors) = &vectors {
        vectors.map(space).map_err(|_| Errno::NoMemory)?;
        // Nothing is enabled yet, so that nothing is asked of the host's controller.
        vectors.connect(id, &vgic, &mut Effects::new());
    }
    Ok((vgic, Messages::of_vectors(vectors)))
}

/// Where the guest finds its interrupt controller: what traps; what does not is mapped.
fn map_interrupt_controller(
    request: &Request,
    host: &Host,
    space: &mut Space,
) -> Result<Vec<(Region, GpaRange)>, Errno> {
    let range = |region: layout::Region| GpaRange::new(Gpa::new(region.base), region.size);
    let redistributors = layout::Region {
        base: layout::GICR.base,
        size: layout::GICR_STRIDE * request.vcpus as u64,
    };
    let frames = match request.version {
        Version::V2 => {
            let frame = host.virtual_cpu_interface.ok_or(Errno::Invalid)?;
            let at = range(layout::GICC).ok_or(Errno::Invalid)?;
            space
                .map(at, frame.start(), Attributes::Device)
                .map_err(|_| Errno::NoMemory)?;
            Vec::from([range(layout::GICD_V2).map(|range| (Region::Distributor, range))])
        }
        Version::V3 => Vec::from([
            range(layout::GICD).map(|range| (Region::Distributor, range)),
            range(redistributors).map(|range| (Region::Redistributors, range)),
        ]),
    };
    Ok(frames.into_iter().flatten().collect())
}

/// The interrupt of the emulated serial port.
pub const VUART_SPI: Spi = Spi::new(layout::VPL011_SPI - 32).expect("an SPI");
