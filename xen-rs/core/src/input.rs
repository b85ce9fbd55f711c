//! Who gets what is typed on the console: Dom0, or the hypervisor's own keys. Three Ctrl-A in a row
//! switch, as with Xen; fewer are Dom0's like everything else.

/// How often the character must come to switch.
const TIMES: u8 = 3;

/// Who gets the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// The control domain.
    Dom0,
    /// The hypervisor: each character is a command.
    Hypervisor,
}

/// What a typed character means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typed {
    /// Perhaps the beginning of a switch: nothing yet.
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
    /// A command for the hypervisor.
    Command(u8),
}

/// The switch.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    reader: Reader,
    switches: u8,
}

impl Input {
    /// Ctrl-A, the character that switches when it comes three times.
    pub const SWITCH: u8 = 0x01;

    /// Dom0 reads.
    pub const fn new() -> Self {
        Self {
            reader: Reader::Dom0,
            switches: 0,
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
            self.reader = match self.reader {
                Reader::Dom0 => Reader::Hypervisor,
                Reader::Hypervisor => Reader::Dom0,
            };
            return Typed::SwitchedTo(self.reader);
        }
        let switches = core::mem::take(&mut self.switches);
        match self.reader {
            Reader::Dom0 => Typed::ForDom0 { switches, byte },
            Reader::Hypervisor => Typed::Command(byte),
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
}
