//! The image: compiled by cargo, then made into one file that boot loaders take.
//!
//! The file is the image as it lies in memory, .bss included, so that nothing has to be cleared
//! while the caches are off; then the symbol table for backtraces. [`header`] says what is
//! patched at its start.

mod flatten;
pub mod guests;
pub mod header;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::cli::BuildOptions;
use crate::context::Context;
use crate::setup::Toolchain;
use crate::{process, programs};
use header::EarlyConsole;

/// The image's crate and program.
pub const PACKAGE: &str = "xen-rs";

/// The image file may not be larger.
pub const SIZE_LIMIT: u64 = 14 << 17;

/// What a boot loader maps and debuggers read.
pub struct Image {
    /// The arm64 `Image` file.
    pub file: PathBuf,
    /// The same with sections, symbols and line numbers.
    pub elf: PathBuf,
}

/// `cargo xtask build`: the image and the toolstack.
pub fn build_verb(context: &Context, options: &BuildOptions) -> Result<()> {
    let toolchain = Toolchain::prepare(context)?;
    build(context, &toolchain, options.earlycon.as_ref())?;
    programs::toolstack(context).map(drop)
}

/// Builds the image with the toolchain, and says where it is and how large.
pub fn build(
    context: &Context,
    toolchain: &Toolchain,
    console: Option<&EarlyConsole>,
) -> Result<Image> {
    process::run(context, &mut toolchain.cargo(context, "build", PACKAGE))?;
    let built = Toolchain::elf(context, PACKAGE);
    let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let (bytes, sizes) = assemble(&elf, console)?;

    let folder = context.artifacts();
    fs::create_dir_all(&folder)?;
    let image = Image {
        file: folder.join("xen-rs"),
        elf: folder.join("xen-rs.elf"),
    };
    replace(&image.file, &bytes)?;
    replace(&image.elf, &elf)?;
    println!(
        "{}: {} KiB (code and data {} KiB, symbols {} KiB)",
        context.show(&image.file),
        bytes.len() / 1024,
        sizes.flat / 1024,
        sizes.symbols / 1024,
    );
    if let Some(console) = console {
        println!("console when the device tree names none: {console}");
    }
    Ok(image)
}

/// Sizes of the parts of the image file in bytes.
struct Sizes {
    flat: usize,
    symbols: usize,
}

/// The bytes of the image file from the linked ELF file.
fn assemble(elf: &[u8], console: Option<&EarlyConsole>) -> Result<(Vec<u8>, Sizes)> {
    let mut image = flatten::segments(elf)?;
    header::check(&image)?;
    let flat = image.len();

    let symbols = xen_core::symbols::encode(flatten::functions(elf)?);
    image.resize(flat.next_multiple_of(16), 0);
    let offset = image.len();
    image.extend_from_slice(&symbols);
    image.resize(image.len().next_multiple_of(4096), 0);

    header::set_symbols(&mut image, offset as u64, symbols.len() as u64)?;
    let size = image.len() as u64;
    header::set_image_size(&mut image, size)?;
    if let Some(console) = console {
        header::set_console(&mut image, console)?;
    }
    ensure!(
        size <= SIZE_LIMIT,
        "the image is {} KiB, above its limit of {} KiB (code and data {} KiB, symbols {} KiB)",
        size / 1024,
        SIZE_LIMIT / 1024,
        flat / 1024,
        symbols.len() / 1024
    );
    Ok((
        image,
        Sizes {
            flat,
            symbols: symbols.len(),
        },
    ))
}

/// Writes a file unless it already has these bytes, so that its time says when it changed.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
