//! Making sure that what a command needs is on the machine.
//!
//! [`needs`] says what that is; this module finds what is missing and installs it on Debian and
//! Ubuntu, or says how to get it.

mod apt;
mod mirror;
mod needs;
mod rust;
mod static_rust;

use std::fmt::Write as _;

use anyhow::{Result, bail};

pub use apt::Apt;
pub use mirror::{KEYRING, Mirror};
pub use needs::{DEBIAN_PACKAGES, FUZZER, QEMU};
pub use rust::Toolchain;
pub use static_rust::StaticToolchain;

use crate::context::Context;
use crate::version::Version;
use needs::{Need, State, find_program};

/// Installs what is missing of `needs`; does nothing when all is there.
pub fn ensure(context: &Context, needs: &'static [Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    if context.offline {
        bail!(
            "missing, and nothing is installed under --offline:\n{}",
            advice(&missing)
        );
    }
    if find_program("apt-get").is_none() || find_program("dpkg").is_none() {
        bail!(
            "missing; this is not Debian or Ubuntu, so install by hand:\n{}",
            advice(&missing)
        );
    }
    install(context, &missing)?;
    let left = self::missing(needs);
    if !left.is_empty() {
        bail!("still missing after the installation:\n{}", advice(&left));
    }
    Ok(())
}

type Missing = (&'static Need, State);

fn missing(needs: &'static [Need]) -> Vec<Missing> {
    needs
        .iter()
        .map(|need| (need, need.state()))
        .filter(|(_, state)| *state != State::Met)
        .collect()
}

/// One line a need, and how to get it.
fn advice(missing: &[Missing]) -> String {
    let mut text = String::new();
    for (need, state) in missing {
        let _ = writeln!(text, "  {}", need.describe(*state));
        let _ = writeln!(text, "      Debian, Ubuntu: package {}", need.package);
        if let Some(instead) = need.instead {
            let _ = writeln!(text, "      {instead}");
        }
    }
    text.trim_end().to_string()
}

/// Installs from the machine's own release, and from its backports what is too old there.
fn install(context: &Context, missing: &[Missing]) -> Result<()> {
    let host = Apt::host();
    let (mut here, mut elsewhere) = split(context, &host, missing)?;
    if !elsewhere.is_empty() {
        // What is not known may only be missing from old lists.
        eprintln!(
            "setup: reading the package lists anew to find {}",
            names(&elsewhere)
        );
        host.update(context)?;
        (here, elsewhere) = split(context, &host, missing)?;
    }
    if !elsewhere.is_empty() {
        install_backports(context, &elsewhere)?;
    }
    if !here.is_empty() {
        announce(&here, "this machine's release");
        host.install(context, &packages(&here))?;
    }
    Ok(())
}

fn install_backports(context: &Context, missing: &[Missing]) -> Result<()> {
    let Some(mirror) = Mirror::of_machine(context)? else {
        bail!("this release has no package for:\n{}", advice(missing));
    };
    let suite = format!("{}-backports", mirror.codename);
    eprintln!("setup: looking for {} in {suite}", names(missing));
    let backports = Apt::with_suite(context, &mirror, &suite)?;
    backports.update(context)?;
    let (here, nowhere) = split(context, &backports, missing)?;
    if !nowhere.is_empty() {
        bail!(
            "neither this release nor {suite} has a package for:\n{}",
            advice(&nowhere)
        );
    }
    announce(&here, &suite);
    backports.install(context, &packages(&here))
}

/// Parts what `apt` can install in a version that will do from what it cannot.
fn split(
    context: &Context,
    apt: &Apt,
    missing: &[Missing],
) -> Result<(Vec<Missing>, Vec<Missing>)> {
    let mut parts = (Vec::new(), Vec::new());
    for &(need, state) in missing {
        let candidate = apt.candidate(context, need.package)?;
        if will_do(candidate.as_deref(), need.at_least) {
            parts.0.push((need, state));
        } else {
            parts.1.push((need, state));
        }
    }
    Ok(parts)
}

fn will_do(candidate: Option<&str>, at_least: Option<Version>) -> bool {
    match (candidate, at_least) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(candidate), Some(least)) => {
            Version::find(candidate).is_some_and(|version| version >= least)
        }
    }
}

fn announce(missing: &[Missing], source: &str) {
    eprintln!("setup: installing from {source}:");
    for (need, state) in missing {
        eprintln!("  {}: {}", need.package, need.describe(*state));
    }
}

fn packages(missing: &[Missing]) -> Vec<&'static str> {
    missing.iter().map(|(need, _)| need.package).collect()
}

fn names(missing: &[Missing]) -> String {
    packages(missing).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_must_be_new_enough() {
        let least = Some(Version(10, 0, 0));
        assert!(will_do(Some("1:10.0.2+ds-2+deb13u1~bpo12+1"), least));
        assert!(!will_do(Some("1:7.2+dfsg-7+deb12u16"), least));
        assert!(!will_do(None, least));
        assert!(!will_do(None, None));
        assert!(will_do(Some("anything"), None));
    }

    #[test]
    fn advice_names_the_package_and_the_other_way() {
        let missing: Vec<Missing> = needs::DEBIAN_RUST
            .iter()
            .map(|need| (need, State::Missing))
            .collect();
        let advice = advice(&missing);
        assert!(advice.contains("Debian's Rust compiler 1.95 or newer, to compile the image"));
        assert!(advice.contains("package rustc-web"));
        assert!(advice.contains("rustup target add aarch64-unknown-none-softfloat"));
    }
}
