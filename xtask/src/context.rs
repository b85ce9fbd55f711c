//! Where things are, and what the user allowed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cli::Global;

/// Folders and flags that every command shares.
pub struct Context {
    /// The root of the workspace.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// Downloads, kept outside the source tree.
    pub cache: PathBuf,
    /// Never install or download.
    pub offline: bool,
    /// Print every program that is started.
    pub verbose: bool,
}

impl Context {
    pub fn new(global: &Global) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is not inside a workspace")?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        Ok(Self {
            cache: cache_folder()?,
            offline: global.offline,
            verbose: global.verbose,
            root,
            target,
        })
    }

    /// `target/xen-rs`: what `cargo xtask build` leaves.
    pub fn artifacts(&self) -> PathBuf {
        self.target.join("xen-rs")
    }

    /// Cargo for the host crates, run in the workspace.
    pub fn host_cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        self.keep_offline(&mut cargo);
        cargo
    }

    /// The compiler of the host crates.
    pub fn host_rustc(&self) -> Command {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.current_dir(&self.root);
        rustc
    }

    /// Makes a cargo command obey `--offline`.
    pub fn keep_offline(&self, cargo: &mut Command) {
        if self.offline {
            cargo.env("CARGO_NET_OFFLINE", "true");
        }
    }

    /// Shows a path the way a user in the workspace would write it.
    pub fn show<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// `$XDG_CACHE_HOME/xen-rs`, or `~/.cache/xen-rs`.
fn cache_folder() -> Result<PathBuf> {
    let given = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = given("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| given("HOME").map(|home| home.join(".cache")))
        .context("neither HOME nor XDG_CACHE_HOME is set: there is no place for downloads")?;
    Ok(base.join("xen-rs"))
}
