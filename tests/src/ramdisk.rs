//! Ramdisks for guests: a static shell, a script that is its init, and what that script needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cpio::newc::{self, Builder};

const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const FOLDER: u32 = 0o040_755;

/// What goes into a ramdisk beside the shell.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Programs, which go to `/bin` under their names.
    pub programs: Vec<PathBuf>,
    /// Kernel modules, loaded in this order before the script runs.
    pub modules: Vec<PathBuf>,
}

/// A ramdisk whose init mounts `/proc`, `/sys` and `/dev`, runs `script` and goes on as a shell on
/// the console.
///
/// # Errors
/// If the shell cannot be read.
pub fn with_shell(busybox: &Path, script: &str) -> Result<Vec<u8>> {
    with_contents(busybox, &Contents::default(), script)
}

/// As [`with_shell`], with programs and modules.
///
/// # Errors
/// If one of them cannot be read.
pub fn with_contents(busybox: &Path, contents: &Contents, script: &str) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for folder in ["bin", "dev", "lib", "proc", "sys"] {
        entry(&mut archive, folder, FOLDER, &[])?;
    }
    file(&mut archive, "bin/busybox", PROGRAM, busybox)?;
    for program in &contents.programs {
        let name = format!("bin/{}", name(program)?);
        file(&mut archive, &name, PROGRAM, program)?;
    }
    let mut load = String::new();
    for module in &contents.modules {
        let name = format!("lib/{}", name(module)?);
        file(&mut archive, &name, FILE, module)?;
        load += &format!("insmod /{name}\n");
    }
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin PS1='dom0# '\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         {load}\
         {script}\n\
         exec sh\n"
    );
    entry(&mut archive, "init", PROGRAM, init.as_bytes())?;
    newc::trailer(&mut archive)?;
    Ok(archive)
}

/// A module of the kernel in a Debian package, whatever it is compressed with.
///
/// # Errors
/// If the package has no such module.
pub fn module(kernel: &Path, name: &str) -> Result<PathBuf> {
    let package = kernel.parent().and_then(Path::parent);
    let package = package.context("a kernel lies in the boot folder of its package")?;
    let roots = ["lib/modules", "usr/lib/modules"].map(|folder| package.join(folder));
    roots
        .iter()
        .find_map(|root| find(root, &format!("{name}.ko")))
        .with_context(|| format!("no module {name} in {}", package.display()))
}

/// The first file below a folder whose name starts with `start`.
fn find(folder: &Path, start: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let matches = |path: &&PathBuf| name(path).is_ok_and(|name| name.starts_with(start));
    let found = entries.iter().find(matches).cloned();
    found.or_else(|| {
        let folders = entries.iter().filter(|path| path.is_dir());
        folders
            .filter(|path| !path.is_symlink())
            .find_map(|path| find(path, start))
    })
}

fn name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{} has no name", path.display()))
}

fn file(archive: &mut Vec<u8>, name: &str, mode: u32, path: &Path) -> Result<()> {
    let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    entry(archive, name, mode, &content)
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len())?;
    let mut writer = Builder::new(name)
        .mode(mode)
        .nlink(1)
        .write(&mut *archive, size);
    std::io::Write::write_all(&mut writer, content)?;
    writer.finish()?;
    Ok(())
}
