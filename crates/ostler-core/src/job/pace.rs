//! How many devices may begin now.
//!
//! Invariant: in any period of some seconds at most the rate times that period begin, plus a tenth of a
//! second's worth.

/// A pace of so many devices a second. Time is a count of microseconds from any beginning.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Devices a second, which is millionths of a device a microsecond.
    rate: u64,
    /// Millionths of devices that may begin.
    saved: u64,
    seen: u64,
}

const DEVICE: u64 = 1_000_000;

impl Pace {
    /// A pace that may begin with one device at once.
    pub fn new(rate: u32) -> Pace {
        Pace { rate: u64::from(rate.max(1)), saved: DEVICE, seen: 0 }
    }

    /// How many may begin at `micros`.
    pub fn available(&mut self, micros: u64) -> u64 {
        let passed = micros.saturating_sub(self.seen);
        self.seen = self.seen.max(micros);
        let most = (self.rate * DEVICE / 10).max(DEVICE);
        self.saved = self.saved.saturating_add(passed.saturating_mul(self.rate)).min(most);
        self.saved / DEVICE
    }

    /// So many began.
    pub fn take(&mut self, devices: u64) {
        self.saved = self.saved.saturating_sub(devices.saturating_mul(DEVICE));
    }

    /// Microseconds after which the next may begin.
    pub fn wait_micros(&self) -> u64 {
        DEVICE.saturating_sub(self.saved).div_ceil(self.rate)
    }
}
