//! Configuration files of guests, in the grammar of xl (`xl.cfg(5)`).
//!
//! Reading has three steps: `parse` makes assignments of the text, each part with the place that it
//! stands at; `fields` finds them by key; and [`GuestConfig::read`] makes of them what a guest is to
//! be. Whatever is wrong is a [`Diagnostic`] that shows the line and points into it. What is only odd,
//! such as an unknown key, is a warning.

mod devices;
mod diagnostic;
mod fields;
mod guest;
mod keys;
mod lex;
mod parse;
mod types;

use std::fs;
use std::path::Path;

pub use devices::{HostDevice, IoMemory, PciFunction};
pub use diagnostic::{Diagnostic, Severity, Source};
pub use guest::GuestConfig;
pub use types::{CpuSet, EndAction, EndActions, GicChoice, GuestName, Passthrough};

/// A configuration that was read, and what is odd about it.
#[derive(Debug)]
pub struct Loaded {
    /// What the guest is to be.
    pub config: GuestConfig,
    /// Warnings, as they are shown.
    pub warnings: Vec<String>,
}

/// Reads a configuration from its text. Paths in it are relative to `folder`.
///
/// # Errors
/// Everything that is wrong with it, and what is odd, as it is shown.
pub fn load_text(source: &Source, folder: &Path) -> Result<Loaded, Vec<String>> {
    let mut diagnostics = Vec::new();
    let config = parse::parse(source.text(), &mut diagnostics).and_then(|assignments| {
        let mut fields = fields::Fields::new(assignments, &mut diagnostics);
        let config = GuestConfig::read(&mut fields, folder);
        fields.finish();
        config
    });
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
    let failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    let shown = diagnostics
        .iter()
        .map(|diagnostic| source.show(diagnostic))
        .collect();
    match config {
        Some(config) if !failed => Ok(Loaded {
            config,
            warnings: shown,
        }),
        _ => Err(shown),
    }
}

/// Reads a configuration file. Paths in it are relative to its folder.
///
/// # Errors
/// As [`load_text`], or that the file cannot be read.
pub fn load(path: &Path) -> Result<Loaded, Vec<String>> {
    let name = path.display();
    let bytes = fs::read(path).map_err(|error| vec![format!("{name}: error: {error}")])?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good);
        let line = line.filter(|byte| **byte == b'\n').count() + 1;
        vec![format!("{name}:{line}: error: this line is not UTF-8 text")]
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    load_text(&Source::new(name.to_string(), text), folder)
}
