//! `xrs`: the command for the control domain. What it does is in the library beside.

use std::process::ExitCode;

use clap::Parser as _;
use toolstack::cli::Cli;
use toolstack::commands;

fn main() -> ExitCode {
    match commands::run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("xrs: {}", failure.text);
            }
            failure.code()
        }
    }
}
