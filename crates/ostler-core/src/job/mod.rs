//! Jobs: one step, a method call or a twin change, on every device that meets a condition (service §10).
//!
//! What a job asks for is a [`JobSpec`]; where it stands is a [`Job`], whose methods are the steps of its
//! life; what became of one device is a [`DeviceJob`]. Whoever runs jobs stores these values, asks them
//! what comes next, and does it.
//!
//! ```text
//!            start time         devices fixed        all of a wave ended
//!   Waiting ------------> (expanding) ----> Wave 0 --------------------> Soak --> Wave 1 ... --> Completed
//!      |                        |              |  a gate closes, or cancel
//!      | cancel                 | bad condition +--------------------------> Stopping --> Failed or Cancelled
//!      v                        v
//!   Cancelled                 Failed
//! ```
//!
//! Must not know: how a job is stored, run or spelled on a wire.
//!
//! Invariant: a job that has ended does not change any more.
//!
//! Invariant: every device that a job was expanded to has exactly one [`DeviceJob`], which ends in exactly
//! one of completed, failed and canceled.

mod device;
mod gate;
mod id;
mod life;
mod pace;
mod rollout;
mod spec;
mod tally;
mod view;
mod waves;

pub use device::{AfterFailure, DeviceJob, DeviceJobStatus, Failure, FailureCode};
pub use gate::Stop;
pub use id::JobId;
pub use life::{Job, Refused, Stage, Stopped};
pub use pace::Pace;
pub use rollout::{Gate, Offline, Rollout, Waves};
pub use spec::{JobError, JobKind, JobSpec, Work};
pub use tally::Tally;
pub use view::{DryRun, JobCounts, JobStatus, JobView, WaveView};
pub use waves::{by_shares, plan, Wave};

#[cfg(test)]
mod tests;
