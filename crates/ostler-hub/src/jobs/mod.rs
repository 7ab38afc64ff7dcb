//! Jobs: what back ends ask of them, and the engine that runs them (service §10).
//!
//! A job is a document on one shelf, what became of its devices are documents on another. Each job that
//! has begun is one task (`run`), the only writer of its documents; jobs that wait for their time share
//! one ordered set and one timer (`scheduler`). Who wishes something of a job leaves the wish with it
//! (`table`), and the job's task answers.
//!
//! Must not know: how a job is spelled on a wire; which engine keeps it.
//!
//! Invariant: a method call goes out only after its device is durably noted as running, and a device that
//! is found so noted after a crash is not called again.
//!
//! Invariant: a twin change and its outcome are one commit.

mod codec;
mod commit;
mod control;
mod devices;
mod feed;
mod method;
mod run;
mod scheduler;
mod sweep;
mod table;
mod targets;
mod twin;
mod waiting;
mod wave;

pub use control::{JobFilter, JobPage};
pub use devices::{DeviceJobFilter, DeviceJobPage};

pub(crate) use table::{Jobs, Shared};

use crate::error::Error;
use ostler_core::job::Job;
use ostler_store::{Document, Revision, StoreError};

/// A stored job, read.
fn read_job(key: &str, document: &Document) -> Result<(Job, Revision), Error> {
    match codec::decode_job(key, &document.value) {
        Ok(job) => Ok((job, document.revision)),
        Err(damage) => Err(corrupt(key, damage).into()),
    }
}

fn corrupt(key: &str, damage: crate::bytes::Damaged) -> StoreError {
    StoreError::Corrupt { id: format!("job {key}"), reason: damage.0.into() }
}
