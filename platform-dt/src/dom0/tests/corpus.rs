//! Over the trees of real boards: Dom0 never gets what is not its own, and Linux can read what it
//! gets.

use std::collections::BTreeSet;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{env, eprintln, format, fs};

use xen_types::{Gpa, GpaRange, HpaRange, IntId};

use super::{Built, build_blob};
use crate::node::Status;
use crate::tests::corpus::{DIRECTORY, trees_below};
use crate::tests::fixtures;
use crate::{ConsoleChoice, Dtb, Gic, Host, HostTree, Node};

#[test]
fn fixtures_keep_dom0_out_of_what_is_not_its_own() {
    for (name, fixture) in fixtures::all() {
        check(name, &fixture.blob()).unwrap();
    }
}

#[test]
fn boards_keep_dom0_out_of_what_is_not_its_own() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        eprintln!("SKIPPED: no corpus: set {DIRECTORY} to a folder that holds .dtb files");
        return;
    };
    let trees = trees_below(Path::new(&directory));
    let results = trees.iter().map(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        check(&name, &fs::read(path).unwrap())
    });
    let (built, faults): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
    let built = built.iter().filter(|built| built == &&Ok(true)).count();
    eprintln!(
        "{built} of {} trees are for hosts that are supported",
        trees.len()
    );
    assert!(built > 0);
    assert_eq!(faults, Vec::<Result<bool, String>>::new());
}

/// Whether the tree is one of a host that is supported, and if so, that Dom0's tree is sound.
fn check(name: &str, blob: &[u8]) -> Result<bool, String> {
    let dtb = Dtb::parse(blob).unwrap();
    let tree = HostTree::reencode(&dtb).unwrap();
    let Ok(host) = Host::read(&tree) else {
        return Ok(false);
    };
    let uart = dtb.console(ConsoleChoice::StdoutPath).ok();
    let path = uart.map(|uart| uart.node.to_string());
    let built = build_blob(blob, path.as_deref(), &[], |plan| {
        plan.hypervisor.extended_space = GpaRange::new(Gpa::new(0), 1 << 46);
    });
    let built = built.map_err(|error| format!("{name}: {error}"))?;
    let mut owned = owned_by_hypervisor(&dtb, &host);
    owned.extend(uart.map(|uart| uart.regs));
    extended_regions_are_holes(&built, &owned).map_err(|fault| format!("{name}: {fault}"))?;
    for (range, owned) in pairs(&built.resources.mmio, &owned) {
        if range.overlaps(owned) {
            return Err(format!(
                "{name}: Dom0 gets {range}, of which {owned} is not its own"
            ));
        }
    }
    let interrupt = uart.and_then(|uart| uart.interrupt);
    if built
        .resources
        .interrupts
        .iter()
        .any(|own| Some(own.id) == interrupt.map(|i| i.id))
    {
        return Err(format!("{name}: Dom0 gets the console's interrupt"));
    }
    is_sound(&built).map_err(|fault| format!("{name}: {fault}"))?;
    Ok(true)
}

/// What Dom0 must never get, read in another way than the code under test does.
fn owned_by_hypervisor(dtb: &Dtb<'_>, host: &Host) -> Vec<HpaRange> {
    let mut owned = match &host.gic {
        Gic::V2(gic) => {
            let optional = [gic.hypervisor_interface, gic.vcpu_interface];
            let frames = gic.v2m_frames.iter().map(|frame| frame.registers);
            let needed = [gic.distributor, gic.cpu_interface];
            let optional = optional.into_iter().flatten();
            needed.into_iter().chain(optional).chain(frames).collect()
        }
        Gic::V3(gic) => {
            let its = gic.its.iter().map(|its| its.registers);
            let redistributors = gic.redistributors.iter().copied();
            [gic.distributor]
                .into_iter()
                .chain(redistributors)
                .chain(its)
                .collect::<Vec<_>>()
        }
    };
    let iommus = [
        "arm,smmu-v2",
        "arm,smmu-v3",
        "arm,mmu-500",
        "renesas,ipmmu-vmsa",
    ];
    for node in dtb.nodes().filter(|node| node.is_compatible(&iommus)) {
        owned.extend(node.registers(0).ok().flatten());
    }
    let is_memory = |node: &Node<'_>| node.has_type("memory") && node.status() == Status::Okay;
    for node in dtb.root().children().filter(is_memory) {
        owned.extend(node.memory_ranges().unwrap().map(Result::unwrap));
    }
    let reserved = dtb.node("/reserved-memory").into_iter();
    let reserved = reserved.flat_map(Node::children);
    for node in reserved.filter(|node| node.property("no-map").is_some()) {
        if node.status() == Status::Okay && node.property("reg").is_some() {
            owned.extend(node.memory_ranges().unwrap().map(Result::unwrap));
        }
    }
    owned
}

