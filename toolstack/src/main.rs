//! `xrs`: the command for Dom0.
//!
//! This version knows its name and version only: there is no Dom0 to run it in yet, and a command
//! that could do nothing would be worse than none.

use clap::Parser;

/// Creates, watches and ends guests of xen-rs. This version has no commands yet.
#[derive(Parser)]
#[command(name = "xrs", version, arg_required_else_help = true)]
struct Xrs;

fn main() {
    Xrs::parse();
}
