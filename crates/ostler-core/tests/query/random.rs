//! Random queries, expressions and rows.
//!
//! Must not know: what they mean.

use ostler_core::id::EntityId;
use ostler_core::identity::{FreshSecrets, Identity, IdentitySpec};
use ostler_core::json::{Key, Object, Value};
use ostler_core::query::{
    Aggregate, Collection, Column, Comparison, Direction, Expr, Function, Item, List, Literal, Num,
    Operation, Pattern, Presence, Query, Select, What,
};
use ostler_core::record::{Activity, Record};
use ostler_core::time::Timestamp;
use ostler_core::twin::{SectionPatch, Twin, TwinPatch};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Paths that meet every kind of column, and the keys that random twins have.
const PATHS: &[&str] = &[
    "deviceId",
    "moduleId",
    "etag",
    "deviceEtag",
    "version",
    "status",
    "statusReason",
    "statusUpdateTime",
    "connectionState",
    "lastActivityTime",
    "cloudToDeviceMessageCount",
    "authenticationType",
    "x509Thumbprint",
    "x509Thumbprint.primaryThumbprint",
    "modelId",
    "capabilities",
    "capabilities.iotEdge",
    "capabilities.other",
    "deviceScope",
    "parentScopes",
    "nowhere",
    "tags",
    "tags.a",
    "tags.A",
    "tags.site",
    "tags.SITE",
    "tags.b.a",
    "tags.b.site",
    "tags.b.a.SITE",
    "properties",
    "properties.desired",
    "properties.desired.a",
    "properties.desired.Site",
    "properties.desired.$version",
    "properties.desired.$metadata",
    "properties.desired.$metadata.a",
    "properties.desired.$metadata.$lastUpdated",
    "properties.desired.$metadata.b.a.$lastUpdated",
    "properties.desired.$metadata.a.$lastUpdatedVersion",
    "properties.reported",
    "properties.reported.a",
    "properties.reported.b",
    "properties.reported.b.Site",
    "properties.reported.$version",
    "properties.reported.$metadata.a.$lastUpdated",
    "properties.reported.$metadata.a.$lastUpdatedVersion",
];

/// A column of devices that random rows may have.
pub fn known_column() -> impl Strategy<Value = Column> {
    let own = select(vec![
        "tags.a",
        "tags.A",
        "tags.SITE",
        "tags.b.a",
        "properties.desired.a",
        "properties.reported.Site",
    ]);
    prop_oneof![own, select(PATHS)].prop_map(|path| Column::parse(path).expect("a path"))
}

/// A column with any name that can be written.
fn any_column() -> impl Strategy<Value = Column> {
    let name = any::<String>().prop_filter("can be escaped", |name| {
        !name.is_empty() && !name.contains("]]") && !name.ends_with(']')
    });
    let escaped = vec(name, 1..4).prop_map(|names| {
        let path: Vec<String> = names.iter().map(|name| format!("[[{name}]]")).collect();
        format!("tags.{}", path.join("."))
    });
    let unknown = "[a-z_$][a-z0-9_$]{0,6}".prop_map(|name| format!("[[{name}]]"));
    let path = prop_oneof![select(PATHS).prop_map(str::to_owned), escaped, unknown];
    path.prop_map(|path| Column::parse(&path).expect("a path"))
}

fn any_literal() -> impl Strategy<Value = Literal> {
    let float = any::<f64>().prop_filter("a number", |value| value.is_finite());
    prop_oneof![
        Just(Literal::Undefined),
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        any::<i64>().prop_map(|value| Literal::Number(Num::Int(value))),
        float.prop_map(|value| Literal::Number(Num::Float(value))),
        any::<String>().prop_map(|text| Literal::Text(text.into())),
    ]
}

/// Constants that random rows are likely to have.
fn small_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        1 => Just(Literal::Undefined),
        1 => Just(Literal::Null),
        2 => any::<bool>().prop_map(Literal::Bool),
        4 => (-4i64..8).prop_map(|value| Literal::Number(Num::Int(value))),
        2 => (-8i32..8).prop_map(|value| Literal::Number(Num::Float(f64::from(value) / 4.0))),
        4 => small_text().prop_map(|text| Literal::Text(text.into())),
    ]
}

fn small_text() -> impl Strategy<Value = String> {
    prop_oneof!["[abü2]{0,3}", Just("enabled".to_owned()), Just("2024-05-01T10".to_owned())]
}

/// Any expression that can be written.
pub fn any_expr() -> BoxedStrategy<Expr> {
    expr(any_column().boxed(), any_literal().boxed(), "[a%_\\\\'üx]{0,6}", true)
}

/// An expression over the columns and values of random rows, arithmetic only between leaves, so that doubles are
/// exact.
pub fn small_expr() -> BoxedStrategy<Expr> {
    expr(known_column().boxed(), small_literal().boxed(), "[ab%_]{0,4}", false)
}

