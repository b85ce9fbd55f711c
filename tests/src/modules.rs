//! Kernel modules from Debian's kernel packages, with all that they depend on.
//!
//! The packages come without `modules.dep`, which `depmod` makes when one is installed: what a
//! module needs is read from its own `.modinfo`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use object::{File, Object as _, ObjectSection as _};

/// A module as the kernel loads it.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name, with `-` as the file has it.
    pub name: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// The modules `names` and those that they need, each behind what it needs, from the unpacked package
/// that `kernel` is in. What the kernel has built in needs no module.
///
/// # Errors
/// If there is no such module, or it cannot be read.
pub fn with_dependencies(kernel: &Path, names: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    let folder = folder(kernel)?;
    find(&folder, &mut files)?;
    let built_in = built_in(&folder)?;
    let mut modules = Vec::new();
    for name in names {
        if built_in.contains(&canonical(name)) {
            continue;
        }
        add(&files, name, &mut modules)?;
    }
    Ok(modules)
}

fn add(files: &BTreeMap<String, PathBuf>, name: &str, modules: &mut Vec<Module>) -> Result<()> {
    let key = canonical(name);
    if modules.iter().any(|module| canonical(&module.name) == key) {
        return Ok(());
    }
    let file = files
        .get(&key)
        .with_context(|| format!("the kernel has no module {name}"))?;
    let bytes = read(file)?;
    for needed in dependencies(&bytes).with_context(|| file.display().to_string())? {
        add(files, &needed, modules)?;
    }
    let name = name.to_string();
    modules.push(Module { name, bytes });
    Ok(())
}

/// The modules of the package whose `boot` folder has `kernel`.
fn folder(kernel: &Path) -> Result<PathBuf> {
    let package = kernel.parent().and_then(Path::parent);
    let package = package.context("a kernel lies in the boot folder of its package")?;
    let folders = ["lib/modules", "usr/lib/modules"].map(|folder| package.join(folder));
    let found = folders.into_iter().find(|folder| folder.is_dir());
    found.with_context(|| format!("no modules in {}", package.display()))
}

/// The names of what the kernels of a folder have built in: their `modules.builtin` list files.
fn built_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for release in fs::read_dir(folder)? {
        let list = fs::read_to_string(release?.path().join("modules.builtin"));
        let files = list.unwrap_or_default();
        let files = files.lines().map(Path::new).filter_map(Path::file_stem);
        names.extend(files.map(|name| canonical(&name.to_string_lossy())));
    }
    Ok(names)
}

/// The kernel takes `-` and `_` in names for the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// All modules below a folder, by name.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(canonical(name), entry.path());
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let output = Command::new("xz")
        .arg("--decompress")
        .arg("--stdout")
        .arg(file)
        .output()
        .context("cannot start xz")?;
    ensure!(
        output.status.success(),
        "cannot unpack {}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// What `.modinfo`, a list of `name=value` with a zero byte behind each, says that a module needs.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = File::parse(module)?;
    let Some(section) = file.section_by_name(".modinfo") else {
        bail!("no section .modinfo");
    };
    let text = String::from_utf8_lossy(section.data()?).into_owned();
    let needed = text
        .split('\0')
        .find_map(|entry| entry.strip_prefix("depends="))
        .unwrap_or_default();
    let names = needed.split(',').filter(|name| !name.is_empty());
    Ok(names.map(str::to_string).collect())
}
