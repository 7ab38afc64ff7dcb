//! Which configuration wins a twin, and what follows for the twin (service §11.4).
//!
//! The winner's settings are enforced: whatever else stands at its paths gives way, each time the twin
//! is evaluated. So evaluating is idempotent, and evaluating too often repairs instead of harming.
//!
//! Must not know: conditions, stores, who is told.
//!
//! Invariant: the outcome depends on the twin and on the set of candidates, not on their order.
//!
//! Invariant: deciding on the outcome again changes nothing.

use super::content::Settings;
use super::{Applied, Assignment, ConfigurationId, State};
use crate::json::{Key, Object, Value};
use crate::record::Record;
use crate::time::Timestamp;
use crate::twin::{DesiredChange, Member, Node, Section, SectionPatch, TwinError, TwinPatch};
use std::collections::{HashMap, HashSet};

/// A configuration whose condition a twin meets.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub id: &'a ConfigurationId,
    /// The highest wins.
    pub priority: u32,
    /// Among equal priorities, the latest wins.
    pub created: Timestamp,
    /// What it sets on this twin; without it, it targets the twin but cannot win it.
    pub settings: Option<&'a Settings>,
}

/// What follows for a record.
#[derive(Debug)]
pub struct Decision {
    /// The record as it should be, when that differs from what it is.
    pub change: Option<(Box<Record>, Option<DesiredChange>)>,
    /// Configurations that should have won, but whose settings the twin cannot take.
    pub refused: Vec<(ConfigurationId, TwinError)>,
}

/// Decides for a record which of the candidates applies, applies it, and removes what an earlier one set.
///
/// A configuration that the twin cannot take, because the twin would be too large, stays a target, and the
/// next one wins.
pub fn decide(record: &Record, candidates: &[Candidate<'_>], now: Timestamp) -> Decision {
    let mut candidates = candidates.to_vec();
    candidates.sort_by(|a, b| a.id.cmp(b.id));
    let mut refused = Vec::new();
    loop {
        let winner = winner(&candidates);
        let assignments = assignments(&candidates, winner);
        let patch = patch(&record.twin.desired, &record.configurations, winner.and_then(|it| it.settings));
        if patch.is_empty() && assignments == record.configurations {
            return Decision { change: None, refused };
        }
        match changed(record, assignments, patch, now) {
            Ok(change) => return Decision { change: Some(change), refused },
            Err(error) => {
                // Without a winner there is nothing that could be refused: removing breaks no rule.
                let Some(id) = winner.map(|it| it.id.clone()) else {
                    return Decision { change: None, refused };
                };
                candidates.iter_mut().filter(|it| *it.id == id).for_each(|it| it.settings = None);
                refused.push((id, error));
            }
        }
    }
}

fn winner<'a, 'b>(candidates: &'b [Candidate<'a>]) -> Option<&'b Candidate<'a>> {
    let able = candidates.iter().filter(|candidate| candidate.settings.is_some());
    able.max_by_key(|candidate| (candidate.priority, candidate.created, candidate.id))
}

fn assignments(candidates: &[Candidate<'_>], winner: Option<&Candidate<'_>>) -> Vec<Assignment> {
    let state = |candidate: &Candidate<'_>| match winner.filter(|winner| winner.id == candidate.id) {
        Some(Candidate { settings: Some(settings), .. }) => {
            State::Applied(Applied { paths: settings.paths() })
        }
        _ => State::Targeted,
    };
    candidates.iter().map(|it| Assignment { id: it.id.clone(), state: state(it) }).collect()
}

fn changed(
    record: &Record,
    assignments: Vec<Assignment>,
    patch: Object,
    now: Timestamp,
) -> Result<(Box<Record>, Option<DesiredChange>), TwinError> {
    let mut record = Box::new(record.clone());
    record.configurations = assignments;
    if patch.is_empty() {
        return Ok((record, None));
    }
    let patch = TwinPatch { tags: None, desired: Some(SectionPatch::Merge(patch)) };
    let (twin, told) = std::mem::take(&mut record.twin).patch(&patch, now)?;
    record.twin = twin;
    Ok((record, told))
}

/// The merge that brings settings into a twin, whoever else set something there: what is applied once and by
/// hand (service §11.1). Empty when all is as it should be.
pub fn settings_patch(desired: &Section, settings: &Settings) -> Object {
    patch(desired, &[], Some(settings))
}

/// The merge that removes what was applied before and brings `settings` in; empty when all is as it
/// should be.
pub(super) fn patch(desired: &Section, held: &[Assignment], settings: Option<&Settings>) -> Object {
    let applied = held.iter().filter_map(|assignment| match &assignment.state {
        State::Applied(applied) => Some(applied),
        State::Targeted => None,
    });
    let old: Vec<&[Key]> = applied.flat_map(|applied| applied.paths.iter().map(|path| &**path)).collect();
    if old.is_empty() && settings.is_none() {
        return Object::new();
    }
    let mut wanted = to_object(&desired.members);
    for path in old {
        remove(&mut wanted, path);
    }
    for setting in settings.into_iter().flat_map(Settings::iter) {
        match (&*setting.path, &setting.value) {
            ([], Value::Object(all)) => wanted = all.clone(),
            (path, Value::Null) => remove(&mut wanted, path),
            (path, value) => set(&mut wanted, path, value),
        }
    }
    difference(&desired.members, &wanted)
}

fn to_object(members: &[Member]) -> Object {
    members.iter().map(|member| (member.key.clone(), member.node.to_value())).collect()
}

/// Puts a value at a path; what is in the way and no object gives way.
pub(super) fn set(object: &mut Object, path: &[Key], value: &Value) {
    match path {
        [] => {
            if let Value::Object(all) = value {
                *object = all.clone();
            }
        }
        [name] => object.insert(name.clone(), value.clone()),
        [name, rest @ ..] => {
            let mut inner = object.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
            set(&mut inner, rest, value);
            object.insert(name.clone(), Value::Object(inner));
        }
    }
}

/// Removes a path, and objects on the way that hold nothing any more.
fn remove(object: &mut Object, path: &[Key]) {
    let Some((name, rest)) = path.split_first() else { return };
    let replacement = match (rest, object.get(name)) {
        (_, None) => return,
        ([], Some(_)) => None,
        (rest, Some(Value::Object(inner))) => {
            let mut inner = inner.clone();
            remove(&mut inner, rest);
            (!inner.is_empty()).then_some(Value::Object(inner))
        }
        (_, Some(_)) => return,
    };
    match replacement {
        Some(value) => object.insert(name.clone(), value),
        None => {
            let kept = std::mem::take(object).into_iter().filter(|(key, _)| key != name);
            *object = kept.collect();
        }
    }
}

/// The merge patch that turns `have` into `wanted`.
fn difference(have: &[Member], wanted: &Object) -> Object {
    // Tables, because a hostile twin has thousands of names.
    let before: HashMap<&str, &Node> = have.iter().map(|member| (&*member.key, &member.node)).collect();
    let after: HashSet<&str> = wanted.iter().map(|(key, _)| &**key).collect();
    let gone = have.iter().filter(|member| !after.contains(&*member.key));
    let gone = gone.map(|member| (member.key.clone(), Value::Null));
    let put = wanted.iter().filter_map(|(key, value)| match (before.get(&**key), value) {
        (Some(Node::Object(inner)), Value::Object(value)) => {
            let inner = difference(inner, value);
            (!inner.is_empty()).then(|| (key.clone(), Value::Object(inner)))
        }
        (Some(node), value) if node.to_value() == *value => None,
        (_, value) => Some((key.clone(), value.clone())),
    });
    gone.chain(put).collect()
}
