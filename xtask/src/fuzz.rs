//! `cargo xtask fuzz`: libFuzzer on what guests, toolstacks and firmware can say.
//!
//! Targets are lines of a table in `tests/fuzz`. They are compiled with the coverage counters that the
//! compiler's stable options offer, so that inputs which reach new code are kept and changed further.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cli::FuzzOptions;
use crate::context::Context;
use crate::process;
use crate::setup::{self, FUZZER};

const PACKAGE: &str = "fuzz";
/// Names the target to the fuzzer, which else prints all names.
const TARGET: &str = "XEN_RS_FUZZ_TARGET";

/// Counters at each edge that the fuzzer reads, and the operands of comparisons.
const COVERAGE: [&str; 7] = [
    "-Dwarnings",
    "-Ccodegen-units=1",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// An input may take no longer.
const SECONDS_OF_AN_INPUT: u32 = 20;
const MOST_BYTES: u32 = 4096;

/// Fuzzes one target, or all of them in turn, or runs one input.
pub fn run(context: &Context, options: &FuzzOptions) -> Result<()> {
    setup::ensure(context, FUZZER)?;
    let fuzzer = Fuzzer::build(context)?;
    let names = fuzzer.targets()?;
    let wanted = match &options.target {
        None => names,
        Some(name) if names.contains(name) => vec![name.clone()],
        Some(name) => bail!("{name} is not fuzzed; the targets are {}", names.join(", ")),
    };
    match &options.input {
        Some(input) => {
            ensure!(
                wanted.len() == 1,
                "which target is {} for?",
                input.display()
            );
            wanted
                .iter()
                .try_for_each(|name| fuzzer.replay(name, input))
        }
        None => {
            let seconds = (options.minutes * 60.0).ceil() as u32;
            wanted
                .iter()
                .try_for_each(|name| fuzzer.fuzz(name, seconds))
        }
    }
}

struct Fuzzer<'a> {
    context: &'a Context,
    program: PathBuf,
}

impl<'a> Fuzzer<'a> {
    fn build(context: &'a Context) -> Result<Self> {
        let host = host_triple(context)?;
        let folder = context.target.join("fuzz");
        let mut cargo = context.host_cargo();
        cargo
            .args(["build", "--package", PACKAGE, "--features", "engine"])
            .args(["--profile", "fuzz", "--target", &host, "--target-dir"])
            .arg(&folder)
            // Build scripts are for no target, and are not instrumented.
            .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
        process::run(context, &mut cargo)?;
        Ok(Self {
            context,
            program: folder.join(host).join("fuzz/fuzzer"),
        })
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.context.root).env(TARGET, target);
        command
    }

    fn targets(&self) -> Result<Vec<String>> {
        let names = process::output(self.context, &mut self.command(""))?;
        Ok(names.lines().map(str::to_string).collect())
    }

    /// The folder of a target for a purpose, made if it is not there.
    fn folder(&self, purpose: &str, target: &str) -> Result<PathBuf> {
        let folder = self.context.target.join("fuzz").join(purpose).join(target);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    fn fuzz(&self, target: &str, seconds: u32) -> Result<()> {
        let known = self.folder("corpus", target)?;
        let found = self.folder("found", target)?;
        let seeds = self.context.root.join("tests/fuzz/corpus").join(target);
        println!("{target}: {seconds} s");
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={SECONDS_OF_AN_INPUT}"))
            .arg(format!("-max_len={MOST_BYTES}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args(["-print_final_stats=1", "-use_value_profile=1"])
            .args([known, seeds]);
        process::run(self.context, &mut command).with_context(|| {
            format!(
                "{target} fails with an input in {}: `cargo xtask fuzz {target} --input FILE` runs it again",
                self.context.show(&found)
            )
        })
    }

    fn replay(&self, target: &str, input: &Path) -> Result<()> {
        let input = input
            .canonicalize()
            .with_context(|| format!("{}", input.display()))?;
        process::run(self.context, self.command(target).arg(input))
    }
}

/// What the compiler compiles for by itself.
fn host_triple(context: &Context) -> Result<String> {
    let about = process::output(context, context.host_rustc().arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_string())
}
