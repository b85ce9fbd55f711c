//! Every encoding of MRS, MSR and SYS, read and written.

use guests::code::Code;
use guests::machine::Machine;
use guests::random::Random;
use guests::{exception, println};

use super::values::Values;

/// An encoding: op0, op1, CRn, CRm, op2 (Arm ARM C5.1.3).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Encoding(u32, u32, u32, u32, u32);

/// How often each register is written, with other values.
const ROUNDS: u64 = 4;
/// SYS and SYSL; debug and trace; the rest.
const SPACES: [u32; 3] = [1, 2, 3];

pub fn run(machine: &Machine, random: &mut Random, _count: u64) -> u64 {
    exception::tolerate();
    let values = Values::new(machine);
    let mut done = 0;
    for space in SPACES {
        println!("fuzz: reads of op0 {space}");
        done += sweep(&values, random, |encoding| {
            (encoding.0 == space).then(|| encoding.read())
        });
        for round in 0..ROUNDS {
            println!("fuzz: writes of op0 {space}, round {round}");
            done += sweep(&values, random, |encoding| {
                (encoding.0 == space && !encoding.breaks_the_guest()).then(|| encoding.write())
            });
        }
    }
    done
}

/// Runs what `instruction` makes of each encoding.
fn sweep(
    values: &Values,
    random: &mut Random,
    instruction: impl Fn(Encoding) -> Option<u32>,
) -> u64 {
    let mut code = Code::default();
    let mut done = 0;
    for number in 0..1_u32 << 16 {
        let encoding = Encoding(
            number >> 14,
            number >> 11 & 7,
            number >> 7 & 15,
            number >> 3 & 15,
            number & 7,
        );
        if instruction(encoding).is_some_and(|instruction| code.push(instruction)) {
            done += code.run_all(|| arguments(values, random));
        }
    }
    done + code.run_all(|| arguments(values, random))
}

/// The value to write, or for SYS the address.
fn arguments(values: &Values, random: &mut Random) -> [u64; 4] {
    [values.any(random), 0, 0, 0]
}

impl Encoding {
    fn instruction(self) -> u32 {
        let Self(op0, op1, crn, crm, op2) = self;
        0xd500_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
    }

    /// `mrs x0, …` or `sysl x0, …`
    fn read(self) -> u32 {
        self.instruction() | 1 << 21
    }

    /// `msr …, x0` or `sys …, x0`
    fn write(self) -> u32 {
        self.instruction()
    }

    /// Whether a write changes how the guest reaches its memory, stack or handlers, so that it and
    /// not the hypervisor would be tested.
    fn breaks_the_guest(self) -> bool {
        matches!(
            self,
            // SCTLR_EL1, SCTLR2_EL1
            Self(3, 0, 1, 0, 0 | 3)
                // TTBR0_EL1, TTBR1_EL1, TCR_EL1, TCR2_EL1, and guarded control stacks
                | Self(3, 0, 2, 0 | 5, _)
                // MAIR_EL1, AMAIR_EL1, permission indirection
                | Self(3, 0, 10, 2 | 3, _)
                // VBAR_EL1
                | Self(3, 0, 12, 0, 0)
                // SPSel
                | Self(3, 0, 4, 2, 0)
                // DAIF
                | Self(3, 3, 4, 2, 1)
        )
    }
}
