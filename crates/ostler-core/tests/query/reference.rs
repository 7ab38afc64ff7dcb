//! A second evaluator, written as plainly as possible from query §5 to §7: it walks the twin's JSON document and makes
//! a tree of values at every step.
//!
//! Must not know: records, columns' meanings, or how the product evaluates.

use ostler_core::identity::twin_etag_text;
use ostler_core::json::{Object, Value};
use ostler_core::query::{Comparison, Expr, Function, List, Literal, Num, Operation, Presence};
use ostler_core::record::Record;
use ostler_core::twin::SectionKind;

/// The twin's document as the service shows it (service §8.1).
pub fn document(record: &Record, presence: Presence) -> Value {
    let identity = &record.identity;
    let mut members: Vec<(&str, String)> = Vec::new();
    let quoted = |text: &str| Value::String(text.into()).to_string();
    members.push(("deviceId", quoted(record.id.device())));
    if let Some(module) = record.id.module() {
        members.push(("moduleId", quoted(module)));
    }
    members.push(("modelId", quoted(record.twin.model_id.as_deref().unwrap_or(""))));
    members.push(("etag", quoted(&twin_etag_text(record.twin.etag))));
    members.push(("deviceEtag", quoted(&identity.etag_text())));
    members.push(("version", record.twin.version.to_string()));
    members.push(("status", quoted(identity.status.name())));
    members.push(("statusReason", identity.status_reason.as_deref().map_or("null".into(), quoted)));
    members.push(("statusUpdateTime", quoted(&identity.status_updated.to_string())));
    members.push(("connectionState", quoted(if presence.connected { "Connected" } else { "Disconnected" })));
    members.push(("lastActivityTime", quoted(&presence.activity.last_activity.to_string())));
    members.push(("cloudToDeviceMessageCount", "0".into()));
    members.push(("authenticationType", quoted("sas")));
    members.push(("x509Thumbprint", r#"{"primaryThumbprint":null,"secondaryThumbprint":null}"#.into()));
    if !record.id.is_module() {
        members.push(("capabilities", format!(r#"{{"iotEdge":{}}}"#, identity.iot_edge)));
        if let Some(scope) = &identity.device_scope {
            members.push(("deviceScope", quoted(scope)));
        }
        if !identity.parent_scopes.is_empty() {
            let scopes: Vec<String> = identity.parent_scopes.iter().map(|scope| quoted(scope)).collect();
            members.push(("parentScopes", format!("[{}]", scopes.join(","))));
        }
    }
    let section = |section: &ostler_core::twin::Section, kind| {
        let mut out = Vec::new();
        section.write_for_service(kind, &mut out);
        String::from_utf8(out).expect("text")
    };
    if !record.twin.tags.members.is_empty() {
        members.push(("tags", section(&record.twin.tags, SectionKind::Tags)));
    }
    let desired = section(&record.twin.desired, SectionKind::Desired);
    let reported = section(&record.twin.reported, SectionKind::Reported);
    members.push(("properties", format!(r#"{{"desired":{desired},"reported":{reported}}}"#)));
    let text: Vec<String> = members.iter().map(|(key, value)| format!("{}:{value}", quoted(key))).collect();
    Value::parse(format!("{{{}}}", text.join(",")).as_bytes()).expect("a document")
}

/// The value at a path whose names need no escapes.
pub fn at(document: &Value, path: &str) -> Option<Value> {
    let mut value = document.clone();
    for name in path.split('.') {
        let Value::Object(object) = value else { return None };
        value = member(&object, name)?;
    }
    Some(value)
}

fn member(object: &Object, name: &str) -> Option<Value> {
    if let Some(value) = object.get(name) {
        return Some(value.clone());
    }
    let similar: Vec<&Value> = object
        .iter()
        .filter(|(key, _)| key.to_lowercase() == name.to_lowercase())
        .map(|(_, value)| value)
        .collect();
    match similar.as_slice() {
        [only] => Some((*only).clone()),
        _ => None,
    }
}

/// The value of an expression; `None` is undefined.
pub fn evaluate(expr: &Expr, document: &Value) -> Option<Value> {
    let of = |expr: &Expr| evaluate(expr, document);
    let truth = |expr: &Expr| match of(expr) {
        Some(Value::Bool(value)) => Some(value),
        _ => None,
    };
    match expr {
        Expr::Literal(literal) => of_literal(literal),
        Expr::Column(column) => at(document, column.text()),
        Expr::List(list) => Some(Value::Array(list.items().iter().filter_map(of_literal).collect())),
        Expr::And(parts) => {
            let truths: Vec<Option<bool>> = parts.iter().map(truth).collect();
            match truths.contains(&Some(false)) {
                true => Some(Value::Bool(false)),
                false => (!truths.contains(&None)).then_some(Value::Bool(true)),
            }
        }
        Expr::Or(parts) => {
            let truths: Vec<Option<bool>> = parts.iter().map(truth).collect();
            match truths.contains(&Some(true)) {
                true => Some(Value::Bool(true)),
                false => (!truths.contains(&None)).then_some(Value::Bool(false)),
            }
        }
        Expr::Not(part) => truth(part).map(|value| Value::Bool(!value)),
        Expr::Compare { op, left, right } => compared(*op, of(left)?, of(right)?).map(Value::Bool),
        Expr::In { value, list, negated } => {
            contained(&of(value)?, list).map(|found| Value::Bool(found != *negated))
        }
        Expr::Like { value, pattern, negated } => match of(value)? {
            Value::String(text) => {
                let chars = |text: &str| text.chars().collect::<Vec<char>>();
                Some(Value::Bool(like(&chars(pattern.text()), &chars(&text)) != *negated))
            }
            _ => None,
        },
        Expr::Arithmetic { op, left, right } => {
            let (left, right) = (double(&of(left)?)?, double(&of(right)?)?);
            let result = match op {
                Operation::Add => left + right,
                Operation::Subtract => left - right,
                Operation::Multiply => left * right,
                Operation::Divide => left / right,
                Operation::Remainder => left % right,
            };
            number(result)
        }
        Expr::Minus(part) => number(-double(&of(part)?)?),
        Expr::Plus(part) => number(double(&of(part)?)?),
        Expr::Call { function, arguments } => {
            let arguments: Vec<Option<Value>> = arguments.iter().map(of).collect();
            called(*function, &arguments)
        }
    }
}

fn of_literal(literal: &Literal) -> Option<Value> {
    match literal {
        Literal::Undefined => None,
        Literal::Null => Some(Value::Null),
        Literal::Bool(value) => Some(Value::Bool(*value)),
        Literal::Number(Num::Int(value)) => number(*value as f64),
        Literal::Number(Num::Float(value)) => number(*value),
        Literal::Text(text) => Some(Value::String(text.clone())),
    }
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(number.as_f64()),
        _ => None,
    }
}

fn number(value: f64) -> Option<Value> {
    // Not a number and infinite have no JSON and are undefined.
    Value::parse(format!("{value:?}").as_bytes()).ok()
}

fn compared(op: Comparison, left: Value, right: Value) -> Option<bool> {
    let order = match (&left, &right) {
        (Value::Null, Value::Null) => 0.0f64.partial_cmp(&0.0),
        (Value::Bool(left), Value::Bool(right)) => left.partial_cmp(right),
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => {
            left.chars().collect::<Vec<_>>().partial_cmp(&right.chars().collect::<Vec<_>>())
        }
        _ => None,
    }?;
    Some(match op {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

/// `x = a OR x = b …`
fn contained(value: &Value, list: &List) -> Option<bool> {
    let mut result = Some(false);
    for item in list.items() {
        let equal = of_literal(item).and_then(|item| compared(Comparison::Equal, value.clone(), item));
        result = match (result, equal) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (None, _) | (_, None) => None,
            _ => Some(false),
        };
    }
    result
}

fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|from| like(rest, &text[from..])),
        [c, rest @ ..] => match text {
            [] => false,
            [first, texts @ ..] => (*c == '_' || c == first) && like(rest, texts),
        },
    }
}

fn called(function: Function, arguments: &[Option<Value>]) -> Option<Value> {
    let first = arguments[0].as_ref();
    let is = |test: fn(&Value) -> bool| Some(Value::Bool(first.is_some_and(test)));
    match function {
        Function::IsDefined => is(|_| true),
        Function::IsNull => is(|value| value.kind() == "null"),
        Function::IsBool => is(|value| value.kind() == "boolean"),
        Function::IsNumber => is(|value| value.kind() == "number"),
        Function::IsString => is(|value| value.kind() == "string"),
        Function::IsObject => is(|value| value.kind() == "object"),
        Function::IsArray => is(|value| value.kind() == "array"),
        Function::IsPrimitive => is(|value| !matches!(value.kind(), "array" | "object")),
        Function::ArrayContains => {
            match (first?, arguments[1].as_ref()?) {
                (_, Value::Array(_) | Value::Object(_)) => None,
                (Value::Array(elements), wanted) => Some(Value::Bool(elements.iter().any(|element| {
                    compared(Comparison::Equal, element.clone(), wanted.clone()) == Some(true)
                }))),
                _ => None,
            }
        }
        Function::AsNumber => match first? {
            Value::String(text) => text.trim().parse().ok().and_then(number).filter(|_| !text.contains('+')),
            value => number(double(value)?),
        },
        Function::Abs => number(double(first?)?.abs()),
        Function::Exp => number(double(first?)?.exp()),
        Function::Square => number(double(first?)? * double(first?)?),
        Function::Ceiling => number(double(first?)?.ceil()),
        Function::Floor => number(double(first?)?.floor()),
        Function::Sqrt => number(double(first?)?.sqrt()),
        Function::Sign => {
            let value = double(first?)?;
            number(if value == 0.0 { 0.0 } else { value.signum() })
        }
        Function::Power => number(double(first?)?.powf(double(arguments[1].as_ref()?)?)),
        _ => of_texts(function, arguments),
    }
}

fn of_texts(function: Function, arguments: &[Option<Value>]) -> Option<Value> {
    let text = |at: usize| arguments[at].as_ref().and_then(Value::as_str);
    let whole = |at: usize| match arguments.get(at) {
        None => Some(usize::MAX),
        Some(value) => {
            double(value.as_ref()?).filter(|value| *value >= 0.0 && value.fract() == 0.0).map(|v| v as usize)
        }
    };
    let string = |text: String| Some(Value::String(text.into()));
    match function {
        Function::StartsWith => Some(Value::Bool(text(0)?.starts_with(text(1)?))),
        Function::EndsWith => Some(Value::Bool(text(0)?.ends_with(text(1)?))),
        Function::Contains => Some(Value::Bool(text(0)?.contains(text(1)?))),
        Function::Lower => string(text(0)?.to_lowercase()),
        Function::Upper => string(text(0)?.to_uppercase()),
        Function::Length => number(text(0)?.chars().count() as f64),
        Function::Concat => {
            let texts: Option<Vec<&str>> = (0..arguments.len()).map(text).collect();
            string(texts?.concat())
        }
        Function::Substring => string(text(0)?.chars().skip(whole(1)?).take(whole(2)?).collect()),
        Function::IndexOf => {
            let (text, part) = (text(0)?.chars().collect::<Vec<_>>(), text(1)?.chars().collect::<Vec<_>>());
            let found = (0..=text.len()).find(|from| text[*from..].starts_with(&part));
            number(found.map_or(-1.0, |at| at as f64))
        }
        _ => None,
    }
}