/// Nothing of the host is where Dom0 may map others' pages, and Linux can use all of it.
fn extended_regions_are_holes(built: &Built, owned: &[HpaRange]) -> Result<(), String> {
    let node = built.node("/hypervisor");
    let regions: Vec<HpaRange> = (1..)
        .map_while(|number| node.registers(number).ok().flatten())
        .collect();
    // Below 4 GiB there may be no room.
    let room = built.dtb().root().cell_sizes().address > 1;
    if regions.is_empty() && room {
        return Err("no extended region".into());
    }
    if !regions.is_sorted_by(|a, b| a.end() < b.start()) {
        return Err(format!("extended regions {regions:?} do not ascend"));
    }
    for region in &regions {
        let sections = region.start().is_aligned(128 << 20) && region.size() % (128 << 20) == 0;
        if !sections || region.size() < 1 << 30 {
            return Err(format!("extended region {region} is not of use to Linux"));
        }
    }
    let used: Vec<HpaRange> = built.resources.mmio.iter().chain(owned).copied().collect();
    match pairs(&regions, &used).find(|(region, used)| region.overlaps(*used)) {
        Some((region, used)) => Err(format!("extended region {region} holds {used}")),
        None => Ok(()),
    }
}

fn pairs<'r>(
    ranges: &'r [HpaRange],
    owned: &'r [HpaRange],
) -> impl Iterator<Item = (HpaRange, HpaRange)> + 'r {
    let with = move |&range: &HpaRange| owned.iter().map(move |&owned| (range, owned));
    ranges.iter().flat_map(with)
}

/// Whether a tree is one that Linux can boot with.
fn is_sound(built: &Built) -> Result<(), String> {
    let dtb = built.dtb();
    let mut phandles = BTreeSet::new();
    for phandle in dtb.nodes().filter_map(Node::phandle) {
        if !phandles.insert(phandle) {
            return Err(format!("two nodes have phandle {phandle:#x}"));
        }
    }
    // This refuses a name that occurs twice.
    let tree = HostTree::reencode(&dtb).map_err(|error| error.to_string())?;
    let host = fit_for_a_guest(&tree).map_err(|error| error.to_string())?;
    if host != 2 {
        return Err(format!("{host} processors"));
    }
    let event = built.node("/hypervisor").interrupt(0).map(|event| event.id);
    if event != IntId::new(31) {
        return Err(format!("the event interrupt is {event:?}"));
    }
    for node in dtb.nodes() {
        for name in ["iommus", "msi-parent"] {
            let mut first = node
                .property(name)
                .into_iter()
                .filter_map(|p| p.cells().next());
            if first.any(|phandle| !phandles.contains(&phandle)) {
                return Err(format!("{node}: {name} leads nowhere"));
            }
        }
    }
    Ok(())
}

/// How many processors the tree has, if it has an interrupt controller and a timer too. A guest's
/// timer lacks the interrupt of EL2, so the whole inventory cannot be read.
fn fit_for_a_guest(tree: &HostTree) -> Result<usize, String> {
    let dtb = tree.dtb();
    let timer = dtb.node("/timer").ok_or("no timer")?;
    for name in ["phys", "virt"] {
        let place = timer.interrupt_named(name).ok_or(name)?;
        timer.interrupt(place).ok_or(name)?;
    }
    let cpus = dtb.node("/cpus").ok_or("no cpus")?;
    Ok(cpus.children().count())
}
