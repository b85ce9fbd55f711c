//! `cargo xtask run`: the image in QEMU, its console on this terminal.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::RunOptions;
use crate::context::Context;
use crate::image::{self, Image};
use crate::qemu::{Board, Console, Machine, Start};
use crate::setup::{self, QEMU, Toolchain};
use crate::{debian, process};

/// Builds the image and boots it as the options say.
pub fn run(context: &Context, options: &RunOptions) -> Result<()> {
    let expected = context.artifacts().join("xen-rs");
    let mut machine = machine(options, Start::Kernel(expected));
    if machine.dtb.is_none() {
        machine.dtb = device_tree(context, options.machine)?;
    }
    machine.check()?;
    let mut qemu = machine.command(Console::Terminal);
    if options.print {
        println!("{}", process::describe(&qemu));
        return Ok(());
    }
    setup::ensure(context, QEMU)?;
    let image = image::build(context, &Toolchain::prepare(context)?, None)?;
    println!("Ctrl-a x leaves QEMU, Ctrl-a c switches between the console and QEMU's monitor");
    if options.gdb {
        print_gdb(&image, options.machine);
    }
    process::run(context, &mut qemu)
}

fn machine(options: &RunOptions, start: Start) -> Machine {
    let mut extra: Vec<_> = options.qemu.iter().map(Into::into).collect();
    if options.gdb {
        extra.extend(["-s".into(), "-S".into()]);
    }
    Machine {
        gic: options.gic,
        cpu: options.cpu.clone(),
        cpus: options.cpus,
        memory: options.memory.unwrap_or(options.machine.default_memory()),
        dtb: options.dtb.clone(),
        append: options.append.clone(),
        extra,
        ..Machine::board(options.machine, start)
    }
}

/// The device tree of a board for which QEMU makes none: Debian's kernel brings it.
fn device_tree(context: &Context, board: Board) -> Result<Option<PathBuf>> {
    let Some(name) = board.device_tree() else {
        return Ok(None);
    };
    let kernel = debian::unpacked(context, &debian::KERNEL_6_1)?;
    Ok(Some(debian::device_trees(&kernel)?.join(name)))
}

fn print_gdb(image: &Image, board: Board) {
    println!(
        "QEMU waits for a debugger:\n  gdb-multiarch -ex 'target remote :1234' \
         -ex 'add-symbol-file {} -o {:#x}'",
        image.elf.display(),
        board.load_address()
    );
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn command(words: &str) -> String {
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Verb::Run(options) = cli.verb else {
            panic!("not run")
        };
        let machine = machine(&options, Start::Kernel("image".into()));
        process::describe(&machine.command(Console::Terminal))
    }

    #[test]
    fn options_reach_qemu() {
        let line = command("xtask run --gic 2 --cpus 2 --memory 512M --append a=b --gdb -- -d int");
        for part in [
            "gic-version=2",
            "-smp 2",
            "-m 512M",
            "-append a=b",
            "-d int -s -S",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(command("xtask run --machine raspi4b --dtb b.dtb").contains("-m 2G"));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for words in [
            "--gic 4",
            "--memory 4",
            "--machine pc",
            "--cpus x",
            "-d int",
        ] {
            let words = format!("xtask run {words}");
            assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
