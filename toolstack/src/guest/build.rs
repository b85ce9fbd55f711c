//! Makes a domain of a [`Blueprint`].
//!
//! The order is that of libxl and libxc of Xen 4.20. Memory is asked for in the largest pieces that
//! there are; kernel and ramdisk are read straight into the guest's pages, each page once, through
//! mappings of [`WINDOW`] bytes. Whatever fails, and whenever one is interrupted: the domain goes,
//! and with it all that it had.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::PathBuf;

use platform_dt::guest::{
    self, GuestController, GuestHypervisor, GuestMessages, GuestPci, GuestPlan, GuestTreeError,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;
use xen_abi::DomId;
use xen_abi::domctl::{CONTEXT_ONLINE, Context};
use xen_abi::grant_table::{EntryV1, RESERVED_CONSOLE, RESERVED_XENSTORE, entry_flags};
use xen_abi::hvm::{Param, callback_by_ppi};
use xen_abi::layout::{self, Region, magic};
use xen_types::{Gpa, GpaRange, PAGE_SHIFT, PAGE_SIZE};
use zerocopy::{FromZeros, IntoBytes};

use super::blueprint::Blueprint;
use super::memory::MIB;
use crate::config::{CpuSet, GicChoice};
use crate::hypervisor::{
    DeviceSupport, GuestMemory, Hypervisor, HypervisorError, Messages, NewDomain, Scheduler,
};
use crate::pci::{self, AssignError, Given, Wanted};

/// Bytes of a guest's memory that are mapped at once.
const WINDOW: u64 = 16 * MIB;
/// Pages that are asked for in one call, if they come in pieces: the hypervisor clears them, and the
/// control domain's kernel can do nothing else on that CPU meanwhile.
const POPULATED_AT_ONCE: u64 = 64 * MIB / PAGE_SIZE;
/// Pages that the toolstack fills.
const MAGIC_PAGES: u64 = 4;
/// What a domain may have beside its RAM, in KiB.
const SLACK: u64 = 1024;
/// Bytes of config space of a bus.
const BUS_CONFIG: u64 = 1 << 20;
/// Random bytes for the kernel.
const SEED: usize = 128;
/// The domain that the consoles of guests lead to.
const CONTROL_DOMAIN: DomId = DomId::new(0);

/// Why a guest could not be made. There is nothing left of it, unless that is said.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A call failed.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// There is not enough memory.
    #[error("the hypervisor has no memory left: {missing} of {wanted} MiB are missing")]
    NoMemory {
        /// MiB that it has not.
        missing: u64,
        /// MiB that the guest was to have.
        wanted: u64,
    },
    /// A file cannot be read into the guest.
    #[error("cannot load {path}: {error}", path = path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The guest's pages cannot be written.
    #[error("cannot write the guest's memory: {0}")]
    Memory(io::Error),
    /// There is no tree for it.
    #[error(transparent)]
    Tree(#[from] GuestTreeError),
    /// The tree is larger than the room that was kept.
    #[error("the device tree has {0} bytes, more than were kept for it")]
    TreeTooLarge(usize),
    /// It does not get its functions.
    #[error(transparent)]
    Functions(#[from] AssignError),
    /// Someone wants it to stop.
    #[error("interrupted")]
    Interrupted,
    /// What was made cannot be taken back.
    #[error("{cause}\nand then domain {domain} could not be destroyed: {error}")]
    Leftover {
        /// Why it was to go.
        cause: Box<BuildError>,
        /// Which.
        domain: DomId,
        /// Why it did not.
        error: HypervisorError,
    },
}

/// One end of a ring: where it is in the guest, and the port that the control domain binds to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channel {
    /// Guest frame.
    pub frame: u64,
    /// Port of the guest, which is unbound.
    pub port: u32,
}

/// A guest that was made, and is paused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Built {
    /// Its domain.
    pub domain: DomId,
    /// Its console.
    pub console: Channel,
    /// Its virtual UART.
    pub vuart: Option<Channel>,
    /// Its PCI functions.
    pub functions: Vec<Given>,
}

