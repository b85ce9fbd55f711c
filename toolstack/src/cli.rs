//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::PciFunction;
use crate::pci::Sbdf;

/// Creates, watches and ends guests of xen-rs.
#[derive(Debug, Parser)]
#[command(
    name = "xrs",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 wrong configuration, \
                  4 no such guest, 5 no hypervisor, 6 refused by the hypervisor, 130 interrupted"
)]
pub struct Cli {
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// A guest.
#[derive(Args, Debug)]
pub struct GuestArg {
    /// Name, domain id or UUID of the guest
    pub guest: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a guest of a configuration file and start it
    Create(Create),
    /// List domains
    #[command(visible_alias = "ls")]
    List {
        /// Only this one: name, domain id or UUID
        guest: Option<String>,
    },
    /// Show the hypervisor and the machine
    Info,
    /// List the vCPUs of domains
    VcpuList {
        /// Only of this one: name, domain id or UUID
        guest: Option<String>,
    },
    /// Be at a guest's console; without a terminal, print it until the guest ends
    Console(Console),
    /// Keep a guest from running
    Pause(GuestArg),
    /// Let a paused guest run
    Unpause(GuestArg),
    /// End a guest as a power switch does
    Shutdown(Shutdown),
    /// End a guest as a reset switch does, so that it starts again
    Reboot(Shutdown),
    /// Take back all that a guest has, at once
    Destroy(GuestArg),
    /// List the PCI functions that guests can have, or have
    PciAssignableList {
        /// All of the machine, and what is in the way of each
        #[arg(long, short)]
        all: bool,
    },
    /// Take PCI functions from the control domain, with their drivers, so that guests can have them
    PciAssignableAdd {
        /// The functions, as SSSS:BB:DD.F or BB:DD.F
        #[arg(required = true)]
        functions: Vec<Sbdf>,
    },
    /// Give PCI functions back to the control domain
    PciAssignableRemove {
        /// Give each to the driver that it had
        #[arg(long, short)]
        rebind: bool,
        /// The functions, as SSSS:BB:DD.F or BB:DD.F
        #[arg(required = true)]
        functions: Vec<Sbdf>,
    },
    /// List the PCI functions that guests have
    PciList {
        /// Only of this one: name, domain id or UUID
        guest: Option<String>,
        /// Their groups and how each is reset, too
        #[arg(long, short)]
        verbose: bool,
    },
    /// Give a PCI function to a guest that runs
    PciAttach(PciAttach),
    /// Take a PCI function from a guest that runs
    PciDetach(PciDetach),
    /// Show the hypervisor's log
    Dmesg {
        /// Forget it afterwards
        #[arg(long, short)]
        clear: bool,
    },
    /// Print the completion of a shell's command line
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Stay with a guest; `create` starts it
    #[command(hide = true)]
    Monitor {
        /// Name of the guest
        guest: String,
        /// Leave a guest that was not started as it is
        #[arg(long)]
        paused: bool,
    },
}

/// `create`
#[derive(Args, Debug)]
pub struct Create {
    /// The configuration, in the grammar of xl.cfg(5)
    pub config: PathBuf,
    /// Be at its console from its first letter on
    #[arg(long, short)]
    pub console: bool,
    /// Leave it paused
    #[arg(long, short)]
    pub paused: bool,
    /// Only check the configuration and its files
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// `console`
#[derive(Args, Debug)]
pub struct Console {
    /// Name, domain id or UUID of the guest
    pub guest: String,
    /// Which of its consoles
    #[arg(long = "type", short = 't', default_value = "pv")]
    pub kind: ConsoleKind,
}

/// Consoles of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConsoleKind {
    /// The one that Xen gives it (hvc0)
    Pv,
    /// The virtual UART (ttyAMA0)
    Vuart,
}

impl ConsoleKind {
    /// Its socket in the guest's folder.
    pub const fn socket(self) -> &'static str {
        match self {
            Self::Pv => "console.sock",
            Self::Vuart => "vuart.sock",
        }
    }
}

/// `shutdown`, `reboot`
#[derive(Args, Debug)]
pub struct Shutdown {
    /// Name, domain id or UUID of the guest
    pub guest: String,
    /// Without asking the guest's kernel, which may lose what it has not written
    #[arg(long, short = 'F')]
    pub force: bool,
}

/// `pci-attach`
#[derive(Args, Debug)]
pub struct PciAttach {
    /// Name, domain id or UUID of the guest
    pub guest: String,
    /// The function, as an entry of `pci`: `[SSSS:]BB:DD.F[@SLOT][,seize=1]`
    pub function: PciFunction,
    /// Its device number on the guest's bus, in hexadecimal
    #[arg(value_parser = slot)]
    pub slot: Option<u8>,
}

/// `pci-detach`
#[derive(Args, Debug)]
pub struct PciDetach {
    /// Name, domain id or UUID of the guest
    pub guest: String,
    /// The function of the machine, as SSSS:BB:DD.F or BB:DD.F
    pub function: Sbdf,
    /// Without asking the guest's kernel, which may still use it
    #[arg(long, short)]
    pub force: bool,
}

fn slot(text: &str) -> Result<u8, String> {
    PciFunction::parse_slot(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
