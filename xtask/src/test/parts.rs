//! The steps of `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::tally::Tally;
use super::unsafe_code;
use crate::context::Context;
use crate::image::guests::{self, Guests};
use crate::image::{self, Image};
use crate::setup::Toolchain;
use crate::{debian, doc, process, programs};

/// Tests that boot the image have names that start with this; the host tests leave them out.
const QEMU_TESTS: &str = "in-qemu::";
/// QEMU tests that run at the same time.
const QEMU_JOBS: &str = "2";

/// What Debian's arm64 packages bring for the tests.
pub struct Packages {
    kernel: PathBuf,
    newer_kernel: PathBuf,
    busybox: PathBuf,
    device_trees: PathBuf,
    u_boot: PathBuf,
    xen: PathBuf,
}

impl Packages {
    /// Finds them in the cache, or fetches them.
    pub fn prepare(context: &Context) -> Result<Self> {
        let kernel = debian::unpacked(context, &debian::KERNEL_6_1)?;
        let newer_kernel = debian::unpacked(context, &debian::KERNEL_6_12)?;
        let busybox = debian::unpacked(context, &debian::BUSYBOX)?;
        let u_boot = debian::unpacked(context, &debian::U_BOOT)?;
        let xen = debian::unpacked(context, &debian::XEN)?;
        Ok(Self {
            kernel: debian::kernel_image(&kernel)?,
            newer_kernel: debian::kernel_image(&newer_kernel)?,
            busybox: debian::busybox_program(&busybox)?,
            device_trees: debian::device_trees(&kernel)?,
            u_boot: debian::u_boot_firmware(&u_boot)?,
            xen: debian::xen_image(&xen)?,
        })
    }

    /// Tells a test run where they are.
    fn show(&self, cargo: &mut Command) {
        cargo
            .env("XEN_RS_KERNEL", &self.kernel)
            .env("XEN_RS_KERNEL_6_12", &self.newer_kernel)
            .env("XEN_RS_BUSYBOX", &self.busybox)
            .env("XEN_RS_DTB_DIR", &self.device_trees)
            .env("XEN_RS_UBOOT", &self.u_boot)
            .env("XEN_RS_XEN", &self.xen);
    }
}

pub fn formatting(context: &Context) -> Result<()> {
    process::run(
        context,
        context.host_cargo().args(["fmt", "--all", "--check"]),
    )
}

pub fn clippy_host(context: &Context) -> Result<()> {
    let mut cargo = context.host_cargo();
    cargo.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude",
        image::PACKAGE,
        "--exclude",
        guests::PACKAGE,
        "--all-targets",
    ]);
    process::run(context, cargo.args(["--", "--deny", "warnings"]))
}

pub fn clippy_bare_metal(context: &Context, toolchain: &Toolchain) -> Result<()> {
    for package in [image::PACKAGE, guests::PACKAGE] {
        let mut cargo = toolchain.cargo(context, "clippy", package);
        process::run(context, cargo.args(["--quiet", "--", "--deny", "warnings"]))?;
    }
    Ok(())
}

pub fn rustdoc(context: &Context, toolchain: &Toolchain) -> Result<()> {
    doc::host(context)?;
    let mut cargo = toolchain.cargo(context, "doc", image::PACKAGE);
    cargo.args(["--quiet", "--no-deps", "--document-private-items"]);
    process::run(context, cargo.env("RUSTDOCFLAGS", "-Dwarnings"))
}

pub fn unsafe_code(context: &Context) -> Result<()> {
    unsafe_code::check(context)
}

/// The tests of the host crates, their examples in the documentation among them.
pub fn host(
    context: &Context,
    packages: &Packages,
    filter: Option<&str>,
    tally: &mut Tally,
) -> Result<()> {
    let mut cargo = context.host_cargo();
    cargo.args([
        "test",
        "--quiet",
        "--workspace",
        "--exclude",
        image::PACKAGE,
        "--exclude",
        guests::PACKAGE,
        "--no-fail-fast",
    ]);
    cargo.args(["--", "--skip", QEMU_TESTS]).args(filter);
    packages.show(&mut cargo);
    tests(context, &mut cargo, tally)
}

/// What the QEMU tests boot that is built here.
pub struct Images {
    hypervisor: Image,
    guests: Guests,
}

pub fn build(context: &Context, toolchain: &Toolchain) -> Result<Images> {
    Ok(Images {
        hypervisor: image::build(context, toolchain, None)?,
        guests: guests::build(context, toolchain)?,
    })
}

/// What tests run in Dom0; returns their folder.
pub fn programs(context: &Context) -> Result<PathBuf> {
    programs::for_tests(context)
}

/// The image in QEMU.
pub fn qemu(
    context: &Context,
    packages: &Packages,
    images: &Images,
    programs: &Path,
    filter: Option<&str>,
    tally: &mut Tally,
) -> Result<()> {
    let mut cargo = context.host_cargo();
    cargo.args([
        "test",
        "--quiet",
        "--package",
        "tests",
        "--test",
        "boot",
        "--",
    ]);
    cargo.args(["--test-threads", QEMU_JOBS]).args(filter);
    cargo
        .env("XEN_RS_IMAGE", &images.hypervisor.file)
        .env("XEN_RS_FUZZ_GUEST", &images.guests.fuzz)
        .env("XEN_RS_PROGRAMS", programs)
        .env("XEN_RS_LOG_DIR", context.target.join("qemu-logs"));
    packages.show(&mut cargo);
    tests(context, &mut cargo, tally)
}

/// Runs tests and counts them.
fn tests(context: &Context, command: &mut Command, tally: &mut Tally) -> Result<()> {
    let mut own = Tally::default();
    let success = process::watch(context, command, |line| {
        own.read(line);
        !is_about_nothing(line)
    })?;
    if !success && own.failed == 0 {
        own.failed = 1;
    }
    *tally += own;
    if own.failed > 0 {
        bail!("{} of the tests failed", own.failed);
    }
    Ok(())
}

/// What a runner prints of a crate that has no tests.
fn is_about_nothing(line: &str) -> bool {
    line.is_empty()
        || line == "running 0 tests"
        || line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored")
}
