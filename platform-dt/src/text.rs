//! Short pieces of text from outside, made safe to print.

use core::fmt::{self, Write};

use arrayvec::ArrayString;

/// The sign that text was cut.
const CUT: char = '…';

/// At most `N` bytes of text that print on one line: whatever is not printable ASCII became `?`,
/// and what did not fit is replaced by a closing `…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>(ArrayString<N>);

impl<const N: usize> Text<N> {
    /// The text that `value` displays as.
    pub fn new(value: impl fmt::Display) -> Self {
        let mut text = Self(ArrayString::new());
        if write!(Printable(&mut text.0), "{value}").is_err() {
            text.mark_as_cut();
        }
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn mark_as_cut(&mut self) {
        let room = N.saturating_sub(CUT.len_utf8());
        while self.0.len() > room {
            self.0.pop();
        }
        // Fails only where N is too small for the sign itself; the text is then empty.
        let _ = self.0.try_push(CUT);
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Takes characters until the string is full, then fails.
struct Printable<'t, const N: usize>(&'t mut ArrayString<N>);

impl<const N: usize> Write for Printable<'_, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let printable = character == ' ' || character == CUT || character.is_ascii_graphic();
            let character = if printable { character } else { '?' };
            self.0.try_push(character).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_kept() {
        assert_eq!(Text::<4>::new("/soc").as_str(), "/soc");
        assert_eq!(Text::<4>::new("").as_str(), "");
    }

    #[test]
    fn what_does_not_fit_ends_in_a_sign() {
        assert_eq!(Text::<8>::new("/soc/serial").as_str(), "/soc/…");
        assert_eq!(Text::<2>::new("abc").as_str(), "");
    }

    #[test]
    fn text_stays_on_one_line() {
        assert_eq!(Text::<16>::new("a\nb\x1b[0m\u{2028}").as_str(), "a?b?[0m?");
    }
}
