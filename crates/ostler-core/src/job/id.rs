//! The names of jobs.
//!
//! Invariant: no job id contains `/`, so `job/device` splits in exactly one way.

use super::JobError;
use crate::limits::JOB_ID_CHARS;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of a job: 1 to 64 of ASCII letters, digits and `- _ . :`, case-sensitive (service §10.2; the
/// service documents letters, digits and `-`, its own tools use the others too).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Arc<str>);

impl JobId {
    /// Checks the rules.
    ///
    /// # Errors
    /// [`JobError::Id`] names the rule.
    pub fn new(text: &str) -> Result<JobId, JobError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if text.is_empty() || text.len() > JOB_ID_CHARS || !text.bytes().all(allowed) {
            return Err(JobError::Id(text.chars().take(JOB_ID_CHARS).collect()));
        }
        Ok(JobId(text.into()))
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for JobId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
