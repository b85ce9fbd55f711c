//! Functions become assignable, and the control domain's again.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::{Drivers, Remembered, Sbdf};
use crate::hypervisor::{FunctionInfo, FunctionState, Functions, HypervisorError};

/// How long a reset may take: that of a bus takes 1.1 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to try.
const LOOK: Duration = Duration::from_millis(100);

/// Why a function does not change hands. All is as it was, unless the text says something else.
#[derive(Debug, Error)]
pub enum AssignableError {
    /// There is none.
    #[error("{0}: there is no such function")]
    Unknown(Sbdf),
    /// A guest has it.
    #[error("{function} belongs to domain {domain}: it has to end first")]
    OfGuest {
        /// The function.
        function: Sbdf,
        /// The guest.
        domain: u16,
    },
    /// It cannot be assigned.
    #[error("{function} cannot be assigned: {reason}{advice}")]
    NotAssignable {
        /// The function.
        function: Sbdf,
        /// What the hypervisor has against it.
        reason: String,
        /// What could be done.
        advice: &'static str,
    },
    /// Linux does not do what it should.
    #[error("{function}: {what}: {error}")]
    Linux {
        /// The function.
        function: Sbdf,
        /// What it should do.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// The hypervisor refused.
    #[error("{error}")]
    Hypervisor {
        /// Why.
        #[from]
        error: HypervisorError,
    },
    /// What failed could not be undone.
    #[error("{first}\nand then: {then}")]
    NotUndone {
        /// What failed.
        first: Box<Self>,
        /// What failed after it.
        then: Box<Self>,
    },
}

fn linux(function: Sbdf, what: &'static str) -> impl FnOnce(io::Error) -> AssignableError {
    move |error| AssignableError::Linux {
        function,
        what,
        error,
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Added {
    /// It was assignable.
    Already,
    /// It is now; the driver that let go of it.
    Now(Option<String>),
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Removed {
    /// The control domain had it.
    Already,
    /// The control domain has it, and this driver again.
    Bound(String),
    /// The control domain has it, without a driver; the one that it had.
    Unbound(Option<String>),
}

/// Takes a function from the control domain, so that guests can have it.
///
/// # Errors
/// [`AssignableError`].
pub fn add(
    hypervisor: &impl Functions,
    drivers: &impl Drivers,
    remembered: &Remembered,
    function: Sbdf,
) -> Result<Added, AssignableError> {
    let info = look(hypervisor, function)?;
    match info.state {
        FunctionState::Assignable => return Ok(Added::Already),
        FunctionState::Guest => return Err(of_guest(&info)),
        FunctionState::Broken | FunctionState::Dom0 => {}
    }
    if let Some(reason) = &info.reason {
        return Err(AssignableError::NotAssignable {
            function,
            reason: reason.clone(),
            advice: advice(&info),
        });
    }
    let driver = drivers.driver(function);
    let driver = driver.map_err(linux(function, "its driver"))?;
    if let Some(driver) = &driver {
        // First: what dies after it can be put right by `remove -r`.
        let noted = remembered.put(function, driver);
        noted.map_err(linux(function, "its driver cannot be remembered"))?;
        let unbound = drivers.unbind(function, driver);
        if let Err(first) = unbound.map_err(linux(function, "its driver keeps it")) {
            return Err(first_and(
                first,
                undo(drivers, remembered, function, driver),
            ));
        }
    }
    match hypervisor.set_assignable(function, true) {
        Ok(()) => Ok(Added::Now(driver)),
        Err(error) => {
            let back = take_back(hypervisor, function);
            let bound = match &driver {
                Some(driver) => undo(drivers, remembered, function, driver),
                None => Ok(()),
            };
            Err(first_and(error.into(), back.and(bound)))
        }
    }
}

/// Gives a function back to the control domain; to the driver that it had if `rebind`.
///
/// # Errors
/// [`AssignableError`].
pub fn remove(
    hypervisor: &impl Functions,
    drivers: &impl Drivers,
    remembered: &Remembered,
    function: Sbdf,
    rebind: bool,
) -> Result<Removed, AssignableError> {
    let info = look(hypervisor, function)?;
    let had = remembered.get(function);
    let had = had.map_err(linux(function, "the driver that it had"))?;
    match info.state {
        // What `add` left that was killed half way.
        FunctionState::Dom0 if had.is_none() => return Ok(Removed::Already),
        FunctionState::Guest => return Err(of_guest(&info)),
        _ => {}
    }
    if info.state != FunctionState::Dom0 {
        give_back(hypervisor, function)?;
    }
    let found = drivers.look_for(function);
    found.map_err(linux(function, "Linux does not look for it"))?;
    let removed = match (had, rebind) {
        (Some(driver), true) => {
            let bound = drivers.driver(function);
            let bound = bound.map_err(linux(function, "its driver"))?;
            if bound.as_deref() != Some(&driver) {
                let bound = drivers.bind(function, &driver);
                bound.map_err(linux(function, "the driver that it had does not take it"))?;
            }
            Removed::Bound(driver)
        }
        (had, _) => Removed::Unbound(had),
    };
    let forgotten = remembered.forget(function);
    forgotten.map_err(linux(function, "its driver cannot be forgotten"))?;
    Ok(removed)
}

/// The control domain gets a function. One that a guest has just had is reset first, which goes on after the
/// guest's end: that is waited for.
fn give_back(hypervisor: &impl Functions, function: Sbdf) -> Result<(), AssignableError> {
    let begin = Instant::now();
    loop {
        let Err(error) = hypervisor.set_assignable(function, false) else {
            return Ok(());
        };
        let info = look(hypervisor, function)?;
        if info.state != FunctionState::Assignable || begin.elapsed() > PATIENCE {
            return Err(error.into());
        }
        thread::sleep(LOOK);
    }
}

fn look(hypervisor: &impl Functions, function: Sbdf) -> Result<FunctionInfo, AssignableError> {
    let info = hypervisor.function(function)?;
    info.ok_or(AssignableError::Unknown(function))
}

fn of_guest(info: &FunctionInfo) -> AssignableError {
    AssignableError::OfGuest {
        function: info.function,
        domain: info.domain.unwrap_or_default(),
    }
}

fn advice(info: &FunctionInfo) -> &'static str {
    match info.reset {
        _ if info.is_bridge() => "; give the functions behind it",
        None if info.state == FunctionState::Dom0 => {
            "; behind a bridge of its own, a bus reset would do"
        }
        _ => "",
    }
}

/// A function that the hypervisor has taken in part is the control domain's again.
fn take_back(hypervisor: &impl Functions, function: Sbdf) -> Result<(), AssignableError> {
    match look(hypervisor, function)?.state {
        FunctionState::Assignable => Ok(hypervisor.set_assignable(function, false)?),
        _ => Ok(()),
    }
}

/// The driver has the function again.
fn undo(
    drivers: &impl Drivers,
    remembered: &Remembered,
    function: Sbdf,
    driver: &str,
) -> Result<(), AssignableError> {
    let bound = drivers.driver(function);
    let bound = bound.map_err(linux(function, "its driver"))?;
    if bound.is_none() {
        let bound = drivers.bind(function, driver);
        bound.map_err(linux(function, "its driver does not take it back"))?;
    }
    let forgotten = remembered.forget(function);
    forgotten.map_err(linux(function, "its driver cannot be forgotten"))
}

fn first_and(first: AssignableError, then: Result<(), AssignableError>) -> AssignableError {
    match then {
        Ok(()) => first,
        Err(then) => AssignableError::NotUndone {
            first: Box::new(first),
            then: Box::new(then),
        },
    }
}

#[cfg(test)]
mod tests;
