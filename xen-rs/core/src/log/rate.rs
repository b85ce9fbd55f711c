//! How often a guest can make the hypervisor log: messages that guests cause pass through a token
//! bucket, so that they flood neither the console nor the ring.

/// A bucket of messages: it holds `burst` of them and gains one in each interval.
#[derive(Clone, Debug)]
pub struct RateLimit {
    burst: u32,
    interval_milliseconds: u32,
    available: u32,
    /// Until when the bucket was filled, in ticks.
    filled: u64,
    suppressed: u64,
}

/// A message that may be logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// How many were suppressed since the last one that was admitted; worth a line of its own.
    pub suppressed: u64,
}

impl RateLimit {
    /// A full bucket.
    pub const fn new(burst: u32, interval_milliseconds: u32) -> Self {
        Self {
            burst,
            interval_milliseconds,
            available: burst,
            filled: 0,
            suppressed: 0,
        }
    }

    /// Xen's: 10 at once, then 2 a second.
    pub const DEFAULT: Self = Self::new(10, 500);

    /// Takes a message out of the bucket, or counts it as suppressed.
    ///
    /// `now` is in ticks, `frequency` of them in a second; 0 if that is not known.
    pub fn admit(&mut self, now: u64, frequency: u64) -> Option<Admitted> {
        self.fill(now, self.interval(frequency));
        match self.available.checked_sub(1) {
            Some(left) => {
                self.available = left;
                let suppressed = core::mem::take(&mut self.suppressed);
                Some(Admitted { suppressed })
            }
            None => {
                self.suppressed += 1;
                None
            }
        }
    }

    /// Ticks of an interval. An unknown frequency is taken as 1 GHz, the highest in use, so that
    /// less is logged rather than more.
    fn interval(&self, frequency: u64) -> u64 {
        let frequency = match frequency {
            0 => 1_000_000_000,
            known => known,
        };
        let milliseconds = u64::from(self.interval_milliseconds);
        match frequency.checked_mul(milliseconds) {
            Some(product) => product / 1000,
            None => (frequency / 1000).saturating_mul(milliseconds),
        }
        .max(1)
    }

    fn fill(&mut self, now: u64, interval: u64) {
        // CPUs may see slightly different times: one that is behind gains nothing.
        let gained = now.saturating_sub(self.filled) / interval;
        // What is left of an interval counts for the next message.
        self.filled += gained * interval;
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        self.available = self.available.saturating_add(gained).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let mut limit = RateLimit::new(3, 100);
        let frequency = 1000;
        let passed: Vec<_> = (0..10)
            .map(|_| limit.admit(50, frequency).is_some())
            .collect();
        assert_eq!(passed.iter().filter(|passed| **passed).count(), 3);
        assert!(passed[..3].iter().all(|passed| *passed));
        assert_eq!(
            limit.admit(150, frequency),
            Some(Admitted { suppressed: 7 })
        );
        assert_eq!(limit.admit(199, frequency), None);
        assert_eq!(
            limit.admit(200, frequency),
            Some(Admitted { suppressed: 1 })
        );
    }

    #[test]
    fn time_that_goes_back_gains_nothing() {
        let mut limit = RateLimit::new(1, 1000);
        assert!(limit.admit(5_000, 1000).is_some());
        assert!(limit.admit(4_000, 1000).is_none());
        assert!(limit.admit(5_999, 1000).is_none());
        assert!(limit.admit(6_000, 1000).is_some());
    }

    #[test]
    fn a_million_messages_make_few_lines() {
        let mut limit = RateLimit::DEFAULT;
        // One a microsecond, for a second.
        let lines = (0..1_000_000).filter(|now| limit.admit(*now, 1_000_000).is_some());
        assert_eq!(lines.count(), 11);
    }

    #[test]
    fn extreme_clocks_do_not_overflow() {
        for frequency in [0, 1, u64::MAX] {
            let mut limit = RateLimit::new(u32::MAX, u32::MAX);
            for now in [0, u64::MAX, 1, u64::MAX] {
                let _ = limit.admit(now, frequency);
            }
        }
    }

    proptest! {
        #[test]
        fn no_span_admits_more_than_the_bucket_and_what_it_gains(
            steps in proptest::collection::vec(0u64..300, 1..100),
            burst in 0u32..5,
        ) {
            let mut limit = RateLimit::new(burst, 100);
            let mut now = 1_000;
            let (mut admitted, mut told) = (Vec::new(), 0);
            for step in &steps {
                now += step;
                if let Some(message) = limit.admit(now, 1000) {
                    admitted.push(now);
                    told += message.suppressed;
                }
            }
            for (i, first) in admitted.iter().enumerate() {
                for (j, last) in admitted.iter().enumerate().skip(i) {
                    let gained = (last - first) / 100 + 1;
                    prop_assert!((j - i + 1) as u64 <= u64::from(burst) + gained);
                }
            }
            // None is forgotten.
            prop_assert_eq!(
                admitted.len() as u64 + told + limit.suppressed,
                steps.len() as u64
            );
        }
    }
}
