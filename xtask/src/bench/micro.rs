//! The services of a trap or two, one by one: the guest `micro` as the control domain of Debian's Xen
//! and of xen-rs, on the same machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Bench;
use super::boot::nanoseconds;
use super::figure::{Figure, Group, Limit};
use crate::debian;
use crate::image::guests;
use crate::qemu::{Echo, GicVersion, Machine, Memory, Session, Start};

/// What a row may be at most, as a part of Xen's.
const LIMIT: f64 = 0.6;
/// What the rows aim at.
const AIM: f64 = 0.35;
/// How xen-rs refuses a control domain on GICv2, as long as it does.
const REFUSAL: &str = "Dom0 needs GICv3 in this version";
const TIME: Duration = Duration::from_secs(120);

/// The rows of the guest, and what they are called here.
const ROWS: [(&str, &str); 12] = [
    ("xenver", "hypercall, XENVER_version"),
    ("unknown-hypercall", "hypercall, unknown"),
    ("psci-version", "PSCI_VERSION"),
    ("unknown-smccc", "SMCCC call, unknown"),
    ("gicd-typer", "GICD_TYPER read"),
    ("gicd-isenabler", "GICD_ISENABLER1 read"),
    ("id-register", "ID_AA64PFR0_EL1 read"),
    ("yield", "sched_op yield"),
    ("sgi-self", "SGI to self, to IRQ entry"),
    ("virtual-timer", "virtual timer, to IRQ entry"),
    ("sgi-other", "SGI to a busy vCPU, to IRQ entry"),
    ("sgi-idle", "SGI to an idle vCPU, to IRQ entry"),
];

/// Rows that need an ITS, and what they may be at most.
const MESSAGE_ROWS: [(&str, &str, u64); 2] = [
    ("its-int", "event by INT, to IRQ entry", 900),
    ("its-map", "event mapped by MAPTI", 2500),
];

/// Rows of config space, and what they may be at most: half of what Xen takes where its sources are
/// changed so that it traps (966).
const CONFIG_ROWS: [(&str, &str); 2] = [
    ("config-read", "config read, first function"),
    ("config-read-last", "config read, last function"),
];
const CONFIG_LIMIT: u64 = 483;
/// Devices of eight functions each for the machine that has many, on the root bus.
const FULL_DEVICES: u32 = 31;

/// How often a row is measured.
const RUNS: &str = "runs=2000";

/// Instructions of each row, by its name in the guest.
pub type Costs = BTreeMap<String, u64>;

/// Measures under both hypervisors, with each interrupt controller.
pub fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let xen = debian::xen_image(&debian::unpacked(bench.context, &debian::XEN)?)?;
    let guest = guests::build(bench.context, &bench.toolchain)?.micro;
    [GicVersion::V3, GicVersion::V2]
        .into_iter()
        .map(|gic| {
            let costs = |name, machine| {
                let log = format!("qemu-logs/bench-micro-{name}-gicv{gic}.log");
                let log = bench.context.target.join(log);
                costs(&machine, &log).with_context(|| format!("{name}, GICv{gic}"))
            };
            let xen = costs("xen", machine(gic, &xen, &guest, RUNS))?;
            let ours = costs("xen-rs", machine(gic, &bench.image.file, &guest, RUNS));
            let mut group = group(gic, &xen, ours)?;
            if gic == GicVersion::V3 {
                let full = full(machine(
                    gic,
                    &bench.image.file,
                    &guest,
                    "runs=2000 config-read-last",
                ));
                group
                    .figures
                    .push(config_of_full(&costs("xen-rs-full", full)?)?);
            }
            Ok(group)
        })
        .collect()
}

/// A machine with as many functions as a root bus has room for.
pub fn full(mut machine: Machine) -> Machine {
    let functions =
        (1..=FULL_DEVICES).flat_map(|device| (0..8).map(move |number| (device, number)));
    for (device, number) in functions {
        let device = format!("pci-testdev,addr={device:#x}.{number},multifunction=on");
        machine.extra.extend(["-device".into(), device.into()]);
    }
    machine
}

/// The machine on which a hypervisor boots the guest with a command line.
pub fn machine(gic: GicVersion, hypervisor: &Path, guest: &Path, arguments: &str) -> Machine {
    let loader = format!(
        "guest-loader,addr=0x49000000,kernel={},bootargs={arguments}",
        guest.display()
    );
    Machine {
        gic,
        cpus: 2,
        memory: Memory::gib(2),
        append: Some("dom0_mem=512M dom0_max_vcpus=2 console=dtuart".to_string()),
        extra: ["-icount", "shift=0", "-device", &loader]
            .map(Into::into)
            .to_vec(),
        ..Machine::virt(Start::Kernel(hypervisor.to_path_buf()))
    }
}

/// Boots the guest and takes its figures.
fn costs(machine: &Machine, log: &Path) -> Result<Costs> {
    let (mut session, costs) = boot(machine, log)?;
    session.wait_end()?;
    Ok(costs)
}

/// Boots the guest until it is done.
pub fn boot(machine: &Machine, log: &Path) -> Result<(Session, Costs)> {
    let mut session = Session::start(machine, log, Echo::No, TIME)?;
    session.forbid(&[r"^\*\*\* xen-rs stopped", r"error: ", r"^guest: "])?;
    let hertz = session.expect(r"micro: hertz (\d+)")?[1].parse()?;
    session.expect("micro: done")?;
    let costs = session.seen().iter();
    let costs = costs.filter_map(|line| cost(line, hertz)).collect();
    Ok((session, costs))
}

