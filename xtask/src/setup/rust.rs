//! The Rust toolchain that compiles the image for bare-metal arm64.
//!
//! The active toolchain does it if it has the target. Elsewhere Debian's does, which brings the
//! source of `core` and builds it along with the image.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::ensure;
use super::needs::{DEBIAN_RUST, DEBIAN_RUST_LINT, LINKER, find_program};
use crate::context::Context;
use crate::process;

/// The image's target: no operating system, no floating point registers.
const TARGET: &str = "aarch64-unknown-none-softfloat";

/// How the image is compiled and linked, besides the linker and its script.
const FLAGS: &[&str] = &[
    "-Clinker-flavor=ld.lld",
    "-Clink-arg=-pie",
    "-Clink-arg=--no-dynamic-linker",
    "-Clink-arg=-z",
    "-Clink-arg=max-page-size=4096",
    "-Crelocation-model=pic",
    "-Cforce-frame-pointers=yes",
];

/// Where the compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The active toolchain, which has the target.
    Active,
    /// Debian's packages; `core` is built from source.
    Debian,
}

impl Origin {
    /// Where the compiler for `target` comes from; Debian's is installed if it has to be.
    pub(super) fn of(context: &Context, target: &str) -> Result<Self> {
        if has_target(context, target)? {
            return Ok(Self::Active);
        }
        ensure(context, DEBIAN_RUST)?;
        Ok(Self::Debian)
    }
}

/// What compiles and links the image.
pub struct Toolchain {
    origin: Origin,
    linker: PathBuf,
}

impl Toolchain {
    /// Finds a toolchain that can build the image, installing Debian's if there is none.
    pub fn prepare(context: &Context) -> Result<Self> {
        Ok(Self {
            origin: Origin::of(context, TARGET)?,
            linker: linker(context)?,
        })
    }

    /// Makes sure that [`Toolchain::cargo`] can run clippy.
    pub fn prepare_lint(&self, context: &Context) -> Result<()> {
        match self.origin {
            Origin::Active => Ok(()),
            Origin::Debian => ensure(context, DEBIAN_RUST_LINT),
        }
    }

    /// `cargo VERB` for a bare-metal crate, into a target folder that is theirs.
    pub fn cargo(&self, context: &Context, verb: &str, package: &str) -> Command {
        let mut cargo = match self.origin {
            Origin::Active => context.host_cargo(),
            Origin::Debian => debian_cargo(context, verb),
        };
        cargo
            .arg(verb)
            .args([
                "--package",
                package,
                "--profile",
                "image",
                "--target",
                TARGET,
            ])
            .arg("--target-dir")
            .arg(context.target.join("image"))
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(&context.root));
        if self.origin == Origin::Debian {
            cargo.arg("-Zbuild-std=core,alloc,compiler_builtins");
        }
        cargo
    }

    /// The ELF file that `cargo build` leaves of a program.
    pub fn elf(context: &Context, program: &str) -> PathBuf {
        context
            .target
            .join("image")
            .join(TARGET)
            .join("image")
            .join(program)
    }

    fn flags(&self, root: &Path) -> OsString {
        let mut flags = OsString::from("-Clinker=");
        flags.push(&self.linker);
        flags.push("\x1f-Clink-arg=-T");
        flags.push(root.join("xen-rs/link.ld"));
        for flag in FLAGS {
            flags.push("\x1f");
            flags.push(flag);
        }
        flags
    }
}

/// Debian's cargo, whatever toolchain runs this program.
pub(super) fn debian_cargo(context: &Context, verb: &str) -> Command {
    let program = if verb == "clippy" {
        "/usr/bin/cargo-clippy"
    } else {
        "/usr/bin/cargo"
    };
    let mut path = OsString::from("/usr/bin:");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut cargo = Command::new(program);
    without_cargo_env(&mut cargo)
        .current_dir(&context.root)
        .env("PATH", path)
        .env("CARGO", "/usr/bin/cargo")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTDOC", "/usr/bin/rustdoc")
        // build-std is not stable yet.
        .env("RUSTC_BOOTSTRAP", "1")
        // Debian's `core` is not ours to report on.
        .env("CARGO_FUTURE_INCOMPAT_REPORT_FREQUENCY", "never");
    context.keep_offline(&mut cargo);
    cargo
}

/// Removes what the cargo that started this program left for its own toolchain.
pub fn without_cargo_env(command: &mut Command) -> &mut Command {
    for name in [
        "CARGO",
        "RUSTUP_TOOLCHAIN",
        "LD_LIBRARY_PATH",
        "RUSTC",
        "RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    command
}

/// Whether the active toolchain has `core` for the target.
fn has_target(context: &Context, target: &str) -> Result<bool> {
    let library = rustc_prints(context, &["--print", "target-libdir", "--target", target])?;
    let Ok(files) = std::fs::read_dir(library) else {
        return Ok(false);
    };
    Ok(files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-")))
}

/// The active toolchain's own linker, or ld.lld.
pub(super) fn linker(context: &Context) -> Result<PathBuf> {
    let library = rustc_prints(context, &["--print", "target-libdir"])?;
    let own = library.with_file_name("bin/rust-lld");
    if own.is_file() {
        return Ok(own);
    }
    ensure(context, LINKER)?;
    find_program("ld.lld").context("ld.lld is not on PATH")
}

fn rustc_prints(context: &Context, arguments: &[&str]) -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.current_dir(&context.root).args(arguments);
    Ok(PathBuf::from(
        process::output(context, &mut command)?.trim_end(),
    ))
}
