//! Lines with functions of several domains, and owners that serve them sooner or later.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Functions: which line of the machine each is on, and which input of its domain it asserts. Functions
/// of a domain share an input across lines, and those of different domains a line.
const WIRING: [(u32, u16, u32); 6] = [
    (3, 1, 0),
    (3, 2, 0),
    (3, 0, 3),
    (4, 1, 0),
    (4, 1, 1),
    (4, 2, 1),
];

fn spi(number: u32) -> Spi {
    Spi::new(number).unwrap()
}

fn line_of(function: usize) -> Spi {
    spi(WIRING[function].0)
}

fn input_of(function: usize) -> Input {
    let (_, domain, number) = WIRING[function];
    Input {
        domain: DomId::new(domain),
        spi: spi(number),
    }
}

/// A function's registers.
#[derive(Clone, Copy, Default)]
struct Pin {
    /// What the function has to say, as often as it did.
    wanted: u32,
    /// INTx Disable, by the hypervisor.
    held: bool,
    /// The same, by the owner.
    disabled: bool,
}

impl Pin {
    fn asserts(self) -> bool {
        self.wanted > 0 && !self.held && !self.disabled
    }
}

#[derive(Default)]
struct Bus(Vec<Pin>);

impl Functions for Bus {
    type Id = usize;

    fn asserts(&mut self, function: usize) -> bool {
        let Pin {
            wanted, disabled, ..
        } = self.0[function];
        wanted > 0 && !disabled
    }

    fn hold(&mut self, function: usize, off: bool) {
        self.0[function].held = off;
    }
}

struct Machine {
    bus: Bus,
    lines: Lines<usize>,
    /// Inputs that are high.
    raised: Vec<Input>,
    /// How often each function was served.
    served: [u32; WIRING.len()],
    present: [bool; WIRING.len()],
}

impl Machine {
    fn new() -> Self {
        let mut machine = Self {
            bus: Bus(std::vec![Pin::default(); WIRING.len()]),
            lines: Lines::new(),
            raised: Vec::new(),
            served: [0; WIRING.len()],
            present: [false; WIRING.len()],
        };
        (0..WIRING.len()).for_each(|function| machine.add(function));
        machine
    }

    fn add(&mut self, function: usize) {
        if self.present[function] {
            return;
        }
        let first = !self.lines.owns(line_of(function));
        let added = self
            .lines
            .add(line_of(function), function, input_of(function));
        assert_eq!(added, Ok(first));
        self.present[function] = true;
        self.bus.0[function] = Pin::default();
        self.settle();
    }

    fn remove(&mut self, function: usize) {
        let removed = self.lines.remove(function, &mut self.bus);
        assert_eq!(removed.is_some(), self.present[function]);
        self.present[function] = false;
        let Some(Removed { line, lower }) = removed else {
            return;
        };
        assert!(self.bus.0[function].held);
        assert_eq!(line.is_some(), !self.lines.owns(line_of(function)));
        if let Some(input) = lower {
            self.raised.retain(|raised| *raised != input);
        }
        self.settle();
    }

    fn level(&self, line: Spi) -> bool {
        let mut pins = self.bus.0.iter().enumerate();
        pins.any(|(function, pin)| line_of(function) == line && pin.asserts())
    }

    /// The hypervisor takes the interrupts of its lines until they are low.
    fn settle(&mut self) {
        for line in [spi(3), spi(4)] {
            for _ in 0..3 {
                if !self.level(line) {
                    break;
                }
                let before: Vec<Pin> = self.bus.0.clone();
                let mut raised = Vec::new();
                let next = self
                    .lines
                    .arrive(line, &mut self.bus, |input| raised.push(input));
                assert_eq!(next, Next::Listen);
                // Nobody is interrupted for a function that does not assert.
                for input in &raised {
                    let mut pins = before.iter().enumerate();
                    let asserts = |(function, pin): (usize, &Pin)| {
                        line_of(function) == line && input_of(function) == *input && pin.asserts()
                    };
                    assert!(pins.any(asserts), "{input:?}");
                }
                for input in raised {
                    if !self.raised.contains(&input) {
                        self.raised.push(input);
                    }
                }
            }
            assert!(!self.level(line), "one look is enough for all that assert");
        }
    }

    /// A domain's driver serves what it finds at an input, if that is high, and ends the interrupt.
    fn serve(&mut self, input: Input, most: u32) {
        let Some(place) = self.raised.iter().position(|raised| *raised == input) else {
            return;
        };
        for function in (0..WIRING.len()).filter(|function| input_of(*function) == input) {
            let pin = &mut self.bus.0[function];
            if self.present[function] && !pin.disabled {
                let done = pin.wanted.min(most);
                pin.wanted -= done;
                self.served[function] += done;
            }
        }
        self.raised.swap_remove(place);
        self.lines.ended(input, &mut self.bus);
        self.settle();
    }

