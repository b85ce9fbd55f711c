//! Guests made on the simulated hypervisor.

use std::io::Write as _;
use std::path::Path;

use uuid::Uuid;
use xen_abi::hvm::Param;
use xen_abi::layout;
use xen_abi::{DomId, Errno};

use super::build::build;
use super::memory::MIB;
use super::*;
use crate::config::{Source, load_text};
use crate::hypervisor::{Domains as _, FunctionInfo, FunctionState, Functions as _, Simulated};
use crate::pci::Sbdf;
use crate::pci::fake::card;

const UUID: Uuid = Uuid::from_u128(7);
/// Bytes of the kernel's file: not whole pages.
const KERNEL: usize = 3 * 4096 + 100;
const RAMDISK: usize = 5000;

/// Stops after some looks.
struct Watcher {
    looks_left: std::cell::Cell<u32>,
    notes: Vec<String>,
}

impl Watcher {
    fn patient() -> Self {
        Self::stopping_after(u32::MAX)
    }

    fn stopping_after(looks: u32) -> Self {
        Self {
            looks_left: looks.into(),
            notes: Vec::new(),
        }
    }
}

impl Watch for Watcher {
    fn interrupted(&self) -> bool {
        let left = self.looks_left.get();
        self.looks_left.set(left.saturating_sub(1));
        left == 0
    }

    fn progress(&mut self, _what: &'static str, done: u64, of: u64) {
        assert!(done <= of);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_string());
    }
}

fn kernel() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..KERNEL).map(|at| (at / 7) as u8).collect();
    bytes[8..16].fill(0);
    bytes[16..24].copy_from_slice(&(8 * MIB).to_le_bytes());
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes
}

fn ramdisk() -> Vec<u8> {
    (0..RAMDISK).map(|at| (at % 251) as u8).collect()
}

/// A guest with a kernel and a ramdisk, and these settings beside.
fn blueprint(folder: &Path, kernel: &[u8], settings: &str) -> Blueprint {
    for (name, bytes) in [("Image", kernel), ("ramdisk", &ramdisk())] {
        let mut file = std::fs::File::create(folder.join(name)).unwrap();
        file.write_all(bytes).unwrap();
    }
    let text = format!("name = 'g'; kernel = 'Image'; ramdisk = 'ramdisk'\n{settings}");
    let loaded = load_text(&Source::new("g.cfg", text), folder).unwrap();
    Blueprint::new(loaded.config).unwrap()
}

fn made(xen: &Simulated, settings: &str) -> Result<Built, BuildError> {
    let folder = tempfile::tempdir().unwrap();
    let blueprint = blueprint(folder.path(), &kernel(), settings);
    build(xen, &blueprint, UUID, &mut Watcher::patient())
}

/// Bytes of a domain's memory.
fn memory(xen: &Simulated, domain: DomId, address: u64, length: usize) -> Vec<u8> {
    let domain = xen.look(domain).unwrap();
    let byte = |at: u64| {
        domain
            .pages
            .get(&(at >> 12))
            .map_or(0, |page| page[at as usize & 0xfff])
    };
    (address..address + length as u64).map(byte).collect()
}

#[test]
fn a_guest_has_all_that_its_kernel_needs() {
    let xen = Simulated::default();
    let settings = "memory = 512; vcpus = 2; vuart = 'sbsa_uart'; extra = 'console=hvc0'";
    let built = made(&xen, settings).unwrap();
    let domain = xen.look(built.domain).unwrap();
    assert_eq!(domain.pauses, 1);
    assert!(domain.is_64_bit);
    assert_eq!(domain.vcpus, 2);
    // 512 MiB in blocks of 2 MiB, and the four pages of the rings.
    assert_eq!(domain.page_count, (512 << 8) + 4);
    assert_eq!(domain.extents.len(), 256 + 4);
    assert_eq!(domain.new.spis, 32);

    assert_eq!(
        memory(&xen, built.domain, layout::RAM0.base, KERNEL),
        kernel()
    );
    let modules = layout::RAM0.base + 128 * MIB;
    assert_eq!(memory(&xen, built.domain, modules, RAMDISK), ramdisk());
    let tree = modules + 0x2000;
    let context = domain.contexts[&0];
    assert_eq!((context.pc, context.x[0]), (layout::RAM0.base, tree));
    assert_eq!((context.cpsr, context.sctlr), (0x1c5, 0x00c5_0078));
    assert_eq!(domain.contexts.len(), 1);

    let size = memory(&xen, built.domain, tree, 8);
    let size = u32::from_be_bytes(size[4..].try_into().unwrap()) as usize;
    let blob = memory(&xen, built.domain, tree, size);
    let dtb = platform_dt::Dtb::parse(&blob).unwrap();
    let chosen = dtb.node("/chosen").unwrap();
    let arguments = chosen.property("bootargs").unwrap().value;
    assert_eq!(arguments, b"console=hvc0\0");

    // Every page that was written is out of the caches, and nothing is still mapped.
    let dirty: Vec<_> = domain
        .pages
        .keys()
        .filter(|page| !domain.clean.contains(page))
        .collect();
    assert_eq!(dirty, [] as [&u64; 0]);
    assert_eq!(domain.mappings, 0);

    let magic = layout::MAGIC.base >> 12;
    assert_eq!(domain.params[&Param::ConsolePfn], magic);
    assert_eq!(
        domain.params[&Param::ConsoleEvtchn],
        u64::from(built.console.port)
    );
    assert_eq!(domain.params[&Param::CallbackIrq], 0x0200_0000_0000_021f);
    assert!(!domain.params.contains_key(&Param::StoreEvtchn));
    assert_eq!(domain.grants[..8], [1, 0, 0, 0, 0, 0x90, 3, 0]);
    assert_eq!(domain.grants[8..16], [1, 0, 0, 0, 1, 0x90, 3, 0]);
    assert_eq!(domain.vuart, Some(magic + 3));
}