fn expr(
    column: BoxedStrategy<Column>,
    literal: BoxedStrategy<Literal>,
    pattern: &'static str,
    nested: bool,
) -> BoxedStrategy<Expr> {
    let value = prop_oneof![
        3 => column.prop_map(Expr::Column),
        2 => literal.clone().prop_map(Expr::Literal),
        1 => vec(literal.clone(), 0..4).prop_map(|items| Expr::List(List::new(items))),
    ]
    .boxed();
    let leaf = leaf(value, literal, pattern);
    leaf.prop_recursive(5, 40, 3, move |inner| {
        let logic = prop_oneof![
            3 => vec(inner.clone(), 2..4).prop_map(Expr::And),
            3 => vec(inner.clone(), 2..4).prop_map(Expr::Or),
            3 => inner.clone().prop_map(|part| Expr::Not(Box::new(part))),
            1 => compared(inner.clone()),
        ];
        match nested {
            true => prop_oneof![logic, nesting(inner)].boxed(),
            false => logic.boxed(),
        }
    })
    .boxed()
}

/// Everything else that holds expressions.
fn nesting(inner: BoxedStrategy<Expr>) -> impl Strategy<Value = Expr> {
    let list = Just(List::new(vec![Literal::Null, Literal::Number(Num::Int(-1))]));
    prop_oneof![
        4 => computed(inner.clone()),
        1 => inner.clone().prop_map(|part| Expr::Minus(Box::new(part))),
        1 => inner.clone().prop_map(|part| Expr::Plus(Box::new(part))),
        1 => vec(inner.clone(), 1..3).prop_map(|arguments| Expr::Call { function: Function::Concat, arguments }),
        1 => (inner, list, any::<bool>())
            .prop_map(|(value, list, negated)| Expr::In { value: Box::new(value), list, negated }),
    ]
}

fn computed(value: BoxedStrategy<Expr>) -> BoxedStrategy<Expr> {
    (value.clone(), any_operation(), value)
        .prop_map(|(left, op, right)| Expr::Arithmetic { op, left: Box::new(left), right: Box::new(right) })
        .boxed()
}

fn leaf(
    value: BoxedStrategy<Expr>,
    literal: BoxedStrategy<Literal>,
    pattern: &'static str,
) -> BoxedStrategy<Expr> {
    let numeric = computed(value.clone());
    let function = select(Function::all().collect::<Vec<_>>());
    let call = (function, vec(value.clone(), 3)).prop_flat_map(|(function, arguments)| {
        let counts = function.arguments();
        (*counts.start()..=(*counts.end()).min(3))
            .prop_map(move |count| Expr::Call { function, arguments: arguments[..count].to_vec() })
    });
    let signed = value.clone().prop_flat_map(|value| {
        let value = Box::new(value);
        prop_oneof![Just(Expr::Minus(value.clone())), Just(Expr::Plus(value))]
    });
    let list = vec(literal, 0..4).prop_map(List::new);
    prop_oneof![
        2 => value.clone(),
        6 => compared(value.clone().boxed()),
        2 => compared(numeric),
        2 => (value.clone(), list, any::<bool>())
            .prop_map(|(value, list, negated)| Expr::In { value: Box::new(value), list, negated }),
        1 => (value, pattern, any::<bool>()).prop_map(|(value, pattern, negated)| Expr::Like {
            value: Box::new(value),
            pattern: Pattern::new(&pattern).expect("short"),
            negated,
        }),
        3 => call.clone(),
        2 => compared(call.boxed()),
        1 => compared(signed.boxed()),
    ]
    .boxed()
}

fn compared(value: BoxedStrategy<Expr>) -> BoxedStrategy<Expr> {
    (value.clone(), any_comparison(), value)
        .prop_map(|(left, op, right)| Expr::Compare { op, left: Box::new(left), right: Box::new(right) })
        .boxed()
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ])
}

fn any_operation() -> impl Strategy<Value = Operation> {
    select(vec![
        Operation::Add,
        Operation::Subtract,
        Operation::Multiply,
        Operation::Divide,
        Operation::Remainder,
    ])
}

fn aggregate() -> impl Strategy<Value = What> {
    let of = select(vec![Aggregate::Sum, Aggregate::Avg, Aggregate::Min, Aggregate::Max]);
    prop_oneof![
        Just(What::Aggregate(Aggregate::Count, None)),
        (of, any_column()).prop_map(|(aggregate, column)| What::Aggregate(aggregate, Some(column))),
    ]
}

fn alias() -> impl Strategy<Value = Option<Key>> {
    option::of("[a-zA-Z $]{1,6}|count|from".prop_map(Key::from))
}

