//! Which configuration wins, and what that makes of a twin: properties over random twins and candidates.

use super::*;
use crate::id::EntityId;
use crate::identity::{FreshSecrets, Identity, IdentitySpec};
use crate::json::{Key, Object, Value};
use crate::record::Record;
use crate::time::Timestamp;
use crate::twin::{Node, Section, SectionPatch, TwinPatch};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_ticks(17_000_000_000_000_000);

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes()).unwrap()
}

fn settings(text: &str) -> Settings {
    Settings::read(&object(text)).unwrap()
}

fn record(desired: &Object) -> Record {
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 1 };
    let identity = Identity::create(IdentitySpec::default(), &fresh, NOW).unwrap();
    let mut record = Record::new(EntityId::parse("d").unwrap(), identity);
    let patch = TwinPatch { tags: None, desired: Some(SectionPatch::Merge(desired.clone())) };
    record.twin = record.twin.patch(&patch, NOW).unwrap().0;
    record
}

fn desired(record: &Record) -> String {
    let members = &record.twin.desired.members;
    let values: Object = members.iter().map(|member| (member.key.clone(), member.node.to_value())).collect();
    Value::Object(values).to_string()
}

/// A configuration of a test: name, priority, age and settings.
#[derive(Clone, Debug)]
struct Rule {
    id: ConfigurationId,
    priority: u32,
    created: i64,
    settings: Option<Settings>,
}

impl Rule {
    fn new(id: &str, priority: u32, created: i64, content: &str) -> Rule {
        let id = ConfigurationId::new(id).unwrap();
        Rule { id, priority, created, settings: Some(settings(content)) }
    }
}

fn run(record: &Record, rules: &[Rule]) -> (Record, Option<Object>) {
    let candidates: Vec<_> = rules
        .iter()
        .map(|rule| Candidate {
            id: &rule.id,
            priority: rule.priority,
            created: Timestamp::from_ticks(rule.created),
            settings: rule.settings.as_ref(),
        })
        .collect();
    let decision = decide(record, &candidates, NOW);
    assert!(decision.refused.is_empty(), "{:?}", decision.refused);
    match decision.change {
        Some((record, told)) => (*record, told.map(|told| told.patch)),
        None => (record.clone(), None),
    }
}

fn statuses(record: &Record) -> Vec<(String, &'static str)> {
    record.configurations.iter().map(|it| (it.id.to_string(), it.state.name())).collect()
}

