//! Columns: what a path of a query means (query §4).
//!
//! A path is resolved once, when the query is read: prefixes of the collection are taken off, structural names get
//! their proper spelling, and what is left says which part of a row is asked for.
//!
//! Must not know: how a row holds its values.
//!
//! Invariant: `Display` prints a path that resolves to the same column again.

use super::words;
use super::Collection;
use crate::json::Key;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A resolved path. Equal and hashed by meaning: `DEVICEID` and `devices.deviceId` are one column.
#[derive(Clone)]
pub struct Column {
    field: Field,
    /// The canonical path, escaped where needed.
    text: Box<str>,
    /// The last segment: the name in a projection without an alias.
    name: Key,
}

impl Column {
    /// Resolves a path's segments in a collection. `None`: the collection is `devices.jobs` and the path is of a
    /// twin, which job rows do not have (query §9).
    pub(super) fn resolve(collection: Collection, mut path: Vec<Key>) -> Option<Column> {
        let field = match collection {
            Collection::Devices | Collection::Modules => twin_field(&mut path),
            Collection::Jobs => match job_field(&mut path) {
                Some(field) => Field::Job(field),
                None if is_twin_name(&path) => return None,
                None => Field::Unknown,
            },
        };
        let name = path.last().cloned().unwrap_or_else(|| Key::from(""));
        let mut text = String::new();
        for (i, segment) in path.iter().enumerate() {
            if i > 0 {
                text.push('.');
            }
            words::write_name(segment, &mut text);
        }
        Some(Column { field, text: text.into(), name })
    }

    /// What it means.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// The canonical path, as it can be written in a query.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of the value in a projection without an alias: the last segment (query §8).
    pub fn name(&self) -> &Key {
        &self.name
    }
}

/// Unknown columns mean nothing, but they are told apart by their text, so that a query prints as it was.
impl PartialEq for Column {
    fn eq(&self, other: &Column) -> bool {
        self.field == other.field && (self.field != Field::Unknown || self.text == other.text)
    }
}

impl Eq for Column {}

impl Hash for Column {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.field.hash(state);
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Column({})", self.text)
    }
}

/// Names below a column.
pub type Path = Box<[Key]>;

/// What a column asks a row for. An empty path means the whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The device's id.
    DeviceId,
    /// The module's id; undefined for devices.
    ModuleId,
    /// The twin's etag.
    Etag,
    /// The identity's etag.
    DeviceEtag,
    /// The twin's version.
    Version,
    /// `enabled` or `disabled`.
    Status,
    /// Text or null.
    StatusReason,
    /// A time.
    StatusUpdateTime,
    /// `Connected` or `Disconnected`.
    ConnectionState,
    /// A time; the year 1 if never.
    LastActivityTime,
    /// A number.
    C2dCount,
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    AuthenticationType,
    /// `x509Thumbprint` and below.
    X509Thumbprint(Path),
    /// Text, empty if there is none.
    ModelId,
    /// `capabilities` and below.
    Capabilities(Path),
    /// Text.
    DeviceScope,
    /// An array of text.
    ParentScopes,
    /// `configurations` and below: id, then `status`.
    Configurations(Path),
    /// `tags` and below.
    Tags(Path),
    /// `properties.desired` and below, `$version` and `$metadata` included; see [`Field::place`].
    Desired(Path),
    /// `properties.reported` and below, `$version` and `$metadata` included; see [`Field::place`].
    Reported(Path),
    /// `properties`: both of them.
    Properties,
    /// A column of `devices.jobs`.
    Job(JobField),
    /// No such column: always undefined.
    Unknown,
}

/// The columns of `devices.jobs` (query §9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobField {
    /// The device.
    DeviceId,
    /// The job.
    JobId,
    /// `scheduleDeviceMethod` or `scheduleUpdateTwin`.
    JobType,
    /// The state of this device in the job.
    Status,
    /// A time.
    StartTimeUtc,
    /// A time.
    EndTimeUtc,
    /// A time; also found as `createdTimeUtc`.
    CreatedDateTimeUtc,
    /// A time.
    LastUpdatedDateTimeUtc,
    /// `outcome` and below.
    Outcome(Path),
    /// `error` and below.
    Error(Path),
}

