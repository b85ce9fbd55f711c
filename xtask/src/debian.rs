//! Debian's arm64 packages: fetched, verified and unpacked into the cache, never installed.
//!
//! `<cache>/debian/<suite>/<package>_<version>/` holds what a package installs, and
//! `<cache>/debian/<suite>/<name>` points to the one in use. apt verifies what it fetches
//! against the archive's signed lists.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::context::Context;
use crate::process;
use crate::setup::{self, Apt, DEBIAN_PACKAGES, Mirror};

/// A package of one Debian release.
pub struct Package {
    /// The release: `bookworm`, `trixie`.
    suite: &'static str,
    /// Its name, or that of the package that depends on it.
    name: &'static str,
    /// The package wanted is the one that `name` depends on and that starts with this.
    dependency: Option<&'static str>,
}

/// Linux 6.1, with the device trees of the boards that it knows.
pub const KERNEL_6_1: Package = Package {
    suite: "bookworm",
    name: "linux-image-arm64",
    dependency: Some("linux-image-6.1."),
};

/// Linux 6.12.
pub const KERNEL_6_12: Package = Package {
    suite: "trixie",
    name: "linux-image-arm64",
    dependency: Some("linux-image-6.12."),
};

/// A shell that needs nothing beside it, for ramdisks.
pub const BUSYBOX: Package = Package {
    suite: "bookworm",
    name: "busybox-static",
    dependency: None,
};

/// U-Boot for QEMU's virt machine.
pub const U_BOOT: Package = Package {
    suite: "bookworm",
    name: "u-boot-qemu",
    dependency: None,
};

/// Xen 4.20, which benchmarks compare with and on which the toolstack runs, too.
pub const XEN: Package = Package {
    suite: "trixie",
    name: "xen-hypervisor-4.20-arm64",
    dependency: None,
};

/// The C library that static programs for Dom0 are linked with.
pub const MUSL: Package = Package {
    suite: "bookworm",
    name: "musl-dev",
    dependency: None,
};

/// The unwinder that Rust's standard library asks for.
pub const LIBUNWIND: Package = Package {
    suite: "bookworm",
    name: "libunwind-14-dev",
    dependency: None,
};

/// The folder into which the package is unpacked; fetched first if it is not in the cache.
pub fn unpacked(context: &Context, package: &Package) -> Result<PathBuf> {
    let folder = context.cache.join("debian").join(package.suite);
    if let Ok(unpacked) = fs::canonicalize(folder.join(package.name)) {
        return Ok(unpacked);
    }
    if context.offline {
        bail!(
            "missing, and nothing is downloaded under --offline: Debian {}'s arm64 package {} in \
             {}; run the command once without --offline",
            package.suite,
            package.name,
            folder.display()
        );
    }
    setup::ensure(context, DEBIAN_PACKAGES)?;
    fetch(context, package, &folder)
        .with_context(|| format!("cannot fetch {} of Debian {}", package.name, package.suite))
}

/// A kernel's `Image` file in its unpacked package.
pub fn kernel_image(unpacked: &Path) -> Result<PathBuf> {
    find(&unpacked.join("boot"), "vmlinuz-")
}

/// The folder of device trees in a kernel's unpacked package.
pub fn device_trees(unpacked: &Path) -> Result<PathBuf> {
    find(&unpacked.join("usr/lib"), "linux-image-")
}

/// The shell in its unpacked package.
pub fn busybox_program(unpacked: &Path) -> Result<PathBuf> {
    find(&unpacked.join("bin"), "busybox").or_else(|_| find(&unpacked.join("usr/bin"), "busybox"))
}

/// U-Boot's firmware for QEMU's virt machine in its unpacked package.
pub fn u_boot_firmware(unpacked: &Path) -> Result<PathBuf> {
    find(&unpacked.join("usr/lib/u-boot/qemu_arm64"), "u-boot.bin")
}

/// Xen's `Image` file in its unpacked package.
pub fn xen_image(unpacked: &Path) -> Result<PathBuf> {
    let image = unpacked.join("boot/xen-4.20-arm64");
    ensure!(image.is_file(), "no {}", image.display());
    Ok(image)
}

fn find(folder: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| format!("no {prefix}* in {}", folder.display()))
}

fn fetch(context: &Context, package: &Package, folder: &Path) -> Result<PathBuf> {
    let mirror = Mirror::for_packages(context)?;
    let apt = Apt::arm64(context, &mirror, package.suite)?;
    apt.update(context)?;
    let name = match package.dependency {
        None => package.name.to_string(),
        Some(prefix) => dependency(context, &apt, package.name, prefix)?,
    };
    let version = apt
        .candidate(context, &name)?
        .with_context(|| format!("there is no package {name}"))?;
    eprintln!(
        "setup: fetching {name} {version} (arm64) into {}",
        folder.display()
    );

    fs::create_dir_all(folder)?;
    let unpacked = folder.join(format!("{name}_{version}"));
    if !unpacked.exists() {
        unpack(context, &apt, &name, folder, &unpacked)?;
    }
    point(&folder.join(package.name), &unpacked)?;
    Ok(unpacked)
}

/// Fetches a package and unpacks it next to its place, so that the place is complete or absent.
fn unpack(context: &Context, apt: &Apt, name: &str, folder: &Path, place: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(folder)?;
    let mut download = apt.command("apt-get");
    process::run(
        context,
        download
            .args(["-qq", "download", name])
            .current_dir(work.path()),
    )?;
    let archive = find(work.path(), name)?;
    let files = work.path().join("files");
    process::run(
        context,
        Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&files),
    )?;
    fs::rename(&files, place).with_context(|| format!("cannot move to {}", place.display()))
}

/// Makes `link` point to `target`, in one step.
fn point(link: &Path, target: &Path) -> Result<()> {
    let new = link.with_extension("new");
    let _ = fs::remove_file(&new);
    symlink(target.file_name().context("no name")?, &new)?;
    fs::rename(&new, link).with_context(|| format!("cannot make {}", link.display()))
}

/// The package that `name` depends on and that starts with `prefix`.
fn dependency(context: &Context, apt: &Apt, name: &str, prefix: &str) -> Result<String> {
    let depends = process::output(
        context,
        apt.command("apt-cache")
            .args(["depends", "--no-recommends", "--no-suggests", name]),
    )?;
    parse_dependency(&depends, prefix)
        .with_context(|| format!("{name} depends on no package {prefix}*"))
}

fn parse_dependency(depends: &str, prefix: &str) -> Option<String> {
    depends
        .lines()
        .filter_map(|line| {
            line.trim_start_matches([' ', '|'])
                .strip_prefix("Depends: ")
        })
        .find(|name| name.starts_with(prefix))
        .map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_its_metapackage_depends_on() {
        let depends = "linux-image-arm64\n  Depends: linux-image-6.1.0-49-arm64\n";
        assert_eq!(
            parse_dependency(depends, "linux-image-6.1.").as_deref(),
            Some("linux-image-6.1.0-49-arm64")
        );
        assert_eq!(parse_dependency(depends, "linux-image-6.12."), None);
    }

    #[test]
    fn a_link_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("linux-image-arm64");
        for version in ["one_1.0", "two_2.0"] {
            let target = folder.path().join(version);
            fs::create_dir(&target).unwrap();
            point(&link, &target).unwrap();
            assert_eq!(
                fs::canonicalize(&link).unwrap(),
                fs::canonicalize(&target).unwrap()
            );
        }
    }
}
