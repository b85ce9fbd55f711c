//! `cargo xtask bench`: what the hypervisor costs, counted by QEMU, against its limits and against
//! real Xen.
//!
//! Under `-icount shift=0` QEMU's clock advances one nanosecond an instruction, so that a time is a
//! count that does not vary. Each group of rows has a file here and a line in [`GROUPS`].

mod boot;
mod figure;
mod linux;
mod micro;
mod report;
mod smmu;

use anyhow::Result;

use crate::cli::BenchOptions;
use crate::context::Context;
use crate::image::{self, Image};
use crate::setup::{self, QEMU, Toolchain};
use figure::Group;

/// What groups measure with.
struct Bench<'a> {
    context: &'a Context,
    toolchain: Toolchain,
    image: Image,
}

/// A group: its word on the command line, which groups may share, and what measures it.
type Measure = (&'static str, fn(&Bench) -> Result<Vec<Group>>);

const GROUPS: [Measure; 4] = [
    ("boot", boot::measure),
    ("boot", linux::measure),
    ("micro", micro::measure),
    ("smmu", smmu::measure),
];

/// Measures, prints the tables, and fails if a limit is exceeded.
pub fn run(context: &Context, options: &BenchOptions) -> Result<()> {
    setup::ensure(context, QEMU)?;
    let toolchain = Toolchain::prepare(context)?;
    let image = image::build(context, &toolchain, None)?;
    let bench = Bench {
        context,
        toolchain,
        image,
    };
    let wanted = |name: &str| options.group.as_deref().is_none_or(|group| group == name);
    let mut groups = Vec::new();
    for (name, measure) in GROUPS {
        if wanted(name) {
            groups.extend(measure(&bench)?);
        }
    }
    if groups.is_empty() {
        let mut known: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        known.dedup();
        anyhow::bail!("the groups are {}", known.join(", "));
    }
    match &options.json {
        Some(Some(file)) => std::fs::write(file, report::json(&groups))?,
        Some(None) => print!("{}", report::json(&groups)),
        None => {}
    }
    if !matches!(options.json, Some(None)) {
        print!("{}", report::table(&groups));
    }
    report::check(&groups)
}
