//! `--seed FILE`: devices, modules and policies that a hub starts with.
//!
//! ```json
//! {
//!   "devices": [
//!     {"id": "pump-7", "authentication": {"symmetricKey": {"primaryKey": "…", "secondaryKey": "…"}},
//!      "tags": {"site": "a"}, "properties": {"desired": {"interval": 30}}},
//!     {"id": "pump-7", "moduleId": "valve"}
//!   ],
//!   "policies": [
//!     {"name": "ci", "rights": ["RegistryWrite", "ServiceConnect"], "primaryKey": "…", "secondaryKey": "…"}
//!   ]
//! }
//! ```
//!
//! A device entry is one of the bulk request's (service §6.1) and checked by the same reader. What
//! is there already stays as it is, so a file may be given at every start; only a policy's keys
//! are set anew, if the file names them.
//!
//! Invariant: a file that cannot be read to its end loads nothing.

use std::io;
use std::path::{Path, PathBuf};

use ostler_core::auth::Rights;
use ostler_core::id::EntityId;
use ostler_core::identity::SymmetricKey;
use ostler_core::json::Raw;
use ostler_hub::registry::{Action, Operation};
use ostler_hub::{Error, Hub};
use ostler_wire::rest::bulk;

/// Devices stored in one go.
const BATCH: usize = 1000;
/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A seed file cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("seed file {}: {problem}", path.display())]
pub struct SeedError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and where.
    pub problem: Problem,
}

/// What is wrong with a seed file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not what a seed file looks like.
    #[error("{0}")]
    Form(String),
    /// An entry is refused.
    #[error("{entry}: {text}")]
    Entry {
        /// Which, for example `devices[3] (pump-7)`.
        entry: String,
        /// Why.
        text: String,
    },
    /// The store cannot take it.
    #[error(transparent)]
    Hub(Error),
}

/// Loads a seed file into a hub.
///
/// # Errors
/// [`SeedError`] names the entry that is wrong.
pub(crate) async fn load(hub: &Hub, path: &Path) -> Result<(), SeedError> {
    let work = async {
        let text = read(path)?;
        let seed = parse(&text)?;
        for policy in seed.policies {
            apply_policy(hub, policy).await?;
        }
        // Modules need their device.
        let (devices, modules): (Vec<_>, Vec<_>) =
            seed.operations.into_iter().partition(|o| !o.id.is_module());
        for batch in devices.chunks(BATCH).chain(modules.chunks(BATCH)) {
            apply(hub, batch).await?;
        }
        Ok(())
    };
    work.await.map_err(|problem| SeedError { path: path.to_owned(), problem })
}

struct Seed {
    operations: Vec<Operation>,
    policies: Vec<Policy>,
}

#[derive(Debug, PartialEq, Eq)]
struct Policy {
    name: String,
    rights: Rights,
    primary: Option<SymmetricKey>,
    secondary: Option<SymmetricKey>,
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(Problem::Form(format!("{length} bytes are more than the {MAX_BYTES} that are read")));
    }
    Ok(std::fs::read(path)?)
}

fn parse(text: &[u8]) -> Result<Seed, Problem> {
    let members = Raw::parse(text)
        .map_err(|error| Problem::Form(format!("not JSON: {error}")))?
        .members()
        .ok_or_else(|| Problem::Form("not a JSON object".to_owned()))?;
    let mut seed = Seed { operations: Vec::new(), policies: Vec::new() };
    for (name, value) in members {
        let elements = || value.elements().ok_or_else(|| Problem::Form(format!("`{name}` is not a list")));
        match &*name {
            "devices" => {
                for (index, element) in elements()?.into_iter().enumerate() {
                    seed.operations.push(parse_device(index, element)?);
                }
            }
            "policies" => {
                for (index, element) in elements()?.into_iter().enumerate() {
                    let refuse = |text| Problem::Entry { entry: format!("policies[{index}]"), text };
                    seed.policies.push(parse_policy(element).map_err(refuse)?);
                }
            }
            other => return Err(Problem::Form(format!("`{other}` is neither `devices` nor `policies`"))),
        }
    }
    Ok(seed)
}

/// One at a time, because a bulk request may not name a device twice and a seed file may.
fn parse_device(index: usize, element: Raw<'_>) -> Result<Operation, Problem> {
    let body = [b"[", element.text(), b"]"].concat();
    let entry = bulk::read_entries(&body)
        .map_err(|error| Problem::Entry { entry: format!("devices[{index}]"), text: error.text })?
        .pop()
        .ok_or_else(|| Problem::Form(format!("devices[{index}] is empty")))?;
    let entry = entry.map_err(|error| Problem::Entry {
        entry: format!("devices[{index}] ({})", error.device_id),
        text: error.text,
    })?;
    Ok(Operation { id: entry.id, action: Action::Create, identity: entry.identity, twin: entry.twin })
}

