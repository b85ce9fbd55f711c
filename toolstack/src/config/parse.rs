//! Assignments of a configuration file: `key = value` and `key += value`, each on a line of its own or
//! before a `;`.

use super::diagnostic::{Diagnostic, Span};
use super::lex::{Token, lex};

/// A value, with the place that it stands at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: ValueKind,
}

/// What a value is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueKind {
    /// A string.
    Text(String),
    /// A number, as it is written.
    Number(String),
    /// A list, in which others may be.
    List(Vec<Value>),
}

impl ValueKind {
    /// What messages call it.
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::List(_) => "a list",
        }
    }
}

/// `key = value` or `key += value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Whether the value is added to what the key has.
    pub adds: bool,
    /// The value.
    pub value: Value,
}

/// Lists may be nested this deep.
const MAX_DEPTH: usize = 16;

/// The assignments of a text; `None` if one of its settings is none. Each such setting is told, as
/// long as the words themselves can be read.
pub fn parse(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Assignment>> {
    let tokens = lex(text).map_err(|fault| diagnostics.push(fault)).ok()?;
    let mut parser = Parser {
        tokens,
        at: 0,
        end: text.trim_end().len(),
    };
    let mut assignments = Vec::new();
    let mut whole = true;
    while parser.skip_ends() {
        match parser.assignment() {
            Ok(assignment) => assignments.push(assignment),
            Err(fault) => {
                whole = false;
                diagnostics.push(fault);
                parser.skip_setting();
            }
        }
    }
    whole.then_some(assignments)
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    /// Where the text ends.
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn span(&self) -> Span {
        let here = self.tokens.get(self.at);
        here.map_or(self.end..self.end, |(_, span)| span.clone())
    }

    /// What stands here, for messages.
    fn here(&self) -> String {
        let here = self.peek();
        here.map_or("the end of the file".to_string(), Token::describe)
    }

    fn take(&mut self) -> Option<(Token, Span)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Goes to the next setting; false if there is none.
    fn skip_ends(&mut self) -> bool {
        while self.peek() == Some(&Token::End) {
            self.at += 1;
        }
        self.peek().is_some()
    }

    fn skip_setting(&mut self) {
        while self.peek().is_some_and(|token| *token != Token::End) {
            self.at += 1;
        }
    }

    fn wrong(&self, wanted: &str) -> Diagnostic {
        Diagnostic::error(self.span(), format!("{wanted}, not {}", self.here()))
    }

    fn assignment(&mut self) -> Result<Assignment, Diagnostic> {
        let Some(Token::Name(key)) = self.peek().cloned() else {
            return Err(self.wrong("a setting begins with a key"));
        };
        let key_span = self.span();
        self.at += 1;
        let adds = match self.peek() {
            Some(Token::Equals) => false,
            Some(Token::PlusEquals) => true,
            _ => return Err(self.wrong(&format!("`=` follows the key `{key}`"))),
        };
        self.at += 1;
        let value = self.value(0)?;
        if self.peek().is_some_and(|token| *token != Token::End) {
            return Err(self.wrong("the setting ends here, with its line or a `;`"));
        }
        Ok(Assignment {
            key,
            key_span,
            adds,
            value,
        })
    }

    fn value(&mut self, depth: usize) -> Result<Value, Diagnostic> {
        let bare = match self.peek() {
            Some(Token::Open) => return self.list(depth),
            Some(Token::Text(_) | Token::Number(_)) => None,
            Some(Token::Name(name)) => Some(format!("; strings stand in quotes: \"{name}\"")),
            _ => Some(String::new()),
        };
        if let Some(hint) = bare {
            let mut fault = self.wrong("a value is a string, a number or a list");
            fault.message.push_str(&hint);
            return Err(fault);
        }
        let span = self.span();
        let kind = match self.take() {
            Some((Token::Text(text), _)) => ValueKind::Text(text),
            Some((Token::Number(number), _)) => ValueKind::Number(number),
            _ => return Err(Diagnostic::error(span, "no value")),
        };
        Ok(Value { span, kind })
    }

    /// A list, which may go over several lines and may have a comma behind its last value.
    fn list(&mut self, depth: usize) -> Result<Value, Diagnostic> {
        let start = self.span();
        if depth == MAX_DEPTH {
            return Err(Diagnostic::error(start, "lists are nested too deep"));
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            self.skip_lines();
            if self.peek() == Some(&Token::Close) {
                break;
            }
            if self.peek().is_none() {
                return Err(Diagnostic::error(
                    start,
                    "the list that begins here has no `]`",
                ));
            }
            values.push(self.value(depth + 1)?);
            let in_line = self.at;
            self.skip_lines();
            match self.peek() {
                Some(Token::Comma) => self.at += 1,
                Some(Token::Close) => break,
                // The next setting has begun.
                Some(Token::Name(_)) if in_line != self.at => {
                    self.at = in_line;
                    return Err(Diagnostic::error(
                        start,
                        "the list that begins here has no `]`",
                    ));
                }
                None => {
                    return Err(Diagnostic::error(
                        start,
                        "the list that begins here has no `]`",
                    ));
                }
                Some(_) => return Err(self.wrong("`,` or `]` follows a value in a list")),
            }
        }
        let span = start.start..self.span().end;
        self.at += 1;
        Ok(Value {
            span,
            kind: ValueKind::List(values),
        })
    }

    /// Inside of a list the end of a line means nothing.
    fn skip_lines(&mut self) {
        while self.peek() == Some(&Token::End) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Assignment> {
        let mut diagnostics = Vec::new();
        let assignments = parse(text, &mut diagnostics);
        assert_eq!(diagnostics, []);
        assignments.unwrap()
    }

    fn shown(value: &Value) -> String {
        match &value.kind {
            ValueKind::Text(text) => format!("'{text}'"),
            ValueKind::Number(number) => number.clone(),
            ValueKind::List(values) => {
                let values: Vec<_> = values.iter().map(shown).collect();
                format!("[{}]", values.join(" "))
            }
        }
    }

    #[test]
    fn settings_end_with_lines_and_semicolons() {
        let text =
            "# a guest\n\nname='g';vcpus = 2\r\nirqs = [ 1,\n  2, # two\n ]\nx += [[],['a',[3]]]";
        let settings: Vec<_> = parsed(text)
            .iter()
            .map(|one| format!("{} {} {}", one.key, one.adds, shown(&one.value)))
            .collect();
        assert_eq!(
            settings,
            [
                "name false 'g'",
                "vcpus false 2",
                "irqs false [1 2]",
                "x true [[] ['a' [3]]]"
            ]
        );
    }

    #[test]
    fn values_know_where_they_stand() {
        let text = "irqs = [ 1,\n 22 ]";
        let value = parsed(text).swap_remove(0).value;
        assert_eq!(&text[value.span.clone()], "[ 1,\n 22 ]");
        let ValueKind::List(values) = value.kind else {
            panic!("no list");
        };
        assert_eq!(&text[values[1].span.clone()], "22");
    }

    #[test]
    fn each_bad_setting_is_told() {
        let mut diagnostics = Vec::new();
        assert_eq!(parse("a\nb = 1\nc = d\n", &mut diagnostics), None);
        assert_eq!(diagnostics.len(), 2);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut diagnostics = Vec::new();
        let text = format!("a = {}", "[".repeat(100_000));
        assert_eq!(parse(&text, &mut diagnostics), None);
        assert_eq!(diagnostics[0].message, "lists are nested too deep");
    }
}
