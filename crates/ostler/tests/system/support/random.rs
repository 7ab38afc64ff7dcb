//! Randomness that a failing run can be repeated with.

/// A small generator (xorshift64*); the seed is printed, and `OSTLER_TEST_SEED` sets it.
pub struct Random(u64);

impl Random {
    /// Seeded by the environment, else by `default`.
    pub fn from_env(default: u64) -> Self {
        let seed =
            std::env::var("OSTLER_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        println!("OSTLER_TEST_SEED={seed}");
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From `range`, evenly enough.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
