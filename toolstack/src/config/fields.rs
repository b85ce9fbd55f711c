//! Settings by key: found, taken as the type that is wanted, and told if they are unknown.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::diagnostic::{Diagnostic, Span};
use super::keys;
use super::parse::{Assignment, Value, ValueKind};

/// A value with the place that it stands at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spanned<T> {
    /// What.
    pub value: T,
    /// Where.
    pub span: Span,
}

/// The settings of a file.
pub struct Fields<'d> {
    settings: BTreeMap<String, (Span, Value)>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'d> Fields<'d> {
    /// Puts assignments in order: a later one replaces an earlier one or is added to it.
    pub fn new(assignments: Vec<Assignment>, diagnostics: &'d mut Vec<Diagnostic>) -> Self {
        let mut fields = Self {
            settings: BTreeMap::new(),
            diagnostics,
        };
        for assignment in assignments {
            fields.assign(assignment);
        }
        fields
    }

    fn assign(&mut self, assignment: Assignment) {
        let Assignment {
            key,
            key_span,
            adds,
            value,
        } = assignment;
        match self.settings.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert((key_span, value));
            }
            Entry::Occupied(mut old) if adds => {
                if let Err(fault) = add(&mut old.get_mut().1, value) {
                    self.diagnostics.push(fault);
                }
            }
            Entry::Occupied(mut old) => {
                let message = format!("`{}` was set before; this replaces it", old.key());
                self.diagnostics
                    .push(Diagnostic::warning(key_span.clone(), message));
                old.insert((key_span, value));
            }
        }
    }

    /// Tells that something is wrong.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    /// Tells that a setting is missing.
    pub fn missing(&mut self, message: &str) {
        self.diagnostics.push(Diagnostic::missing(message));
    }

    /// Whether a key is set.
    pub fn has(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    /// Tells that something is odd.
    pub fn warning(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(span, message));
    }

    /// The value of a key, which is then done with.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.settings.remove(key).map(|(_, value)| value)
    }

    /// The value of a key as a string; a number is one, too.
    pub fn text(&mut self, key: &str) -> Option<Spanned<String>> {
        let value = self.take(key)?;
        self.as_text(value, &format!("`{key}`"))
    }

    /// A value as a string.
    pub fn as_text(&mut self, value: Value, what: &str) -> Option<Spanned<String>> {
        let span = value.span;
        match value.kind {
            ValueKind::Text(value) | ValueKind::Number(value) => Some(Spanned { value, span }),
            ValueKind::List(_) => {
                self.error(span, format!("{what} is a string, not a list"));
                None
            }
        }
    }

    /// The value of a key as a number from `least` to `most`; a string that holds one is one, too.
    pub fn number(&mut self, key: &str, least: u64, most: u64) -> Option<Spanned<u64>> {
        let value = self.take(key)?;
        self.as_number(value, &format!("`{key}`"), least, most)
    }

    /// A value as a number.
    pub fn as_number(
        &mut self,
        value: Value,
        what: &str,
        least: u64,
        most: u64,
    ) -> Option<Spanned<u64>> {
        let span = value.span;
        let (ValueKind::Text(digits) | ValueKind::Number(digits)) = value.kind else {
            self.error(span, format!("{what} is a number, not a list"));
            return None;
        };
        match number(digits.trim()) {
            Some(value) if (least..=most).contains(&value) => Some(Spanned { value, span }),
            None if digits
                .trim()
                .trim_start_matches('-')
                .parse::<u128>()
                .is_err() =>
            {
                self.error(span, format!("{what} is a number, not {digits:?}"));
                None
            }
            _ => {
                self.error(span, format!("{what} is a number from {least} to {most}"));
                None
            }
        }
    }

    /// The value of a key as yes or no: 1 or 0.
    pub fn flag(&mut self, key: &str) -> Option<Spanned<bool>> {
        let value = self.take(key)?;
        let span = value.span;
        let known = match &value.kind {
            ValueKind::Text(text) | ValueKind::Number(text) => match text.as_str() {
                "0" | "false" | "no" | "off" => Some(false),
                "1" | "true" | "yes" | "on" => Some(true),
                _ => None,
            },
            ValueKind::List(_) => None,
        };
        let Some(value) = known else {
            self.error(span, format!("`{key}` is 0 or 1"));
            return None;
        };
        Some(Spanned { value, span })
    }

    /// The values of a key that has a list.
    pub fn list(&mut self, key: &str) -> Vec<Value> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        match value.kind {
            ValueKind::List(values) => values,
            kind => {
                let message = format!(
                    "`{key}` is a list, not {}: write [ ] around it",
                    kind.describe()
                );
                self.error(value.span, message);
                Vec::new()
            }
        }
    }

    /// The strings of a key that has a list of strings.
    pub fn texts(&mut self, key: &str) -> Vec<Spanned<String>> {
        let what = format!("an entry of `{key}`");
        let values = self.list(key);
        values
            .into_iter()
            .filter_map(|value| self.as_text(value, &what))
            .collect()
    }

    /// The value of a key as one of some words.
    pub fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<Spanned<T>> {
        let Spanned { value, span } = self.text(key)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == value) {
            return Some(Spanned {
                value: *meaning,
                span,
            });
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let message = match names.as_slice() {
            [only] => format!("`{key}` is {only:?}, not {value:?}"),
            _ => format!("`{key}` is one of {}, not {value:?}", names.join(", ")),
        };
        self.error(span, message);
        None
    }

    /// Tells of each key that nobody took: those that xl has and the ones that nobody knows.
    pub fn finish(self) {
        for (key, (span, _)) in self.settings {
            self.diagnostics.push(keys::judge(&key, span));
        }
    }
}

/// Adds a value to another of the same kind.
fn add(old: &mut Value, new: Value) -> Result<(), Diagnostic> {
    match (&mut old.kind, new.kind) {
        (ValueKind::List(old), ValueKind::List(new)) => old.extend(new),
        (
            ValueKind::Text(text) | ValueKind::Number(text),
            ValueKind::Text(more) | ValueKind::Number(more),
        ) => {
            let text = std::mem::take(text) + &more;
            old.kind = ValueKind::Text(text);
            old.span = new.span;
        }
        (old, more) => {
            let message = format!("{} cannot be added to {}", more.describe(), old.describe());
            return Err(Diagnostic::error(new.span, message));
        }
    }
    Ok(())
}

/// A number as it is written: decimal, or hexadecimal behind 0x.
pub fn number(digits: &str) -> Option<u64> {
    match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}
