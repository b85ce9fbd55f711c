//! The command line of `cargo xtask`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::image::header::EarlyConsole;
use crate::qemu::{Board, GicVersion, Memory};

/// The commands of xen-rs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that every command takes.
#[derive(Args)]
pub struct Global {
    /// Never install or download anything: say what is missing and how to get it
    #[arg(long, alias = "no-install", global = true)]
    pub offline: bool,
    /// Print every program that is started
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Build the image and the toolstack: target/xen-rs/xen-rs and target/xen-rs/xrs
    Build(BuildOptions),
    /// Build the image and boot it in QEMU, its console on this terminal
    Run(RunOptions),
    /// Boot the image on four CPUs, show its log and end (device assignment when it exists)
    Demo,
    /// Run every check: lint, host tests, and the image in QEMU
    Test(TestOptions),
    /// Count in QEMU what the hypervisor costs; compare it with real Xen and with the limits
    Bench(BenchOptions),
    /// Build the documentation of every crate
    Doc,
    /// Remove what the commands made
    Clean(CleanOptions),
}

#[derive(Args, Default)]
pub struct BuildOptions {
    /// Console to use when the device tree names none: KIND,ADDRESS[,REG-SHIFT[,IO-WIDTH]],
    /// with KIND one of pl011, ns16550, scif, hscif, imx, bcm-aux
    #[arg(long, value_name = "CONSOLE")]
    pub earlycon: Option<EarlyConsole>,
}

#[derive(Args)]
pub struct RunOptions {
    /// QEMU machine: virt, imx8mp-evk, raspi4b
    #[arg(long, default_value = "virt")]
    pub machine: Board,
    /// GIC of the virt machine: 2 or 3
    #[arg(long, default_value = "3")]
    pub gic: GicVersion,
    /// Number of CPUs
    #[arg(long, default_value_t = 4)]
    pub cpus: u32,
    /// RAM, such as 512M or 4G [default: what suits the machine]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Memory>,
    /// CPU model of the virt machine
    #[arg(long, value_name = "MODEL", default_value = "cortex-a72")]
    pub cpu: String,
    /// Device tree to boot with [default: QEMU's own, or for a real board Linux's]
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Command line of the hypervisor
    #[arg(long, value_name = "CMDLINE")]
    pub append: Option<String>,
    /// Wait for a debugger before the first instruction
    #[arg(long)]
    pub gdb: bool,
    /// Print QEMU's command line and stop
    #[arg(long)]
    pub print: bool,
    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU-ARGUMENTS")]
    pub qemu: Vec<String>,
}

#[derive(Args)]
pub struct TestOptions {
    /// Run one part only
    #[arg(long)]
    pub only: Option<Part>,
    /// Go on after a part that failed
    #[arg(long)]
    pub keep_going: bool,
    /// Run only the tests whose name contains this
    pub filter: Option<String>,
}

/// A part of `cargo xtask test`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Formatting, clippy, rustdoc, and where unsafe code may be
    Lint,
    /// The tests of the crates that run on this machine
    Host,
    /// The image in QEMU
    Qemu,
}

#[derive(Args)]
pub struct BenchOptions {
    /// Measure only this group: boot, micro
    pub group: Option<String>,
    /// Also write all figures as JSON to a file; without FILE, print them instead of the tables
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub json: Option<Option<PathBuf>>,
}

#[derive(Args)]
pub struct CleanOptions {
    /// Remove the cache of downloads, too
    #[arg(long)]
    pub cache: bool,
}