/// Who looks on.
pub trait Watch {
    /// Whether to stop.
    fn interrupted(&self) -> bool;
    /// What is done now, and how much of it is done.
    fn progress(&mut self, what: &'static str, done: u64, of: u64);
    /// Something to know.
    fn note(&mut self, text: &str);
}

/// Makes a guest.
///
/// # Errors
/// [`BuildError`].
pub fn build<H: Hypervisor>(
    hypervisor: &H,
    blueprint: &Blueprint,
    uuid: Uuid,
    watch: &mut dyn Watch,
) -> Result<Built, BuildError> {
    let config = &blueprint.config;
    let functions = functions(hypervisor, blueprint)?;
    let (domain, made) = hypervisor.create(&NewDomain {
        uuid,
        vcpus: config.vcpus,
        event_channels: config.event_channels,
        grant_frames: config.grant_frames,
        maptrack_frames: config.maptrack_frames,
        gic: config.gic,
        // The virtual UART has the first.
        spis: config.spis.max(if config.vuart { 32 } else { 0 }),
        devices: config.has_devices(),
        clock_frequency: None,
    })?;
    let mut builder = Builder {
        hypervisor,
        blueprint,
        domain,
        watch,
    };
    builder
        .fill(&made, &functions)
        .map_err(|cause| match hypervisor.destroy(domain) {
            Ok(()) => cause,
            Err(error) => BuildError::Leftover {
                cause: Box::new(cause),
                domain,
                error,
            },
        })
}

/// The functions that it is to have, and can.
fn functions<H: Hypervisor>(
    hypervisor: &H,
    blueprint: &Blueprint,
) -> Result<Vec<Wanted>, AssignError> {
    let list = &blueprint.config.pci;
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let all = hypervisor.functions()?;
    let wanted = pci::choose(&all, list)?;
    pci::check(&all, &wanted, None)?;
    Ok(wanted)
}

struct Builder<'b, H> {
    hypervisor: &'b H,
    blueprint: &'b Blueprint,
    domain: DomId,
    watch: &'b mut dyn Watch,
}

