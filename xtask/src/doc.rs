//! `cargo xtask doc`: rustdoc of every crate, warnings being errors.

use anyhow::Result;

use crate::context::Context;
use crate::{image, process};

/// Builds the documentation of the host crates.
pub fn run(context: &Context) -> Result<()> {
    host(context)?;
    println!(
        "documentation: {}",
        context.show(&context.target.join("doc"))
    );
    Ok(())
}

/// rustdoc of every crate but those for bare metal.
pub fn host(context: &Context) -> Result<()> {
    let mut cargo = context.host_cargo();
    cargo
        .args([
            "doc",
            "--workspace",
            "--exclude",
            image::PACKAGE,
            "--exclude",
            image::guests::PACKAGE,
            "--no-deps",
            "--quiet",
        ])
        .env("RUSTDOCFLAGS", "-Dwarnings");
    process::run(context, &mut cargo)
}
