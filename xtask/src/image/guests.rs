//! The bare-metal test guests (`tests/guests`): arm64 `Image` files that a hypervisor boots as the
//! kernel of its control domain.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{flatten, header, replace};
use crate::context::Context;
use crate::process;
use crate::setup::Toolchain;

/// Their crate.
pub const PACKAGE: &str = "guests";

/// The files of the guests.
pub struct Guests {
    /// Measures the hypervisor's services.
    pub micro: PathBuf,
    /// Makes calls and accesses that no sane guest makes.
    pub fuzz: PathBuf,
}

/// Builds the guests as the image is built, from the same link script.
pub fn build(context: &Context, toolchain: &Toolchain) -> Result<Guests> {
    process::run(context, &mut toolchain.cargo(context, "build", PACKAGE))?;
    Ok(Guests {
        micro: flat(context, "micro")?,
        fuzz: flat(context, "fuzz")?,
    })
}

/// Makes a linked guest one file that lies in memory as it is.
fn flat(context: &Context, name: &str) -> Result<PathBuf> {
    let built = Toolchain::elf(context, name);
    let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let image = flatten::segments(&elf)?;
    header::check_boot(&image).with_context(|| format!("the guest {name}"))?;
    let folder = context.target.join("guests");
    fs::create_dir_all(&folder)?;
    let file = folder.join(name);
    replace(&file, &image)?;
    Ok(file)
}
