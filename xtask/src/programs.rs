//! Programs for Dom0: the toolstack, and those that tests run there.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::context::Context;
use crate::process;
use crate::setup::StaticToolchain;

/// The toolstack's file may not be larger.
const TOOLSTACK_LIMIT: u64 = 4 << 20;

/// Builds the toolstack; returns where it is.
pub fn toolstack(context: &Context) -> Result<PathBuf> {
    let toolchain = StaticToolchain::prepare(context)?;
    process::run(context, &mut toolchain.build(context, &["toolstack"]))?;
    let built = StaticToolchain::programs(context).join("xrs");
    let size = fs::metadata(&built)
        .with_context(|| format!("cannot read {}", built.display()))?
        .len();
    ensure!(
        size <= TOOLSTACK_LIMIT,
        "xrs is {} KiB, above its limit of {} KiB",
        size / 1024,
        TOOLSTACK_LIMIT / 1024
    );
    let folder = context.artifacts();
    fs::create_dir_all(&folder)?;
    let file = folder.join("xrs");
    fs::copy(&built, &file).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}: {} KiB", context.show(&file), size / 1024);
    Ok(file)
}

/// Builds what tests run in Dom0, the toolstack among it; returns the folder of the programs.
pub fn for_tests(context: &Context) -> Result<PathBuf> {
    let toolchain = StaticToolchain::prepare(context)?;
    let packages = ["dom0-programs", "toolstack"];
    process::run(context, &mut toolchain.build(context, &packages))?;
    Ok(StaticToolchain::programs(context))
}
