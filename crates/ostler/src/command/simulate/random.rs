//! Chance that can be repeated: the same seed gives every device the same decisions, run after run.
//!
//! Each kind of decision of each device draws from a stream of its own, so that the k-th call of a method meets the same
//! fate whatever else happened to the device meanwhile.
//!
//! Must not know: what is decided.

/// What a stream is for; one per kind of decision, so that none disturbs another.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    /// Tags and desired properties at registration.
    Registration,
    /// What is reported on the first connection.
    FirstReport,
    /// When to connect again.
    Reconnect,
    /// Losing the connection on purpose.
    Flap,
    /// Falling silent.
    Vanish,
    /// Reaction to desired properties.
    Desired,
    Reboot,
    Firmware,
    /// The method with this place in its group.
    Method(usize),
    /// The report with this place in its group.
    Report(usize),
}

impl Stream {
    fn number(self) -> u64 {
        match self {
            Self::Registration => 1,
            Self::FirstReport => 2,
            Self::Reconnect => 3,
            Self::Flap => 4,
            Self::Vanish => 5,
            Self::Desired => 6,
            Self::Reboot => 7,
            Self::Firmware => 8,
            Self::Method(place) => 1_000 + place as u64,
            Self::Report(place) => 1_000_000 + place as u64,
        }
    }
}

/// A SplitMix64 generator: eight bytes of state, which matters when there are a hundred thousand devices with several
/// streams each.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of one device.
    pub fn new(seed: u64, device: u64, stream: Stream) -> Self {
        let device = mix(seed ^ mix(device.wrapping_add(1)));
        Self(mix(device ^ mix(stream.number())))
    }

    /// 64 even bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Between 0 inclusive and 1 exclusive.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between 0 inclusive and `bound` exclusive; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Bell-shaped around 0 with a standard deviation of 1, never beyond 6: the sum of twelve even numbers.
    pub fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// The place in `weights` of one of them, each as likely as it weighs.
    pub fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (place, weight) in weights.enumerate() {
            if left < weight {
                return place;
            }
            left -= weight;
            last = place;
        }
        last
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, device: u64, stream: Stream) -> Vec<u64> {
        let mut random = Random::new(seed, device, stream);
        (0..8).map(|_| random.next()).collect()
    }

    #[test]
    fn a_stream_is_its_seed_device_and_purpose() {
        let one = draws(1, 0, Stream::Flap);
        assert_eq!(one, draws(1, 0, Stream::Flap));
        for other in [draws(2, 0, Stream::Flap), draws(1, 1, Stream::Flap), draws(1, 0, Stream::Method(0))] {
            assert!(one.iter().all(|draw| !other.contains(draw)));
        }
    }

    #[test]
    fn draws_are_spread_as_they_say() {
        let mut random = Random::new(7, 7, Stream::Reconnect);
        let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let bells: Vec<f64> = (0..10_000).map(|_| random.bell()).collect();
        let spread = (bells.iter().map(|bell| bell * bell).sum::<f64>() / 1e4).sqrt();
        assert!((spread - 1.0).abs() < 0.05, "{spread}");
        let rare = (0..10_000).filter(|_| random.weighted([0.9, 0.0, 0.1].into_iter()) == 2).count();
        assert!((800..1200).contains(&rare), "{rare}");
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
    }
}
