//! The Rust toolchain for Dom0's programs: statically linked for arm64 Linux, so that they run in any
//! Dom0 whatever libraries it has.
//!
//! The active toolchain does it if it has the target, which brings a C library. Elsewhere
//! Debian's compiler builds the standard library from source, and the C library and the unwinder
//! come from Debian's arm64 packages.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::rust::{Origin, debian_cargo, linker};
use crate::context::Context;
use crate::debian;

/// The target of Dom0's programs.
const TARGET: &str = "aarch64-unknown-linux-musl";
/// Objects that start a program, linked before and behind all others.
const START_FILES: [&str; 3] = ["crt1.o", "crti.o", "crtn.o"];

/// What compiles and links programs for Dom0.
pub struct StaticToolchain {
    linker: PathBuf,
    libraries: Option<Libraries>,
}

/// What Debian's compiler links programs with.
struct Libraries {
    musl: PathBuf,
    unwind: PathBuf,
}

impl StaticToolchain {
    /// Finds a toolchain that can build programs for Dom0, fetching what it lacks.
    pub fn prepare(context: &Context) -> Result<Self> {
        let libraries = match Origin::of(context, TARGET)? {
            Origin::Active => None,
            Origin::Debian => Some(Libraries::prepare(context)?),
        };
        Ok(Self {
            linker: linker(context)?,
            libraries,
        })
    }

    /// `cargo build` for programs of `packages`, into a target folder of its own.
    pub fn build(&self, context: &Context, packages: &[&str]) -> Command {
        let mut cargo = match self.libraries {
            None => context.host_cargo(),
            Some(_) => debian_cargo(context, "build"),
        };
        cargo
            .args(["build", "--profile", "program", "--target", TARGET])
            .arg("--target-dir")
            .arg(context.target.join("programs"))
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags());
        for package in packages {
            cargo.args(["--package", package]);
        }
        if self.libraries.is_some() {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        cargo
    }

    /// The folder of the programs that [`StaticToolchain::build`] leaves.
    pub fn programs(context: &Context) -> PathBuf {
        context.target.join("programs").join(TARGET).join("program")
    }

    fn flags(&self) -> OsString {
        let mut flags = OsString::from("-Clinker=");
        flags.push(&self.linker);
        let mut flag = |start: &str, rest: &Path| {
            flags.push("\x1f");
            flags.push(start);
            flags.push(rest);
        };
        flag("-Clinker-flavor=ld.lld", Path::new(""));
        flag("-Ctarget-feature=+crt-static", Path::new(""));
        flag("-Crelocation-model=static", Path::new(""));
        if let Some(Libraries { musl, unwind }) = &self.libraries {
            flag("-Clink-self-contained=no", Path::new(""));
            for file in START_FILES {
                flag("-Clink-arg=", &musl.join(file));
            }
            flag("-L", musl);
            flag("-L", unwind);
        }
        flags
    }
}

impl Libraries {
    fn prepare(context: &Context) -> Result<Self> {
        let musl = debian::unpacked(context, &debian::MUSL)?;
        let unwind = debian::unpacked(context, &debian::LIBUNWIND)?;
        Ok(Self {
            musl: musl.join("usr/lib/aarch64-linux-musl"),
            unwind: static_unwinder(context, &unwind)?,
        })
    }
}

/// A folder with the static unwinder alone: beside it in its package is the shared one, which the
/// linker would prefer.
fn static_unwinder(context: &Context, package: &Path) -> Result<PathBuf> {
    let folder = context.target.join("programs/unwind");
    let from = package.join("usr/lib/llvm-14/lib/libunwind.a");
    fs::create_dir_all(&folder)?;
    fs::copy(&from, folder.join("libunwind.a"))
        .with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(folder)
}
