//! How a command fails: what it says, and with which exit code.

use std::fmt::Display;
use std::process::ExitCode;

use crate::console::ConsoleError;
use crate::guest::{BlueprintError, BuildError};
use crate::hypervisor::HypervisorError;
use crate::monitor::MonitorError;
use crate::pci::{AssignError, AssignableError};
use crate::state::StateError;

/// What ends a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// What to say, without a line end; empty if it was said.
    pub text: String,
}

/// Kinds of failures, with their exit codes. clap ends with 2 where the command line is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FailureKind {
    /// Anything else.
    Other = 1,
    /// The configuration, or a file that it names, is wrong.
    Config = 3,
    /// There is no such guest.
    NoGuest = 4,
    /// There is no hypervisor, or no permission to use it.
    NoHypervisor = 5,
    /// The hypervisor refused.
    Refused = 6,
    /// Ctrl-C, or another signal.
    Interrupted = 130,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: FailureKind, text: impl Display) -> Self {
        Self {
            kind,
            text: text.to_string(),
        }
    }

    /// Its exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    /// There is no guest of that name or number.
    pub fn no_guest(name: impl Display) -> Self {
        Self::new(FailureKind::NoGuest, format!("there is no guest {name}"))
    }
}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Self {
        let kind = match error.is_absence() {
            true => FailureKind::NoHypervisor,
            false => FailureKind::Refused,
        };
        Self::new(kind, error)
    }
}

impl From<BlueprintError> for Failure {
    fn from(error: BlueprintError) -> Self {
        Self::new(FailureKind::Config, error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let kind = match &error {
            BuildError::Interrupted => FailureKind::Interrupted,
            BuildError::Load { .. } => FailureKind::Config,
            BuildError::Functions(error) => of_assignment(error),
            _ => FailureKind::Refused,
        };
        Self::new(kind, error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let kind = match &error {
            StateError::NameTaken(_) => FailureKind::Config,
            StateError::File { .. } => FailureKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<MonitorError> for Failure {
    fn from(error: MonitorError) -> Self {
        Self::new(FailureKind::Other, error)
    }
}

impl From<ConsoleError> for Failure {
    fn from(error: ConsoleError) -> Self {
        Self::new(FailureKind::Other, error)
    }
}

impl From<AssignableError> for Failure {
    fn from(error: AssignableError) -> Self {
        match error {
            AssignableError::Hypervisor { error } => error.into(),
            error => Self::new(FailureKind::Other, error),
        }
    }
}

fn of_assignment(error: &AssignError) -> FailureKind {
    match error {
        AssignError::Unknown(_) | AssignError::Twice(_) | AssignError::Slot { .. } => {
            FailureKind::Config
        }
        AssignError::Hypervisor(error) if error.is_absence() => FailureKind::NoHypervisor,
        AssignError::Folder(_) | AssignError::Assignable(_) => FailureKind::Other,
        AssignError::NotUndone { first, .. } => of_assignment(first),
        _ => FailureKind::Refused,
    }
}

impl From<AssignError> for Failure {
    fn from(error: AssignError) -> Self {
        match error {
            AssignError::Assignable(error) => error.into(),
            error => Self::new(of_assignment(&error), error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(FailureKind::Other, error)
    }
}
