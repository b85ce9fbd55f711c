//! `cargo xtask clean`: removes what the commands made.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cli::CleanOptions;
use crate::context::Context;

/// Removes the target folder and, if asked, the cache.
pub fn run(context: &Context, options: &CleanOptions) -> Result<()> {
    remove(&context.target)?;
    if options.cache {
        remove(&context.cache)?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    println!("removing {}", folder.display());
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
