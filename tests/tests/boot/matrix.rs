//! Interrupt controllers, numbers of CPUs, sizes of RAM, and CPU models.

use tests::case::expect_ready;
use xtask::qemu::{GicVersion, Machine, Memory};

use super::Test;

const MEMORY: [Memory; 3] = [Memory::mib(512), Memory::gib(4), Memory::gib(8)];

/// CPU models besides the Cortex-A72 of the other tests.
const MODELS: [(&str, GicVersion); 5] = [
    ("cortex-a53", GicVersion::V3),
    ("cortex-a57", GicVersion::V3),
    ("neoverse-n1", GicVersion::V3),
    ("max", GicVersion::V3),
    ("max", GicVersion::V2),
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for gic in [GicVersion::V2, GicVersion::V3] {
        for cpus in [1, 2, 4, 8] {
            for memory in MEMORY {
                tests.push(boots(
                    format!("matrix::gicv{gic}-{cpus}cpu-{memory}"),
                    move |machine| Machine {
                        gic,
                        cpus,
                        memory,
                        ..machine
                    },
                ));
            }
        }
    }
    for (model, gic) in MODELS {
        tests.push(boots(format!("model::{model}-gicv{gic}"), move |machine| {
            Machine {
                gic,
                cpus: 2,
                memory: Memory::gib(1),
                cpu: model.to_string(),
                ..machine
            }
        }));
    }
    // CPU 16 and later have another affinity level 1: they are another cluster.
    tests.push(boots("cluster::18cpu", |machine| Machine {
        cpus: 18,
        memory: Memory::gib(1),
        ..machine
    }));
    tests
}

/// The machine comes up with all that it has.
fn boots(
    name: impl Into<String>,
    change: impl FnOnce(Machine) -> Machine + Send + 'static,
) -> Test {
    Test::new(name, |case| {
        let machine = change(case.virt());
        let mut session = case.boot(&machine)?;
        expect_ready(&mut session, &machine, machine.board.load_address())
    })
}