/// A query that obeys the rules of its clauses.
pub fn any_query() -> impl Strategy<Value = Query> {
    let plain = (vec((any_column().prop_map(What::Column), alias()), 1..4), Just(None::<Column>));
    let grouped = (any_column(), vec((aggregate(), alias()), 1..3), any::<bool>()).prop_map(
        |(column, mut items, shown)| {
            if shown {
                items.insert(0, (What::Column(column.clone()), None));
            }
            (items, Some(column))
        },
    );
    let one = (vec((aggregate(), alias()), 1..3), Just(None::<Column>));
    let all = Just((Vec::new(), None::<Column>));
    let selected = prop_oneof![all, plain, grouped, one];
    let direction = prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)];
    let order = vec((any_column(), direction), 0..3);
    let limits = (option::of(1u64..100), option::of(0u64..100), option::of(0u64..100));
    let from = prop_oneof![Just(Collection::Devices), Just(Collection::Modules)];
    (any::<bool>(), selected, from, option::of(any_expr()), order, limits).prop_map(
        |(explain, (items, group_by), from, condition, order_by, (top, limit, offset))| {
            let items: Vec<Item> = items.into_iter().map(|(what, alias)| Item { what, alias }).collect();
            let select = if items.is_empty() { Select::All } else { Select::Items(items) };
            let limit = limit.filter(|_| top.is_none());
            let query = Query { explain, select, top, from, condition, group_by, order_by, limit, offset };
            let order_by = match (query.is_grouped(), &query.group_by) {
                (false, _) => query.order_by.clone(),
                (true, Some(column)) => vec![(column.clone(), Direction::Descending)],
                (true, None) => Vec::new(),
            };
            Query { order_by, ..query }
        },
    )
}

const WORDS: &[&str] = &[
    "SELECT",
    "*",
    "FROM",
    "devices",
    ".",
    "modules",
    "jobs",
    "WHERE",
    "AND",
    "OR",
    "NOT",
    "IN",
    "NIN",
    "LIKE",
    "GROUP",
    "ORDER",
    "BY",
    "TOP",
    "LIMIT",
    "OFFSET",
    "EXPLAIN",
    "AS",
    "DESC",
    "COUNT",
    "SUM",
    "(",
    ")",
    "[",
    "]",
    ",",
    "=",
    "!=",
    "<>",
    "<",
    ">=",
    "+",
    "-",
    "/",
    "%",
    "tags",
    "properties",
    "reported",
    "deviceId",
    "jobId",
    "outcome",
    "[[a b]]",
    "[[",
    "]]",
    "x",
    "1",
    "-1",
    "2.5",
    "0x1f",
    "1e3",
    "'a'",
    "\"b\\u00e9\"",
    "'",
    "true",
    "null",
    "undefined",
    "IS_DEFINED",
    "STARTSWITH",
    "LOWER",
    "CONCAT",
    "COUNT()",
    "'it''s'",
    "$version",
];

/// Words in any order, often close to a query.
pub fn soup() -> impl Strategy<Value = String> {
    let words = vec(select(WORDS), 0..14).prop_map(|words| words.join(" "));
    let start = select(vec![
        "",
        "SELECT * FROM devices ",
        "SELECT * FROM devices WHERE ",
        "SELECT * FROM devices.jobs WHERE jobId = ",
        "SELECT deviceId FROM devices.jobs WHERE ",
        "SELECT COUNT() FROM devices.modules ",
    ]);
    (start, words).prop_map(|(start, words)| format!("{start}{words}"))
}

fn key() -> impl Strategy<Value = Key> {
    select(vec!["a", "A", "b", "site", "Site"]).prop_map(Key::from)
}

fn json() -> BoxedStrategy<Value> {
    let number = prop_oneof![
        (-4i64..8).prop_map(|value| value.to_string()),
        (-8i32..8).prop_map(|value| format!("{:?}", f64::from(value) / 4.0)),
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        number.prop_map(|text| Value::parse(text.as_bytes()).expect("a number")),
        small_text().prop_map(|text| Value::String(text.into())),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec((key(), inner), 0..3).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}

fn section() -> impl Strategy<Value = Object> {
    vec((key(), json()), 0..4).prop_map(|members| members.into_iter().collect())
}

/// A device or module with a random twin.
pub fn record() -> impl Strategy<Value = (Record, Presence)> {
    let id = select(vec!["a", "ab", "device-7", "a/b"]);
    let sections = (section(), section(), section());
    (id, sections, any::<(bool, bool)>(), option::of("[ab]{0,2}"), 0i64..3).prop_map(
        |(id, (tags, desired, reported), (edge, connected), reason, at)| {
            let now = Timestamp::from_unix_secs(1_714_557_600 + at);
            let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 7 };
            let spec = IdentitySpec {
                iot_edge: Some(edge),
                status_reason: reason.map(Into::into),
                device_scope: edge.then(|| "scope".into()),
                parent_scopes: if connected { vec!["ab".into()] } else { Vec::new() },
                ..IdentitySpec::default()
            };
            let identity = Identity::create(spec, &fresh, now).expect("an identity");
            let patch = TwinPatch {
                tags: Some(SectionPatch::Merge(tags)),
                desired: Some(SectionPatch::Merge(desired)),
            };
            let (twin, _) = Twin::default().patch(&patch, now).expect("small");
            let twin = twin.report(&reported, now).expect("small");
            let activity = Activity { last_activity: now, connection_updated: now };
            let record = Record { twin, ..Record::new(EntityId::parse(id).expect("an id"), identity) };
            (record, Presence { connected, activity, messages: 0 })
        },
    )
}
