//! `cargo xtask test`: every check of the project, in the order in which faults are cheapest.

mod parts;
mod tally;
mod unsafe_code;

use std::time::Instant;

use anyhow::Result;

use crate::Reported;
use crate::cli::{Part, TestOptions};
use crate::context::Context;
use crate::setup::{self, QEMU, Toolchain};
use parts::Packages;
use tally::Tally;

/// Runs the parts that the options name and prints the sum of their tests as the last line.
pub fn run(context: &Context, options: &TestOptions) -> Result<()> {
    let mut checks = Checks {
        keep_going: options.keep_going,
        started: Instant::now(),
        tally: Tally::default(),
        failed: Vec::new(),
    };
    if let Err(error) = checks.all(context, options) {
        eprintln!("error: {error:#}");
    }
    checks.report()
}

/// A run of the checks.
struct Checks {
    keep_going: bool,
    started: Instant,
    tally: Tally,
    /// Steps that failed.
    failed: Vec<&'static str>,
}

impl Checks {
    /// Prints what failed and, as the last line, the sum of the tests.
    fn report(mut self) -> Result<()> {
        // What failed and has no test in it must not look like success.
        if !self.failed.is_empty() && self.tally.failed == 0 {
            self.tally.failed = 1;
        }
        println!("\n{:.0} s", self.started.elapsed().as_secs_f32());
        for name in &self.failed {
            println!("FAILED: {name}");
        }
        println!("{}", self.tally);
        if self.failed.is_empty() {
            Ok(())
        } else {
            Err(Reported.into())
        }
    }

    fn all(&mut self, context: &Context, options: &TestOptions) -> Result<()> {
        let wants = |part| options.only.is_none_or(|only| only == part);
        let filter = options.filter.as_deref();
        if wants(Part::Qemu) {
            self.must("set-up: QEMU", |_| setup::ensure(context, QEMU))?;
        }
        if wants(Part::Lint) {
            self.lint(context)?;
        }
        if options.only == Some(Part::Lint) {
            return Ok(());
        }
        let packages = self.must("set-up: Debian's arm64 packages", |_| {
            Packages::prepare(context)
        })?;
        if wants(Part::Host) {
            self.step("host tests", |tally| {
                parts::host(context, &packages, filter, tally)
            })?;
        }
        if wants(Part::Qemu) {
            let images = self.must("image and guests", |_| {
                parts::build(context, &Toolchain::prepare(context)?)
            })?;
            let programs = self.must("programs for Dom0", |_| parts::programs(context))?;
            self.step("QEMU tests", |tally| {
                parts::qemu(context, &packages, &images, &programs, filter, tally)
            })?;
        }
        Ok(())
    }

    fn lint(&mut self, context: &Context) -> Result<()> {
        self.step("formatting", |_| parts::formatting(context))?;
        self.step("unsafe code", |_| parts::unsafe_code(context))?;
        self.step("clippy", |_| parts::clippy_host(context))?;
        let toolchain = self.must("set-up: Rust for bare-metal arm64", |_| {
            let toolchain = Toolchain::prepare(context)?;
            toolchain.prepare_lint(context)?;
            Ok(toolchain)
        })?;
        self.step("clippy of the image and the guests", |_| {
            parts::clippy_bare_metal(context, &toolchain)
        })?;
        self.step("rustdoc", |_| parts::rustdoc(context, &toolchain))
    }

    /// A step that later ones can do without: its failure ends the run unless `--keep-going`.
    fn step(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Tally) -> Result<()>,
    ) -> Result<()> {
        match self.must(name, body) {
            Err(error) if self.keep_going => {
                eprintln!("error: {error:#}");
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// A step that later ones need.
    fn must<T>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Tally) -> Result<T>,
    ) -> Result<T> {
        println!("\n==> {name}");
        let start = Instant::now();
        let outcome = body(&mut self.tally);
        let word = if outcome.is_ok() { "done" } else { "FAILED" };
        println!("<== {name}: {word}, {:.1} s", start.elapsed().as_secs_f32());
        if outcome.is_err() {
            self.failed.push(name);
        }
        outcome
    }
}