/// `micro: ROW RUNS TICKS BASE`: the row, and instructions of a run.
fn cost(line: &str, hertz: u64) -> Option<(String, u64)> {
    let (_, fields) = line.split_once("micro: ")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let [name, runs, ticks, base] = fields[..] else {
        return None;
    };
    let [runs, ticks, base] = [runs, ticks, base].map(|field| field.parse::<u64>().ok());
    let own = ticks?.saturating_sub(base?);
    let runs = runs.filter(|runs| *runs > 0)?;
    let each = (nanoseconds(own, hertz)? + runs / 2) / runs;
    Some((name.to_string(), each))
}

/// The rows of one interrupt controller. What xen-rs does not boot yet is said in a note.
fn group(gic: GicVersion, xen: &Costs, ours: Result<Costs>) -> Result<Group> {
    let title = format!("instructions, GICv{gic}, 2 cortex-a72");
    let ours = match ours {
        Ok(ours) => ours,
        Err(error) if format!("{error:#}").contains(REFUSAL) => {
            return Ok(Group {
                title,
                figures: Vec::new(),
                notes: vec![format!("not measured: xen-rs says `{REFUSAL}`")],
            });
        }
        Err(error) => return Err(error),
    };
    let mut figures = ROWS
        .iter()
        .map(|(row, name)| {
            let missing = |whose| format!("no row {row} under {whose}");
            Ok(Figure {
                name: format!("{name}, GICv{gic}"),
                ours: *ours.get(*row).with_context(|| missing("xen-rs"))?,
                xen: Some(*xen.get(*row).with_context(|| missing("Xen"))?),
                limit: Some(Limit::OfXen(LIMIT)),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(!figures.is_empty(), "no rows");
    let reached = figures
        .iter()
        .filter(|figure| figure.ratio().is_some_and(|ratio| ratio <= AIM));
    let reached = reached.count();
    let note = format!(
        "{reached} of {} rows are at the aim of {AIM} or below",
        figures.len()
    );
    for (row, name) in CONFIG_ROWS {
        figures.push(config(&ours, row, &format!("{name}, GICv{gic}"))?);
    }
    if gic == GicVersion::V3 {
        figures.extend(messages(xen, &ours)?);
    }
    Ok(Group {
        title,
        figures,
        notes: vec![note],
    })
}

/// A row of config space. Debian's Xen has its control domain access config space itself.
fn config(ours: &Costs, row: &str, name: &str) -> Result<Figure> {
    let missing = || format!("no row {row} under xen-rs");
    Ok(Figure {
        name: name.to_string(),
        ours: *ours.get(row).with_context(missing)?,
        xen: None,
        limit: Some(Limit::Number(CONFIG_LIMIT)),
    })
}

fn config_of_full(ours: &Costs) -> Result<Figure> {
    let count = FULL_DEVICES * 8 + 1;
    config(
        ours,
        "config-read-last",
        &format!("config read, last of {count} functions"),
    )
}

/// The rows of messages, which Xen has where its control domain may use the device.
fn messages(xen: &Costs, ours: &Costs) -> Result<Vec<Figure>> {
    let figure = |&(row, name, limit): &(&str, &str, u64)| {
        let missing = || format!("no row {row} under xen-rs");
        Ok(Figure {
            name: format!("{name}, GICv3"),
            ours: *ours.get(row).with_context(missing)?,
            xen: xen.get(row).copied(),
            limit: Some(Limit::Number(limit)),
        })
    };
    MESSAGE_ROWS.iter().map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_instructions_of_one_run_without_the_loop() {
        let hertz = 62_500_000;
        let cost = |line| cost(line, hertz);
        let row = |name: &str, each| Some((name.to_string(), each));
        assert_eq!(cost("micro: xenver 2000 54251 375"), row("xenver", 431));
        // Xen prefixes nothing, but a line of its own may come first without an end.
        assert_eq!(cost("(XEN) x micro: yield 10 20 10"), row("yield", 16));
        assert_eq!(cost("micro: yield 0 20 10"), None);
        assert_eq!(cost("micro: gic 3"), None);
        assert_eq!(cost("micro: sgi-other cannot be measured here"), None);
    }

    fn all(each: u64) -> Costs {
        let config = CONFIG_ROWS.map(|(row, _)| (row.to_string(), CONFIG_LIMIT + 1));
        let rows = ROWS.map(|(row, _)| (row.to_string(), each));
        rows.into_iter().chain(config).collect()
    }

    #[test]
    fn every_row_is_compared() {
        let mut ours = all(61);
        ours.extend(MESSAGE_ROWS.map(|(row, _, limit)| (row.to_string(), limit + 1)));
        let group = group(GicVersion::V3, &all(100), Ok(ours)).unwrap();
        let all = ROWS.len() + CONFIG_ROWS.len() + MESSAGE_ROWS.len();
        assert_eq!(group.figures.len(), all);
        assert!(group.figures.iter().all(Figure::exceeds));
        assert_eq!(
            group.notes,
            ["0 of 12 rows are at the aim of 0.35 or below"]
        );
    }

    #[test]
    fn a_missing_row_is_an_error_and_a_refusal_is_said() {
        let mut less = all(1);
        less.remove("yield");
        assert!(group(GicVersion::V3, &all(1), Ok(less)).is_err());
        let refusal = anyhow::anyhow!("error: a GICv2 host: {REFUSAL}");
        let group = super::group(GicVersion::V2, &all(1), Err(refusal)).unwrap();
        assert!(group.figures.is_empty());
        assert!(group.notes[0].contains(REFUSAL));
        assert!(super::group(GicVersion::V3, &all(1), Err(anyhow::anyhow!("x"))).is_err());
    }
}
