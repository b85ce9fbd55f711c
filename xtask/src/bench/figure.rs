//! What was measured: figures in groups.

/// Rows that belong together.
pub struct Group {
    /// What it is about, and under which conditions.
    pub title: String,
    /// Its rows.
    pub figures: Vec<Figure>,
    /// Lines for below the table.
    pub notes: Vec<String>,
}

/// A row.
pub struct Figure {
    /// What was measured, and in which unit.
    pub name: String,
    /// Under xen-rs.
    pub ours: u64,
    /// Under real Xen, if that was measured.
    pub xen: Option<u64>,
    /// What it may be.
    pub limit: Option<Limit>,
}

/// What a figure may be at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// A number.
    Number(u64),
    /// A part of Xen's.
    OfXen(f64),
}

impl Figure {
    /// The figure by Xen's, if there is one.
    pub fn ratio(&self) -> Option<f64> {
        let xen = self.xen.filter(|xen| *xen > 0)?;
        Some(self.ours as f64 / xen as f64)
    }

    /// Whether it is above its limit.
    pub fn exceeds(&self) -> bool {
        match self.limit {
            None => false,
            Some(Limit::Number(limit)) => self.ours > limit,
            // What cannot be compared is no success.
            Some(Limit::OfXen(limit)) => self.ratio().is_none_or(|ratio| ratio > limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: u64, xen: Option<u64>, limit: Limit) -> Figure {
        Figure {
            name: "a row".to_string(),
            ours,
            xen,
            limit: Some(limit),
        }
    }

    #[test]
    fn limits_are_numbers_or_parts_of_what_xen_takes() {
        assert!(!figure(20, None, Limit::Number(20)).exceeds());
        assert!(figure(21, None, Limit::Number(20)).exceeds());
        assert!(!figure(60, Some(100), Limit::OfXen(0.6)).exceeds());
        assert!(figure(61, Some(100), Limit::OfXen(0.6)).exceeds());
        assert!(figure(1, None, Limit::OfXen(0.6)).exceeds());
        assert!(figure(1, Some(0), Limit::OfXen(0.6)).exceeds());
    }
}
