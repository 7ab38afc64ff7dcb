//! The updater on a hub: calls and desired properties in, reported properties out.
//!
//! Must not know: how an update is carried out.
//!
//! Invariant: a call is answered once its update is durable, and long before it is over.
//! Invariant: patches go out one at a time, in order; the outcome counts as told only when the hub has taken it.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::time::{Timestamp, TICKS_PER_SEC};
use serde_json::{json, Map, Value};

use super::failure::{Code, Failure};
use super::hooks::{Hook, Trial};
use super::machine::Accepted;
use super::manifest::{Package, MAX_URL};
use super::state::{Request, Source};
use super::updater::{now, Exit, Updater};
use crate::{Client, DesiredUpdate, MethodError, TwinError};

/// Between two attempts to tell the same step; the client waits for its connection by itself.
const REPORT_AGAIN: Duration = Duration::from_secs(2);
/// Names under which a URI of a package is taken; the first is the tutorials'.
const URI_NAMES: [&str; 3] = ["fwPackageUri", "packageUri", "uri"];

impl Updater {
    /// Listens to the hub, carries updates out and tells of them, until the device is to be booted.
    ///
    /// The method `firmwareUpdate` and the desired property `firmware` take a package, as `ostler firmware sign` prints it, or
    /// `{"fwPackageUri": "https://…"}`, where one is to be had. The new image counts as healthy once the hub can be reached,
    /// unless there is a [health check](super::Builder::health_check).
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`] when the state cannot be stored; calling again goes on from there.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client, updater: ostler_device_sdk::firmware::Updater)
    /// # -> Result<(), ostler_device_sdk::firmware::Failure> {
    /// use ostler_device_sdk::firmware::Exit;
    ///
    /// match updater.run(&client).await? {
    ///     Exit::Boot(slot) => println!("start {} now", slot.folder.display()),
    ///     _ => {}
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn run(&self, client: &Client) -> Result<Exit, Failure> {
        self.listen(client);
        self.shared.told.send_replace(false);
        let reachable = client.clone();
        let healthy = Hook::new(move |_: Trial| {
            let client = reachable.clone();
            async move { client.connect().await.map_err(|error| format!("the hub cannot be reached: {error}")) }
        });
        let https = client.https();
        let result = tokio::select! {
            result = self.drive_with(&https, Some(healthy)) => result,
            failure = self.tell(client) => Err(failure),
            () = self.follow(client) => std::future::pending().await,
        };
        self.shared.told.send_replace(true);
        result
    }

    fn listen(&self, client: &Client) {
        // The client must not keep the folder locked when the updater is gone.
        let shared = Arc::downgrade(&self.shared);
        client.on_method(&self.shared.names.method, move |payload: Value| {
            let updater = shared.upgrade().map(|shared| Updater { shared });
            async move {
                let updater = updater.ok_or_else(|| MethodError::new(503, "the device is about to boot"))?;
                let refused = |failure: Failure| {
                    MethodError::new(status(failure.code), format!("{}: {}", failure.code, failure.text))
                };
                let request = parse(&payload).map_err(refused)?;
                let accepted = updater.request(request, Source::Call).await.map_err(refused)?;
                let target = updater.progress().target.map(|target| target.version.to_string());
                Ok(json!({ "status": word(accepted), "version": target }))
            }
        });
    }

    /// Hands the reporter's patches to the hub.
    async fn tell(&self, client: &Client) -> Failure {
        loop {
            let news = self.shared.news.notified();
            let patch = self.reporter().poll(now());
            let Some(patch) = patch else {
                self.shared.told.send_replace(self.reporter().is_empty());
                let deadline = self.reporter().deadline(now());
                tokio::select! {
                    () = news => {}
                    () = sleep_until(deadline) => {}
                }
                continue;
            };
            self.shared.told.send_replace(false);
            match client.report_json(&patch.json).await {
                Ok(_) if patch.is_outcome => {
                    if let Err(failure) = self.change(|machine, _| machine.handle_told()).await {
                        return failure;
                    }
                }
                Ok(_) => {}
                // What the hub refuses once it refuses again. An outcome is told again after the next start.
                Err(TwinError::Refused { status, message, .. }) if is_final(status) => {
                    tracing::warn!(message, "a step of the firmware update is refused by the hub");
                }
                Err(error) => {
                    tracing::debug!(%error, "a step of the firmware update was not reported yet");
                    self.reporter().give_back(patch);
                    tokio::time::sleep(REPORT_AGAIN).await;
                }
            }
        }
    }

    /// Follows the desired property.
    async fn follow(&self, client: &Client) {
        let mut updates = client.desired();
        let mut wish = Value::Null;
        while let Some(update) = updates.next().await {
            let name = &self.shared.names.property;
            match update {
                DesiredUpdate::Whole(twin) => wish = twin.desired().get(name).cloned().unwrap_or(Value::Null),
                DesiredUpdate::Patch { json, .. } => {
                    let Ok(Value::Object(mut patch)) = serde_json::from_str(&json) else { continue };
                    let Some(change) = patch.remove(name) else { continue };
                    merge(&mut wish, change);
                }
            }
            self.wish(&wish).await;
        }
    }

    async fn wish(&self, wish: &Value) {
        let result = if wish.is_null() {
            let update = self.progress().state.update;
            match update.filter(|update| update.source == Source::Desired) {
                Some(_) => self.cancel().await.map(|_| "called off"),
                None => return,
            }
        } else {
            match parse(wish) {
                Ok(request) => self.request(request, Source::Desired).await.map(word),
                Err(failure) => Err(failure),
            }
        };
        match result {
            Ok(result) => tracing::info!(result, "firmware: desired property"),
            Err(failure) => {
                tracing::warn!(%failure, code = %failure.code, "firmware: desired property refused")
            }
        }
    }
}

/// Whether the hub will say the same next time: not when it had too much to do.
fn is_final(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 408 | 429)
}

async fn sleep_until(deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) => {
            let ticks = u64::try_from(deadline.ticks() - now().ticks()).unwrap_or_default();
            let (secs, rest) = (ticks / TICKS_PER_SEC as u64, ticks % TICKS_PER_SEC as u64);
            let nanos = u32::try_from(rest * 100).unwrap_or_default();
            tokio::time::sleep(Duration::new(secs, nanos)).await;
        }
        None => std::future::pending().await,
    }
}

/// Reads what a call or a desired property asks for: a package, `{"package": …}`, or a URI of one.
pub(super) fn parse(value: &Value) -> Result<Request, Failure> {
    let bad = |why: &str| Failure::new(Code::BadRequest, why);
    let nothing = "expected a package (url, manifest, signature) or {\"fwPackageUri\": …}";
    let object = value.as_object().ok_or_else(|| bad(nothing))?;
    if let Some(package) = object.get("package") {
        return Package::parse(&package.to_string()).map(Request::Package);
    }
    if object.contains_key("manifest") {
        return Package::parse(&value.to_string()).map(Request::Package);
    }
    let uri = URI_NAMES.iter().find_map(|name| object.get(*name)).ok_or_else(|| bad(nothing))?;
    let uri = uri.as_str().filter(|uri| !uri.is_empty() && uri.len() <= MAX_URL);
    let uri =
        uri.ok_or_else(|| bad(&format!("the package's URI must be a text of at most {MAX_URL} bytes")))?;
    Ok(Request::Uri(uri.to_owned()))
}

/// The same rule as for twins: objects merge, null deletes, all else replaces (device §5).
fn merge(value: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Value::Object(members) = value {
        for (name, change) in patch {
            if change.is_null() {
                members.remove(&name);
            } else {
                merge(members.entry(name).or_insert(Value::Null), change);
            }
        }
    }
}

fn word(accepted: Accepted) -> &'static str {
    match accepted {
        Accepted::Started => "started",
        Accepted::Running => "running",
        Accepted::Installed => "installed",
        Accepted::FailedBefore => "failedBefore",
    }
}

/// The answer's status, by custom as HTTP means it.
fn status(code: Code) -> i32 {
    match code {
        Code::BadRequest | Code::BadPackage | Code::BadUrl => 400,
        Code::BadSignature => 403,
        Code::Busy => 409,
        Code::WrongHardware | Code::NotNewer | Code::VersionTooOld | Code::Expired | Code::TooLarge => 412,
        Code::DiskFull => 507,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_in_several_forms() {
        let package = json!({"url": "u", "manifest": "m", "signature": "s"});
        let read = Package { url: "u".to_owned(), manifest: "m".to_owned(), signature: "s".to_owned() };
        assert_eq!(parse(&package), Ok(Request::Package(read.clone())));
        assert_eq!(parse(&json!({ "package": package })), Ok(Request::Package(read)));
        for name in URI_NAMES {
            assert_eq!(parse(&json!({ name: "https://h/p" })), Ok(Request::Uri("https://h/p".to_owned())));
        }
        let long = "x".repeat(MAX_URL + 1);
        for (value, code) in [
            (Value::Null, Code::BadRequest),
            (json!("https://h/p"), Code::BadRequest),
            (json!({}), Code::BadRequest),
            (json!({ "fwPackageUri": "" }), Code::BadRequest),
            (json!({ "fwPackageUri": 5 }), Code::BadRequest),
            (json!({ "fwPackageUri": long }), Code::BadRequest),
            (json!({ "manifest": "m" }), Code::BadPackage),
            (json!({ "package": [] }), Code::BadPackage),
        ] {
            assert_eq!(parse(&value).unwrap_err().code, code, "{value}");
        }
    }

    #[test]
    fn a_hub_that_is_busy_is_told_again() {
        for (status, expected) in
            [(400, true), (413, true), (408, false), (429, false), (500, false), (503, false)]
        {
            assert_eq!(is_final(status), expected, "{status}");
        }
    }

    #[test]
    fn a_wish_is_merged_as_twins_are() {
        let mut wish = Value::Null;
        merge(&mut wish, json!({"url": "a", "x": {"y": 1}}));
        merge(&mut wish, json!({"url": "b", "x": {"y": null, "z": [null]}, "gone": null}));
        assert_eq!(wish, json!({"url": "b", "x": {"z": [null]}}));
        merge(&mut wish, Value::Null);
        assert_eq!(wish, Value::Null);
    }
}
