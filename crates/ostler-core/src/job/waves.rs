//! Which devices come when.
//!
//! Invariant: the waves of a plan have at least one device each, save for a job without devices, and hold
//! every device once.

use super::Waves;
use crate::limits::JOB_WAVES;
use std::collections::BTreeMap;

/// A group of devices that take their step together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// How many.
    pub devices: u64,
    /// The tag's value that they share, when waves are made by a tag; `None` for those without it.
    pub value: Option<String>,
}

/// The waves of `devices` devices in the order of their ids. Waves by a tag need [`by_shares`].
pub fn plan(waves: &Waves, devices: u64) -> Vec<Wave> {
    let mut left = devices;
    let mut planned = Vec::new();
    let mut take = |size: u64| {
        let size = size.min(left);
        left -= size;
        if size > 0 {
            planned.push(Wave { devices: size, value: None });
        }
    };
    match waves {
        Waves::One | Waves::ByTag(_) => {}
        Waves::Sizes(sizes) => sizes.iter().for_each(|size| take(*size)),
        Waves::Percent(shares) => {
            for share in shares {
                let size = u128::from(devices) * u128::from(*share);
                take(u64::try_from(size.div_ceil(100)).unwrap_or(u64::MAX));
            }
        }
    }
    take(u64::MAX);
    planned
}

/// The waves of devices that are grouped by a value, and the place of each group among them: the values in
/// their order, devices without one last.
///
/// # Errors
/// How many groups there are, when there are more than [`JOB_WAVES`].
pub fn by_shares(groups: BTreeMap<Option<String>, u64>) -> Result<Vec<Wave>, usize> {
    if groups.len() > JOB_WAVES {
        return Err(groups.len());
    }
    let mut waves: Vec<Wave> = groups.into_iter().map(|(value, devices)| Wave { devices, value }).collect();
    // `None` sorts first, but comes last.
    if waves.first().is_some_and(|wave| wave.value.is_none()) {
        waves.rotate_left(1);
    }
    Ok(waves)
}
