//! How long something takes, each time. All in microseconds.

/// The upper bounds of all classes but the last.
const BOUNDS: [u64; 12] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
];

/// Counts by how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// All of them together.
    pub total_us: u64,
    classes: [u64; BOUNDS.len() + 1],
}

impl Latencies {
    pub fn add(&mut self, micros: u64) {
        self.total_us = self.total_us.saturating_add(micros);
        let class = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1;
        }
    }

    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// The upper bound of each class and the count in it alone; none bounds the last.
    pub fn classes(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = BOUNDS.iter().map(|bound| Some(*bound));
        bounds.chain([None]).zip(self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_counted_once_under_the_first_bound_that_holds_it() {
        let mut times = Latencies::default();
        for micros in [0, 250, 251, 1_000_000, 1_000_001] {
            times.add(micros);
        }
        let counts: Vec<_> = times.classes().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(times.count(), 5);
        assert_eq!(times.total_us, 2_000_502);
    }
}
