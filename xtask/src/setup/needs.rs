//! What the commands need on the machine, as data.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::version::Version;

/// Something that has to be on the machine.
pub struct Need {
    /// Its name for people.
    pub what: &'static str,
    /// What it is for: "to …".
    pub why: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// How to see that it is there.
    pub proof: Proof,
    /// The oldest version that will do.
    pub at_least: Option<Version>,
    /// Another way of getting it.
    pub instead: Option<&'static str>,
}

/// How to see that something is there.
pub enum Proof {
    /// A program: its path, or its name to be found on `PATH`. Its version is what it prints.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

/// What was found of a [`Need`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there and new enough.
    Met,
    /// It is not there.
    Missing,
    /// It is there in a version that is too old.
    TooOld(Version),
}

const RUSTUP_INSTEAD: Option<&str> =
    Some("with rustup, where it can download: rustup target add aarch64-unknown-none-softfloat");

/// QEMU before 10.0 has no stage 2 in its SMMUv3.
pub const QEMU: &[Need] = &[Need {
    what: "QEMU for arm64",
    why: "to boot the image",
    package: "qemu-system-arm",
    proof: Proof::Program("qemu-system-aarch64"),
    at_least: Some(Version(10, 0, 0)),
    instead: Some("Debian 12 has it in bookworm-backports"),
}];

/// libFuzzer is compiled from source.
pub const FUZZER: &[Need] = &[Need {
    what: "a C++ compiler",
    why: "to compile libFuzzer",
    package: "g++",
    proof: Proof::Program("c++"),
    at_least: None,
    instead: None,
}];

/// Where rustup's own linker is not there.
pub const LINKER: &[Need] = &[Need {
    what: "the linker ld.lld",
    why: "to link the image",
    package: "lld",
    proof: Proof::Program("ld.lld"),
    at_least: None,
    instead: None,
}];

/// Debian's Rust with the source of `core`, where rustup's lacks the bare-metal target.
pub const DEBIAN_RUST: &[Need] = &[
    Need {
        what: "Debian's Rust compiler",
        why: "to compile the image",
        package: "rustc-web",
        proof: Proof::Program("/usr/bin/rustc"),
        at_least: Some(Version(1, 95, 0)),
        instead: RUSTUP_INSTEAD,
    },
    Need {
        what: "Debian's cargo",
        why: "to compile the image",
        package: "cargo-web",
        proof: Proof::Program("/usr/bin/cargo"),
        at_least: Some(Version(1, 95, 0)),
        instead: RUSTUP_INSTEAD,
    },
    Need {
        what: "the source of Rust's core library",
        why: "to compile the image",
        package: "rust-web-src",
        proof: Proof::File("/usr/lib/rustlib/src/rust/library/core/src/lib.rs"),
        at_least: None,
        instead: RUSTUP_INSTEAD,
    },
];

/// The linter that fits [`DEBIAN_RUST`].
pub const DEBIAN_RUST_LINT: &[Need] = &[Need {
    what: "Debian's clippy",
    why: "to lint the image",
    package: "rust-web-clippy",
    proof: Proof::Program("/usr/bin/clippy-driver"),
    at_least: None,
    instead: RUSTUP_INSTEAD,
}];

/// What fetches and unpacks Debian's arm64 packages.
pub const DEBIAN_PACKAGES: &[Need] = &[
    Need {
        what: "apt",
        why: "to fetch Debian's arm64 packages",
        package: "apt",
        proof: Proof::Program("apt-get"),
        at_least: None,
        instead: None,
    },
    Need {
        what: "dpkg-deb",
        why: "to unpack Debian's arm64 packages",
        package: "dpkg",
        proof: Proof::Program("dpkg-deb"),
        at_least: None,
        instead: None,
    },
    Need {
        what: "xz",
        why: "to unpack the modules of Debian's kernels",
        package: "xz-utils",
        proof: Proof::Program("xz"),
        at_least: None,
        instead: None,
    },
    Need {
        what: "the keys of Debian's archive",
        why: "to verify Debian's arm64 packages",
        package: "debian-archive-keyring",
        proof: Proof::File(crate::setup::KEYRING),
        at_least: None,
        instead: None,
    },
];

impl Need {
    /// Looks whether it is there.
    pub fn state(&self) -> State {
        let found = match self.proof {
            Proof::Program(name) => find_program(name),
            Proof::File(path) => Some(PathBuf::from(path)).filter(|path| path.exists()),
        };
        match (found, self.at_least) {
            (None, _) => State::Missing,
            (Some(_), None) => State::Met,
            (Some(program), Some(least)) => match version_of(&program) {
                Some(version) if version >= least => State::Met,
                Some(version) => State::TooOld(version),
                None => State::Missing,
            },
        }
    }

    /// `QEMU for arm64 10.0 or newer (7.2 is too old), to boot the image`.
    pub fn describe(&self, state: State) -> String {
        let mut text = self.what.to_string();
        if let Some(least) = self.at_least {
            text += &format!(" {least} or newer");
        }
        if let State::TooOld(version) = state {
            text += &format!(" ({version} is too old)");
        }
        text + ", " + self.why
    }
}

/// The path of a program, given by its path or by its name.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn version_of(program: &Path) -> Option<Version> {
    let output = super::rust::without_cargo_env(&mut Command::new(program))
        .arg("--version")
        .output()
        .ok()?;
    Version::find(&String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(proof: Proof, at_least: Option<Version>) -> Need {
        Need {
            what: "a thing",
            why: "to test",
            package: "p",
            proof,
            at_least,
            instead: None,
        }
    }

    #[test]
    fn what_is_there_and_what_is_not() {
        assert_eq!(need(Proof::Program("sh"), None).state(), State::Met);
        assert_eq!(need(Proof::Program("/bin/sh"), None).state(), State::Met);
        assert_eq!(
            need(Proof::Program("no-such-program"), None).state(),
            State::Missing
        );
        assert_eq!(need(Proof::File("/etc/passwd"), None).state(), State::Met);
        assert_eq!(
            need(Proof::File("/no/such/file"), None).state(),
            State::Missing
        );
    }

    #[test]
    fn an_old_version_is_told_apart() {
        let old = need(Proof::Program("cargo"), Some(Version(99, 0, 0)));
        let State::TooOld(version) = old.state() else {
            panic!("{:?}", old.state())
        };
        assert_eq!(
            old.describe(State::TooOld(version)),
            format!("a thing 99.0 or newer ({version} is too old), to test")
        );
        assert_eq!(
            need(Proof::Program("cargo"), Some(Version(1, 0, 0))).state(),
            State::Met
        );
    }
}
