//! Where unsafe code may be: `xen-rs/src`, the bare-metal test guests, the system calls of test programs
//! and the toolstack's file with requests to Xen's devices, and nowhere else.
//!
//! The compiler forbids it in every crate that takes the workspace's lints; this finds it in what
//! the compiler does not see here, too, such as code for another target.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};
use regex::{Captures, Regex};

use crate::context::Context;

/// The folders and files that may hold unsafe code.
const ALLOWED: [&str; 4] = [
    "xen-rs/src",
    "tests/guests/src",
    "tests/programs/src",
    "toolstack/src/hypervisor/device.rs",
];

/// Fails with the places if there is unsafe code where none may be.
pub fn check(context: &Context) -> Result<()> {
    let mut files = Vec::new();
    let mut skip = ALLOWED.map(|folder| context.root.join(folder)).to_vec();
    skip.push(context.target.clone());
    collect(&context.root, &skip, &mut files)?;
    let allowed = ALLOWED.join(" and ");
    let mut places = Vec::new();
    for file in &files {
        let source = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        places.extend(
            lines_with_unsafe(&source)
                .iter()
                .map(|line| format!("  {}:{line}", context.show(file))),
        );
    }
    if !places.is_empty() {
        bail!(
            "unsafe code belongs in {allowed} only:\n{}",
            places.join("\n")
        );
    }
    println!("no unsafe code outside {allowed} ({} files)", files.len());
    Ok(())
}

/// Rust files below a folder, without hidden folders, build output and what is allowed.
fn collect(folder: &Path, skip: &[PathBuf], files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || skip.contains(&path) || path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            collect(&path, skip, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Comments, strings and characters, which may go over several lines.
static NO_CODE: LazyLock<Regex> = LazyLock::new(|| {
    let parts = [
        r"//[^\n]*",
        r"/\*.*?\*/",
        r###"\br##".*?"##"###,
        r##"\br#".*?"#"##,
        r#"\br".*?""#,
        r#""(?:\\.|[^"\\])*""#,
        r"'(?:\\.|[^'\\])'",
    ];
    Regex::new(&format!("(?s){}", parts.join("|"))).expect("a constant")
});

static UNSAFE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bunsafe\b").expect("a constant"));

/// Numbers of the lines whose code has the word.
fn lines_with_unsafe(source: &str) -> Vec<usize> {
    let only_line_ends = |text: &Captures| "\n".repeat(text[0].matches('\n').count());
    NO_CODE
        .replace_all(source, only_line_ends)
        .lines()
        .enumerate()
        .filter(|(_, line)| UNSAFE.is_match(line))
        .map(|(number, _)| number + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_text() {
        let source = r##"fn f() {
    unsafe { g() }
}
// unsafe
/* unsafe
   unsafe */ unsafe impl Send for T {}
let s = "unsafe \" unsafe"; // unsafe
let s = r#"unsafe " unsafe"#;
#![forbid(unsafe_code)]
let s = "over
unsafe lines"; unsafe fn g() {}
let q = '"'; unsafe impl Sync for T {} // "
"##;
        assert_eq!(lines_with_unsafe(source), [2, 6, 11, 12]);
    }
}