#[test]
fn a_packed_kernel_is_the_same_guest() {
    use flate2::{Compression, write::GzEncoder};
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&kernel()).unwrap();
    let mut packed = packer.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let xen = Simulated::default();
    let whole = blueprint(folder.path(), &packed, "memory = 64");
    let built = build(&xen, &whole, UUID, &mut Watcher::patient()).unwrap();
    assert_eq!(
        memory(&xen, built.domain, layout::RAM0.base, KERNEL),
        kernel()
    );

    // A checksum that is wrong is found, and the guest goes.
    let place = packed.len() - 6;
    packed[place] ^= 1;
    let xen = Simulated::default();
    let free = xen.free_pages();
    let damaged = blueprint(folder.path(), &packed, "memory = 64");
    let error = build(&xen, &damaged, UUID, &mut Watcher::patient()).unwrap_err();
    assert!(matches!(error, BuildError::Load { .. }), "{error}");
    assert_eq!(xen.free_pages(), free);
}

#[test]
fn whatever_fails_nothing_is_left() {
    let settings = "memory = 1100; vcpus = 2; vuart = 'sbsa_uart'; cpus = '0-1'; cpu_weight = 512";
    let xen = Simulated::default();
    made(&xen, settings).unwrap();
    let calls = xen.calls();
    assert!(calls.len() > 20, "{calls:?}");
    for (nth, call) in calls.iter().enumerate() {
        let xen = Simulated::default();
        let free = xen.free_pages();
        xen.fail(nth, Errno::NoMemory);
        let error = made(&xen, settings).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(call), "{call}: {text}");
        assert_eq!(xen.free_pages(), free, "after {call}, call {nth}");
        assert!(
            xen.look(DomId::new(1)).is_none(),
            "after {call}, call {nth}"
        );
    }
}

#[test]
fn whenever_it_is_interrupted_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let blueprint = blueprint(folder.path(), &kernel(), "memory = 1100");
    let mut interrupted = 0;
    loop {
        let xen = Simulated::default();
        let free = xen.free_pages();
        let mut watcher = Watcher::stopping_after(interrupted);
        match build(&xen, &blueprint, UUID, &mut watcher) {
            Err(BuildError::Interrupted) => assert_eq!(xen.free_pages(), free),
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
        interrupted += 1;
    }
    assert!(interrupted >= 6, "{interrupted}");
}

#[test]
fn memory_in_small_pieces_will_do() {
    for order in [0, 5, 9, 12] {
        let xen = Simulated::default();
        xen.limit_order(order);
        let built = made(&xen, "memory = 1026").unwrap();
        let domain = xen.look(built.domain).unwrap();
        assert_eq!(domain.page_count, (1026 << 8) + 4);
        let largest = domain.extents.values().max();
        assert_eq!(largest, Some(if order < 9 { &0 } else { &9 }));
    }
}

#[test]
fn too_little_memory_is_told_in_mib() {
    let xen = Simulated::with_memory(512 * MIB);
    let free = xen.free_pages();
    let error = made(&xen, "memory = 600").unwrap_err();
    let BuildError::NoMemory { missing, wanted } = error else {
        panic!("{error}");
    };
    assert_eq!(wanted, 600);
    // The pool takes 4 KiB for each MiB and 1.5 MiB beside.
    assert!((90..96).contains(&missing), "{missing}");
    assert_eq!(xen.free_pages(), free);
}

#[test]
fn vcpus_run_where_they_are_told_to() {
    let xen = Simulated::default();
    let settings = "memory = 64; vcpus = 3; cpus = ['0-1', '2']; cpus_soft = '3'; cpu_weight = 512";
    let built = made(&xen, settings).unwrap();
    let domain = xen.look(built.domain).unwrap();
    assert_eq!(domain.affinity[&0], (vec![0, 1], vec![3]));
    assert_eq!(domain.affinity[&1], (vec![2], vec![3]));
    assert_eq!(domain.affinity[&2], (vec![0, 1, 2, 3], vec![3]));
    assert_eq!(domain.share, Some((512, 0)));
}

