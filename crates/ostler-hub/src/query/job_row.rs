//! What a job did to a device, as a row of a query (query §9).
//!
//! Invariant: a column has the value that the service's document of a device job shows at that path (service §10.4).

use ostler_core::job::DeviceJob;
use ostler_core::json::{Key, Number, Object, Value};
use ostler_core::query::{Column, Datum, Field, JobField, Row};
use ostler_core::time::Timestamp;
use std::borrow::Cow;

pub(super) struct JobRow<'a>(pub(super) &'a DeviceJob);

impl Row for JobRow<'_> {
    fn get(&self, column: &Column) -> Datum<'_> {
        let Field::Job(field) = column.field() else { return Datum::Undefined };
        let job = self.0;
        match field {
            JobField::DeviceId => Datum::text(job.device.as_str()),
            JobField::JobId => Datum::text(job.job.as_str()),
            JobField::JobType => Datum::text(job.kind.name()),
            JobField::Status => Datum::text(job.status.name()),
            JobField::StartTimeUtc => job.start.map_or(Datum::Undefined, time),
            JobField::EndTimeUtc => job.end.map_or(Datum::Undefined, time),
            JobField::CreatedDateTimeUtc => time(job.created),
            JobField::LastUpdatedDateTimeUtc => time(job.updated),
            JobField::Outcome(_) | JobField::Error(_) => self.value(column).map_or(Datum::Undefined, owned),
        }
    }

    fn value(&self, column: &Column) -> Option<Value> {
        match column.field() {
            Field::Job(JobField::Outcome(path)) => below(outcome(self.0), path),
            Field::Job(JobField::Error(path)) => below(error(self.0)?, path),
            _ => self.get(column).to_value(),
        }
    }
}

fn outcome(job: &DeviceJob) -> Value {
    let answer = job.outcome.as_ref().map(|answer| {
        let payload = Value::parse(&answer.payload).unwrap_or(Value::Null);
        let status = Value::Number(Number::from(i64::from(answer.status)));
        (Key::from("deviceMethodResponse"), object([("status", status), ("payload", payload)]))
    });
    Value::Object(answer.into_iter().collect())
}

fn error(job: &DeviceJob) -> Option<Value> {
    let failure = job.error.as_ref()?;
    let text = |text: &str| Value::String(text.into());
    Some(object([("code", text(failure.code.name())), ("description", text(&failure.text))]))
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (Key::from(name), value)).collect())
}

/// The value at a path; what the device answered is matched as other keys of users are (query §4).
fn below(value: Value, path: &[Key]) -> Option<Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Object(object) => member(object, name),
        _ => None,
    })
}

fn member(object: Object, name: &str) -> Option<Value> {
    let exact = object.get(name).is_some();
    let is = |key: &str| if exact { key == name } else { key.eq_ignore_ascii_case(name) };
    let mut found = object.into_iter().filter(|(key, _)| is(key));
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

fn time(time: Timestamp) -> Datum<'static> {
    Datum::Text(Cow::Owned(time.to_string()))
}

fn owned(value: Value) -> Datum<'static> {
    match value {
        Value::String(text) => Datum::Text(Cow::Owned(text.into())),
        Value::Array(elements) => Datum::Array(Cow::Owned(elements)),
        Value::Object(_) => Datum::Object,
        Value::Null => Datum::Null,
        Value::Bool(value) => Datum::Bool(value),
        Value::Number(number) => Datum::Number((&number).into()),
    }
}
