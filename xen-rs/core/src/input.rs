//! Who gets what is typed on the console: Dom0, the hypervisor's own keys, or a guest whose serial port
//! leads there. Three Ctrl-A in a row switch to the next, as with Xen; fewer are the reader's like
//! everything else.

use arrayvec::ArrayVec;
use xen_abi::DomId;

/// How often the character must come to switch.
const TIMES: u8 = 3;
/// Guests that can be switched to at most.
const MAX_GUESTS: usize = 16;

/// Who gets the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// The control domain.
    Dom0,
    /// The hypervisor: each character is a command.
    Hypervisor,
    /// Another domain, on its serial port.
    Guest(DomId),
}

/// What a typed character means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typed {
    /// Nothing yet.
    Nothing,
    /// The input belongs to another reader from now on.
    SwitchedTo(Reader),
    /// For Dom0: so many Ctrl-A that were not a switch, then the character.
    ForDom0 {
        /// How many Ctrl-A come first.
        switches: u8,
        /// The character.
        byte: u8,
    },
    /// For a guest, in the same way.
    ForGuest {
        /// Which.
        guest: DomId,
        /// How many Ctrl-A come first.
        switches: u8,
        /// The character.
        byte: u8,
    },
    /// A command for the hypervisor.
    Command(u8),
}

/// The switch.
#[derive(Clone, Debug)]
pub struct Input {
    reader: Reader,
    switches: u8,
    dom0: bool,
    guests: ArrayVec<DomId, MAX_GUESTS>,
}

impl Input {
    /// Ctrl-A, the character that switches when it comes three times.
    pub const SWITCH: u8 = 0x01;

    /// Dom0 reads.
    pub const fn new() -> Self {
        Self {
            reader: Reader::Dom0,
            switches: 0,
            dom0: true,
            guests: ArrayVec::new_const(),
        }
    }

    /// Who reads.
    pub const fn reader(&self) -> Reader {
        self.reader
    }

    /// There is no Dom0: the first guest reads, or else the hypervisor.
    pub fn without_dom0(&mut self) {
        self.dom0 = false;
        self.reader = self.after_hypervisor(0);
    }

    /// A guest can be switched to. Where there are too many it cannot: false then.
    pub fn add(&mut self, guest: DomId) -> bool {
        self.guests.try_push(guest).is_ok()
    }

    /// A guest is no more; what it read, the hypervisor does.
    pub fn remove(&mut self, guest: DomId) {
        self.guests.retain(|other| *other != guest);
        if self.reader == Reader::Guest(guest) {
            self.reader = Reader::Hypervisor;
        }
    }

    /// Takes a character.
    pub fn take(&mut self, byte: u8) -> Typed {
        if byte == Self::SWITCH {
            self.switches += 1;
            if self.switches < TIMES {
                return Typed::Nothing;
            }
            self.switches = 0;
            self.reader = self.next();
            return Typed::SwitchedTo(self.reader);
        }
        let switches = core::mem::take(&mut self.switches);
        match self.reader {
            Reader::Dom0 => Typed::ForDom0 { switches, byte },
            Reader::Hypervisor => Typed::Command(byte),
            Reader::Guest(guest) => Typed::ForGuest {
                guest,
                switches,
                byte,
            },
        }
    }

    /// Dom0, the hypervisor, each guest, and Dom0 again.
    fn next(&self) -> Reader {
        match self.reader {
            Reader::Dom0 => Reader::Hypervisor,
            Reader::Hypervisor => self.after_hypervisor(0),
            Reader::Guest(guest) => {
                let place = self.guests.iter().position(|other| *other == guest);
                self.after_hypervisor(place.map_or(0, |place| place + 1))
            }
        }
    }

    /// The guest at this place, or who comes behind them.
    fn after_hypervisor(&self, place: usize) -> Reader {
        match self.guests.get(place) {
            Some(guest) => Reader::Guest(*guest),
            None if self.dom0 => Reader::Dom0,
            None => Reader::Hypervisor,
        }
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn type_at(input: &mut Input, bytes: &[u8]) -> Vec<Typed> {
        bytes.iter().map(|byte| input.take(*byte)).collect()
    }

    #[test]
    fn three_in_a_row_switch_there_and_back() {
        let mut input = Input::new();
        assert_eq!(
            type_at(&mut input, b"\x01\x01\x01h\x01\x01\x01x"),
            [
                Typed::Nothing,
                Typed::Nothing,
                Typed::SwitchedTo(Reader::Hypervisor),
                Typed::Command(b'h'),
                Typed::Nothing,
                Typed::Nothing,
                Typed::SwitchedTo(Reader::Dom0),
                Typed::ForDom0 {
                    switches: 0,
                    byte: b'x'
                },
            ]
        );
    }

    #[test]
    fn fewer_are_not_lost() {
        let mut input = Input::new();
        assert_eq!(
            type_at(&mut input, b"\x01\x01e"),
            [
                Typed::Nothing,
                Typed::Nothing,
                Typed::ForDom0 {
                    switches: 2,
                    byte: b'e'
                },
            ]
        );
    }

    #[test]
    fn guests_have_their_turn_while_they_are_there() {
        let (first, second) = (DomId::new(1), DomId::new(2));
        let mut input = Input::new();
        assert!(input.add(first) && input.add(second));
        let switch = |input: &mut Input| {
            type_at(input, b"\x01\x01\x01");
            input.reader()
        };
        let round = [
            Reader::Hypervisor,
            Reader::Guest(first),
            Reader::Guest(second),
            Reader::Dom0,
        ];
        assert_eq!([(); 4].map(|()| switch(&mut input)), round);
        input.without_dom0();
        assert_eq!(
            input.take(b'x'),
            Typed::ForGuest {
                guest: first,
                switches: 0,
                byte: b'x'
            }
        );
        input.remove(first);
        assert_eq!(input.reader(), Reader::Hypervisor);
        assert_eq!(switch(&mut input), Reader::Guest(second));
        assert_eq!(switch(&mut input), Reader::Hypervisor);
    }

    #[test]
    fn a_guest_too_many_cannot_be_switched_to() {
        let mut input = Input::new();
        for id in 1..=MAX_GUESTS as u16 {
            assert!(input.add(DomId::new(id)));
        }
        assert!(!input.add(DomId::new(100)));
    }
}