/// Which part of a twin's section a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A property; with an empty path the section.
    Value(&'a [Key]),
    /// `$version`.
    Version,
    /// The `$metadata` object of a property; with an empty path that of the section.
    Metadata(&'a [Key]),
    /// `$metadata.<path>.$lastUpdated`.
    LastUpdated(&'a [Key]),
    /// `$metadata.<path>.$lastUpdatedVersion`.
    LastUpdatedVersion(&'a [Key]),
}

pub(super) const VERSION: &str = "$version";
pub(super) const METADATA: &str = "$metadata";
pub(super) const LAST_UPDATED: &str = "$lastUpdated";
pub(super) const LAST_UPDATED_VERSION: &str = "$lastUpdatedVersion";

impl Field {
    /// Whether the value is not part of the stored record proper, but of what is known about its connection and its queue now.
    pub fn is_live(&self) -> bool {
        matches!(self, Field::ConnectionState | Field::LastActivityTime | Field::C2dCount)
    }

    /// The part of a section asked for, when this is [`Field::Tags`], [`Field::Desired`] or [`Field::Reported`].
    /// Tags have no metadata.
    pub fn place(&self) -> Option<Place<'_>> {
        match self {
            Field::Tags(path) => Some(Place::Value(path)),
            Field::Desired(path) | Field::Reported(path) => Some(section_place(path)),
            _ => None,
        }
    }
}

fn section_place(path: &[Key]) -> Place<'_> {
    match path.split_first() {
        Some((first, [])) if &**first == VERSION => Place::Version,
        Some((first, below)) if &**first == METADATA => match below.split_last() {
            Some((last, path)) if &**last == LAST_UPDATED => Place::LastUpdated(path),
            Some((last, path)) if &**last == LAST_UPDATED_VERSION => Place::LastUpdatedVersion(path),
            _ => Place::Metadata(below),
        },
        _ => Place::Value(path),
    }
}

/// The names of a twin row's columns, for suggestions.
pub(super) const TWIN_COLUMNS: &[&str] = &[
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
    "modelId",
    "capabilities",
    "deviceScope",
    "parentScopes",
    "configurations",
    "tags",
    "properties",
];

/// The names of a job row's columns, for suggestions.
pub(super) const JOB_COLUMNS: &[&str] = &[
    "deviceId",
    "jobId",
    "jobType",
    "status",
    "startTimeUtc",
    "endTimeUtc",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
    "outcome",
    "error",
];

fn is_twin_name(path: &[Key]) -> bool {
    path.first().is_some_and(|first| TWIN_COLUMNS.iter().any(|name| first.eq_ignore_ascii_case(name)))
}

/// Gives a structural name its proper spelling.
fn spell(path: &mut [Key], at: usize, names: &[&str]) {
    if let Some(segment) = path.get_mut(at) {
        if let Some(name) = names.iter().find(|name| segment.eq_ignore_ascii_case(name)) {
            if **segment != **name {
                *segment = Key::from(*name);
            }
        }
    }
}

fn twin_field(path: &mut [Key]) -> Field {
    let Some(first) = path.first() else { return Field::Unknown };
    let (name, field) = match &*first.to_ascii_lowercase() {
        "tags" => return below(path, "tags", &[], Field::Tags),
        "properties" => return properties_field(path),
        "configurations" => {
            spell(path, 2, &["status"]);
            return below(path, "configurations", &[], Field::Configurations);
        }
        "x509thumbprint" => {
            let names = ["primaryThumbprint", "secondaryThumbprint"];
            return below(path, "x509Thumbprint", &names, Field::X509Thumbprint);
        }
        "capabilities" => return below(path, "capabilities", &["iotEdge"], Field::Capabilities),
        // `id` is how Microsoft's own samples spell it (query §4).
        "deviceid" | "id" => ("deviceId", Field::DeviceId),
        "moduleid" => ("moduleId", Field::ModuleId),
        "etag" => ("etag", Field::Etag),
        "deviceetag" => ("deviceEtag", Field::DeviceEtag),
        "version" => ("version", Field::Version),
        "status" => ("status", Field::Status),
        "statusreason" => ("statusReason", Field::StatusReason),
        // The second spelling is the identity's, and a Microsoft tool asks for it in queries (query §4).
        "statusupdatetime" | "statusupdatedtime" => ("statusUpdateTime", Field::StatusUpdateTime),
        "connectionstate" => ("connectionState", Field::ConnectionState),
        "lastactivitytime" => ("lastActivityTime", Field::LastActivityTime),
        "cloudtodevicemessagecount" => ("cloudToDeviceMessageCount", Field::C2dCount),
        "authenticationtype" => ("authenticationType", Field::AuthenticationType),
        "modelid" => ("modelId", Field::ModelId),
        "devicescope" => ("deviceScope", Field::DeviceScope),
        "parentscopes" => ("parentScopes", Field::ParentScopes),
        _ => return Field::Unknown,
    };
    if path.len() > 1 {
        return Field::Unknown;
    }
    path[0] = Key::from(name);
    field
}

fn below<F>(path: &mut [Key], name: &str, names: &[&str], field: impl Fn(Path) -> F) -> F {
    path[0] = Key::from(name);
    spell(path, 1, names);
    field(path[1..].into())
}

fn properties_field(path: &mut [Key]) -> Field {
    let make: fn(Path) -> Field = match path.get(1) {
        None => {
            path[0] = Key::from("properties");
            return Field::Properties;
        }
        Some(section) if section.eq_ignore_ascii_case("desired") => Field::Desired,
        Some(section) if section.eq_ignore_ascii_case("reported") => Field::Reported,
        Some(_) => return Field::Unknown,
    };
    path[0] = Key::from("properties");
    spell(path, 1, &["desired", "reported"]);
    spell(path, 2, &[VERSION, METADATA]);
    if path.get(2).is_some_and(|name| &**name == METADATA) {
        let last = path.len() - 1;
        if last > 2 {
            spell(path, last, &[LAST_UPDATED, LAST_UPDATED_VERSION]);
        }
    }
    make(path[2..].into())
}

fn job_field(path: &mut [Key]) -> Option<JobField> {
    let (name, field) = match &*path.first()?.to_ascii_lowercase() {
        "outcome" => {
            spell(path, 2, &["status", "payload"]);
            return Some(below(path, "outcome", &["deviceMethodResponse"], JobField::Outcome));
        }
        "error" => return Some(below(path, "error", &["code", "description"], JobField::Error)),
        "deviceid" => ("deviceId", JobField::DeviceId),
        "jobid" => ("jobId", JobField::JobId),
        "jobtype" => ("jobType", JobField::JobType),
        "status" => ("status", JobField::Status),
        "starttimeutc" => ("startTimeUtc", JobField::StartTimeUtc),
        "endtimeutc" => ("endTimeUtc", JobField::EndTimeUtc),
        // The documentation filters on the second name, which rows do not have (query §9).
        "createddatetimeutc" | "createdtimeutc" => ("createdDateTimeUtc", JobField::CreatedDateTimeUtc),
        "lastupdateddatetimeutc" => ("lastUpdatedDateTimeUtc", JobField::LastUpdatedDateTimeUtc),
        _ => return None,
    };
    if path.len() > 1 {
        return None;
    }
    path[0] = Key::from(name);
    Some(field)
}
