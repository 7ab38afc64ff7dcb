//! Buffers that a thread lends to whichever connection it is running.
//!
//! A connection that waits holds none: only the bytes of an incomplete packet, or those the
//! client has not taken yet, are its own.

use std::cell::RefCell;

/// Bytes read at once. Large enough for a burst of telemetry, small enough to stay in the cache.
const READ_BYTES: usize = 32 * 1024;
/// Output above which the buffer is given back rather than kept for the next connection.
const KEPT_OUT_BYTES: usize = 512 * 1024;

/// What one poll of a connection works with.
#[derive(Default)]
pub(super) struct Scratch {
    /// Where reads land; its content is meaningless between reads.
    pub(super) input: Vec<u8>,
    /// Output of this poll, written at its end.
    pub(super) out: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Lends this thread's buffers to `work`. A panic loses them, and the next use makes new ones.
    pub(super) fn lend<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
        SCRATCH.with(|cell| {
            let mut scratch = cell.take();
            if scratch.input.is_empty() {
                scratch.input.resize(READ_BYTES, 0);
            }
            let result = work(&mut scratch);
            scratch.out.clear();
            if scratch.out.capacity() <= KEPT_OUT_BYTES {
                cell.replace(scratch);
            }
            result
        })
    }
}