#[test]
fn the_highest_priority_wins_then_the_latest() {
    let bare = record(&object(r#"{"own":1}"#));
    let low = Rule::new("low", 1, 9, r#"{"properties.desired.fan":1}"#);
    let old = Rule::new("old", 5, 1, r#"{"properties.desired.fan":2,"properties.desired.x.y":true}"#);
    let young = Rule::new("young", 5, 2, r#"{"properties.desired.fan":3}"#);
    let (first, told) = run(&bare, &[low.clone(), old.clone()]);
    assert_eq!(desired(&first), r#"{"own":1,"fan":2,"x":{"y":true}}"#);
    assert_eq!(Value::Object(told.unwrap()).to_string(), r#"{"fan":2,"x":{"y":true}}"#);
    assert_eq!(statuses(&first), [("low".into(), "Targeted"), ("old".into(), "Applied")]);
    let (second, told) = run(&first, &[young, low.clone(), old]);
    assert_eq!(desired(&second), r#"{"own":1,"fan":3}"#);
    assert_eq!(Value::Object(told.unwrap()).to_string(), r#"{"x":null,"fan":3}"#);
    let (third, _) = run(&second, &[low]);
    assert_eq!(desired(&third), r#"{"own":1,"fan":1}"#);
    let (last, _) = run(&third, &[]);
    assert_eq!((desired(&last), last.configurations), (r#"{"own":1}"#.into(), Vec::new()));
}

#[test]
fn settings_are_enforced_where_they_are_set_and_only_there() {
    let rule = Rule::new("c", 1, 1, r#"{"properties.desired.a.b":{"x":1},"properties.desired.gone":null}"#);
    let own = record(&object(r#"{"a":{"own":1,"b":{"x":2,"y":3}},"gone":5}"#));
    let (applied, told) = run(&own, std::slice::from_ref(&rule));
    assert_eq!(desired(&applied), r#"{"a":{"own":1,"b":{"x":1}}}"#);
    assert_eq!(Value::Object(told.unwrap()).to_string(), r#"{"gone":null,"a":{"b":{"y":null,"x":1}}}"#);
    // Somebody puts a scalar where the configuration needs an object.
    let scalar = record(&object(r#"{"a":7}"#));
    assert_eq!(desired(&run(&scalar, &[rule]).0), r#"{"a":{"b":{"x":1}}}"#);
    // All desired properties at once.
    let all = Rule::new("all", 1, 1, r#"{"properties.desired":{"p":1,"q":{}}}"#);
    let (replaced, _) = run(&own, std::slice::from_ref(&all));
    assert_eq!(desired(&replaced), r#"{"p":1,"q":{}}"#);
    assert_eq!(desired(&run(&replaced, &[]).0), "{}");
}

#[test]
fn a_change_of_status_alone_changes_no_version() {
    let rule = Rule::new("a", 2, 1, r#"{"properties.desired.fan":1}"#);
    let (before, _) = run(&record(&Object::new()), std::slice::from_ref(&rule));
    let (after, told) = run(&before, &[rule, Rule::new("b", 1, 1, r#"{"properties.desired.fan":2}"#)]);
    assert_eq!((after.twin.version, told), (before.twin.version, None));
    assert_eq!(statuses(&after), [("a".into(), "Applied"), ("b".into(), "Targeted")]);
}

#[test]
fn what_the_twin_cannot_take_stays_a_target_and_the_next_wins() {
    let text = "x".repeat(4000);
    let members: Vec<String> = (0..8).map(|n| format!(r#""p{n}":"{text}""#)).collect();
    let full = record(&object(&format!("{{{}}}", members.join(","))));
    let large = Rule::new("large", 9, 1, &format!(r#"{{"properties.desired.more":"{text}"}}"#));
    let small = Rule::new("small", 1, 1, r#"{"properties.desired.fan":1}"#);
    let [large, small] = [&large, &small].map(|rule| Candidate {
        id: &rule.id,
        priority: rule.priority,
        created: Timestamp::from_ticks(rule.created),
        settings: rule.settings.as_ref(),
    });
    let decision = decide(&full, &[large, small], NOW);
    assert_eq!(decision.refused.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["large"]);
    let (changed, _) = decision.change.unwrap();
    assert_eq!(statuses(&changed), [("large".into(), "Targeted"), ("small".into(), "Applied")]);
    let again = decide(&changed, &[small, large], NOW);
    assert!(again.change.is_none() && again.refused.len() == 1);
}

fn keys() -> impl Strategy<Value = Key> {
    "[abc]".prop_map(Into::into)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (0..3i64).prop_map(|n| Value::Number(n.into())),
        "[xy]".prop_map(|text| Value::String(text.into())),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec((keys(), inner), 0..3).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn objects() -> impl Strategy<Value = Object> {
    vec((keys(), values()), 0..4).prop_map(|members| members.into_iter().collect())
}

fn contents() -> impl Strategy<Value = Settings> {
    let path = prop_oneof![
        vec(keys(), 1..4).prop_map(|path| path.join(".")),
        vec(keys(), 1..4).prop_map(|path| path.join(".")),
    ];
    let value = prop_oneof![4 => values(), 1 => Just(Value::Null)];
    let some = vec((path, value), 0..4).prop_filter_map("paths overlap", |members| {
        let members =
            members.into_iter().map(|(path, value)| (format!("properties.desired.{path}").into(), value));
        Settings::read(&members.collect()).ok()
    });
    let all = objects().prop_map(|all| {
        let whole: Object = [("properties.desired".into(), Value::Object(all))].into_iter().collect();
        Settings::read(&whole).unwrap()
    });
    prop_oneof![4 => some, 1 => all]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = ("[pqrs]", 0..3u32, 0..3i64, option::weighted(0.8, contents()));
    vec(rule, 0..4).prop_map(|rules| {
        let mut rules: Vec<_> = rules
            .into_iter()
            .map(|(id, priority, created, settings)| {
                let id = ConfigurationId::new(&id).unwrap();
                Rule { id, priority, created, settings }
            })
            .collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        rules.dedup_by(|a, b| a.id == b.id);
        rules
    })
}

/// What stands at a path, if anything.
fn at<'a>(section: &'a Section, path: &[Key]) -> Option<&'a Node> {
    let names: Vec<&str> = path.iter().map(|name| &**name).collect();
    section.get(&names)
}

proptest! {
    #[test]
    fn deciding_is_idempotent_independent_of_order_and_enforces_the_winner(
        own in objects(),
        history in vec(rules(), 0..3),
        last in rules(),
        order in any::<u64>(),
    ) {
        let mut twin = record(&own);
        for rules in &history {
            twin = run(&twin, rules).0;
        }
        let (after, _) = run(&twin, &last);
        let mut shuffled = last.clone();
        shuffled.rotate_left(usize::try_from(order).unwrap_or(0) % last.len().max(1));
        shuffled.reverse();
        prop_assert_eq!(&run(&twin, &shuffled).0, &after);
        let (again, told) = run(&after, &last);
        prop_assert_eq!((&again, told), (&after, None));

        let ids: Vec<_> = last.iter().map(|rule| rule.id.as_str()).collect();
        prop_assert_eq!(after.configurations.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ids);
        let winner = last.iter().filter(|it| it.settings.is_some()).max_by_key(|it| (it.priority, it.created, &it.id));
        let applied: Vec<_> = after.configurations.iter().filter(|it| it.state != State::Targeted).collect();
        prop_assert_eq!(applied.iter().map(|it| &it.id).collect::<Vec<_>>(), winner.iter().map(|it| &it.id).collect::<Vec<_>>());
        for setting in winner.and_then(|rule| rule.settings.as_ref()).into_iter().flat_map(Settings::iter) {
            if !setting.path.is_empty() && !setting.value.is_null() {
                let there = at(&after.twin.desired, &setting.path);
                prop_assert!(there.is_some(), "{:?} is missing", setting);
            }
        }
    }

    /// Applying and removing leaves what the twin had elsewhere.
    #[test]
    fn removal_takes_only_what_was_put_there(own in objects(), rules in rules()) {
        // Names that no configuration of these tests uses.
        let own: Object = own.into_iter().map(|(key, value)| (format!("own-{key}").into(), value)).collect();
        let partial = rules.iter().filter_map(|rule| rule.settings.as_ref()).all(|it| it.iter().all(|s| !s.path.is_empty()));
        prop_assume!(partial);
        let before = record(&own);
        let (applied, _) = run(&before, &rules);
        let (after, _) = run(&applied, &[]);
        prop_assert_eq!(desired(&after), desired(&before));
        prop_assert!(after.configurations.is_empty());
    }
}
