//! `xrs pause`, `unpause`, `shutdown`, `reboot` and `destroy`.

use std::thread;
use std::time::{Duration, Instant};

use xen_abi::sched::ShutdownReason;

use crate::cli::Shutdown;
use crate::config::GuestName;
use crate::failure::{Failure, FailureKind};
use crate::guests::{self, Guest};
use crate::hypervisor::Hypervisor;
use crate::state::State;

/// How long a monitor may take to notice that its guest is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look.
const LOOK: Duration = Duration::from_millis(10);

/// The guest that is meant; not the control domain, which would end the machine.
fn guest(hypervisor: &impl Hypervisor, state: &State, name: &str) -> Result<Guest, Failure> {
    let guest = guests::find(hypervisor, state, name)?;
    if guest.is_control_domain() {
        let text = "that is the control domain, in which xrs runs";
        return Err(Failure::new(FailureKind::Other, text));
    }
    Ok(guest)
}

/// Keeps a guest from running.
pub fn pause(hypervisor: &impl Hypervisor, state: &State, name: &str) -> Result<(), Failure> {
    let guest = guest(hypervisor, state, name)?;
    if guest.info.paused {
        let text = format!("{} is paused already", guest.name());
        return Err(Failure::new(FailureKind::Other, text));
    }
    Ok(hypervisor.pause(guest.info.id)?)
}

/// Lets a guest run.
pub fn unpause(hypervisor: &impl Hypervisor, state: &State, name: &str) -> Result<(), Failure> {
    let guest = guest(hypervisor, state, name)?;
    if !guest.info.paused {
        let text = format!("{} is not paused", guest.name());
        return Err(Failure::new(FailureKind::Other, text));
    }
    Ok(hypervisor.unpause(guest.info.id)?)
}

/// Ends a guest.
pub fn shutdown(
    hypervisor: &impl Hypervisor,
    state: &State,
    options: &Shutdown,
) -> Result<(), Failure> {
    switch(hypervisor, state, options, ShutdownReason::PowerOff)
}

/// Ends a guest so that it starts again.
pub fn reboot(
    hypervisor: &impl Hypervisor,
    state: &State,
    options: &Shutdown,
) -> Result<(), Failure> {
    switch(hypervisor, state, options, ShutdownReason::Reboot)
}

fn switch(
    hypervisor: &impl Hypervisor,
    state: &State,
    options: &Shutdown,
    reason: ShutdownReason,
) -> Result<(), Failure> {
    let guest = guest(hypervisor, state, &options.guest)?;
    if !options.force {
        let (name, inside) = match reason {
            ShutdownReason::Reboot => (guest.name(), "reboot"),
            _ => (guest.name(), "poweroff"),
        };
        let text = format!(
            "{name} has no store by which its kernel could be asked: run `{inside}` inside, or give \
             --force to end it as a switch does"
        );
        return Err(Failure::new(FailureKind::Other, text));
    }
    Ok(hypervisor.shut_down(guest.info.id, reason)?)
}

/// Takes back all that a guest has; returns when its name is free. One that is about to start again does
/// not.
pub fn destroy(hypervisor: &impl Hypervisor, state: &State, name: &str) -> Result<(), Failure> {
    let name = match guest(hypervisor, state, name) {
        Ok(guest) => {
            let name = guest.record.map(|record| record.config.name);
            if let Some(name) = &name {
                state.end(name);
            }
            if !guest.info.paused {
                hypervisor.pause(guest.info.id)?;
            }
            guests::destroy(hypervisor, &guest.info)?;
            if let Some(name) = &name {
                // Its monitor would do that as well, and tell nobody what went wrong.
                guests::release(hypervisor, state, &state.seized(name))?;
            }
            name
        }
        // Between two of its lives there is no domain.
        Err(failure) => Some(
            GuestName::new(name)
                .ok()
                .filter(|name| state.end(name))
                .ok_or(failure)?,
        ),
    };
    let Some(name) = name else {
        return Ok(());
    };
    let folder = state.folder(&name);
    let begin = Instant::now();
    while folder.exists() && begin.elapsed() < PATIENCE {
        thread::sleep(LOOK);
    }
    // A monitor that is no more leaves the folder to us.
    guests::heal(hypervisor, state).map(drop)
}