fn parse_policy(element: Raw<'_>) -> Result<Policy, String> {
    let members = element.members().ok_or("not a JSON object")?;
    let mut policy = Policy { name: String::new(), rights: Rights::NONE, primary: None, secondary: None };
    for (name, value) in members {
        let text = || value.as_string().ok_or_else(|| format!("`{name}` is not a text"));
        let key = || SymmetricKey::from_base64(&text()?).map_err(|error| format!("`{name}`: {error}"));
        match &*name {
            "name" => policy.name = text()?.into_owned(),
            "primaryKey" => policy.primary = Some(key()?),
            "secondaryKey" => policy.secondary = Some(key()?),
            "rights" => {
                for right in value.elements().ok_or("`rights` is not a list")? {
                    let right = right.as_string().ok_or("a right is not a text")?;
                    let known =
                        Rights::parse(&right).ok_or_else(|| format!("there is no right `{right}`"))?;
                    policy.rights = policy.rights.union(known);
                }
            }
            other => return Err(format!("`{other}` is not known")),
        }
    }
    if policy.name.is_empty() {
        return Err("`name` is missing".to_owned());
    }
    Ok(policy)
}

async fn apply_policy(hub: &Hub, policy: Policy) -> Result<(), Problem> {
    let Policy { name, rights, primary, secondary } = policy;
    let refuse = |error: Error| Problem::Entry { entry: format!("policy {name}"), text: error.to_string() };
    let Ok(known) = hub.policy(&name) else {
        return hub.create_policy(&name, rights, primary, secondary).await.map(drop).map_err(refuse);
    };
    if rights != Rights::NONE && rights != known.rights {
        let text = format!("exists with other rights: {}", known.rights.names().join(", "));
        return Err(Problem::Entry { entry: format!("policy {name}"), text });
    }
    let (primary, secondary) = (primary.unwrap_or(known.primary), secondary.unwrap_or(known.secondary));
    hub.set_policy_keys(&name, primary, secondary).await.map_err(refuse)
}

async fn apply(hub: &Hub, operations: &[Operation]) -> Result<(), Problem> {
    let ids: Vec<EntityId> = operations.iter().map(|operation| operation.id.clone()).collect();
    for (id, outcome) in ids.iter().zip(hub.apply_all(operations.to_vec()).await) {
        match outcome {
            Ok(_) | Err(Error::DeviceExists(_) | Error::ModuleExists(_)) => {}
            Err(error @ Error::Store(_)) => return Err(Problem::Hub(error)),
            Err(error) => return Err(Problem::Entry { entry: id.to_string(), text: error.to_string() }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_hub::Options;
    use ostler_store::Embedded;
    use std::sync::Arc;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text.as_bytes()).err().map(|e| e.to_string()).as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn faults_are_named_where_they_are() {
        check("[]", "not a JSON object");
        check(r#"{"device": []}"#, "`device` is neither `devices` nor `policies`");
        check(r#"{"devices": {}}"#, "`devices` is not a list");
        check(r#"{"policies": [{"rights": []}]}"#, "policies[0]: `name` is missing");
        check(r#"{"policies": [{"name": "a", "rights": ["All"]}]}"#, "policies[0]: there is no right `All`");
        let wrong = parse(br#"{"devices": [{"id": "ok"}, {"id": "a b"}]}"#).err().unwrap().to_string();
        assert!(wrong.starts_with("devices[1] (a b): id: "), "{wrong}");
    }

    #[tokio::test]
    async fn loads_devices_modules_and_policies_and_may_be_given_again() {
        let hub = Hub::open(Arc::new(Embedded::in_memory()), Options::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.json");
        let text = format!(
            r#"{{"devices": [{{"id": "pump-7", "moduleId": "valve"}}, {{"id": "pump-7", "tags": {{"site": "a"}},
                "authentication": {{"symmetricKey": {{"primaryKey": "{KEY}", "secondaryKey": "{KEY}"}}}}}}],
                "policies": [{{"name": "iothubowner", "primaryKey": "{KEY}"}},
                             {{"name": "ci", "rights": ["ServiceConnect"]}}]}}"#
        );
        std::fs::write(&path, text).unwrap();
        for _ in 0..2 {
            load(&hub, &path).await.unwrap();
        }
        let twin = hub.twin(&EntityId::parse("pump-7").unwrap()).await.unwrap();
        assert!(!twin.record.twin.tags.members.is_empty());
        assert!(hub.twin(&EntityId::parse("pump-7/valve").unwrap()).await.is_ok());
        assert_eq!(hub.policy("iothubowner").unwrap().primary.to_base64(), KEY);
        assert_eq!(hub.policy("ci").unwrap().rights, Rights::SERVICE_CONNECT);
    }
}
