//! Counting tests from what test runners print.

use std::fmt;
use std::ops::AddAssign;
use std::sync::LazyLock;

use regex::Regex;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed; a part that failed without naming a test counts as one.
    pub failed: u32,
    /// Tests that could not run.
    pub skipped: u32,
}

/// libtest's and libtest-mimic's last line.
static LIBTEST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored").expect("a constant")
});

impl Tally {
    /// Adds what a line of a runner's output says; other lines add nothing.
    pub fn read(&mut self, line: &str) {
        if let Some(found) = LIBTEST.captures(line) {
            let number = |group: usize| found[group].parse().unwrap_or(0);
            *self += Self {
                passed: number(1),
                failed: number(2),
                skipped: number(3),
            };
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> String {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        tally.to_string()
    }

    #[test]
    fn libtest() {
        let ok = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s";
        let bad = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            tally(&["running 4 tests", ok, bad]),
            "4 passed, 2 failed, 1 skipped"
        );
    }
}
