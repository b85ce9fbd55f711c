//! Whether the control domain's kernel has panicked, as far as its output says so.
//!
//! Linux on Arm tells a hypervisor nothing when it panics: it prints a line and, unless it was told
//! to reboot (`panic=`), loops for ever.

/// How Linux begins the line, whatever the reason (`panic` in kernel/panic.c). Its first letter comes
/// only once, so that a match that fails begins anew at the letter at which it failed.
const MARK: &[u8] = b"Kernel panic - not syncing";

/// Follows the output.
#[derive(Clone, Debug, Default)]
pub struct PanicWatch {
    matched: usize,
    seen: bool,
}

impl PanicWatch {
    /// Before all output.
    pub const fn new() -> Self {
        Self {
            matched: 0,
            seen: false,
        }
    }

    /// The next byte of the output. Whether it ends the first line that says that the kernel has
    /// panicked.
    pub fn take(&mut self, byte: u8) -> bool {
        match MARK.get(self.matched) {
            None => {
                let ended = byte == b'\n' && !self.seen;
                self.seen |= ended;
                ended
            }
            Some(expected) if *expected == byte => {
                self.matched += 1;
                false
            }
            Some(_) => {
                self.matched = usize::from(MARK.first() == Some(&byte));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panics(output: &[u8]) -> usize {
        let mut watch = PanicWatch::new();
        output.iter().filter(|byte| watch.take(**byte)).count()
    }

    #[test]
    fn a_panic_is_seen_when_its_line_ends() {
        let output =
            b"[  2.1] Kernel panic - not syncing: Attempted to kill init!\r\n[  2.2] CPU: 0\n";
        assert_eq!(panics(output), 1);
        assert_eq!(panics(&output[..40]), 0);
        assert_eq!(panics(&output.repeat(2)), 1);
    }

    #[test]
    fn what_only_begins_like_one_is_none() {
        assert_eq!(
            panics(b"Kernel panic\nKernel\nKernel pKernel panic - not\n"),
            0
        );
        assert_eq!(panics(b"KKernel panic - not syncing\n"), 1);
        assert_eq!(panics(b"Kernel Kernel panic - not syncing\n"), 1);
    }

    #[test]
    fn its_first_letter_comes_once() {
        assert_eq!(MARK.iter().filter(|byte| **byte == MARK[0]).count(), 1);
    }
}
