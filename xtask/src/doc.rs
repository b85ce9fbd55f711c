//! `cargo xtask doc`: rustdoc of every crate, warnings being errors.

use anyhow::Result;

use crate::context::Context;
use crate::process;

/// Builds the documentation of the host crates.
pub fn run(context: &Context) -> Result<()> {
    host(context)?;
    println!(
        "documentation: {}",
        context.show(&context.target.join("doc"))
    );
    Ok(())
}

/// rustdoc of every crate but the image.
pub fn host(context: &Context) -> Result<()> {
    let mut cargo = context.host_cargo();
    cargo
        .args([
            "doc",
            "--workspace",
            "--exclude",
            "xen-rs",
            "--no-deps",
            "--quiet",
        ])
        .env("RUSTDOCFLAGS", "-Dwarnings");
    process::run(context, &mut cargo)
}
