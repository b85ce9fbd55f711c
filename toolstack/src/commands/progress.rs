//! How far a long step is, shown on a terminal.

use std::io::{IsTerminal as _, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::guest::Watch;
use crate::signals::Stop;

/// Shows progress on standard error if that is a terminal, and stops at a signal.
pub struct Progress {
    name: String,
    shown: bool,
    /// What is done, and its bar.
    bar: Option<(&'static str, ProgressBar)>,
    stop: Stop,
}

impl Progress {
    /// One for a guest of this name.
    pub fn new(name: &str, quiet: bool, stop: Stop) -> Self {
        Self {
            name: name.to_string(),
            shown: !quiet && stderr().is_terminal(),
            bar: None,
            stop,
        }
    }

    /// A bar for a step that begins.
    fn begin(&mut self, what: &'static str, of: u64) -> &ProgressBar {
        self.finish();
        let template = "{prefix}: {msg:8} [{bar:40}] {percent}%";
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(of)
            .with_style(style.progress_chars("=> "))
            .with_prefix(self.name.clone())
            .with_message(what);
        &self.bar.insert((what, bar)).1
    }

    /// The bar goes.
    pub fn finish(&self) {
        if let Some((_, bar)) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Progress {
    fn interrupted(&self) -> bool {
        self.stop.wanted()
    }

    fn progress(&mut self, what: &'static str, done: u64, of: u64) {
        if !self.shown {
            return;
        }
        let bar = match &self.bar {
            Some((now, bar)) if *now == what => bar,
            _ => self.begin(what, of),
        };
        bar.set_position(done);
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some((_, bar)) => bar.println(format!("xrs: {text}")),
            None => eprintln!("xrs: {text}"),
        }
    }
}
