//! What each command does.

mod create;
mod end;
mod functions;
mod list;
mod machine;
mod pci;
mod progress;
mod table;

use clap::CommandFactory as _;
use serde::Serialize;

use crate::cli::{Cli, Console, Verb};
use crate::console;
use crate::failure::{Failure, FailureKind};
use crate::guests;
use crate::hypervisor::Xen;
use crate::monitor;
use crate::signals;
use crate::state::State;

/// Does what the command line says.
///
/// # Errors
/// [`Failure`].
pub fn run(cli: &Cli) -> Result<(), Failure> {
    let state = State::default();
    match &cli.verb {
        Verb::Create(options) => create::run(&state, options, cli.json),
        Verb::List { guest } => list::domains(&Xen::open()?, &state, guest.as_deref(), cli.json),
        Verb::Info => machine::info(&Xen::open()?, cli.json),
        Verb::VcpuList { guest } => list::vcpus(&Xen::open()?, &state, guest.as_deref(), cli.json),
        Verb::Console(options) => console(&state, options),
        Verb::Pause(guest) => end::pause(&Xen::open()?, &state, &guest.guest),
        Verb::Unpause(guest) => end::unpause(&Xen::open()?, &state, &guest.guest),
        Verb::Shutdown(options) => end::shutdown(&Xen::open()?, &state, options),
        Verb::Reboot(options) => end::reboot(&Xen::open()?, &state, options),
        Verb::Destroy(guest) => end::destroy(&Xen::open()?, &state, &guest.guest),
        Verb::PciAssignableList { all } => pci::list(&Xen::open()?, *all, cli.json),
        Verb::PciAssignableAdd { functions } => {
            pci::add(&Xen::open()?, &state, functions, cli.json)
        }
        Verb::PciAssignableRemove { rebind, functions } => {
            pci::remove(&Xen::open()?, &state, functions, *rebind, cli.json)
        }
        Verb::PciList { guest, verbose } => {
            functions::list(&Xen::open()?, &state, guest.as_deref(), *verbose, cli.json)
        }
        Verb::PciAttach(options) => functions::attach(&Xen::open()?, &state, options, cli.json),
        Verb::PciDetach(options) => functions::detach(&Xen::open()?, &state, options, cli.json),
        Verb::Dmesg { clear } => machine::log(&Xen::open()?, *clear, cli.json),
        Verb::Completion { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "xrs", &mut std::io::stdout());
            Ok(())
        }
        Verb::Monitor { guest, paused } => {
            let name = guest.clone().try_into();
            let name = name.map_err(|_| Failure::no_guest(guest))?;
            Ok(monitor::run(&state, &name, *paused)?)
        }
    }
}

/// Prints something as JSON.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Failure::new(FailureKind::Other, error))?;
    print(&format!("{text}\n"))
}

/// Prints a text; that nobody reads it any more is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn console(state: &State, options: &Console) -> Result<(), Failure> {
    let xen = Xen::open()?;
    for line in guests::heal(&xen, state)? {
        eprintln!("xrs: {line}");
    }
    let guest = guests::find(&xen, state, &options.guest)?;
    let Some(record) = guest.record else {
        let text = format!(
            "{} was not made by xrs, which has no console of it",
            guest.name()
        );
        return Err(Failure::new(FailureKind::Other, text));
    };
    let socket = state
        .folder(&record.config.name)
        .join(options.kind.socket());
    if !socket.exists() {
        let text = format!(
            "{} has no such console: `vuart` was not set",
            record.config.name
        );
        return Err(Failure::new(FailureKind::Other, text));
    }
    let stop = signals::Stop::new()?;
    console::attach(&socket, &|| stop.wanted())?;
    Ok(())
}
