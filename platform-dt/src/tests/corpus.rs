//! The device trees of real boards: each must be accepted, and inventoried or refused for a
//! reason that lies with the board.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{env, eprintln, format, fs};

use crate::{BootInfo, ConsoleChoice, Dtb, Gic, Host, HostTree, PciBridge, TreeError};

pub(crate) const DIRECTORY: &str = "XEN_RS_DTB_DIR";

#[test]
fn every_tree_of_the_corpus_is_read() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        eprintln!(
            "SKIPPED: no corpus: `cargo xtask test` fetches one, or set {DIRECTORY} to a folder \
             that holds .dtb files"
        );
        return;
    };
    let trees = trees_below(Path::new(&directory));
    assert!(!trees.is_empty(), "{DIRECTORY} holds no .dtb file");
    let mut summary = Summary::default();
    for tree in &trees {
        summary.add(tree, &fs::read(tree).unwrap());
    }
    summary.print();
    assert_eq!(summary.unexpected, Vec::<String>::new());
}

/// All `.dtb` files in `directory` and below.
pub(crate) fn trees_below(directory: &Path) -> Vec<PathBuf> {
    let mut trees = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            trees.extend(trees_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "dtb") {
            trees.push(path);
        }
    }
    trees.sort();
    trees
}

/// What came of the trees, counted.
#[derive(Default)]
struct Summary {
    counts: BTreeMap<String, usize>,
    unexpected: Vec<String>,
}

impl Summary {
    fn add(&mut self, path: &Path, blob: &[u8]) {
        let name = path.file_name().unwrap().to_string_lossy();
        let dtb = match Dtb::parse(blob) {
            Ok(dtb) => dtb,
            Err(error) => return self.unexpected.push(format!("{name}: {error}")),
        };
        self.outcome("console", &name, console_kind(&dtb), is_known_console_fault);
        let boot = BootInfo::read(&dtb, &[]).map(|boot| format!("{} banks", boot.ram.len()));
        self.outcome("boot", &name, boot, is_known_boot_fault);
        for bridge in PciBridge::all(&dtb) {
            let words = bridge.map(|bridge| format!("{} windows", bridge.windows.len()));
            self.outcome("pci", &name, words, is_known_pci_fault);
        }
        let tree = match HostTree::reencode(&dtb) {
            Ok(tree) => tree,
            Err(error) => return self.unexpected.push(format!("{name}: {error}")),
        };
        assert_eq!(tree.dtb().nodes().count(), dtb.nodes().count(), "{name}");
        assert_eq!(
            tree.fdt().all_nodes().count(),
            dtb.nodes().count(),
            "{name}"
        );
        let host = Host::read(&tree).map(|host| describe(&host));
        self.outcome("host", &name, host, is_known_host_fault);
    }

    fn outcome(
        &mut self,
        stage: &str,
        name: &str,
        outcome: Result<String, TreeError>,
        is_known: fn(&TreeError) -> bool,
    ) {
        let words = match outcome {
            Ok(words) => words,
            Err(error) => {
                eprintln!("{stage} {name}: {error}");
                if !is_known(&error) {
                    self.unexpected.push(format!("{stage} {name}: {error}"));
                }
                let debug = format!("{error:?}");
                format!("refused: {}", debug.split([' ', '{']).next().unwrap_or(""))
            }
        };
        *self.counts.entry(format!("{stage}: {words}")).or_default() += 1;
    }

    fn print(&self) {
        for (words, count) in &self.counts {
            eprintln!("{count:5} {words}");
        }
    }
}

fn console_kind(dtb: &Dtb<'_>) -> Result<String, TreeError> {
    let uart = dtb.console(ConsoleChoice::StdoutPath)?;
    Ok(format!("{:?}", uart.kind))
}

fn describe(host: &Host) -> String {
    match &host.gic {
        Gic::V2(gic) if gic.hypervisor_interface.is_some() => "GICv2".to_string(),
        Gic::V2(_) => "GICv2 without virtualization".to_string(),
        Gic::V3(gic) if gic.its.is_empty() => "GICv3".to_string(),
        Gic::V3(_) => "GICv3 with ITS".to_string(),
    }
}

/// There is no driver for every UART, and not every board names one, or names a framebuffer.
fn is_known_console_fault(error: &TreeError) -> bool {
    use TreeError::{Missing, NoNode, Unknown, UnknownUart};
    matches!(
        error,
        UnknownUart { .. } | Missing { .. } | NoNode { .. } | Unknown { .. }
    )
}

/// Many boards leave it to the boot loader to say how much memory there is.
fn is_known_boot_fault(error: &TreeError) -> bool {
    matches!(error, TreeError::NoNode { what } if what.starts_with("RAM"))
}

/// BCM2837 has an interrupt controller of its own, and Tegra132 describes an ARMv7 timer.
fn is_known_host_fault(error: &TreeError) -> bool {
    let known = ["interrupt controller", "architected timer"];
    matches!(error, TreeError::NoNode { what } if known.iter().any(|kind| what.starts_with(kind)))
}

/// IPQ8074's interrupt maps leave out the addresses that its GIC has.
fn is_known_pci_fault(error: &TreeError) -> bool {
    matches!(error, TreeError::Malformed { property, .. } if property.to_string() == "interrupt-map")
}
