//! What is wrong with a text, and how that is shown.

use std::fmt::Write as _;
use std::ops::Range;

/// Bytes of a text.
pub type Span = Range<usize>;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The text cannot be used.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where; nowhere if it is about what is not there.
    pub span: Option<Span>,
    /// What.
    pub message: String,
}

impl Diagnostic {
    /// Something that is needed is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span: None,
            message: message.into(),
        }
    }

    /// An error.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span: Some(span),
            message: message.into(),
        }
    }

    /// A warning.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            span: Some(span),
            message: message.into(),
        }
    }
}

/// A text and what it is called.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// A text under the name that messages give it.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fault with its line and a caret below each letter that it is about.
    pub fn show(&self, diagnostic: &Diagnostic) -> String {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (name, message) = (&self.name, &diagnostic.message);
        let Some(span) = diagnostic.span.clone() else {
            return format!("{name}: {severity}: {message}");
        };
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let number = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let column = before.get(start..).unwrap_or_default().chars().count();
        let marked = self.text.get(span).unwrap_or_default();
        let marked = marked.lines().next().unwrap_or_default().chars().count();

        let mut shown = format!("{name}:{number}:{}: {severity}: {message}\n", column + 1);
        let margin = number.to_string();
        // A tab stays a tab, so that the caret stands where the letter does.
        let indent: String = line
            .chars()
            .take(column)
            .map(|letter| if letter == '\t' { '\t' } else { ' ' })
            .collect();
        let _ = writeln!(shown, " {margin} | {line}");
        let _ = write!(
            shown,
            " {:width$} | {indent}{}",
            "",
            "^".repeat(marked.max(1)),
            width = margin.len()
        );
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_below_the_letters() {
        let source = Source::new("g.cfg", "a = 1\n\tname = 'ä' x\n");
        let at = source.text().find('x').unwrap();
        let shown = source.show(&Diagnostic::error(at..at + 1, "what is x?"));
        assert_eq!(
            shown,
            "g.cfg:2:13: error: what is x?\n 2 | \tname = 'ä' x\n   | \t           ^"
        );
    }

    #[test]
    fn the_end_of_a_text_can_be_shown() {
        let source = Source::new("g.cfg", "memory =");
        let shown = source.show(&Diagnostic::warning(8..8, "nothing there"));
        assert_eq!(
            shown,
            "g.cfg:1:9: warning: nothing there\n 1 | memory =\n   |         ^"
        );
    }
}
