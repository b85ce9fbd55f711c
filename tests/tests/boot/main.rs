//! The image in QEMU: every supported way of booting it, on every kind of machine.

mod abi;
mod bad_input;
mod boards;
mod boot_domains;
mod dom0;
mod dom0_devices;
mod dom0_messages;
mod entry;
mod exceptions;
mod fleet;
mod fuzz;
mod guests;
mod matrix;
mod options;
mod passthrough;
mod pci;
mod slowest;
mod smmu;
mod xrs;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use slowest::Slowest;
use tests::artifacts::Artifacts;
use tests::case::Case;

type Body = Box<dyn FnOnce(&Case) -> Result<()> + Send>;

/// What a test is: its name and what it does.
struct Test {
    name: String,
    body: Body,
}

impl Test {
    fn new(
        name: impl Into<String>,
        body: impl FnOnce(&Case) -> Result<()> + Send + 'static,
    ) -> Self {
        Self {
            name: format!("in-qemu::{}", name.into()),
            body: Box::new(body),
        }
    }
}

/// A test found that it cannot run here.
#[derive(Debug)]
struct Skip(&'static str);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Skip {}

/// The file, or the reason to skip the test.
fn needed<T: Clone>(file: &Option<T>, name: &'static str) -> Result<T> {
    Ok(file.clone().ok_or(Skip(name))?)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let artifacts = Artifacts::from_env().map(Arc::new);
    let slowest = Arc::new(Slowest::default());
    let trials: Vec<_> = matrix::tests()
        .into_iter()
        .chain(entry::tests())
        .chain(options::tests())
        .chain(exceptions::tests())
        .chain(bad_input::tests())
        .chain(boards::tests())
        .chain(boot_domains::tests())
        .chain(dom0::tests())
        .chain(fuzz::tests())
        .chain(abi::tests())
        .chain(guests::tests())
        .chain(dom0_devices::tests())
        .chain(smmu::tests())
        .chain(dom0_messages::tests())
        .chain(pci::tests())
        .chain(passthrough::tests())
        .chain(xrs::tests())
        .chain(fleet::tests())
        .map(|test| trial(test, artifacts.clone(), slowest.clone()))
        .collect();
    let wanted = trials.iter().any(|trial| !arguments.is_filtered_out(trial));
    if artifacts.is_none() && wanted && !arguments.list {
        eprintln!("SKIPPED: no image to boot: `cargo xtask test` builds it and runs these tests");
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    print!("{slowest}");
    conclusion.exit_code()
}

fn trial(test: Test, artifacts: Option<Arc<Artifacts>>, slowest: Arc<Slowest>) -> Trial {
    let Some(artifacts) = artifacts else {
        return Trial::test(test.name, || Ok(())).with_ignored_flag(true);
    };
    let Test { name, body } = test;
    Trial::ignorable_test(name.clone(), move || {
        let start = Instant::now();
        let outcome = run(&artifacts, &name, body);
        slowest.note(&name, start.elapsed());
        outcome
    })
}

fn run(artifacts: &Artifacts, name: &str, body: Body) -> Result<Completion, Failed> {
    let outcome = Case::new(artifacts, name).and_then(|case| {
        body(&case)?;
        case.succeed()
    });
    match outcome {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(Skip(reason)) => {
                eprintln!("SKIPPED {name}: {reason}; `cargo xtask test` brings it");
                Ok(Completion::ignored_with(reason))
            }
            None => Err(format!("{error:#}").into()),
        },
    }
}
