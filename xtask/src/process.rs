//! Starting programs: what ran is printed, and a failure names it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::context::Context;

/// Runs a program to its end on this terminal; an error if it fails.
pub fn run(context: &Context, command: &mut Command) -> Result<()> {
    announce(context, command);
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs a program and returns its standard output; an error, with its own words, if it fails.
pub fn output(context: &Context, command: &mut Command) -> Result<String> {
    announce(context, command);
    let output = command.output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}\n{}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program and passes on the lines that it prints and that `look` wants to be seen; true if
/// it succeeded.
///
/// Standard error is merged into standard output, so that lines keep their order.
pub fn watch(
    context: &Context,
    command: &mut Command,
    mut look: impl FnMut(&str) -> bool,
) -> Result<bool> {
    announce(context, command);
    let (reader, writer) = std::io::pipe()?;
    command
        .stderr(writer.try_clone()?)
        .stdout(writer)
        .stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| cannot_start(command))?;
    // The command holds the write ends; the pipe ends only when they are gone.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut stdout = std::io::stdout();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if look(String::from_utf8_lossy(&line).trim_end()) {
            stdout.write_all(&line)?;
            stdout.flush()?;
        }
        line.clear();
    }
    Ok(child.wait()?.success())
}

/// The command as one would type it.
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quote(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn announce(context: &Context, command: &Command) {
    if context.verbose {
        eprintln!("$ {}", describe(command));
    }
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().to_string_lossy())
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        let mut command = Command::new("qemu");
        command.args([
            "-machine",
            "virt,gic-version=3",
            "-append",
            "a b",
            "it's",
            "",
        ]);
        assert_eq!(
            describe(&command),
            r"qemu -machine virt,gic-version=3 -append 'a b' 'it'\''s' ''"
        );
    }
}
