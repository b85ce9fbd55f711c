//! From the first line of Rust to all CPUs up.
//!
//! The order follows from what needs what: the device tree names the console, the memory map and
//! the boot modules; memory gives the heap; with the heap the tree is read whole; what it
//! describes is then brought up. Whatever is wrong on the way ends in one line and a halt.

use alloc::string::ToString;
use core::convert::Infallible;

use log::{error, info, warn};
use platform_dt::{BootInfo, ConsoleChoice, Dtb, Host, HostTree, ModuleKind, TreeError};
use spin::Once;
use xen_core::cmdline::{self, CmdlineError, Options};
use xen_core::sched::AddError;
use xen_types::Hpa;

use crate::arch::features::Features;
use crate::arch::percpu::{self, CpuId, PerCpu};
use crate::arch::{firmware, time};
use crate::domain::dom0::{self, Ingredients};
use crate::domain::{self, dom0_domain, guest, hypercall, schedule, traps};
use crate::gic::GicError;
use crate::iommu::InitError;
use crate::memory::space::{self, MapError};
use crate::memory::stack::{self, StackError};
use crate::memory::tree::{self, TreeAccessError};
use crate::memory::{self, MemoryError};
use crate::pci::Addresses;
use crate::{console, entry, gic, image, iommu, pci, report, selftest, smp};