impl<H: Hypervisor> Builder<'_, H> {
    fn fill(&mut self, made: &NewDomain, functions: &[Wanted]) -> Result<Built, BuildError> {
        let config = &self.blueprint.config;
        self.hypervisor.set_vcpus(self.domain, config.vcpus)?;
        self.schedule()?;
        let kib = self.blueprint.memory.size() / 1024;
        self.hypervisor.set_max_memory(self.domain, kib + SLACK)?;
        let pool = paging_pool(config.vcpus, config.memory);
        self.hypervisor.set_paging_pool(self.domain, pool)?;
        self.hypervisor.set_64_bit(self.domain)?;
        self.populate()?;
        let (console, vuart) = self.rings()?;
        // Before the long part: they may be refused.
        let support = self.support()?;
        if !functions.is_empty() && support.is_none() {
            return Err(AssignError::NotSupported.into());
        }
        let functions = pci::give(self.hypervisor, self.domain, functions)?;
        self.kernel()?;
        self.ramdisk()?;
        self.tree(made, support)?;
        self.start()?;
        self.check()?;
        Ok(Built {
            domain: self.domain,
            console,
            vuart,
            functions,
        })
    }

    /// What its PCI functions have; none if it can have no functions.
    fn support(&self) -> Result<Option<DeviceSupport>, BuildError> {
        if !self.blueprint.config.has_devices() {
            return Ok(None);
        }
        let support = self.hypervisor.device_support(self.domain)?;
        Ok(Some(support).filter(|support| support.pci))
    }

    fn check(&self) -> Result<(), BuildError> {
        match self.watch.interrupted() {
            true => Err(BuildError::Interrupted),
            false => Ok(()),
        }
    }

    /// Which CPUs it runs on, and its share of them.
    fn schedule(&mut self) -> Result<(), BuildError> {
        let config = &self.blueprint.config;
        let pinned = !config.cpus.is_empty() || !config.cpus_soft.is_empty();
        if pinned {
            let cpus = self.hypervisor.machine()?.max_cpu;
            let list = |set: Option<&CpuSet>| match set {
                Some(CpuSet::These(cpus)) => Some(cpus.iter().copied().collect::<Vec<_>>()),
                Some(CpuSet::All) => Some((0..=cpus).collect()),
                None => None,
            };
            for vcpu in 0..config.vcpus {
                let hard = list(config.cpus.get(vcpu as usize));
                let soft = list(config.cpus_soft.get(vcpu as usize));
                if hard.is_some() || soft.is_some() {
                    let (hard, soft) = (hard.as_deref(), soft.as_deref());
                    self.hypervisor
                        .set_affinity(self.domain, vcpu, hard, soft)?;
                }
            }
        }
        if config.weight.is_some() || config.cap.is_some() {
            match self.hypervisor.scheduler()? {
                Scheduler::Null => self.watch.note(
                    "the hypervisor gives each vCPU a CPU: `cpu_weight` and `cap` change nothing",
                ),
                scheduler => {
                    let (weight, cap) = (config.weight, config.cap);
                    self.hypervisor
                        .set_share(self.domain, scheduler, weight, cap)?;
                }
            }
        }
        Ok(())
    }

    fn populate(&mut self) -> Result<(), BuildError> {
        let wanted = self.blueprint.memory.size() / PAGE_SIZE;
        let mut done = 0;
        // The next piece is the last.
        let mut extents = self.blueprint.memory.extents();
        extents.reverse();
        while let Some(extent) = extents.pop() {
            let frames: Vec<u64> = extent.frames().collect();
            let most = (POPULATED_AT_ONCE >> extent.order).max(1) as usize;
            let mut populated = 0;
            while let Some(left) = frames.get(populated..).filter(|left| !left.is_empty()) {
                self.check()?;
                let now = done + ((populated as u64) << extent.order);
                self.watch.progress("memory", now, wanted);
                let part = left.get(..most).unwrap_or(left);
                let count = self.hypervisor.populate(self.domain, extent.order, part)?;
                if count == 0 {
                    break;
                }
                populated += count;
            }
            done += (populated as u64) << extent.order;
            if populated == frames.len() {
                continue;
            }
            // There is none in such pieces: the rest comes in smaller ones.
            let rest = extent.rest(populated as u64);
            if rest.is_empty() {
                return Err(BuildError::NoMemory {
                    missing: ((wanted - done) * PAGE_SIZE).div_ceil(MIB),
                    wanted: wanted * PAGE_SIZE / MIB,
                });
            }
            extents.extend(rest.into_iter().rev());
        }
        self.watch.progress("memory", wanted, wanted);
        Ok(())
    }

    /// The pages of the rings, the ports that go with them, and the parameters that tell the guest.
    ///
    /// The store's page is there and granted, but the guest is not told of it: nobody serves it, and a
    /// kernel would wait.
    fn rings(&mut self) -> Result<(Channel, Option<Channel>), BuildError> {
        let (hypervisor, domain) = (self.hypervisor, self.domain);
        let first = layout::MAGIC.base >> PAGE_SHIFT;
        let frames: Vec<u64> = (first..first + MAGIC_PAGES).collect();
        if hypervisor.populate(domain, 0, &frames)? != frames.len() {
            return Err(BuildError::NoMemory {
                missing: 1,
                wanted: self.blueprint.memory.size() / MIB,
            });
        }
        let mut pages = hypervisor.map(domain, &frames)?;
        let zero = [0; (MAGIC_PAGES * PAGE_SIZE) as usize];
        pages.write(0, &zero).map_err(BuildError::Memory)?;
        drop(pages);
        hypervisor.clean_caches(domain, first, MAGIC_PAGES)?;

        let console = Channel {
            frame: first + magic::CONSOLE,
            port: hypervisor.allocate_port(domain, CONTROL_DOMAIN)?,
        };
        let event = callback_by_ppi(layout::EVTCHN as u8);
        hypervisor.set_param(domain, Param::CallbackIrq, event)?;
        hypervisor.set_param(domain, Param::ConsolePfn, console.frame)?;
        hypervisor.set_param(domain, Param::ConsoleEvtchn, console.port.into())?;
        self.grants(&[
            (RESERVED_CONSOLE, console.frame),
            (RESERVED_XENSTORE, first + magic::XENSTORE),
        ])?;
        let vuart = match self.blueprint.config.vuart {
            false => None,
            true => {
                let frame = first + magic::VUART;
                let port = hypervisor.init_vuart(domain, frame, CONTROL_DOMAIN)?;
                Some(Channel { frame, port })
            }
        };
        self.check()?;
        Ok((console, vuart))
    }

    /// Grants pages to the control domain under references that are set aside for them.
    fn grants(&self, grants: &[(u32, u64)]) -> Result<(), BuildError> {
        let mut table = self.hypervisor.map_grant_table(self.domain)?;
        for (reference, frame) in grants {
            let entry = EntryV1 {
                flags: entry_flags::PERMIT_ACCESS,
                domid: CONTROL_DOMAIN,
                frame: *frame as u32,
            };
            let offset = *reference as usize * size_of::<EntryV1>();
            table
                .write(offset, entry.as_bytes())
                .map_err(BuildError::Memory)?;
        }
        Ok(())
    }

    fn kernel(&mut self) -> Result<(), BuildError> {
        let kernel = &self.blueprint.kernel;
        let failed = |error| BuildError::Load {
            path: kernel.path().to_path_buf(),
            error,
        };
        let mut reader = kernel.reader().map_err(failed)?;
        let start = self.blueprint.place.kernel.start();
        self.load("kernel", start, kernel.length, &mut *reader, &failed)?;
        // What is packed has its checksum behind the last byte.
        let more = reader.read(&mut [0]).map_err(failed)?;
        match more {
            0 => Ok(()),
            _ => Err(failed(io::Error::other("it is longer than it says"))),
        }
    }

    fn ramdisk(&mut self) -> Result<(), BuildError> {
        let Some((file, length)) = &self.blueprint.ramdisk else {
            return Ok(());
        };
        let Some(range) = self.blueprint.place.ramdisk else {
            return Ok(());
        };
        let path = self.blueprint.config.ramdisk.clone().unwrap_or_default();
        let failed = |error| BuildError::Load {
            path: path.clone(),
            error,
        };
        let mut file: &File = file;
        file.rewind().map_err(failed)?;
        self.load("ramdisk", range.start(), *length, &mut file, &failed)
    }

    /// Reads `length` bytes into the guest's memory.
    fn load(
        &mut self,
        what: &'static str,
        start: Gpa,
        length: u64,
        from: &mut dyn Read,
        failed: &dyn Fn(io::Error) -> BuildError,
    ) -> Result<(), BuildError> {
        let mut done = 0;
        while done < length {
            self.check()?;
            self.watch.progress(what, done, length);
            let at = start.get() + done;
            let offset = at % PAGE_SIZE;
            let part = (length - done).min(WINDOW - offset);
            let first = at >> PAGE_SHIFT;
            let count = (offset + part).div_ceil(PAGE_SIZE);
            let frames: Vec<u64> = (first..first + count).collect();
            let mut memory = self.hypervisor.map(self.domain, &frames)?;
            memory
                .fill(offset as usize, part as usize, from)
                .map_err(failed)?;
            drop(memory);
            self.hypervisor.clean_caches(self.domain, first, count)?;
            done += part;
        }
        self.watch.progress(what, length, length);
        Ok(())
    }

    fn tree(&mut self, made: &NewDomain, support: Option<DeviceSupport>) -> Result<(), BuildError> {
        let info = self.hypervisor.domain(self.domain)?;
        let bits = info.map_or(0, |info| info.address_bits);
        let regions = self.blueprint.memory.extended_regions(bits);
        let mut seed = [0; SEED];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| BuildError::Memory(error.into()))?;
        let config = &self.blueprint.config;
        let tree = guest::build(&GuestPlan {
            memory: self.blueprint.memory.banks(),
            vcpus: config.vcpus,
            gic: controller(made.gic),
            command_line: &config.command_line,
            ramdisk: self.blueprint.place.ramdisk,
            seed: &seed,
            timer: [layout::TIMER_SECURE, layout::TIMER_PHYS, layout::TIMER_VIRT],
            clock_frequency: made.clock_frequency,
            hypervisor: Some(GuestHypervisor {
                grant_window: range(layout::GRANT_TABLE),
                extended_regions: &regions,
                event_interrupt: layout::EVTCHN,
            }),
            uart: config
                .vuart
                .then_some((range(layout::VPL011), layout::VPL011_SPI)),
            pci: support.map(|support| bus(support, self.blueprint.coherent)),
        })?;
        let place = self.blueprint.place.tree;
        if tree.len() as u64 > place.size() {
            return Err(BuildError::TreeTooLarge(tree.len()));
        }
        let first = place.start().get() >> PAGE_SHIFT;
        let count = (tree.len() as u64).div_ceil(PAGE_SIZE);
        let frames: Vec<u64> = (first..first + count).collect();
        let mut memory = self.hypervisor.map(self.domain, &frames)?;
        memory.write(0, &tree).map_err(BuildError::Memory)?;
        drop(memory);
        Ok(self.hypervisor.clean_caches(self.domain, first, count)?)
    }

    /// Where the first vCPU begins, by Linux's boot protocol.
    fn start(&mut self) -> Result<(), BuildError> {
        let place = &self.blueprint.place;
        let mut context = Context::new_zeroed();
        context.flags = CONTEXT_ONLINE;
        context.x[0] = place.tree.start().get();
        context.pc = place.kernel.start().get();
        context.cpsr = layout::CPSR_INIT;
        context.sctlr = layout::SCTLR_INIT;
        Ok(self.hypervisor.set_context(self.domain, 0, &context)?)
    }
}

