//! The project's commands: `cargo xtask build | run | demo | test | bench | fuzz | doc | clean`.
//!
//! The library part is what the QEMU suite in `tests/` shares with the commands: the machines
//! that QEMU simulates ([`qemu`]) and the header of the image file ([`image::header`]).

use std::process::ExitCode;

use clap::Parser;

mod bench;
mod clean;
mod cli;
mod context;
mod debian;
mod demo;
mod doc;
mod fuzz;
pub mod image;
mod process;
mod programs;
pub mod qemu;
mod run;
mod setup;
mod test;
mod version;

use cli::{Cli, Verb};
use context::Context;

/// Runs the command that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<Reported>() {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<()> {
    let context = Context::new(&cli.global)?;
    match &cli.verb {
        Verb::Build(options) => image::build_verb(&context, options),
        Verb::Run(options) => run::run(&context, options),
        Verb::Demo => demo::run(&context),
        Verb::Test(options) => test::run(&context, options),
        Verb::Bench(options) => bench::run(&context, options),
        Verb::Fuzz(options) => fuzz::run(&context, options),
        Verb::Doc => doc::run(&context),
        Verb::Clean(options) => clean::run(&context, options),
    }
}

/// A failure that the command has already said all about.
#[derive(Debug)]
struct Reported;

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it failed")
    }
}

impl std::error::Error for Reported {}