/// Why the hypervisor does not start. One line each.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("{0}")]
    TreeAccess(#[from] TreeAccessError),
    #[error("{0}")]
    Tree(#[from] TreeError),
    #[error("command line: {0}")]
    CommandLine(CmdlineError<'static>),
    #[error("the image cannot be mapped: {0}")]
    MapImage(#[from] MapError),
    #[error("{0}")]
    Memory(#[from] MemoryError),
    #[error("{0}")]
    Gic(#[from] GicError),
    #[error("{0}")]
    Iommu(#[from] InitError),
    #[error("stack of cpu0: {0}")]
    Stack(#[from] StackError),
    #[error("{0}")]
    Scheduler(#[from] AddError),
    #[error("this CPU has no 4 KiB pages (ID_AA64MMFR0_EL1.TGran4)")]
    NoSmallPages,
}

/// The first Rust: on the boot stack, with the image mapped and nothing else.
pub extern "C" fn primary(tree: u64) -> ! {
    time::start_of_log();
    percpu::install(entry::boot_cpu());
    console::start_log();
    info!(
        "xen-rs {} entered at EL2 on {}, loaded at {}, device tree at {tree:#x}",
        crate::VERSION,
        percpu::affinity(),
        image::start(),
    );
    match first_half(Hpa::new(tree)) {
        Ok(never) => match never {},
        Err(error) => refuse(&error),
    }
}

/// The one line that a failed start ends in.
fn refuse(error: &BootError) -> ! {
    if !console::is_open() {
        console::open(None, ConsoleChoice::StdoutPath);
    }
    error!("cannot boot: {error}");
    report::halt()
}

/// What the second half needs of the first.
struct Found {
    tree: Dtb<'static>,
    info: BootInfo<'static>,
    options: Options<'static>,
}

static FOUND: Once<Found> = Once::new();

/// Up to a memory allocator and a stack with a guard.
fn first_half(tree: Hpa) -> Result<Infallible, BootError> {
    space::take_over()?;
    let (blob, blob_range) = tree::read(tree)?;
    let tree = Dtb::parse(blob)?;
    console::open(Some(&tree), ConsoleChoice::StdoutPath);
    let own = [
        ("the hypervisor image", image::range()),
        ("the device tree", blob_range),
    ];
    let info = BootInfo::read(&tree, &own)?;
    let options = Options::parse(info.command_line).map_err(BootError::CommandLine)?;
    apply(&options, &tree);
    hypercall::set_command_line(info.command_line);
    report_modules(&info);
    memory::init(&info, &own.map(|(_, range)| range))?;
    let stack = stack::allocate(CpuId(0))?;
    percpu::this().set_stack(stack.clone());
    FOUND.call_once(|| Found {
        tree,
        info,
        options,
    });
    stack::continue_on(stack.end, second_half_entry)
}

/// Does what the command line says about the console and the end of a report.
fn apply(options: &Options<'_>, tree: &Dtb<'_>) {
    if let Some(dtuart) = options.dtuart {
        console::open(Some(tree), ConsoleChoice::Named(dtuart));
    }
    console::set_threshold(options.loglvl);
    console::set_guest_threshold(options.guest_loglvl);
    if options.noreboot {
        report::halt_after_report();
    }
    if options.shortage {
        memory::shortage::enable();
    }
    for warning in options.warnings() {
        warn!("command line: {warning}");
    }
    if !options.console {
        console::close();
    }
}

fn report_modules(info: &BootInfo<'_>) {
    for module in &info.modules {
        let kind = match module.kind {
            ModuleKind::Kernel => "kernel",
            ModuleKind::Ramdisk => "ramdisk",
            ModuleKind::DeviceTree => "device tree",
            ModuleKind::XsmPolicy => "XSM policy",
            ModuleKind::Unknown => "of unknown kind",
        };
        info!("module {}: {kind}, {}", module.node, module.range);
    }
}

extern "C" fn second_half_entry() -> ! {
    match second_half() {
        Ok(never) => match never {},
        Err(error) => refuse(&error),
    }
}

/// Brings up what the tree describes.
fn second_half() -> Result<Infallible, BootError> {
    let found = FOUND.get().expect("the first half has left it");
    let tree = HostTree::reencode(&found.tree)?;
    let host = Host::read(&tree)?;
    info!("host: {}", host.model);
    if let Some(psci) = host.psci {
        firmware::set_psci(psci);
    }
    iommu::stop_all(&tree.dtb())?;
    check_processor(&host)?;
    time::enable_event_stream();
    firmware::note_workarounds();
    traps::init();
    gic::init(&host.gic, &host.timer)?;
    pci::init(&tree.dtb(), addresses(found));
    iommu::init(&tree.dtb(), found.options.iommu)?;
    let up = smp::start_all(&host.cpus);
    schedule::init(&up, found.options.sched)?;
    selftest::interrupts_of(&up);
    selftest::perform(found.options.selftest);
    announce_ready(up.len(), host.cpus.len());
    hide_functions(found);
    start_domains(found, &tree, &host, &up);
    schedule::run_cpu()
}

/// Dom0 arranges its buses itself, unless it cannot see all that is there.
fn addresses(found: &Found) -> Addresses {
    let line = found.info.dom0_command_line.unwrap_or_default();
    let hides = found.options.assignable.is_some();
    match hides || cmdline::hidden_by_pciback(line).next().is_some() {
        true => Addresses::Completed,
        false => Addresses::Kept,
    }
}

/// Takes the functions from Dom0 that it shall not have, by either command line.
fn hide_functions(found: &Found) {
    if let Some(functions) = found.options.assignable {
        pci::hide(functions.iter());
    }
    let line = found.info.dom0_command_line.unwrap_or_default();
    for hidden in cmdline::hidden_by_pciback(line) {
        match hidden {
            Ok(functions) => pci::hide([functions]),
            Err(error) => warn!("dom0's command line: {error}"),
        }
    }
}

fn start_domains(found: &Found, tree: &HostTree, host: &Host, cpus: &[&'static PerCpu]) {
    let uart = found.tree.console(console_choice(&found.options)).ok();
    let console = uart.map(|uart| uart.node.to_string());
    let ingredients = Ingredients {
        info: &found.info,
        options: &found.options,
        tree,
        host,
        cpus,
        console: console.as_deref(),
    };
    guest::init(&host.gic, cpus);
    make_dom0(&ingredients);
    make_others(found);
    if dom0_domain().is_none() {
        console::input::without_dom0();
    }
    if let Some(interrupt) = uart.and_then(|uart| uart.interrupt) {
        console::input::enable(interrupt);
    }
}

fn make_dom0(ingredients: &Ingredients<'_>) {
    match ingredients.kernel() {
        None => warn!("no boot module is a kernel: there is no Dom0"),
        Some(kernel) => {
            if let Err(error) = dom0::build(ingredients, kernel) {
                error!("{}: there is no Dom0: {error}", kernel.node);
            }
        }
    }
}

/// Makes the domains that the tree asks for.
fn make_others(found: &Found) {
    for (node, domain) in found.info.domains(&found.tree) {
        match domain {
            Ok(domain) => domain::boot::make(&domain),
            Err(error) => error!("{node}: there is no such domain: {error}"),
        }
    }
}

fn console_choice<'a>(options: &Options<'a>) -> ConsoleChoice<'a> {
    options
        .dtuart
        .map_or(ConsoleChoice::StdoutPath, ConsoleChoice::Named)
}

/// What this hypervisor cannot do without.
fn check_processor(host: &Host) -> Result<(), BootError> {
    if !Features::detect().has_4k_pages() {
        return Err(BootError::NoSmallPages);
    }
    if time::frequency() == 0 {
        warn!("timer: firmware left CNTFRQ_EL0 at 0; times in the log are ticks");
    }
    let here = percpu::affinity();
    if !host.cpus.iter().any(|cpu| cpu.affinity == here) {
        warn!("cpu0: its affinity {here} is not in the device tree");
    }
    Ok(())
}

fn announce_ready(up: usize, listed: usize) {
    let usage = memory::usage();
    info!(
        "memory: {} KiB used by the hypervisor, {} MiB free",
        usage.used >> 10,
        usage.free >> 20
    );
    info!(
        "ready: {up} of {listed} CPUs up, {} ticks at {} Hz since entry",
        time::since_entry(),
        time::frequency()
    );
}
