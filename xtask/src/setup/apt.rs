//! apt: the machine's own, or one with its own sources and lists that leaves the machine's alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::mirror::Mirror;
use crate::context::Context;
use crate::process;

/// One configuration of apt.
pub struct Apt {
    /// `-o NAME=VALUE` for every call; none for the machine's own apt.
    options: Vec<String>,
}

impl Apt {
    /// The machine's own apt.
    pub fn host() -> Self {
        Self {
            options: Vec::new(),
        }
    }

    /// The machine's own sources and one more suite of its mirror, which is preferred, for
    /// installing on the machine without a change to its configuration.
    pub fn with_suite(context: &Context, mirror: &Mirror, suite: &str) -> Result<Self> {
        let folder = context.cache.join("apt").join(suite);
        let sources = fresh_folder(&folder.join("sources"))?;
        copy_machine_sources(&sources)?;
        fs::write(sources.join("xen-rs.sources"), mirror.source(suite, None))?;
        let mut apt = Self::private(&folder, &sources)?;
        apt.set("APT::Default-Release", suite);
        Ok(apt)
    }

    /// Debian's arm64 packages of one suite, whatever the machine is.
    pub fn arm64(context: &Context, mirror: &Mirror, suite: &str) -> Result<Self> {
        let folder = context.cache.join("apt").join(format!("{suite}-arm64"));
        let sources = fresh_folder(&folder.join("sources"))?;
        fs::write(
            sources.join("debian.sources"),
            mirror.source(suite, Some("arm64")),
        )?;
        let mut apt = Self::private(&folder, &sources)?;
        let status = folder.join("status");
        fs::write(&status, "")?;
        apt.set("APT::Architecture", "arm64");
        apt.set("APT::Architectures", "arm64");
        apt.set("Dir::State::status", &status.display().to_string());
        apt.set("Dir::Cache", &folder.join("cache").display().to_string());
        Ok(apt)
    }

    fn private(folder: &Path, sources: &Path) -> Result<Self> {
        let lists = folder.join("lists");
        fs::create_dir_all(lists.join("partial"))?;
        let mut apt = Self::host();
        apt.set("Dir::Etc::SourceList", "/dev/null");
        apt.set("Dir::Etc::SourceParts", &sources.display().to_string());
        apt.set("Dir::State::Lists", &lists.display().to_string());
        // The machine's binary caches describe the machine's lists.
        apt.set("Dir::Cache::pkgcache", "");
        apt.set("Dir::Cache::srcpkgcache", "");
        if is_root() {
            // apt's own user cannot reach a cache inside root's home.
            apt.set("APT::Sandbox::User", "root");
        }
        Ok(apt)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.options.push(format!("{name}={value}"));
    }

    /// One of apt's programs with this configuration, its output not translated.
    pub fn command(&self, program: &str) -> Command {
        self.configure(Command::new(program))
    }

    fn configure(&self, mut command: Command) -> Command {
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C");
        command
    }

    /// Reads the package lists anew.
    pub fn update(&self, context: &Context) -> Result<()> {
        // Private lists belong to the user.
        let apt_get = if self.options.is_empty() {
            as_root("apt-get")
        } else {
            Command::new("apt-get")
        };
        process::run(
            context,
            self.configure(apt_get).args(WAIT).args(["-qq", "update"]),
        )
    }

    /// The version that would be installed.
    pub fn candidate(&self, context: &Context, package: &str) -> Result<Option<String>> {
        let policy = process::output(context, self.command("apt-cache").args(["policy", package]))?;
        Ok(parse_candidate(&policy))
    }

    /// Installs packages on the machine. Lists that name files which are gone are read anew, once.
    pub fn install(&self, context: &Context, packages: &[&str]) -> Result<()> {
        let install = || {
            let mut command = self.configure(as_root("apt-get"));
            command
                .args(WAIT)
                .args(["-qq", "install", "--yes", "--no-install-recommends"]);
            process::run(context, command.args(packages))
        };
        install().or_else(|_| {
            eprintln!("setup: trying once more with fresh package lists");
            self.update(context)?;
            install()
        })
    }
}

/// Another apt may hold the lock for a while.
const WAIT: [&str; 2] = ["-o", "DPkg::Lock::Timeout=300"];

/// A program that runs as root and asks no questions; through sudo where the user is not root.
fn as_root(program: &str) -> Command {
    let mut command = if is_root() {
        Command::new("env")
    } else {
        Command::new("sudo")
    };
    if !is_root() {
        command.arg("env");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", program]);
    command
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn parse_candidate(policy: &str) -> Option<String> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))
        .map(str::trim)
        .filter(|version| *version != "(none)")
        .map(str::to_string)
}

fn fresh_folder(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot empty {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path.to_path_buf())
}

fn copy_machine_sources(to: &Path) -> Result<()> {
    let list = Path::new("/etc/apt/sources.list");
    if list.is_file() {
        fs::copy(list, to.join("sources.list"))?;
    }
    let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") else {
        return Ok(());
    };
    for part in parts {
        let part = part?;
        let name = part.file_name();
        let is_source = |kind| Path::new(&name).extension().is_some_and(|e| e == kind);
        if is_source("list") || is_source("sources") {
            fs::copy(part.path(), to.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read_from_the_policy() {
        let policy =
            "lld:\n  Installed: (none)\n  Candidate: 1:14.0-55.7~deb12u1\n  Version table:\n";
        assert_eq!(
            parse_candidate(policy).as_deref(),
            Some("1:14.0-55.7~deb12u1")
        );
        assert_eq!(parse_candidate("lld:\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }
}