    fn serve_all(&mut self) {
        for _ in 0..1000 {
            let Some(input) = self.raised.first().copied() else {
                return;
            };
            self.serve(input, 1);
        }
        panic!("inputs that stay high");
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Want(usize),
    Disable(usize, bool),
    Serve(usize, u32),
    Add(usize),
    Remove(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let function = 0..WIRING.len();
    prop_oneof![
        8 => function.clone().prop_map(Happening::Want),
        2 => (function.clone(), any::<bool>()).prop_map(|(f, off)| Happening::Disable(f, off)),
        6 => (function.clone(), 0..3_u32).prop_map(|(f, most)| Happening::Serve(f, most)),
        1 => function.clone().prop_map(Happening::Add),
        1 => function.prop_map(Happening::Remove),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nobody_is_interrupted_for_nothing(
        steps in prop::collection::vec(happening(), 0..120)
    ) {
        let mut machine = Machine::new();
        let mut wanted = [0; WIRING.len()];
        for step in steps {
            match step {
                Happening::Want(function) => {
                    if machine.present[function] {
                        machine.bus.0[function].wanted += 1;
                        wanted[function] += 1;
                        machine.settle();
                    }
                }
                Happening::Disable(function, off) => {
                    if machine.present[function] {
                        machine.bus.0[function].disabled = off;
                        machine.settle();
                    }
                }
                Happening::Serve(function, most) => machine.serve(input_of(function), most),
                Happening::Add(function) => machine.add(function),
                Happening::Remove(function) => {
                    machine.remove(function);
                    wanted[function] = machine.served[function];
                }
            }
            // What asserts and is not disabled waits at its owner's input.
            for function in (0..WIRING.len()).filter(|function| machine.present[*function]) {
                let pin = machine.bus.0[function];
                if pin.held {
                    prop_assert!(machine.raised.contains(&input_of(function)));
                }
                if pin.wanted > 0 && !pin.disabled {
                    prop_assert!(pin.held);
                }
            }
        }
        for pin in &mut machine.bus.0 {
            pin.disabled = false;
        }
        machine.settle();
        machine.serve_all();
        for function in (0..WIRING.len()).filter(|function| machine.present[*function]) {
            prop_assert_eq!(machine.served[function], wanted[function]);
        }
    }
}

#[test]
fn a_function_that_always_asserts_starves_nobody() {
    let mut machine = Machine::new();
    machine.bus.0[0].wanted = u32::MAX;
    for _ in 0..100 {
        machine.settle();
        // Its owner does nothing for long; others of the line are served as soon as they assert.
        for other in [1, 2] {
            machine.bus.0[other].wanted += 1;
            machine.settle();
            machine.serve(input_of(other), 1);
            assert_eq!(machine.bus.0[other].wanted, 0);
        }
        machine.serve(input_of(0), 1);
    }
    assert_eq!(&machine.served[..3], [100, 100, 100]);
}

#[test]
fn a_stuck_line_rests_longer_each_time_and_says_so_once() {
    let mut machine = Machine::new();
    let nobody = |machine: &mut Machine| {
        machine
            .lines
            .arrive(spi(3), &mut machine.bus, |input| panic!("{input:?}"))
    };
    for _ in 1..STRAYS {
        assert_eq!(nobody(&mut machine), Next::Listen);
    }
    let mut longest = 0;
    for number in 0..12 {
        let Next::Rest { microseconds, news } = nobody(&mut machine) else {
            panic!("it does not rest");
        };
        assert_eq!(news, number == 0);
        assert!(microseconds > longest || microseconds == LONGEST_REST);
        longest = microseconds;
    }
    assert_eq!(longest, LONGEST_REST);
    // It is not worse off when it works again; and the other line is none of this.
    machine.bus.0[1].wanted = 1;
    machine.settle();
    machine.serve(input_of(1), 1);
    assert_eq!(nobody(&mut machine), Next::Listen);
    machine.bus.0[5].wanted = 1;
    machine.settle();
    machine.serve_all();
    assert_eq!(machine.served, [0, 1, 0, 0, 0, 1]);
}

#[test]
fn a_function_that_leaves_takes_its_interrupt_along() {
    let mut machine = Machine::new();
    machine.bus.0[0].wanted = 1;
    machine.bus.0[3].wanted = 1;
    machine.settle();
    // Another function of the domain still asserts the same input.
    let removed = machine.lines.remove(0, &mut machine.bus);
    let kept = Removed {
        line: None,
        lower: None,
    };
    assert_eq!(removed, Some(kept));
    let removed = machine.lines.remove(3, &mut machine.bus);
    assert_eq!(removed.unwrap().lower, Some(input_of(3)));
    assert_eq!(machine.lines.remove(3, &mut machine.bus), None);
    // What nobody waits for is let go by no end.
    machine.lines.ended(input_of(3), &mut machine.bus);
    assert!(machine.bus.0[0].held && machine.bus.0[3].held);
    for function in [4, 5] {
        let last = machine
            .lines
            .remove(function, &mut machine.bus)
            .unwrap()
            .line;
        assert_eq!(last, (function == 5).then_some(spi(4)));
    }
    assert!(!machine.lines.owns(spi(4)));
    let added = machine.lines.add(spi(3), 1, input_of(1));
    assert_eq!(added, Err(LineError::Known));
}
