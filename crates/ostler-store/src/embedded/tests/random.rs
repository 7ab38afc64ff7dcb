//! Random operations against a small model of what a store means, with the store closed and opened
//! in between.

use super::{open, run};
use crate::contract::{id, record};
use crate::{Change, CommitError, Counts, Embedded, Expect, Revision, Store};
use ostler_core::identity::Status;
use ostler_core::record::Activity;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    /// One commit.
    Commit(Vec<Op>),
    Touch(&'static str, i64),
    Reopen,
}

#[derive(Clone, Debug)]
enum Op {
    Put { id: &'static str, stale: bool, absent: bool, disabled: bool, etag: u64 },
    Delete { id: &'static str, stale: bool, any: bool },
}

const IDS: [&str; 8] = ["a", "a/1", "a/2", "a-", "a-/1", "b", "b/1", "c"];

fn ops() -> impl Strategy<Value = Op> {
    let id = prop::sample::select(&IDS[..]);
    let mostly_not = || prop::bool::weighted(0.15);
    prop_oneof![
        3 => (id.clone(), mostly_not(), mostly_not(), mostly_not(), 0..1000u64)
            .prop_map(|(id, stale, absent, disabled, etag)| Op::Put { id, stale, absent, disabled, etag }),
        1 => (id, mostly_not(), any::<bool>()).prop_map(|(id, stale, any)| Op::Delete { id, stale, any }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(ops(), 1..6).prop_map(Step::Commit),
        2 => (prop::sample::select(&IDS[..]), 0..100i64).prop_map(|(id, secs)| Step::Touch(id, secs)),
        1 => Just(Step::Reopen),
    ]
}

/// What the store should hold.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    revision: Revision,
    etag: u64,
    disabled: bool,
    seen: Option<i64>,
}

#[derive(Default)]
struct Model(BTreeMap<&'static str, Entry>);

impl Model {
    /// The change that an operation asks for, given what was there before its commit, and what it
    /// does to the model given what is there now.
    fn apply(
        &mut self,
        op: &Op,
        before: &BTreeMap<&'static str, Entry>,
    ) -> (Change, Result<(), CommitError>) {
        match *op {
            Op::Put { id: text, stale, absent, disabled, etag } => {
                let expect = match before.get(text) {
                    Some(_) if stale => Expect::Revision(u64::MAX - 1),
                    Some(entry) if !absent => Expect::Revision(entry.revision),
                    _ => Expect::Absent,
                };
                let mut record = record(text);
                record.identity.etag = etag;
                record.identity.status = if disabled { Status::Disabled } else { Status::Enabled };
                let outcome = self.put(text, expect, etag, disabled);
                (Change::Put { record: Box::new(record), expect }, outcome)
            }
            Op::Delete { id: text, stale, any } => {
                let expect =
                    before.get(text).filter(|_| !any).map(|entry| entry.revision + u64::from(stale) * 1000);
                let entity = id(text);
                let change = match entity.module_id() {
                    Some(module) => Change::DeleteModule { device: entity.device_id(), module, expect },
                    None => Change::DeleteDevice { id: entity.device_id(), expect },
                };
                (change, self.delete(text, expect))
            }
        }
    }

    fn put(
        &mut self,
        id: &'static str,
        expect: Expect,
        etag: u64,
        disabled: bool,
    ) -> Result<(), CommitError> {
        match (self.0.get(id), expect) {
            (Some(_), Expect::Absent) => return Err(CommitError::Exists),
            (None, Expect::Revision(_)) => return Err(CommitError::Missing),
            (Some(entry), Expect::Revision(expected)) if entry.revision != expected => {
                return Err(CommitError::Conflict)
            }
            _ => {}
        }
        match id.split_once('/') {
            Some((device, _)) if !self.0.contains_key(device) => return Err(CommitError::NoDevice),
            _ => {}
        }
        let seen = self.0.get(id).and_then(|entry| entry.seen);
        // The real revision is put in when the commit is answered; none is used again before that.
        self.0.insert(id, Entry { revision: 0, etag, disabled, seen });
        Ok(())
    }

    fn delete(&mut self, id: &'static str, expect: Option<Revision>) -> Result<(), CommitError> {
        let entry = self.0.get(id).ok_or(CommitError::Missing)?;
        if expect.is_some_and(|expect| expect != entry.revision) {
            return Err(CommitError::Conflict);
        }
        let prefix = format!("{id}/");
        self.0.retain(|have, _| *have != id && !have.starts_with(&prefix));
        Ok(())
    }

    fn counts(&self) -> Counts {
        let (modules, devices): (Vec<_>, Vec<_>) = self.0.iter().partition(|(id, _)| id.contains('/'));
        Counts {
            devices: devices.len() as u64,
            disabled: devices.iter().filter(|(_, entry)| entry.disabled).count() as u64,
            modules: modules.len() as u64,
        }
    }
}

async fn commit(store: &Embedded, model: &mut Model, ops: &[Op]) {
    let before = model.0.clone();
    let (changes, expected): (Vec<_>, Vec<_>) = ops.iter().map(|op| model.apply(op, &before)).unzip();
    let outcomes = store.commit(changes).await;
    for (op, (outcome, expected)) in ops.iter().zip(outcomes.into_iter().zip(expected)) {
        assert_eq!(outcome.clone().map(|_| ()), expected, "{op:?}");
        if let (Op::Put { id, etag, disabled, .. }, Ok(revision)) = (op, outcome) {
            if let Some(entry) = model.0.get_mut(id) {
                if (entry.etag, entry.disabled) == (*etag, *disabled) {
                    entry.revision = revision;
                }
            }
        }
    }
}

async fn check(store: &Embedded, model: &mut Model) {
    assert_eq!(store.counts(), model.counts());
    for text in IDS {
        let found = store.load(&id(text)).await.unwrap();
        let found = found.map(|record| {
            let seen = record.activity.last_activity;
            Entry {
                revision: record.revision,
                etag: record.identity.etag,
                disabled: record.identity.status == Status::Disabled,
                seen: (0..100).find(|secs| crate::contract::at(*secs) == seen),
            }
        });
        if let (Some(entry), Some(found)) = (model.0.get_mut(text), &found) {
            // Two writes of one id in one commit leave the later one's revision.
            if entry.revision != found.revision {
                assert!(found.revision > entry.revision);
                entry.revision = found.revision;
            }
        }
        assert_eq!(found.as_ref(), model.0.get(text), "{text}");
    }
    let devices = store.list_devices(None, 100).await.unwrap();
    let devices: Vec<_> = devices.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(devices, model.0.keys().filter(|id| !id.contains('/')).copied().collect::<Vec<_>>());
    let modules = store.list_modules(&id("a").device_id()).await.unwrap();
    let modules: Vec<_> = modules.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(modules, model.0.keys().filter(|id| id.starts_with("a/")).copied().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_the_model(steps in prop::collection::vec(steps(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut store = Some(open(folder.path()));
        run(async {
            for step in steps {
                let open_store = store.as_ref().unwrap();
                match step {
                    Step::Commit(ops) => commit(open_store, &mut model, &ops).await,
                    Step::Touch(text, secs) => {
                        let at = crate::contract::at(secs);
                        open_store.touch(&id(text), Activity { last_activity: at, connection_updated: at });
                        if let Some(entry) = model.0.get_mut(text) {
                            entry.seen = entry.seen.max(Some(secs));
                        }
                    }
                    Step::Reopen => {
                        drop(store.take());
                        store = Some(open(folder.path()));
                    }
                }
                check(store.as_ref().unwrap(), &mut model).await;
            }
        });
    }
}
