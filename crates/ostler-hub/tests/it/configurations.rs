//! Automatic configurations: who gets what, when, and what is left when it ends.

use crate::support::*;
use futures_util::future::FutureExt;
use ostler_core::configuration::{ConfigurationError, ConfigurationId, ConfigurationSpec};
use ostler_core::id::DeviceId;
use ostler_core::identity::IdentitySpec;
use ostler_core::query::{Dialect, Presence, TwinRow};
use ostler_core::record::Interest;
use ostler_core::twin::{SectionPatch, TwinContent, TwinPatch};
use ostler_hub::configurations::{Measured, QueryTest};
use ostler_hub::registry::{Action, Operation};
use ostler_hub::session::News;
use ostler_hub::{Error, Hub, IfMatch, Options};
use ostler_store::{Change, Embedded, Shelf, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn cfg(text: &str) -> ConfigurationId {
    ConfigurationId::new(text).unwrap()
}

fn spec(condition: &str, priority: i64, content: &str) -> ConfigurationSpec {
    ConfigurationSpec {
        content: Some(object(content)),
        target_condition: Some(condition.into()),
        priority: Some(priority),
        ..ConfigurationSpec::default()
    }
}

fn sets(key: &str, value: &str) -> String {
    format!(r#"{{"deviceContent":{{"properties.desired.{key}":{value}}}}}"#)
}

async fn configure(hub: &Hub, name: &str, spec: ConfigurationSpec) {
    hub.create_configuration(&cfg(name), spec, Dialect::Extended).await.unwrap();
}

async fn change(hub: &Hub, name: &str, spec: ConfigurationSpec) {
    hub.update_configuration(&cfg(name), &IfMatch::Any, spec, Dialect::Extended).await.unwrap();
}

fn tags(text: &str) -> TwinPatch {
    TwinPatch { tags: Some(SectionPatch::Merge(object(text))), desired: None }
}

/// The desired properties without `$version`, and the statuses, once all is settled.
async fn settled(hub: &Hub, name: &str) -> String {
    hub.configurations_settled().await;
    let record = hub.twin(&id(name)).await.unwrap().record;
    let desired = desired_text(&hub.twin(&id(name)).await.unwrap());
    let desired = desired.split("\"$version\"").next().unwrap().trim_end_matches(',').to_owned() + "}";
    let statuses = record.configurations.iter().map(|it| format!(" {}={}", it.id, it.state.name()));
    desired + &statuses.collect::<String>()
}

#[tokio::test]
async fn the_best_configuration_applies_and_leaves_nothing_behind() {
    let hub = hub().await;
    create(&hub, "a").await;
    create(&hub, "b").await;
    patch(&hub, "a", &tags(r#"{"site":"A"}"#)).await;
    patch(&hub, "a", &desired(r#"{"own":1}"#)).await;
    configure(&hub, "low", spec("*", 1, &sets("fan", "1"))).await;
    assert_eq!(settled(&hub, "a").await, r#"{"own":1,"fan":1} low=Applied"#);
    configure(&hub, "high", spec("tags.site = 'A'", 5, &sets("cool.x", "{\"y\":2}"))).await;
    assert_eq!(settled(&hub, "a").await, r#"{"own":1,"cool":{"x":{"y":2}}} high=Applied low=Targeted"#);
    assert_eq!(settled(&hub, "b").await, r#"{"fan":1} low=Applied"#);
    // A change of the condition or of the priority moves it.
    let only = |condition: Option<&str>, priority| ConfigurationSpec {
        target_condition: condition.map(Into::into),
        priority,
        ..ConfigurationSpec::default()
    };
    change(&hub, "low", only(None, Some(9))).await;
    assert_eq!(settled(&hub, "a").await, r#"{"own":1,"fan":1} high=Targeted low=Applied"#);
    change(&hub, "low", only(Some(""), None)).await;
    assert_eq!(settled(&hub, "a").await, r#"{"own":1,"cool":{"x":{"y":2}}} high=Applied"#);
    assert_eq!(settled(&hub, "b").await, "{}");
    hub.delete_configuration(&cfg("high"), &IfMatch::Any).await.unwrap();
    assert_eq!(settled(&hub, "a").await, r#"{"own":1}"#);
}

#[tokio::test]
async fn a_twin_that_comes_to_match_is_configured_and_told() {
    let hub = hub().await;
    configure(&hub, "by-tag", spec("tags.site = 'A'", 3, &sets("tag", "true"))).await;
    configure(&hub, "by-report", spec("properties.reported.hot = true", 2, &sets("hot", "true"))).await;
    configure(&hub, "by-state", spec("connectionState = 'Connected'", 1, &sets("live", "true"))).await;
    let operation = Operation {
        id: id("a"),
        action: Action::Create,
        identity: IdentitySpec::default(),
        twin: TwinContent { tags: Some(object(r#"{"site":"A"}"#)), desired: None },
    };
    hub.apply(operation).await.unwrap();
    assert_eq!(settled(&hub, "a").await, r#"{"tag":true} by-tag=Applied"#);
    let mut session = connect(&hub, "a", true).await;
    subscribe(&hub, &session, &[Interest::DesiredChanges]).await;
    assert_eq!(settled(&hub, "a").await, r#"{"tag":true} by-state=Targeted by-tag=Applied"#);
    patch(&hub, "a", &tags(r#"{"site":null}"#)).await;
    assert_eq!(settled(&hub, "a").await, r#"{"live":true} by-state=Applied"#);
    let Ok(News::DesiredChanged(told)) = news(&mut session).await else { panic!("it is told") };
    assert_eq!(told.patch, object(r#"{"tag":null,"live":true}"#));
    hub.report(session.state(), br#"{"hot":true}"#, None).await.unwrap();
    assert_eq!(settled(&hub, "a").await, r#"{"hot":true} by-report=Applied by-state=Targeted"#);
    drop(session);
    assert_eq!(settled(&hub, "a").await, r#"{"hot":true} by-report=Applied"#);
    // What somebody else writes there gives way, what they write elsewhere stays.
    patch(&hub, "a", &desired(r#"{"hot":7,"own":1}"#)).await;
    assert_eq!(settled(&hub, "a").await, r#"{"hot":true,"own":1} by-report=Applied"#);
    hub.replace_twin(&id("a"), &IfMatch::Any, &TwinContent::default()).await.unwrap();
    assert_eq!(settled(&hub, "a").await, r#"{"hot":true} by-report=Applied"#);
}

#[tokio::test]
async fn configurations_that_make_each_other_match_come_to_rest() {
    let hub = hub().await;
    create(&hub, "a").await;
    configure(&hub, "flip", spec("NOT IS_DEFINED(properties.desired.x)", 1, &sets("x", "1"))).await;
    let shown = settled(&hub, "a").await;
    assert!(shown == "{}" || shown == r#"{"x":1} flip=Applied"#, "{shown}");
    hub.delete_configuration(&cfg("flip"), &IfMatch::Any).await.unwrap();
    assert_eq!(settled(&hub, "a").await, "{}");
}

#[tokio::test]
async fn what_a_crash_left_undone_is_done_at_the_next_start() {
    let store = Arc::new(Embedded::in_memory());
    let hub = Hub::open(store.clone(), Options::default()).await.unwrap();
    create(&hub, "a").await;
    configure(&hub, "kept", spec("*", 1, &sets("kept", "1"))).await;
    configure(&hub, "lost", spec("*", 2, &sets("lost", "1"))).await;
    assert_eq!(settled(&hub, "a").await, r#"{"lost":1} kept=Targeted lost=Applied"#);
    let before = hub.configuration(&cfg("kept")).unwrap();
    drop(hub);
    // The deletion became durable, and nothing after it happened.
    let key = "lost".into();
    let change = Change::DeleteDocument { shelf: Shelf::Configurations, key };
    store.commit(vec![change]).await.remove(0).unwrap();
    let hub = Hub::open(store, Options::default()).await.unwrap();
    assert_eq!(settled(&hub, "a").await, r#"{"kept":1} kept=Applied"#);
    assert_eq!(hub.configuration(&cfg("kept")).unwrap(), before);
}

#[tokio::test]
async fn etags_names_and_numbers_are_guarded() {
    let hub = hub().await;
    let make = |name: String| {
        let hub = hub.clone();
        async move { hub.create_configuration(&cfg(&name), spec("", 0, &sets("x", "1")), Dialect::Extended).await }
    };
    let made = make("c0".into()).await.unwrap();
    assert!(matches!(make("c0".into()).await, Err(Error::ConfigurationExists(_))));
    for n in 1..100 {
        make(format!("c{n}")).await.unwrap();
    }
    assert_eq!(make("c100".into()).await, Err(Error::TooManyConfigurations));
    assert_eq!((hub.configurations(500).len(), hub.configurations(7).len()), (100, 7));
    let none = ConfigurationSpec::default;
    let stale = IfMatch::Etag("MA==".into());
    let update = |if_match: IfMatch, spec| {
        let hub = hub.clone();
        async move { hub.update_configuration(&cfg("c0"), &if_match, spec, Dialect::Extended).await }
    };
    assert_eq!(update(stale.clone(), none()).await, Err(Error::PreconditionFailed));
    let updated = update(IfMatch::Etag(made.etag_text()), none()).await.unwrap();
    assert_ne!(updated.etag_text(), made.etag_text());
    let other = update(IfMatch::Any, spec("", 0, &sets("x", "2"))).await;
    assert_eq!(other, Err(Error::Configuration(ConfigurationError::ContentChanged)));
    let delete = |name: &'static str, if_match| {
        let hub = hub.clone();
        async move { hub.delete_configuration(&cfg(name), &if_match).await }
    };
    assert_eq!(delete("c0", stale).await, Err(Error::PreconditionFailed));
    assert_eq!(delete("none", IfMatch::Any).await, Err(Error::ConfigurationNotFound("none".into())));
    assert_eq!(delete("c0", IfMatch::Any).await, Ok(()));
    assert!(make("c0".into()).await.unwrap().etag_text() != updated.etag_text());
}

fn results(measured: &Measured) -> Vec<(&str, Option<u64>)> {
    measured.system.iter().chain(&measured.custom).map(|metric| (&*metric.name, metric.result)).collect()
}

#[tokio::test]
async fn metrics_count_rows() {
    let hub = hub().await;
    for (name, site) in [("a", "A"), ("b", "A"), ("c", "B")] {
        create(&hub, name).await;
        patch(&hub, name, &tags(&format!(r#"{{"site":"{site}"}}"#))).await;
    }
    let metric = |name: &str, text: &str| (name.into(), text.into());
    let metrics = vec![
        metric("all", "SELECT * FROM devices"),
        metric("sites", "SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site"),
        metric("top", "SELECT TOP 2 deviceId FROM devices"),
        metric("modules", "SELECT deviceId FROM devices.modules"),
    ];
    let low = ConfigurationSpec { metrics: Some(metrics), ..spec("tags.site = 'A'", 1, &sets("x", "1")) };
    configure(&hub, "low", low).await;
    configure(&hub, "high", spec("deviceId = 'b'", 2, &sets("x", "2"))).await;
    hub.configurations_settled().await;
    let low = hub.configuration(&cfg("low")).unwrap();
    let counted = hub.measure_configuration(&low).await.unwrap();
    let expected = [
        ("targetedCount", Some(2)),
        ("appliedCount", Some(1)),
        ("all", Some(3)),
        ("sites", Some(2)),
        ("top", Some(2)),
        ("modules", Some(0)),
    ];
    assert_eq!(results(&counted), expected);
    assert!(results(&hub.configuration_queries(&low)).iter().all(|(_, result)| result.is_none()));
    let test = QueryTest {
        target_condition: Some("tags.site =".into()),
        metrics: vec![metric("good", "SELECT * FROM devices"), metric("bad", "SELECT")],
    };
    let outcome = hub.test_configuration_queries(test, Dialect::Strict);
    assert!(outcome.condition.unwrap().contains("Line 1:"));
    assert_eq!(outcome.metrics.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["bad"]);
}

/// What is asked for often is answered from columns; they must follow what the engine writes.
#[tokio::test]
async fn metrics_that_are_read_often_stay_right() {
    let hub = hub().await;
    for d in 0..50 {
        create(&hub, &format!("d{d}")).await;
    }
    configure(&hub, "on", spec("tags.on = true", 1, &sets("x", "1"))).await;
    let mut on = std::collections::BTreeSet::new();
    for n in 0..60 {
        let d = n * 17 % 50;
        let now = on.insert(d) || !on.remove(&d);
        patch(&hub, &format!("d{d}"), &tags(&format!(r#"{{"on":{now}}}"#))).await;
        hub.configurations_settled().await;
        let counted = hub.measure_configuration(&hub.configuration(&cfg("on")).unwrap()).await.unwrap();
        let count = Some(on.len() as u64);
        assert_eq!(results(&counted), [("targetedCount", count), ("appliedCount", count)], "step {n}");
    }
}

async fn create_edge(hub: &Hub, name: &str) {
    let identity = IdentitySpec { iot_edge: Some(true), ..IdentitySpec::default() };
    let operation =
        Operation { id: id(name), action: Action::Create, identity, twin: TwinContent::default() };
    hub.apply(operation).await.unwrap();
}

#[tokio::test]
async fn a_deployment_reaches_the_modules_of_edge_devices() {
    let hub = hub().await;
    create_edge(&hub, "edge").await;
    create(&hub, "leaf").await;
    let content = r#"{"modulesContent":{"$edgeAgent":{"properties.desired":{"modules":{"cam":{"image":"x"}}}},
        "cam":{"properties.desired.rate":5}}}"#;
    configure(&hub, "deploy-1", spec("*", 1, content)).await;
    let agent = r#"{"modules":{"cam":{"image":"x"}}}"#;
    assert_eq!(settled(&hub, "edge/$edgeAgent").await, format!("{agent} deploy-1=Applied"));
    assert_eq!(settled(&hub, "edge/cam").await, r#"{"rate":5} deploy-1=Applied"#);
    assert_eq!(settled(&hub, "edge/$edgeHub").await, "{}");
    assert_eq!(settled(&hub, "leaf").await, "{}");
    // The better one does not name the module: a deployment is whole.
    let content = r#"{"modulesContent":{"$edgeAgent":{"properties.desired.modules":{}}}}"#;
    configure(&hub, "deploy-2", spec("tags.pilot = true", 2, content)).await;
    patch(&hub, "edge", &tags(r#"{"pilot":true}"#)).await;
    assert_eq!(
        settled(&hub, "edge/$edgeAgent").await,
        r#"{"modules":{}} deploy-1=Targeted deploy-2=Applied"#
    );
    assert_eq!(settled(&hub, "edge/cam").await, "{} deploy-1=Targeted");
    let counted = hub.measure_configuration(&hub.configuration(&cfg("deploy-2")).unwrap()).await.unwrap();
    let counts = [
        ("targetedCount", Some(1)),
        ("appliedCount", Some(1)),
        ("reportedSuccessfulCount", Some(0)),
        ("reportedFailedCount", Some(0)),
    ];
    assert_eq!(results(&counted), counts);
    hub.delete_configuration(&cfg("deploy-2"), &IfMatch::Any).await.unwrap();
    assert_eq!(settled(&hub, "edge/cam").await, r#"{"rate":5} deploy-1=Applied"#);
    hub.delete_configuration(&cfg("deploy-1"), &IfMatch::Any).await.unwrap();
    assert_eq!(settled(&hub, "edge/$edgeAgent").await, "{}");
}

#[tokio::test]
async fn content_for_modules_follows_their_own_twins() {
    let hub = hub().await;
    create(&hub, "a").await;
    create(&hub, "a/m").await;
    let content = r#"{"moduleContent":{"properties.desired.x":1}}"#;
    configure(&hub, "mods", spec("from devices.modules where tags.on = true", 1, content)).await;
    assert_eq!(settled(&hub, "a/m").await, "{}");
    patch(&hub, "a/m", &tags(r#"{"on":true}"#)).await;
    patch(&hub, "a", &tags(r#"{"on":true}"#)).await;
    assert_eq!(settled(&hub, "a/m").await, r#"{"x":1} mods=Applied"#);
    assert_eq!(settled(&hub, "a").await, "{}");
}

#[tokio::test]
async fn content_is_applied_to_one_edge_device_by_hand() {
    let hub = hub().await;
    create_edge(&hub, "edge").await;
    create(&hub, "leaf").await;
    let apply = |device: &str, content: &str| {
        let (hub, device, content) = (hub.clone(), DeviceId::new(device).unwrap(), object(content));
        async move { hub.apply_configuration_content(&device, &content).await }
    };
    let content =
        r#"{"modulesContent":{"$edgeHub":{"properties.desired.a":1},"cam":{"properties.desired":{"b":2}}}}"#;
    patch(&hub, "edge/$edgeHub", &desired(r#"{"own":1}"#)).await;
    apply("edge", content).await.unwrap();
    assert_eq!(settled(&hub, "edge/$edgeHub").await, r#"{"own":1,"a":1}"#);
    assert_eq!(settled(&hub, "edge/cam").await, r#"{"b":2}"#);
    let view = hub.identity(&id("edge/cam")).await.unwrap();
    assert_eq!(view.record.identity.managed_by.as_deref(), Some("iotEdge"));
    let version = view.record.twin.version;
    apply("edge", content).await.unwrap();
    assert_eq!(hub.twin(&id("edge/cam")).await.unwrap().record.twin.version, version);
    assert!(matches!(apply("leaf", content).await, Err(Error::InvalidArgument(_))));
    assert!(matches!(apply("none", content).await, Err(Error::DeviceNotFound(_))));
    let device = apply("edge", &sets("x", "1")).await;
    assert!(matches!(device, Err(Error::Configuration(ConfigurationError::Content(_)))));
}

#[derive(Clone, Debug)]
enum Step {
    Tag(usize, u8),
    Report(usize, u8),
    Recreate(usize),
    Configure(usize, u8, u8),
    Aim(usize, u8),
    Rank(usize, u8),
    Drop(usize),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (device, config) = (0..3usize, 0..3usize);
    let step = prop_oneof![
        3 => (device.clone(), 0..3u8).prop_map(|(d, value)| Step::Tag(d, value)),
        3 => (device.clone(), 0..3u8).prop_map(|(d, value)| Step::Report(d, value)),
        1 => device.prop_map(Step::Recreate),
        3 => (config.clone(), 0..3u8, 0..4u8).prop_map(|(c, priority, aim)| Step::Configure(c, priority, aim)),
        2 => (config.clone(), 0..4u8).prop_map(|(c, aim)| Step::Aim(c, aim)),
        1 => (config.clone(), 0..3u8).prop_map(|(c, priority)| Step::Rank(c, priority)),
        1 => config.prop_map(Step::Drop),
        2 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// The conditions of the model, as text and as what they mean for a tag and a reported value.
fn aim(aim: u8) -> (&'static str, fn(u8, u8) -> bool) {
    match aim {
        0 => ("*", |_, _| true),
        1 => ("tags.t = 1", |tag, _| tag == 1),
        2 => ("properties.reported.r = 2 OR tags.t = 2", |tag, reported| reported == 2 || tag == 2),
        _ => ("", |_, _| false),
    }
}

#[derive(Default)]
struct Model {
    /// Tag and reported value; 0 when there is none.
    devices: BTreeMap<usize, (u8, u8)>,
    /// Priority, order of creation, aim.
    configs: BTreeMap<usize, (u8, u64, u8)>,
    created: u64,
}

impl Model {
    fn expected(&self, device: usize) -> String {
        let (tag, reported) = self.devices[&device];
        let met = self.configs.iter().filter(|(_, (_, _, to))| aim(*to).1(tag, reported));
        let winner = met.clone().max_by_key(|(_, (priority, created, _))| (*priority, *created));
        let desired =
            winner.map_or_else(|| "{}".into(), |(c, _)| format!(r#"{{"k{}":{c},"c{c}":true}}"#, c % 2));
        let statuses = met.map(|(c, _)| {
            let applied = winner.is_some_and(|(winner, _)| winner == c);
            format!(" c{c}={}", if applied { "Applied" } else { "Targeted" })
        });
        desired + &statuses.collect::<String>()
    }

    async fn step(&mut self, hub: &Arc<Hub>, step: Step) {
        let aimed = |to: u8| ConfigurationSpec {
            target_condition: Some(aim(to).0.into()),
            ..ConfigurationSpec::default()
        };
        match step {
            Step::Tag(d, value) => {
                let text = if value == 0 { r#"{"t":null}"#.into() } else { format!(r#"{{"t":{value}}}"#) };
                patch(hub, &format!("d{d}"), &tags(&text)).await;
                self.devices.get_mut(&d).unwrap().0 = value;
            }
            Step::Report(d, value) => {
                let text = if value == 0 { r#"{"r":null}"#.into() } else { format!(r#"{{"r":{value}}}"#) };
                let session = connect(hub, &format!("d{d}"), true).await;
                hub.report(session.state(), text.as_bytes(), None).await.unwrap();
                self.devices.get_mut(&d).unwrap().1 = value;
            }
            Step::Recreate(d) => {
                let name = format!("d{d}");
                hub.apply(operation(&name, Action::Delete(IfMatch::Any))).await.unwrap();
                create(hub, &name).await;
                self.devices.insert(d, (0, 0));
            }
            Step::Configure(c, priority, to) => {
                let content = format!(
                    r#"{{"deviceContent":{{"properties.desired.k{}":{c},"properties.desired.c{c}":true}}}}"#,
                    c % 2
                );
                let made = hub
                    .create_configuration(
                        &cfg(&format!("c{c}")),
                        spec(aim(to).0, i64::from(priority), &content),
                        Dialect::Strict,
                    )
                    .await;
                assert_eq!(made.is_err(), self.configs.contains_key(&c));
                if made.is_ok() {
                    self.created += 1;
                    self.configs.insert(c, (priority, self.created, to));
                }
            }
            Step::Aim(c, to) => {
                if let Some(config) = self.configs.get_mut(&c) {
                    config.2 = to;
                    change(hub, &format!("c{c}"), aimed(to)).await;
                }
            }
            Step::Rank(c, priority) => {
                if let Some(config) = self.configs.get_mut(&c) {
                    config.0 = priority;
                    let priority = Some(i64::from(priority));
                    change(hub, &format!("c{c}"), ConfigurationSpec { priority, ..Default::default() }).await;
                }
            }
            Step::Drop(c) => {
                let deleted = hub.delete_configuration(&cfg(&format!("c{c}")), &IfMatch::Any).await;
                assert_eq!(deleted.is_ok(), self.configs.remove(&c).is_some());
            }
            Step::Wait => {
                for d in 0..self.devices.len() {
                    let shown = settled(hub, &format!("d{d}")).await;
                    assert_eq!(in_order(&shown), in_order(&self.expected(d)));
                }
            }
        }
    }
}

/// The order of keys depends on history, which the model does not keep.
fn in_order(shown: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = shown.split([' ', ',', '{', '}']).collect();
    parts.sort_unstable();
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn twins_agree_with_the_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let hub = hub().await;
            let mut model = Model::default();
            for d in 0..3 {
                create(&hub, &format!("d{d}")).await;
                model.devices.insert(d, (0, 0));
            }
            for step in steps.into_iter().chain([Step::Wait]) {
                model.step(&hub, step).await;
            }
        });
    }
}

/// Whatever happens at once: when all is quiet, every twin is what the last conditions and tags make of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_when_twins_and_configurations_change_at_once() {
    const DEVICES: u64 = 20;
    let hub = hub().await;
    for d in 0..DEVICES {
        create(&hub, &format!("d{d}")).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..3 {
        let hub = hub.clone();
        tasks.spawn(async move {
            for n in 0..150u64 {
                let d = (n * 7 + task * 5) % DEVICES;
                patch(&hub, &format!("d{d}"), &tags(&format!(r#"{{"t":{}}}"#, (n + task) % 3))).await;
                patch(&hub, &format!("d{d}"), &desired(&format!(r#"{{"own":{n}}}"#))).await;
            }
        });
    }
    let writer = hub.clone();
    tasks.spawn(async move {
        for n in 0..30 {
            let name = format!("c{}", n % 3);
            let made = spec(&format!("tags.t = {}", n % 2), n % 4, &sets(&name, "1"));
            match writer.create_configuration(&cfg(&name), made, Dialect::Extended).await {
                Ok(_) => {}
                Err(Error::ConfigurationExists(_)) if n % 5 == 0 => {
                    writer.delete_configuration(&cfg(&name), &IfMatch::Any).await.unwrap();
                }
                Err(Error::ConfigurationExists(_)) => {
                    let aim = ConfigurationSpec {
                        target_condition: Some(format!("tags.t != {}", n % 3).into()),
                        ..ConfigurationSpec::default()
                    };
                    change(&writer, &name, aim).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    hub.configurations_settled().await;
    let all = hub.configurations(100);
    for d in 0..DEVICES {
        let record = hub.twin(&id(&format!("d{d}"))).await.unwrap().record;
        let row = TwinRow { record: &record, presence: Presence::default() };
        let met: Vec<_> = all.iter().filter(|one| one.target.is_met(&row)).collect();
        let winner = met.iter().max_by_key(|one| (one.priority, one.created, &one.id)).map(|one| &one.id);
        let has = |name: &str| record.twin.desired.get(&[name]).is_some();
        for n in 0..3 {
            let name = cfg(&format!("c{n}"));
            assert_eq!(has(name.as_str()), winner == Some(&name), "d{d} {name}");
        }
        let held: Vec<_> = record.configurations.iter().map(|it| it.id.clone()).collect();
        assert_eq!(held, met.iter().map(|one| one.id.clone()).collect::<Vec<_>>(), "d{d}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_part_memory_from_the_shelf() {
    let hub = hub().await;
    let spec = || spec("*", 1, &sets("fan", "1"));
    let id = cfg("c");
    let make = || hub.create_configuration(&id, spec(), Dialect::Extended);
    assert!(make().now_or_never().is_none());
    assert_eq!(make().await, Err(Error::ConfigurationExists("c".into())));
    assert!(hub.configuration(&id).is_ok());
    let only = |priority| ConfigurationSpec { priority: Some(priority), ..ConfigurationSpec::default() };
    let change = |to| hub.update_configuration(&id, &IfMatch::Any, only(to), Dialect::Extended);
    assert!(change(7).now_or_never().is_none());
    assert_eq!(change(8).await.unwrap().priority, 8);
    assert!(hub.delete_configuration(&id, &IfMatch::Any).now_or_never().is_none());
    assert_eq!(
        hub.delete_configuration(&id, &IfMatch::Any).await,
        Err(Error::ConfigurationNotFound("c".into()))
    );
    assert_eq!(hub.configuration(&id), Err(Error::ConfigurationNotFound("c".into())));
}

#[tokio::test]
async fn a_condition_that_fills_its_limit_is_no_obstacle_to_reading() {
    let hub = hub().await;
    create(&hub, "a").await;
    let long = format!("deviceId{}= 'a'", " ".repeat(8170));
    configure(&hub, "c", spec(&long, 1, &sets("fan", "1"))).await;
    assert_eq!(settled(&hub, "a").await, r#"{"fan":1} c=Applied"#);
    let measured = hub.measure_configuration(&hub.configuration(&cfg("c")).unwrap()).await.unwrap();
    let results: Vec<_> = measured.system.iter().map(|metric| (&*metric.name, metric.result)).collect();
    assert_eq!(results, [("targetedCount", None), ("appliedCount", Some(1))]);
}
