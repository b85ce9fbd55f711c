//! The hypervisor's command line: Xen's names where Xen has one (docs/misc/xen-command-line).
//!
//! Words are separated by spaces, and nothing quotes a space. A word is `key=value`, a bare `key`,
//! or `no-key`, which is `key=no`. The last one wins. An unknown key is a warning, a malformed
//! value of a known key an error.

mod dom0;
mod functions;
mod iommu;
mod nearest;
mod value;

use core::fmt;

use arrayvec::ArrayVec;

pub use self::dom0::{Dom0Memory, Dom0Option, Dom0Vcpus};
pub use self::functions::{FunctionList, hidden_by_pciback};
pub use self::iommu::IommuOption;
pub use self::value::SelfTest;
use crate::log::Thresholds;
use crate::sched::Policy;

/// The most warnings that are kept.
const MAX_WARNINGS: usize = 16;

/// Keys that are acted upon.
const IN_EFFECT: [&str; 13] = [
    "assignable",
    "console",
    "dom0",
    "dom0_max_vcpus",
    "dom0_mem",
    "dtuart",
    "guest_loglvl",
    "iommu",
    "loglvl",
    "noreboot",
    "sched",
    "selftest",
    "shortage",
];

/// Keys of Xen and of the design whose parts are not there yet.
const WITHOUT_EFFECT: [&str; 2] = ["pci-passthrough", "sync_console"];

/// What the command line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    /// `loglvl=`: messages of the hypervisor.
    pub loglvl: Thresholds,
    /// `guest_loglvl=`: messages that guests cause.
    pub guest_loglvl: Thresholds,
    /// `console=`: whether there is output, `dtuart` (the default) or `none`.
    pub console: bool,
    /// `dtuart=`: path or alias of the console's device tree node.
    pub dtuart: Option<&'a str>,
    /// `noreboot`: a report ends in a halt instead of a reset.
    pub noreboot: bool,
    /// `selftest=`: a fault to run into.
    pub selftest: SelfTest,
    /// `dom0=`: what kind of domain Dom0 is.
    pub dom0: Dom0Option,
    /// `shortage`: memory runs out while domains are made.
    pub shortage: bool,
    /// `dom0_mem=`: memory of Dom0.
    pub dom0_mem: Option<Dom0Memory>,
    /// `dom0_max_vcpus=`: processors of Dom0.
    pub dom0_max_vcpus: Option<Dom0Vcpus>,
    /// `sched=`: how vCPUs share CPUs, `time-sharing` (the default) or `null`.
    pub sched: Policy,
    /// `iommu=`: what is wanted of IOMMUs.
    pub iommu: IommuOption,
    /// `pci-passthrough=`: as it was written, empty for the bare key; the PCI set-up reads it.
    pub pci_passthrough: Option<&'a str>,
    /// `assignable=`: PCI functions that Dom0 does not get.
    pub assignable: Option<FunctionList<'a>>,
    warnings: ArrayVec<Warning<'a>, MAX_WARNINGS>,
}

/// A word that is not acted upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warning<'a> {
    /// No such key.
    Unknown {
        /// The key.
        key: &'a str,
        /// The known key that it resembles.
        nearest: Option<&'static str>,
    },
    /// A key whose part of the hypervisor does not exist in this version.
    WithoutEffect(&'a str),
}

impl fmt::Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, nearest } => {
                write!(f, "unknown key {key:?} is ignored")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest:?}?"),
                    None => Ok(()),
                }
            }
            Self::WithoutEffect(key) => write!(f, "{key:?} has no effect in this version"),
        }
    }
}

/// A malformed value of a known key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}={value:?}: {reason}")]
pub struct CmdlineError<'a> {
    /// The key.
    pub key: &'static str,
    /// Its value, empty for a bare key.
    pub value: &'a str,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            loglvl: Thresholds::DEFAULT,
            guest_loglvl: Thresholds::GUEST_DEFAULT,
            console: true,
            dtuart: None,
            noreboot: false,
            selftest: SelfTest::None,
            dom0: Dom0Option::default(),
            shortage: false,
            dom0_mem: None,
            dom0_max_vcpus: None,
            sched: Policy::default(),
            iommu: IommuOption::default(),
            pci_passthrough: None,
            assignable: None,
            warnings: ArrayVec::new(),
        }
    }
}

impl<'a> Options<'a> {
    /// Reads a command line.
    ///
    /// # Errors
    /// [`CmdlineError`] for the first malformed value.
    pub fn parse(line: &'a str) -> Result<Self, CmdlineError<'a>> {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            options.apply(word)?;
        }
        Ok(options)
    }

    /// The words that were not acted upon; the first 16 are kept.
    pub fn warnings(&self) -> &[Warning<'a>] {
        &self.warnings
    }

    fn apply(&mut self, word: &'a str) -> Result<(), CmdlineError<'a>> {
        let (written, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let (name, negated) = match written.strip_prefix("no-") {
            Some(name) => (name, true),
            None => (written, false),
        };
        let Some(key) = known().find(|known| *known == name) else {
            let nearest = nearest::nearest(name, known());
            self.warn(Warning::Unknown {
                key: written,
                nearest,
            });
            return Ok(());
        };
        let (value, outcome) = match (negated, value) {
            (true, Some(value)) => (value, Err("a key that starts with no- takes no value")),
            (true, None) => ("no", self.set(key, "no")),
            (false, value) => {
                let value = value.unwrap_or_default();
                (value, self.set(key, value))
            }
        };
        outcome.map_err(|reason| CmdlineError { key, value, reason })?;
        if WITHOUT_EFFECT.contains(&key) {
            self.warn(Warning::WithoutEffect(name));
        }
        Ok(())
    }

    /// Sets a known key; the error says what is wrong with the value.
    fn set(&mut self, key: &str, value: &'a str) -> Result<(), &'static str> {
        match key {
            "loglvl" => self.loglvl = value::thresholds(value)?,
            "guest_loglvl" => self.guest_loglvl = value::thresholds(value)?,
            "console" => self.console = value::console(value)?,
            "dtuart" => self.dtuart = Some(value::text(value)?),
            "noreboot" => self.noreboot = value::boolean(value)?,
            "selftest" => self.selftest = value::selftest(value)?,
            "dom0" => self.dom0 = Dom0Option::parse(value)?,
            "shortage" => self.shortage = value::boolean(value)?,
            "dom0_mem" => self.dom0_mem = Some(Dom0Memory::parse(value)?),
            "dom0_max_vcpus" => self.dom0_max_vcpus = Some(Dom0Vcpus::parse(value)?),
            "sched" => self.sched = value::scheduler(value)?,
            "iommu" => {
                let (mut iommu, warnings) = (self.iommu, &mut self.warnings);
                // As many of them as there is room for: see `warn`.
                iommu.apply(value, |part| {
                    let _ = warnings.try_push(Warning::WithoutEffect(part));
                })?;
                self.iommu = iommu;
            }
            "pci-passthrough" => self.pci_passthrough = Some(value),
            "assignable" => self.assignable = Some(FunctionList::parse(value)?),
            // The console is always synchronous.
            _ => (),
        }
        Ok(())
    }

    fn warn(&mut self, warning: Warning<'a>) {
        // More of them add nothing: the line is broken beyond one word.
        let _ = self.warnings.try_push(warning);
    }
}

/// All keys that are not a warning.
fn known() -> impl Iterator<Item = &'static str> {
    IN_EFFECT.into_iter().chain(WITHOUT_EFFECT)
}

#[cfg(test)]
mod tests;
