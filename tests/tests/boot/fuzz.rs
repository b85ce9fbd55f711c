//! A guest that makes calls and accesses that no sane guest makes, as the control domain: the
//! hypervisor neither stops nor hangs, and serves the guest to its end.

use anyhow::{Result, ensure};
use tests::case::Case;
use xtask::qemu::{GicVersion, Machine, Memory};

use super::{Test, needed};

/// Ten million calls in all.
const HYPERCALLS: u64 = 2_500_000;
const SEEDS: [u64; 4] = [1, 2, 3, 4];
const FIRMWARE_CALLS: u64 = 1_000_000;
/// Loads and stores of a frame of the interrupt controller.
const GIC_ACCESSES: u64 = 100_000;
/// Changes of page tables, each with accesses through them.
const TABLE_CHANGES: u64 = 300_000;
/// Encodings of system registers, read and written.
const REGISTERS: u64 = 3 << 15;
/// Calls that another vCPU makes while one is lost.
const CALLS_BESIDE: u64 = 200_000;
/// Host seconds more than a test has otherwise.
const SPARE: u32 = 1500;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for seed in SEEDS {
        tests.push(fuzz(
            format!("hypercalls-seed{seed}"),
            format!("hypercalls seed={seed} count={HYPERCALLS}"),
            HYPERCALLS,
            |machine| machine,
        ));
        tests.push(fuzz(
            format!("firmware-calls-seed{seed}"),
            format!("firmware seed={seed} count={FIRMWARE_CALLS}"),
            FIRMWARE_CALLS,
            |machine| Machine { cpus: 2, ..machine },
        ));
    }
    tests.push(fuzz(
        "hypercalls-of-two-vcpus".to_string(),
        format!("hypercalls both count={HYPERCALLS}"),
        HYPERCALLS,
        |machine| Machine { cpus: 2, ..machine },
    ));
    let frames: [(_, &[_]); 2] = [
        (GicVersion::V2, &["distributor", "cpu-interface"]),
        (GicVersion::V3, &["distributor", "redistributor", "its"]),
    ];
    for (gic, frames) in frames {
        for (frame, name) in frames.iter().enumerate() {
            tests.push(fuzz(
                format!("gicv{gic}-{name}"),
                format!("gic frame={frame}"),
                GIC_ACCESSES,
                move |machine| Machine { gic, ..machine },
            ));
        }
    }
    for seed in [1, 2] {
        tests.push(fuzz(
            format!("page-tables-{seed}"),
            format!("tables seed={seed} count={TABLE_CHANGES}"),
            TABLE_CHANGES,
            |machine| machine,
        ));
    }
    for cpu in ["cortex-a53", "cortex-a72", "neoverse-n1", "max"] {
        tests.push(fuzz(
            format!("system-registers-{cpu}"),
            "registers".to_string(),
            REGISTERS,
            move |machine| Machine {
                cpu: cpu.to_string(),
                ..machine
            },
        ));
    }
    for seed in 0..3 {
        tests.push(fuzz(
            format!("vectors-nowhere-{seed}"),
            format!("vectors seed={seed} count={CALLS_BESIDE}"),
            CALLS_BESIDE,
            |machine| Machine { cpus: 2, ..machine },
        ));
    }
    tests
}

/// Boots the guest with these words on its command line: it does at least that many of what it does,
/// and the machine ends when it says so.
fn fuzz(
    name: String,
    words: String,
    least: u64,
    change: impl FnOnce(Machine) -> Machine + Send + 'static,
) -> Test {
    Test::new(format!("fuzz::{name}"), move |case| {
        let machine = machine(case, &words)?;
        let mut session = case.boot_with(&change(machine), SPARE)?;
        session.forbid(&["^guest: "])?;
        session.expect("^fuzz: .*, seed")?;
        let done: u64 = session.expect(r"fuzz: done (\d+)$")?[1].parse()?;
        ensure!(done >= least, "only {done} of at least {least}");
        session.expect("info: dom0: power off$")?;
        session.wait_end()
    })
}

/// One CPU and the guest as its control domain.
fn machine(case: &Case, words: &str) -> Result<Machine> {
    let guest = needed(&case.artifacts.fuzz_guest, "no guest (XEN_RS_FUZZ_GUEST)")?;
    let loader = format!(
        "guest-loader,kernel={},addr=0x49000000,bootargs={words}",
        guest.display()
    );
    Ok(Machine {
        cpus: 1,
        gic: GicVersion::V3,
        memory: Memory::gib(1),
        append: Some("dom0_mem=256M".into()),
        extra: ["-device".into(), loader.into()].to_vec(),
        ..case.virt()
    })
}