/// Bytes for a domain's translation tables: libxl's formula.
fn paging_pool(vcpus: u32, memory_mib: u64) -> u64 {
    4 * 1024 * (256 * u64::from(vcpus) + memory_mib + 128)
}

fn controller(gic: GicChoice) -> GuestController {
    match gic {
        GicChoice::V2 => GuestController::V2 {
            distributor: range(layout::GICD_V2),
            cpu_interface: range(layout::GICC),
        },
        GicChoice::Default | GicChoice::V3 => GuestController::V3 {
            distributor: range(layout::GICD),
            redistributors: range(layout::GICR),
        },
    }
}

/// The guest's PCI bus.
fn bus(support: DeviceSupport, coherent: bool) -> GuestPci {
    let config = Region {
        size: BUS_CONFIG,
        ..layout::VPCI_ECAM
    };
    GuestPci {
        config: range(config),
        memory: range(layout::VPCI_MEMORY),
        prefetchable: range(layout::VPCI_PREFETCH),
        messages: match support.messages {
            Messages::None => GuestMessages::None,
            Messages::Its => GuestMessages::Its {
                registers: range(layout::ITS),
            },
            Messages::Frame { first, count } => GuestMessages::Frame {
                registers: range(layout::V2M),
                first,
                count,
            },
        },
        lines: support.lines,
        coherent,
    }
}

/// A region of the layout, none of which is empty.
fn range(region: Region) -> GpaRange {
    let start = Gpa::new(region.base);
    GpaRange::new(start, region.size).expect("a region of the layout")
}
