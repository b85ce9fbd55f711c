//! Exceptions and panics at EL2 print a complete report, then the machine stops or resets.

use anyhow::{Result, ensure};
use tests::case::{Case, SILENCE};
use xtask::qemu::{Machine, Memory};

use super::Test;

/// What `selftest=` provokes, and the cause that the report names.
const CAUSES: [(&str, &str); 5] = [
    ("panic", "panic"),
    ("data-abort", "data abort"),
    ("undefined", "undefined|unknown"),
    ("stack-overflow", "stack overflow"),
    ("execute-data", "instruction abort"),
];

pub fn tests() -> Vec<Test> {
    let mut tests: Vec<_> = CAUSES
        .into_iter()
        .map(|(kind, cause)| {
            Test::new(format!("exception::{kind}"), move |case| {
                reports(case, kind, cause)
            })
        })
        .collect();
    tests.push(Test::new("exception::resets", resets));
    tests
}

/// With `noreboot` the report is the last that is seen.
fn reports(case: &Case, kind: &str, cause: &str) -> Result<()> {
    let mut session = case.start(&machine(case, &format!("selftest={kind} noreboot")))?;
    session.expect(&format!(r"^\*\*\* xen-rs stopped: (?i:.*({cause}))"))?;
    session.expect(r"^\*\*\* end of report")?;
    // Names in the backtrace, and the log that led here.
    session.saw(r"xen_rs::")?;
    session.saw(r"(?i)\bcpu ?0\b")?;
    let after = session.until_silent(SILENCE)?;
    ensure!(
        !after.iter().any(|line| line.starts_with("***")),
        "a second report: {}",
        after.join(" | ")
    );
    Ok(())
}

/// Without it the machine resets, which ends QEMU here.
fn resets(case: &Case) -> Result<()> {
    let mut session = case.start(&machine(case, "selftest=panic"))?;
    session.expect(r"^\*\*\* end of report")?;
    session.wait_end()
}

fn machine(case: &Case, append: &str) -> Machine {
    Machine {
        cpus: 2,
        memory: Memory::gib(1),
        append: Some(append.to_string()),
        ..case.virt()
    }
}
