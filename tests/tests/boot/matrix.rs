//! Interrupt controllers, numbers of CPUs, sizes of RAM, and CPU models.

use anyhow::Result;
use tests::case::{Case, expect_ready};
use xtask::qemu::{GicVersion, Machine, Memory, Session};

use super::Test;

const MEMORY: [Memory; 3] = [Memory::mib(512), Memory::gib(4), Memory::gib(8)];

/// CPU models. Each also enters a guest.
const MODELS: [(&str, GicVersion); 7] = [
    ("cortex-a72", GicVersion::V2),
    ("cortex-a72", GicVersion::V3),
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
        let name = format!("model::{model}-gicv{gic}");
        tests.push(Test::new(name, move |case| {
            let session = boot(
                case,
                &Machine {
                    gic,
                    cpus: 2,
                    memory: Memory::gib(1),
                    cpu: model.to_string(),
                    append: Some("selftest=guest".into()),
                    ..case.virt()
                },
            )?;
            session
                .saw("selftest: guest: hypercall, traps and stage 2 work")
                .map(drop)
        }));
    }
    // CPU 16 and later have another affinity level 1: they are another cluster.
    tests.push(boots("cluster::18cpu", |machine| Machine {
        cpus: 18,
        memory: Memory::gib(1),
        ..machine
    }));
    // More CPUs than QEMU has redistributors for in one place.
    tests.push(Test::new("cluster::130cpu", |case| {
        let session = boot(
            case,
            &Machine {
                cpus: 130,
                memory: Memory::gib(1),
                ..case.virt()
            },
        )?;
        session
            .saw("gic: GICv3, .* 130 redistributors in 2 region")
            .map(drop)
    }));
    tests
}

/// Boots `machine`, which comes up with all that it has.
fn boot(case: &Case, machine: &Machine) -> Result<Session> {
    let mut session = case.boot(machine)?;
    expect_ready(&mut session, machine, machine.board.load_address())?;
    Ok(session)
}

/// The machine comes up with all that it has.
fn boots(
    name: impl Into<String>,
    change: impl FnOnce(Machine) -> Machine + Send + 'static,
) -> Test {
    Test::new(name, |case| boot(case, &change(case.virt())).map(drop))
}
