//! The Debian mirror that the machine's own sources name.

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use super::apt::Apt;
use crate::context::Context;
use crate::process;

/// The keys that sign Debian's archive (package debian-archive-keyring).
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Names a mirror on machines whose own sources name none.
const OVERRIDE: &str = "XEN_RS_DEBIAN_MIRROR";

/// A mirror of Debian's archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its address.
    pub uri: String,
    /// The release that the machine takes from it; empty if the user named the mirror.
    pub codename: String,
}

impl Mirror {
    /// The mirror in the machine's own sources, none if they name no Debian release.
    pub fn of_machine(context: &Context) -> Result<Option<Self>> {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").args([
            "indextargets",
            "--format",
            "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(SUITE)|$(CODENAME)|$(REPO_URI)",
            "Created-By: Packages",
        ]);
        let targets = process::output(context, &mut command)?;
        Ok(targets.lines().find_map(Self::from_target))
    }

    /// The mirror to take Debian's arm64 packages from; an error that says what to do if there
    /// is none.
    pub fn for_packages(context: &Context) -> Result<Self> {
        if let Some(uri) = env::var(OVERRIDE).ok().filter(|uri| !uri.is_empty()) {
            return Ok(Self {
                uri,
                codename: String::new(),
            });
        }
        if let Some(mirror) = Self::of_machine(context)? {
            return Ok(mirror);
        }
        // Lists that were never read do not say whose they are.
        Apt::host().update(context)?;
        match Self::of_machine(context)? {
            Some(mirror) => Ok(mirror),
            None => bail!(
                "this machine's apt sources name no Debian mirror, from which arm64 kernels are \
                 taken: set {OVERRIDE} to the address of one"
            ),
        }
    }

    fn from_target(line: &str) -> Option<Self> {
        let mut fields = line.split('|');
        let mut next = || fields.next();
        let (origin, label, component) = (next()?, next()?, next()?);
        let (suite, codename, uri) = (next()?, next()?, next()?);
        let is_release = origin == "Debian"
            && label == "Debian"
            && component == "main"
            && !suite.contains('-')
            && !codename.contains('-');
        is_release.then(|| Self {
            uri: uri.to_string(),
            codename: codename.to_string(),
        })
    }

    /// The text of a `.sources` file for one suite of this mirror.
    pub fn source(&self, suite: &str, architecture: Option<&str>) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n\
             Targets: Packages\n",
            self.uri
        );
        if let Some(architecture) = architecture {
            text += &format!("Architectures: {architecture}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_itself_is_chosen() {
        let target = |line| Mirror::from_target(line).map(|mirror| (mirror.codename, mirror.uri));
        assert_eq!(
            target("Debian|Debian|main|oldstable|bookworm|http://mirror.example/debian/"),
            Some(("bookworm".into(), "http://mirror.example/debian/".into()))
        );
        for other in [
            "Debian|Debian|main|oldstable-updates|bookworm-updates|http://mirror.example/debian/",
            "Debian|Debian-Security|main|oldstable-security|bookworm-security|http://m.example/s/",
            "Debian|Debian|contrib|oldstable|bookworm|http://mirror.example/debian/",
            "Ubuntu|Ubuntu|main|noble|noble|http://mirror.example/ubuntu/",
            "",
        ] {
            assert_eq!(target(other), None, "{other}");
        }
    }

    #[test]
    fn a_source_is_signed() {
        let mirror = Mirror {
            uri: "http://mirror.example/debian/".into(),
            codename: String::new(),
        };
        let text = mirror.source("trixie", Some("arm64"));
        assert!(text.contains("Suites: trixie\n"));
        assert!(text.contains("Signed-By: /usr/share/keyrings/"));
        assert!(text.contains("Architectures: arm64\n"));
        assert!(!mirror.source("trixie", None).contains("Architectures"));
    }
}
