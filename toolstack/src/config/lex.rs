//! The words of a configuration file.

use super::diagnostic::{Diagnostic, Span};

/// A word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Token {
    /// A key.
    Name(String),
    /// Text in quotes, without them.
    Text(String),
    /// A number, as it is written.
    Number(String),
    /// `=`
    Equals,
    /// `+=`
    PlusEquals,
    /// `[`
    Open,
    /// `]`
    Close,
    /// `,`
    Comma,
    /// `;` or the end of a line.
    End,
}

impl Token {
    /// What messages call it.
    pub fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Text(_) => "a string".to_string(),
            Self::Number(number) => format!("the number {number}"),
            Self::Equals => "`=`".to_string(),
            Self::PlusEquals => "`+=`".to_string(),
            Self::Open => "`[`".to_string(),
            Self::Close => "`]`".to_string(),
            Self::Comma => "`,`".to_string(),
            Self::End => "the end of the setting".to_string(),
        }
    }
}

/// The words of a text, with their places.
///
/// # Errors
/// The first letters that make no word.
pub fn lex(text: &str) -> Result<Vec<(Token, Span)>, Diagnostic> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Goes behind the letters that pass, and returns them.
    fn take_while(&mut self, pass: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|letter| !pass(letter)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn next(&mut self) -> Result<Option<(Token, Span)>, Diagnostic> {
        loop {
            self.take_while(|letter| matches!(letter, ' ' | '\t' | '\r'));
            if !self.rest().starts_with('#') {
                break;
            }
            self.take_while(|letter| letter != '\n');
        }
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(None);
        };
        let token = match first {
            '\'' | '"' => Token::Text(self.text_in(first)?),
            '0'..='9' | '-' => self.number()?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let name =
                    self.take_while(|letter| letter.is_ascii_alphanumeric() || letter == '_');
                Token::Name(name.to_string())
            }
            _ => self.sign(first)?,
        };
        Ok(Some((token, start..self.at)))
    }

    fn sign(&mut self, first: char) -> Result<Token, Diagnostic> {
        let token = match first {
            '=' => Token::Equals,
            '[' => Token::Open,
            ']' => Token::Close,
            ',' => Token::Comma,
            ';' | '\n' => Token::End,
            '+' if self.rest().starts_with("+=") => {
                self.at += 2;
                return Ok(Token::PlusEquals);
            }
            _ => {
                let span = self.at..self.at + first.len_utf8();
                let message = match first {
                    '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' => {
                        "a typographic quote: strings stand in ' or \"".to_string()
                    }
                    '(' | ')' | '{' | '}' => {
                        format!("`{first}` means nothing here: lists stand in [ ]")
                    }
                    '/' => "`/` means nothing here: paths stand in quotes, comments begin with #"
                        .to_string(),
                    _ if first.is_control() => {
                        format!("`{}` means nothing here", first.escape_default())
                    }
                    _ => format!("`{first}` means nothing here"),
                };
                return Err(Diagnostic::error(span, message));
            }
        };
        self.at += first.len_utf8();
        Ok(token)
    }

    fn number(&mut self) -> Result<Token, Diagnostic> {
        let start = self.at;
        if self.rest().starts_with('-') {
            self.at += 1;
        }
        let digits = self.take_while(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if self.rest().starts_with([':', '.']) {
            let rest = |letter: char| letter.is_ascii_alphanumeric() || ":.".contains(letter);
            let address = self.take_while(rest).contains(':');
            let message = match address {
                true => "addresses stand in quotes",
                false => "numbers are whole; strings stand in quotes",
            };
            return Err(Diagnostic::error(start..self.at, message));
        }
        let span = start..self.at;
        let hexadecimal = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
        let message = match hexadecimal {
            Some("") => "there are no digits behind 0x".to_string(),
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                return Ok(Token::Number(self.text[span].to_string()));
            }
            None if digits.is_empty() => "`-` without a number".to_string(),
            None if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                if digits.len() == 1 || !digits.starts_with('0') {
                    return Ok(Token::Number(self.text[span].to_string()));
                }
                "a number that begins with 0 would be octal to some: write it without, or with 0x"
                    .to_string()
            }
            _ => format!("{digits} is no number; strings stand in quotes"),
        };
        Err(Diagnostic::error(span, message))
    }

    /// A string behind its opening quote, which ends in the same line.
    fn text_in(&mut self, quote: char) -> Result<String, Diagnostic> {
        let start = self.at;
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let plain =
                self.take_while(|letter| letter != quote && letter != '\\' && letter != '\n');
            text.push_str(plain);
            match self.rest().chars().next() {
                Some('\\') => text.push(self.escape()?),
                Some(letter) if letter == quote => {
                    self.at += quote.len_utf8();
                    return Ok(text);
                }
                _ => {
                    let message = format!("the string that begins here has no closing {quote}");
                    return Err(Diagnostic::error(start..start + 1, message));
                }
            }
        }
    }

    /// A letter that is written with a backslash.
    fn escape(&mut self) -> Result<char, Diagnostic> {
        let start = self.at;
        self.at += 1;
        let letter = self.rest().chars().next().unwrap_or('\n');
        let plain = match letter {
            '\\' | '\'' | '"' => Some(letter),
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            _ => None,
        };
        if let Some(plain) = plain {
            self.at += 1;
            return Ok(plain);
        }
        let (digits, radix) = match letter {
            'x' => (self.rest().get(1..3), 16),
            '0'..='3' => (self.rest().get(..3), 8),
            _ => (None, 0),
        };
        let number = digits.and_then(|digits| u8::from_str_radix(digits, radix).ok());
        let Some(number) = number.filter(|number| number.is_ascii() && *number != 0) else {
            let end = start + 1 + if letter == '\n' { 0 } else { letter.len_utf8() };
            let message =
                "no such escape: there are \\\\ \\' \\\" \\n \\t \\r \\xHH of ASCII and the like";
            return Err(Diagnostic::error(start..end, message));
        };
        self.at += 3;
        Ok(char::from(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        let tokens = lex(text).unwrap();
        tokens.into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn a_line_of_everything() {
        let name = |name: &str| Token::Name(name.into());
        let number = |number: &str| Token::Number(number.into());
        assert_eq!(
            tokens("a_1 += [0x1F, 'q'] ; b=-5 # c = '\r\n"),
            [
                name("a_1"),
                Token::PlusEquals,
                Token::Open,
                number("0x1F"),
                Token::Comma,
                Token::Text("q".into()),
                Token::Close,
                Token::End,
                name("b"),
                Token::Equals,
                number("-5"),
                Token::End,
            ]
        );
    }

    #[test]
    fn strings_have_escapes() {
        assert_eq!(
            tokens(r#""it's" 'a\x41\101\'\\\n#'"#),
            [Token::Text("it's".into()), Token::Text("aAA'\\\n#".into())]
        );
    }

    proptest! {
        #[test]
        fn any_text_has_words_or_a_fault_in_it(text in "[a-z0-9 ='\"\\\\\\[\\],;#+\n\tä-]{0,60}") {
            match lex(&text) {
                Ok(tokens) => for (_, span) in tokens {
                    prop_assert!(text.get(span).is_some_and(|word| !word.is_empty()));
                },
                Err(fault) => prop_assert!(text.get(fault.span.unwrap()).is_some()),
            }
        }
    }
}
