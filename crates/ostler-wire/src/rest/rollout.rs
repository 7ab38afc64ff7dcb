//! How a job goes through its devices, as JSON: Ostler's own member of a job.
//!
//! Must not know which numbers are allowed; core checks them.
//!
//! Invariant: a member that does not exist is refused: a gate that is misspelt and therefore open would do harm.
//! Invariant: what [`write_rollout`] writes, [`read_rollout`] reads back.

use super::fields::{Fields, InvalidBody};
use super::identity::write_list;
use ostler_core::job::{Gate, Offline, Rollout, Waves};
use ostler_core::json::{Key, ObjectWriter, Raw};

const MEMBERS: [&str; 7] =
    ["rate", "concurrency", "attempts", "retryBackoffInSeconds", "offline", "waves", "gate"];
const WAVES: [&str; 3] = ["sizes", "percent", "byTag"];
const GATE: [&str; 5] = [
    "minSuccessPercent",
    "stopAfterFailures",
    "stopAfterFailedPercent",
    "stopAfterConsecutiveFailures",
    "soakTimeInSeconds",
];

/// Waves are made by tags only, so the word in front of the path may be left out.
const TAGS: &str = "tags.";

/// Reads the object; what it leaves out is Azure's way.
pub(super) fn read_rollout(fields: &Fields<'_>) -> Result<Rollout, InvalidBody> {
    fields.allow_only("rollout", &MEMBERS)?;
    let azure = Rollout::default();
    Ok(Rollout {
        rate: number(fields, "rate")?,
        concurrency: number(fields, "concurrency")?,
        attempts: number(fields, "attempts")?.unwrap_or(azure.attempts),
        retry_backoff_secs: number(fields, "retryBackoffInSeconds")?.unwrap_or(azure.retry_backoff_secs),
        offline: match fields.text("offline")?.as_deref() {
            None => azure.offline,
            Some(word) if word.eq_ignore_ascii_case("wait") => Offline::Wait,
            Some(word) if word.eq_ignore_ascii_case("fail") => Offline::Fail,
            Some(_) => return Err(InvalidBody::argument("offline must be wait or fail")),
        },
        waves: match fields.get("waves") {
            None => azure.waves,
            Some(_) => read_waves(&fields.fields("waves")?)?,
        },
        gate: read_gate(&fields.fields("gate")?)?,
    })
}

fn read_waves(fields: &Fields<'_>) -> Result<Waves, InvalidBody> {
    fields.allow_only("waves", &WAVES)?;
    match (fields.elements("sizes")?, fields.elements("percent")?, fields.text("byTag")?) {
        (None, None, None) => Ok(Waves::One),
        (Some(sizes), None, None) => Ok(Waves::Sizes(numbers(&sizes, "sizes")?)),
        (None, Some(shares), None) => Ok(Waves::Percent(numbers(&shares, "percent")?)),
        (None, None, Some(path)) => {
            let path = path.strip_prefix(TAGS).unwrap_or(&path);
            Ok(Waves::ByTag(path.split('.').map(Key::from).collect()))
        }
        _ => Err(InvalidBody::argument("waves has more than one of sizes, percent and byTag")),
    }
}

fn read_gate(fields: &Fields<'_>) -> Result<Gate, InvalidBody> {
    fields.allow_only("gate", &GATE)?;
    Ok(Gate {
        min_success_percent: number(fields, "minSuccessPercent")?,
        stop_after_failures: number(fields, "stopAfterFailures")?,
        stop_after_failed_percent: number(fields, "stopAfterFailedPercent")?,
        stop_after_consecutive: number(fields, "stopAfterConsecutiveFailures")?,
        soak_secs: number(fields, "soakTimeInSeconds")?.unwrap_or(0),
    })
}

/// An integer that its type can hold; the range proper is core's to check.
fn number<N: TryFrom<i64>>(fields: &Fields<'_>, name: &str) -> Result<Option<N>, InvalidBody> {
    let Some(number) = fields.integer(name)? else { return Ok(None) };
    N::try_from(number).map(Some).map_err(|_| out_of_range(name, number))
}

fn numbers<N: TryFrom<i64>>(elements: &[Raw<'_>], name: &str) -> Result<Vec<N>, InvalidBody> {
    let read = |element: &Raw<'_>| {
        let number = element.as_i64();
        let number =
            number.ok_or_else(|| InvalidBody::shape(format!("{name} must be a list of integers")))?;
        N::try_from(number).map_err(|_| out_of_range(name, number))
    };
    elements.iter().map(read).collect()
}

fn out_of_range(name: &str, number: i64) -> InvalidBody {
    InvalidBody::argument(format!("{name} is {number}, which is out of range"))
}

