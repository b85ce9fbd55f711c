//! Ramdisks for guests: a static shell and a script that is its init.

use std::fs;
use std::path::Path;

use anyhow::Result;
use cpio::newc::{self, Builder};

const PROGRAM: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;

/// A ramdisk whose init mounts `/proc` and `/sys`, runs `script` and goes on as a shell on the
/// console.
///
/// # Errors
/// If the shell cannot be read.
pub fn with_shell(busybox: &Path, script: &str) -> Result<Vec<u8>> {
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin PS1='dom0# '\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         {script}\n\
         exec sh\n"
    );
    let mut archive = Vec::new();
    for folder in ["bin", "dev", "proc", "sys"] {
        entry(&mut archive, folder, FOLDER, &[])?;
    }
    entry(&mut archive, "bin/busybox", PROGRAM, &fs::read(busybox)?)?;
    entry(&mut archive, "init", PROGRAM, init.as_bytes())?;
    newc::trailer(&mut archive)?;
    Ok(archive)
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
