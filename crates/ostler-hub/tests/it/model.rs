//! Random operations against a small reference model; the invariants hold after every step.

use crate::support::*;
use ostler_core::json::{Object, Value};
use ostler_core::record::Interest;
use ostler_hub::registry::Action;
use ostler_hub::session::{News, Session};
use ostler_hub::{Error, Hub, IfMatch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Delete(usize),
    Connect(usize, bool),
    Disconnect(usize),
    Subscribe(usize),
    Desire(usize, u8),
    Report(usize, u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let device = 0..3usize;
    prop_oneof![
        2 => device.clone().prop_map(Step::Create),
        1 => device.clone().prop_map(Step::Delete),
        3 => (device.clone(), any::<bool>()).prop_map(|(d, clean)| Step::Connect(d, clean)),
        1 => device.clone().prop_map(Step::Disconnect),
        2 => device.clone().prop_map(Step::Subscribe),
        4 => (device.clone(), 0..4u8).prop_map(|(d, key)| Step::Desire(d, key)),
        4 => (device, 0..4u8).prop_map(|(d, key)| Step::Report(d, key)),
    ]
}

/// What a device should look like.
#[derive(Default)]
struct Expected {
    desired: BTreeMap<String, u64>,
    reported: BTreeMap<String, u64>,
    desired_version: u64,
    reported_version: u64,
    version: u64,
    kept: bool,
    kept_subscription: bool,
}

struct Connection {
    session: Session,
    subscribed: bool,
    persistent: bool,
}

struct World {
    hub: Arc<Hub>,
    expected: BTreeMap<usize, Expected>,
    connections: BTreeMap<usize, Connection>,
    counter: u64,
}

impl World {
    fn patch(&mut self, key: u8) -> (String, String) {
        self.counter += 1;
        (format!("k{key}"), format!(r#"{{"k{key}":{}}}"#, self.counter))
    }

    async fn step(&mut self, step: Step) {
        let hub = self.hub.clone();
        match step {
            Step::Create(d) => {
                let outcome = hub.apply(operation(&name(d), Action::Create)).await;
                assert_eq!(outcome.is_ok(), !self.expected.contains_key(&d));
                let fresh =
                    Expected { desired_version: 1, reported_version: 1, version: 2, ..Expected::default() };
                self.expected.entry(d).or_insert(fresh);
            }
            Step::Delete(d) => {
                let outcome = hub.apply(operation(&name(d), Action::Delete(IfMatch::Any))).await;
                assert_eq!(outcome.is_ok(), self.expected.remove(&d).is_some());
                if let Some(mut connection) = self.connections.remove(&d) {
                    assert!(news(&mut connection.session).await.is_err());
                }
            }
            Step::Connect(d, clean) => self.connect(d, clean).await,
            Step::Disconnect(d) => drop(self.connections.remove(&d)),
            Step::Subscribe(d) => {
                if let Some(connection) = self.connections.get_mut(&d) {
                    subscribe(&hub, &connection.session, &[Interest::DesiredChanges]).await;
                    connection.subscribed = true;
                    if connection.persistent {
                        self.expected.get_mut(&d).unwrap().kept_subscription = true;
                    }
                }
            }
            Step::Desire(d, key) => self.desire(d, key).await,
            Step::Report(d, key) => self.report(d, key).await,
        }
    }

    async fn connect(&mut self, d: usize, clean: bool) {
        let Some(expected) = self.expected.get_mut(&d) else {
            let refused = try_connect(&self.hub, &name(d), "x", clean).await;
            assert!(matches!(refused, Err(Error::Unauthorized(_))));
            return;
        };
        let session = connect(&self.hub, &name(d), clean).await;
        if let Some(mut old) = self.connections.remove(&d) {
            assert!(news(&mut old.session).await.is_err());
        }
        assert_eq!(session.session_present(), expected.kept && !clean);
        let subscribed = expected.kept_subscription && !clean;
        assert_eq!(session.state().delivery(Interest::DesiredChanges).is_some(), subscribed);
        expected.kept = !clean;
        expected.kept_subscription = subscribed;
        self.connections.insert(d, Connection { session, subscribed, persistent: !clean });
    }

    async fn desire(&mut self, d: usize, key: u8) {
        let (key, text) = self.patch(key);
        let outcome = self.hub.patch_twin(&id(&name(d)), &IfMatch::Any, &desired(&text)).await;
        let Some(expected) = self.expected.get_mut(&d) else {
            assert!(outcome.is_err());
            return;
        };
        expected.desired.insert(key, self.counter);
        expected.desired_version += 1;
        expected.version += 1;
        if let Some(connection) = self.connections.get_mut(&d).filter(|connection| connection.subscribed) {
            match news(&mut connection.session).await {
                Ok(News::DesiredChanged(change)) => {
                    assert_eq!((change.version, &change.patch), (expected.desired_version, &object(&text)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn report(&mut self, d: usize, key: u8) {
        let (key, text) = self.patch(key);
        let Some(connection) = self.connections.get(&d) else { return };
        let expected = self.expected.get_mut(&d).unwrap();
        expected.reported.insert(key, self.counter);
        expected.reported_version += 1;
        expected.version += 1;
        let version = self.hub.report(connection.session.state(), text.as_bytes(), None).await;
        assert_eq!(version, Ok(expected.reported_version));
    }

    async fn check(&mut self) {
        assert_eq!(self.hub.counts().devices, self.expected.len() as u64);
        assert_eq!(self.hub.connected_count(), self.connections.len());
        for (d, expected) in &self.expected {
            let view = self.hub.twin(&id(&name(*d))).await.unwrap();
            assert_eq!(view.connected, self.connections.contains_key(d));
            let twin = &view.record.twin;
            assert_eq!(
                (twin.version, twin.desired.version, twin.reported.version),
                (expected.version, expected.desired_version, expected.reported_version)
            );
            assert_eq!(plain(&twin.desired), as_object(&expected.desired));
            assert_eq!(plain(&twin.reported), as_object(&expected.reported));
        }
        for connection in self.connections.values_mut() {
            assert!(is_quiet(&mut connection.session).await);
        }
    }
}

fn name(device: usize) -> String {
    format!("d{device}")
}

fn as_object(values: &BTreeMap<String, u64>) -> Object {
    values
        .iter()
        .map(|(k, v)| (k.as_str().into(), Value::Number(i64::try_from(*v).unwrap().into())))
        .collect()
}

fn plain(section: &ostler_core::twin::Section) -> Object {
    let mut members: Vec<_> = section.members.iter().map(|m| (m.key.clone(), m.node.to_value())).collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world =
                World { hub: hub().await, expected: BTreeMap::new(), connections: BTreeMap::new(), counter: 0 };
            for step in steps {
                world.step(step).await;
                world.check().await;
            }
        });
    }
}