/// Writes the object; numbers that have a default are written even if they have it.
pub(super) fn write_rollout(rollout: &Rollout, mut object: ObjectWriter<'_>) {
    optional(&mut object, "rate", rollout.rate.map(u64::from));
    optional(&mut object, "concurrency", rollout.concurrency.map(u64::from));
    object.count("attempts", rollout.attempts.into());
    object.count("retryBackoffInSeconds", rollout.retry_backoff_secs.into());
    object.string("offline", if rollout.offline == Offline::Wait { "wait" } else { "fail" });
    write_waves(&rollout.waves, &mut object);
    write_gate(&rollout.gate, object.object("gate"));
    object.end();
}

fn write_waves(waves: &Waves, object: &mut ObjectWriter<'_>) {
    let digits = |number: u64, out: &mut Vec<u8>| out.extend_from_slice(number.to_string().as_bytes());
    if *waves == Waves::One {
        return;
    }
    let mut inner = object.object("waves");
    match waves {
        Waves::One => {}
        Waves::Sizes(sizes) => write_list(sizes, inner.key("sizes"), |size, out| digits(*size, out)),
        Waves::Percent(shares) => {
            write_list(shares, inner.key("percent"), |share, out| digits((*share).into(), out));
        }
        Waves::ByTag(path) => {
            inner.string("byTag", &format!("{TAGS}{}", path.join(".")));
        }
    }
    inner.end();
}

fn write_gate(gate: &Gate, mut object: ObjectWriter<'_>) {
    optional(&mut object, "minSuccessPercent", gate.min_success_percent.map(u64::from));
    optional(&mut object, "stopAfterFailures", gate.stop_after_failures);
    optional(&mut object, "stopAfterFailedPercent", gate.stop_after_failed_percent.map(u64::from));
    optional(&mut object, "stopAfterConsecutiveFailures", gate.stop_after_consecutive);
    object.count("soakTimeInSeconds", gate.soak_secs.into());
    object.end();
}

fn optional(object: &mut ObjectWriter<'_>, name: &str, number: Option<u64>) {
    if let Some(number) = number {
        object.count(name, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::error::ErrorCode;

    fn read(text: &str) -> Result<Rollout, InvalidBody> {
        read_rollout(&Fields::of_body(text.as_bytes()).unwrap())
    }

    fn written(rollout: &Rollout) -> String {
        let mut out = Vec::new();
        write_rollout(rollout, ObjectWriter::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_azures_way() {
        assert_eq!(read("{}").unwrap(), Rollout::default());
        assert_eq!(read(r#"{"rate":null,"waves":{},"gate":null}"#).unwrap(), Rollout::default());
        assert_eq!(
            written(&Rollout::default()),
            r#"{"attempts":1,"retryBackoffInSeconds":0,"offline":"wait","gate":{"soakTimeInSeconds":0}}"#
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = r#"{"rate":50,"concurrency":8,"attempts":3,"retryBackoffInSeconds":10,"offline":"fail","waves":{"sizes":[1,10,100]},"gate":{"minSuccessPercent":95,"stopAfterFailures":9,"stopAfterFailedPercent":5,"stopAfterConsecutiveFailures":3,"soakTimeInSeconds":60}}"#;
        let rollout = read(text).unwrap();
        assert_eq!(written(&rollout), text);
        for waves in [r#"{"percent":[1,9]}"#, r#"{"byTag":"tags.site.floor"}"#] {
            let rollout = read(&format!(r#"{{"waves":{waves}}}"#)).unwrap();
            assert!(written(&rollout).contains(waves), "{}", written(&rollout));
        }
        assert_eq!(
            read(r#"{"waves":{"byTag":"site"}}"#).unwrap(),
            read(r#"{"waves":{"byTag":"tags.site"}}"#).unwrap()
        );
    }

    #[test]
    fn what_is_refused() {
        for (text, code, told) in [
            (
                r#"{"rat":1}"#,
                ErrorCode::ArgumentInvalid,
                "rollout has no member 'rat'; there are rate, concurrency",
            ),
            (r#"{"gate":{"stopAfter":1}}"#, ErrorCode::ArgumentInvalid, "gate has no member 'stopAfter'"),
            (
                r#"{"waves":{"sizes":[1],"percent":[1]}}"#,
                ErrorCode::ArgumentInvalid,
                "waves has more than one",
            ),
            (r#"{"waves":{"percent":[256]}}"#, ErrorCode::ArgumentInvalid, "percent is 256"),
            (r#"{"rate":-1}"#, ErrorCode::ArgumentInvalid, "rate is -1"),
            (r#"{"rate":99999999999}"#, ErrorCode::ArgumentInvalid, "rate is 99999999999"),
            (r#"{"rate":1.5}"#, ErrorCode::DeserializationError, "rate must be an integer"),
            (
                r#"{"waves":{"sizes":["1"]}}"#,
                ErrorCode::DeserializationError,
                "sizes must be a list of integers",
            ),
            (r#"{"waves":[1]}"#, ErrorCode::DeserializationError, "waves must be an object"),
            (r#"{"offline":"maybe"}"#, ErrorCode::ArgumentInvalid, "offline must be wait or fail"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.code == code && error.text.starts_with(told), "{text}: {error:?}");
        }
    }
}
