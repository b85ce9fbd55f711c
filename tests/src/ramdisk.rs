//! Ramdisks for guests: a static shell, a script that is its init, and what that script needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cpio::newc::{self, Builder};

use crate::modules::Module;

const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const FOLDER: u32 = 0o040_755;

/// What goes into a ramdisk beside the shell.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Programs, which go to `/bin` under their names.
    pub programs: Vec<PathBuf>,
    /// Kernel modules, loaded in this order before the script runs.
    pub modules: Vec<Module>,
    /// Files for the script, which go to `/lib` and can be run: name and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A ramdisk whose init mounts `/proc`, `/sys` and `/dev`, runs `script` and goes on as a shell on
/// the console.
///
/// # Errors
/// If the shell cannot be read.
pub fn with_shell(busybox: &Path, script: &str) -> Result<Vec<u8>> {
    with_contents(busybox, &Contents::default(), script)
}

/// As [`with_shell`], with programs, modules and files.
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
        let name = format!("lib/{}.ko", module.name);
        entry(&mut archive, &name, FILE, &module.bytes)?;
        load += &format!("insmod /{name}\n");
    }
    for (name, content) in &contents.files {
        entry(&mut archive, &format!("lib/{name}"), PROGRAM, content)?;
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
