//! INTx lines of the machine that functions of several domains share (PCI Local Bus 3.0, 2.2.6; PCI
//! Express Base 6.0, 2.2.8.1 and 6.1.2).
//!
//! The hypervisor owns such a line. When it is asserted, [`Lines::arrive`] asks each function on it
//! whether it asserts (Interrupt Status), holds those off that do (INTx Disable), and has the input of
//! each owner's interrupt controller raised: then the line is low, and free for the others. When an
//! owner has ended its interrupt, [`Lines::ended`] lets its functions go. One that still asserts makes
//! the line arrive anew, so that the owner sees a level.
//!
//! A function that does not assert interrupts nobody. A line that stays asserted though no function says
//! so is stuck: it rests, longer each time, and says so once.

extern crate alloc;

use alloc::vec::Vec;

use xen_abi::DomId;
use xen_types::Spi;

#[cfg(test)]
mod tests;

/// The functions of the machine.
pub trait Functions {
    /// By which they are told apart.
    type Id: Copy + Eq;
    /// Whether a function that is not held off asserts its pin: its Interrupt Status is set, and its
    /// owner has not disabled it.
    fn asserts(&mut self, function: Self::Id) -> bool;
    /// Holds a function off, which then does not assert its pin, or lets it go as its owner has it.
    fn hold(&mut self, function: Self::Id, off: bool);
}

/// An input of a domain's interrupt controller: its virtual line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Input {
    /// Whose.
    pub domain: DomId,
    /// Which.
    pub spi: Spi,
}

/// A function on a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Member<Id> {
    function: Id,
    input: Input,
    /// It is held off until its owner has ended its interrupt.
    held: bool,
}

/// Why a function does not get on a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LineError {
    /// No memory.
    #[error("no memory for a line's functions")]
    OutOfMemory,
    /// It is on one.
    #[error("the function is on a line already")]
    Known,
}

/// What is to be done with a line that was asserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// It is listened to.
    Listen,
    /// It is disabled for so many microseconds, then [`Lines::arrive`] is called if it is asserted.
    Rest {
        /// How long.
        microseconds: u64,
        /// This is the first time since a function was heard: it is worth a message.
        news: bool,
    },
}

/// How often in a row a line may be asserted by nobody. The end of an assertion is on its way for a
/// while when it was heard by the function's being held off.
const STRAYS: u32 = 16;
/// How long a stuck line rests at first, and at most.
const FIRST_REST: u64 = 1_000;
const LONGEST_REST: u64 = 1_000_000;

/// A line of the machine.
#[derive(Debug)]
struct Line<Id> {
    spi: Spi,
    members: Vec<Member<Id>>,
    /// Assertions by nobody since one by somebody.
    strays: u32,
    /// How long it rests next; 0 before it was found to be stuck.
    rest: u64,
}

/// All lines that the hypervisor owns.
#[derive(Debug)]
pub struct Lines<Id>(Vec<Line<Id>>);

impl<Id> Default for Lines<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id> Lines<Id> {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }
}

impl<Id: Copy + Eq> Lines<Id> {
    /// Whether the hypervisor owns a line.
    pub fn owns(&self, spi: Spi) -> bool {
        self.0.iter().any(|line| line.spi == spi)
    }

    /// Puts a function on a line of the machine: what it asserts is its owner's `input`. Returns
    /// whether it is the first there: the line is the hypervisor's from now on.
    ///
    /// # Errors
    /// [`LineError`]; nothing has changed.
    pub fn add(&mut self, spi: Spi, function: Id, input: Input) -> Result<bool, LineError> {
        let mut members = self.0.iter().flat_map(|line| &line.members);
        if members.any(|member| member.function == function) {
            return Err(LineError::Known);
        }
        let member = Member {
            function,
            input,
            held: false,
        };
        if let Some(line) = self.line_mut(spi) {
            let room = line.members.try_reserve(1);
            room.map_err(|_| LineError::OutOfMemory)?;
            line.members.push(member);
            return Ok(false);
        }
        let mut members = Vec::new();
        let room = members.try_reserve(1).and_then(|()| self.0.try_reserve(1));
        room.map_err(|_| LineError::OutOfMemory)?;
        members.push(member);
        self.0.push(Line {
            spi,
            members,
            strays: 0,
            rest: 0,
        });
        Ok(true)
    }

    /// Takes a function off its line, held off.
    pub fn remove(
        &mut self,
        function: Id,
        functions: &mut impl Functions<Id = Id>,
    ) -> Option<Removed> {
        let is_it = |member: &Member<Id>| member.function == function;
        let place = self
            .0
            .iter()
            .position(|line| line.members.iter().any(is_it))?;
        let line = self.0.get_mut(place)?;
        let index = line.members.iter().position(is_it)?;
        functions.hold(function, true);
        let member = line.members.swap_remove(index);
        // What was asserted by nobody may have been this.
        (line.strays, line.rest) = (0, 0);
        let spi = line.spi;
        let was_last = line.members.is_empty();
        if was_last {
            self.0.swap_remove(place);
        }
        let mut members = self.0.iter().flat_map(|line| &line.members);
        let raised = members.any(|other| other.held && other.input == member.input);
        Some(Removed {
            line: was_last.then_some(spi),
            lower: (member.held && !raised).then_some(member.input),
        })
    }

    /// A line is asserted: `raise` is called for the inputs of the functions that do it, once for each.
    pub fn arrive(
        &mut self,
        spi: Spi,
        functions: &mut impl Functions<Id = Id>,
        mut raise: impl FnMut(Input),
    ) -> Next {
        let Some(line) = self.line_mut(spi) else {
            return Next::Listen;
        };
        let mut heard = false;
        for member in line.members.iter_mut().filter(|member| !member.held) {
            if functions.asserts(member.function) {
                functions.hold(member.function, true);
                member.held = true;
                heard = true;
                raise(member.input);
            }
        }
        line.next(heard)
    }

    /// A domain has ended its interrupt, whose input is low now: its functions are let go.
    pub fn ended(&mut self, input: Input, functions: &mut impl Functions<Id = Id>) {
        let members = self.0.iter_mut().flat_map(|line| &mut line.members);
        for member in members.filter(|member| member.held && member.input == input) {
            member.held = false;
            functions.hold(member.function, false);
        }
    }

    fn line_mut(&mut self, spi: Spi) -> Option<&mut Line<Id>> {
        self.0.iter_mut().find(|line| line.spi == spi)
    }
}

impl<Id> Line<Id> {
    /// What follows when the line was asserted, by somebody or by nobody.
    fn next(&mut self, heard: bool) -> Next {
        if heard {
            (self.strays, self.rest) = (0, 0);
            return Next::Listen;
        }
        self.strays = self.strays.saturating_add(1);
        if self.strays < STRAYS {
            return Next::Listen;
        }
        let news = self.rest == 0;
        let longer = self.rest.saturating_mul(2);
        self.rest = longer.clamp(FIRST_REST, LONGEST_REST);
        Next::Rest {
            microseconds: self.rest,
            news,
        }
    }
}

/// What follows when a function is taken off its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    /// It was the last: this line is not the hypervisor's any more.
    pub line: Option<Spi>,
    /// This input is low: nothing asserts it any more.
    pub lower: Option<Input>,
}
