//! Prints what Linux has of every PCI function: config space, but for dwords that are zero, and
//! resources.
//!
//! Lines are `PCI: NAME OFFSET:DWORD …` and `PCI: NAME resource NUMBER START END FLAGS`; the last one is
//! `PCI: N functions`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Dwords on a line.
const ROW: usize = 16;

fn main() -> Result<()> {
    let mut folders: Vec<PathBuf> = fs::read_dir("/sys/bus/pci/devices")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    folders.sort();
    for folder in &folders {
        let name = folder.file_name().and_then(|name| name.to_str());
        let name = name.context("a function without a name")?;
        let config = fs::read(folder.join("config"))?;
        let dwords: Vec<String> = config
            .chunks_exact(4)
            .enumerate()
            .map(|(number, bytes)| (number * 4, bytes.iter().rev()))
            .filter(|(_, bytes)| bytes.clone().any(|byte| *byte != 0))
            .map(|(offset, bytes)| {
                let digits: String = bytes.map(|byte| format!("{byte:02x}")).collect();
                format!("{offset:03x}:{digits}")
            })
            .collect();
        for row in dwords.chunks(ROW) {
            println!("PCI: {name} {}", row.join(" "));
        }
        let resources = fs::read_to_string(folder.join("resource"))?;
        for (number, resource) in resources.lines().enumerate() {
            if resource
                .split(' ')
                .any(|number| number != "0x0000000000000000")
            {
                println!("PCI: {name} resource {number} {resource}");
            }
        }
    }
    println!("PCI: {} functions", folders.len());
    Ok(())
}
