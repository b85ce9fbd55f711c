//! Functions go to a guest, and come back.
//!
//! The way is: out of the control domain (`seize`), to the hypervisor's list, to the guest. What fails
//! goes the same way back, to where it was before.

use std::io;

use xen_abi::DomId;

use super::wanted::{AssignError, Wanted};
use super::{Drivers, Remembered, Removed, Sbdf, Seized, add, check, remove};
use crate::hypervisor::{FunctionInfo, FunctionState, Functions, GuestBdf, HypervisorError};

/// A function that a guest has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Given {
    /// Which.
    pub function: Sbdf,
    /// Where the guest sees it.
    pub guest: GuestBdf,
}

/// What is needed to take functions from the control domain and to give them back.
#[derive(Debug)]
pub struct Seizer<'a, D> {
    /// The control domain's drivers.
    pub drivers: &'a D,
    /// Which driver a function had.
    pub remembered: &'a Remembered,
    /// What was taken for this guest.
    pub seized: &'a Seized,
}

impl<D: Drivers> Seizer<'_, D> {
    /// Takes those functions from the control domain that it has and that may be taken. Returns which
    /// these were.
    ///
    /// # Errors
    /// [`AssignError`]; all is as it was, unless that says something else.
    pub fn seize(
        &self,
        hypervisor: &impl Functions,
        all: &[FunctionInfo],
        wanted: &[Wanted],
    ) -> Result<Vec<Sbdf>, AssignError> {
        let of_control_domain = |wanted: &&Wanted| {
            let info = all.iter().find(|info| info.function == wanted.function);
            wanted.seize && info.is_some_and(|info| info.state == FunctionState::Dom0)
        };
        let mut taken = Vec::new();
        for &Wanted { function, .. } in wanted.iter().filter(of_control_domain) {
            // Noted first: what dies after it can be put right.
            let outcome = self.seized.put(function).map_err(AssignError::from);
            taken.push(function);
            let outcome = outcome.and_then(|()| {
                let added = add(hypervisor, self.drivers, self.remembered, function);
                Ok(added.map(drop)?)
            });
            if let Err(first) = outcome {
                return Err(first_and(first, self.release(hypervisor, &taken)));
            }
        }
        Ok(taken)
    }

    /// Gives functions that were taken back to their drivers. Goes on where one fails; the first such
    /// failure is returned.
    ///
    /// # Errors
    /// [`AssignError`].
    pub fn release(
        &self,
        hypervisor: &impl Functions,
        functions: &[Sbdf],
    ) -> Result<(), AssignError> {
        let mut outcome = Ok(());
        for &function in functions {
            let removed = remove(hypervisor, self.drivers, self.remembered, function, true);
            // One that does not go back now may do so later.
            let back = removed
                .map_err(AssignError::from)
                .and_then(|_: Removed| Ok(self.seized.forget(function)?));
            outcome = outcome.and(back);
        }
        outcome
    }

    /// Gives back all that was taken for the guest.
    ///
    /// # Errors
    /// [`AssignError`].
    pub fn release_all(&self, hypervisor: &impl Functions) -> Result<(), AssignError> {
        let all: io::Result<Vec<Sbdf>> = self.seized.all();
        self.release(hypervisor, &all?)
    }
}

/// Gives functions to a domain.
///
/// # Errors
/// The hypervisor's, with the function that it is about; those before it are the domain's.
pub fn give(
    hypervisor: &impl Functions,
    domain: DomId,
    wanted: &[Wanted],
) -> Result<Vec<Given>, AssignError> {
    let give = |&Wanted { function, slot, .. }: &Wanted| {
        let guest = hypervisor.assign(domain, function, slot);
        let guest = guest.map_err(|error| refused(hypervisor, function, error))?;
        Ok(Given { function, guest })
    };
    wanted.iter().map(give).collect()
}

/// Gives a function to a guest that runs: takes it from the control domain first where that is wanted.
///
/// # Errors
/// [`AssignError`]; all is as it was, unless that says something else.
pub fn attach(
    hypervisor: &impl Functions,
    seizer: &Seizer<'_, impl Drivers>,
    domain: DomId,
    wanted: &[Wanted],
) -> Result<Vec<Given>, AssignError> {
    if !hypervisor.device_support(domain)?.pci {
        return Err(AssignError::NotSupported);
    }
    let taken = seizer.seize(hypervisor, &hypervisor.functions()?, wanted)?;
    let given = hypervisor
        .functions()
        .map_err(AssignError::from)
        .and_then(|all| check(&all, wanted, Some(domain)))
        .and_then(|()| give_all(hypervisor, domain, wanted));
    given.map_err(|first| first_and(first, seizer.release(hypervisor, &taken)))
}

/// Gives all functions or none.
fn give_all(
    hypervisor: &impl Functions,
    domain: DomId,
    wanted: &[Wanted],
) -> Result<Vec<Given>, AssignError> {
    let mut given = Vec::new();
    for wanted in wanted {
        match give(hypervisor, domain, std::slice::from_ref(wanted)) {
            Ok(one) => given.extend(one),
            Err(first) => {
                let mut back = Ok(());
                for Given { function, .. } in given {
                    back = back.and(take(hypervisor, domain, function));
                }
                return Err(first_and(first, back));
            }
        }
    }
    Ok(given)
}

/// Takes a function from a domain, whether that is ready for it or not.
///
/// # Errors
/// The hypervisor's.
pub fn take(hypervisor: &impl Functions, domain: DomId, function: Sbdf) -> Result<(), AssignError> {
    let taken = hypervisor.deassign(domain, function);
    taken.map_err(|error| refused(hypervisor, function, error))
}

/// The hypervisor's refusal, with what it has against the function.
fn refused(hypervisor: &impl Functions, function: Sbdf, error: HypervisorError) -> AssignError {
    let info = hypervisor.function(function).ok().flatten();
    let reason = info.and_then(|info| info.reason);
    let error = match reason {
        Some(reason) => HypervisorError::Refused { reason },
        None => error,
    };
    AssignError::Refused { function, error }
}

fn first_and(first: AssignError, then: Result<(), AssignError>) -> AssignError {
    match then {
        Ok(()) => first,
        Err(then) => AssignError::NotUndone {
            first: Box::new(first),
            then: Box::new(then),
        },
    }
}

#[cfg(test)]
mod tests;