#[test]
fn a_domain_that_will_not_go_is_told() {
    let xen = Simulated::default();
    made(&xen, "memory = 64").unwrap();
    let last = xen.calls().len() - 1;
    // The last call but one fails, and then the destruction, too.
    let xen = Simulated::default();
    xen.fail_from(last, Errno::Busy);
    let error = made(&xen, "memory = 64").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("domain d1 could not be destroyed"), "{text}");
}

const CARD: Sbdf = Sbdf::from_number(0x1_0008);

/// A hypervisor with a card that is assignable.
fn with_card() -> Simulated {
    let xen = Simulated::default();
    xen.plug(FunctionInfo {
        state: FunctionState::Assignable,
        ..card(CARD)
    });
    xen
}

/// A domain's device tree.
fn tree(xen: &Simulated, domain: DomId) -> Vec<u8> {
    let at = xen.look(domain).unwrap().contexts[&0].x[0];
    let size = memory(xen, domain, at, 8);
    let size = u32::from_be_bytes(size[4..].try_into().unwrap()) as usize;
    memory(xen, domain, at, size)
}

#[test]
fn a_guest_with_a_function_has_a_bus_for_it() {
    for (gic, map, parent) in [("v3", true, false), ("v2", false, true)] {
        let xen = with_card();
        let settings = format!("memory = 64; gic_version = '{gic}'; pci = ['0001:00:01.0@3']");
        let built = made(&xen, &settings).unwrap();
        let [given] = built.functions[..] else {
            panic!("{:?}", built.functions);
        };
        assert_eq!(
            (given.function, given.guest.to_string()),
            (CARD, "0000:00:03.0".into())
        );
        let info = xen.function(CARD).unwrap().unwrap();
        assert_eq!(info.domain, Some(built.domain.get()));
        let blob = tree(&xen, built.domain);
        let dtb = platform_dt::Dtb::parse(&blob).unwrap();
        let bridges = platform_dt::PciBridge::all(&dtb);
        let [Ok(bridge)] = bridges.as_slice() else {
            panic!("{bridges:?}");
        };
        assert_eq!(bridge.registers[0].start().get(), layout::VPCI_ECAM.base);
        assert_eq!(
            (bridge.msi_map.is_some(), bridge.msi_parent.is_some()),
            (map, parent)
        );
        assert!(bridge.interrupts.find(0x18, 1).is_some());
        xen.destroy(built.domain).unwrap();
        let info = xen.function(CARD).unwrap().unwrap();
        assert_eq!(info.state, FunctionState::Assignable);
    }
}

#[test]
fn a_guest_has_a_bus_only_if_it_may_have_functions() {
    for (settings, buses) in [("", 0), ("passthrough = 'enabled'", 1)] {
        let xen = with_card();
        let built = made(&xen, &format!("memory = 64; {settings}")).unwrap();
        let blob = tree(&xen, built.domain);
        let dtb = platform_dt::Dtb::parse(&blob).unwrap();
        assert_eq!(platform_dt::PciBridge::all(&dtb).len(), buses);
        assert_eq!(xen.look(built.domain).unwrap().new.devices, buses == 1);
    }
}

#[test]
fn whatever_fails_a_function_is_nobodys_again() {
    let settings = "memory = 64; pci = ['0001:00:01.0']";
    let xen = with_card();
    made(&xen, settings).unwrap();
    for nth in 0..xen.calls().len() {
        let xen = with_card();
        xen.fail(nth, Errno::NoMemory);
        let error = made(&xen, settings).unwrap_err();
        let info = xen.function(CARD).unwrap().unwrap();
        assert_eq!(info.state, FunctionState::Assignable, "call {nth}: {error}");
        assert!(xen.look(DomId::new(1)).is_none(), "call {nth}: {error}");
    }
    // What somebody else has is told before there is a domain.
    let xen = with_card();
    xen.plug(card(CARD));
    let error = made(&xen, settings).unwrap_err().to_string();
    assert!(
        error.starts_with("0001:00:01.0 is the control domain's"),
        "{error}"
    );
    assert!(!xen.calls().contains(&"createdomain"));
}

#[test]
fn what_is_not_available_is_refused_with_the_reason() {
    let text = "name='g'; kernel='Image'; memory=64; pci=['01:00.0']; dtdev=['/soc/eth']; on_crash='coredump-destroy'";
    let loaded = load_text(&Source::new("g.cfg", text), Path::new("/")).unwrap();
    let error = Blueprint::new(loaded.config).unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        lines[0].starts_with("`dtdev` is not available yet"),
        "{error}"
    );
    assert!(
        lines[1].contains("destroy, restart and preserve"),
        "{error}"
    );
}
