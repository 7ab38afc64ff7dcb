//! Calling methods of other devices and modules over HTTPS, signed in as this one (revival §2.1).
//!
//! Must not know: Python.
//!
//! Invariant: an answer is read up to [`LARGEST_ANSWER`] and no further.

use std::fmt::Write;
use std::time::Duration;

use ostler_device_sdk::http::Https;
use serde_json::Value;

/// A method's answer is 128 KiB at most (device §6); the rest is what the hub says around it.
const LARGEST_ANSWER: usize = 256 << 10;
const API_VERSION: &str = "2021-04-12";

/// The body of a call. The payload is JSON text and goes as it is, so a bad one is the hub's to refuse.
pub(crate) fn method_call(method: &str, payload: &str, limit_secs: u64) -> String {
    let method = Value::from(method);
    format!(
        r#"{{"methodName":{method},"responseTimeoutInSeconds":{limit_secs},"timeout":{limit_secs},"payload":{payload}}}"#
    )
}

#[derive(serde::Deserialize)]
struct Answer {
    status: i64,
    #[serde(default)]
    payload: Value,
}

/// Status and payload of the answer, or a reason why there is none.
pub(crate) async fn invoke(
    https: &Https,
    device: &str,
    module: Option<&str>,
    call: String,
    limit: Duration,
) -> Result<(i64, String), String> {
    let mut url = format!("{}/twins/{}", https.hub_url(), encoded(device));
    if let Some(module) = module {
        let _ = write!(url, "/modules/{}", encoded(module));
    }
    let _ = write!(url, "/methods?api-version={API_VERSION}");
    let request =
        https.post(&url).sign_in().header("content-type", "application/json").body(call).timeout(limit);
    let response = request.send().await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.bytes(LARGEST_ANSWER).await.map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(format!("the hub answered {status}: {}", String::from_utf8_lossy(&body)));
    }
    let answer: Answer = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    Ok((answer.status, answer.payload.to_string()))
}

/// Everything but letters, digits and `-._~` as percent codes.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
