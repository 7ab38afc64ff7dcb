//! Which call a request line means: the one table of the service's routes, and of Ostler's own under `/ostler/v1/`.
//!
//! Must not know what a call does. The table says the name, the path, who may call it and whether Ostler has it yet;
//! the server dispatches on [`Call`] and nothing else.
//!
//! Invariant: the path is split on `/` before anything is percent-decoded, so an id may hold an encoded `/` without
//! becoming two segments (service §1.3); `+` is a plus.
//! Invariant: fixed segments are compared without regard to ASCII case, ids with it.
//! Invariant: of two rows that match the same path, the one with more fixed segments comes first in [`ENDPOINTS`];
//! only the verb tells `POST /devices/query` from the device named "query" (service §17).

use super::error::ErrorForm;
use super::job::Audience;
use ostler_core::auth::Rights;
use ostler_core::id::{DeviceId, EntityId, IdError, ModuleId};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;

/// Segments of the longest path in the table.
const MAX_SEGMENTS: usize = 8;
/// Variable segments of the route with the most of them.
const MAX_CAPTURES: usize = 3;

/// The verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the verbs of HTTP")]
pub enum Method {
    Get,
    Put,
    Patch,
    Post,
    Delete,
    Head,
    Options,
    /// Any other token; no route answers to it.
    Other,
}

impl Method {
    /// Reads the token of a request line; verbs are case-sensitive (RFC 9110 §9.1).
    pub fn parse(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }

    /// The token, or `OTHER`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Other => "OTHER",
        }
    }
}

/// Who may make a call (service §2.2). Where the reference is unsure which right is needed, either is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anyone; the answer tells nothing about devices, or the caller signs in by other means afterwards.
    Open,
    /// RegistryRead.
    RegistryRead,
    /// RegistryWrite.
    RegistryWrite,
    /// ServiceConnect.
    ServiceConnect,
    /// RegistryRead or ServiceConnect.
    RegistryReadOrServiceConnect,
    /// RegistryWrite or ServiceConnect.
    RegistryWriteOrServiceConnect,
    /// All four rights, as `iothubowner` has them.
    AllRights,
    /// The device that the path names, by its own credential; or DeviceConnect.
    Device,
}

impl Access {
    /// Whether a policy with these rights may call.
    pub const fn allows(self, rights: Rights) -> bool {
        match self {
            Access::Open => true,
            Access::RegistryRead => rights.contains(Rights::REGISTRY_READ),
            Access::RegistryWrite => rights.contains(Rights::REGISTRY_WRITE),
            Access::ServiceConnect => rights.contains(Rights::SERVICE_CONNECT),
            Access::RegistryReadOrServiceConnect => {
                rights.contains(Rights::REGISTRY_READ) || rights.contains(Rights::SERVICE_CONNECT)
            }
            Access::RegistryWriteOrServiceConnect => {
                rights.contains(Rights::REGISTRY_WRITE) || rights.contains(Rights::SERVICE_CONNECT)
            }
            Access::AllRights => rights.contains(Rights::ALL),
            Access::Device => rights.contains(Rights::DEVICE_CONNECT),
        }
    }

    /// What is needed, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Access::Open => "nothing",
            Access::RegistryRead => "RegistryRead",
            Access::RegistryWrite => "RegistryWrite",
            Access::ServiceConnect => "ServiceConnect",
            Access::RegistryReadOrServiceConnect => "RegistryRead or ServiceConnect",
            Access::RegistryWriteOrServiceConnect => "RegistryWrite or ServiceConnect",
            Access::AllRights => "all rights",
            Access::Device => "the device itself, or DeviceConnect",
        }
    }
}

/// Whose interface a route belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// The service's own; wants an `api-version`.
    Azure,
    /// Ostler's additions under `/ostler/v1/`; refused in strict mode, no `api-version`.
    Extension,
    /// Where devices send files, as the storage service would have it: a signature of its own, errors in its form.
    Storage,
    /// What surrounds the interface: metrics, health, landing page, WebSocket door.
    Operations,
}

/// What a request asks for, with the ids it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Identities of the first devices.
    ListDevices,
    /// Create, update or delete up to 100 identities and twins.
    Bulk,
    /// The identity of a device or module.
    GetIdentity(EntityId),
    /// Create or update an identity.
    PutIdentity(EntityId),
    /// Delete an identity.
    DeleteIdentity(EntityId),
    /// Identities of a device's modules.
    ListModules(DeviceId),
    /// Empty the queue of cloud-to-device messages.
    PurgeCommands(EntityId),
    /// The oldest outcomes of messages.
    ReceiveFeedback,
    /// Outcomes are dealt with.
    CompleteFeedback(String),
    /// Give outcomes back.
    AbandonFeedback(String),
    /// Read a twin.
    GetTwin(EntityId),
    /// Merge into a twin.
    PatchTwin(EntityId),
    /// Replace tags and desired properties.
    ReplaceTwin(EntityId),
    /// Invoke a direct method.
    InvokeMethod(EntityId),
    /// Ask for twins, or for what jobs did to devices, in the query language.
    QueryTwins,
    /// Count devices.
    DeviceStatistics,
    /// Count connected devices.
    ServiceStatistics,
    /// List jobs.
    ListJobs(Audience),
    /// Read a job.
    GetJob(String, Audience),
    /// Create a job.
    PutJob(String, Audience),
    /// Call a job off.
    CancelJob(String, Audience),
    /// Put a configuration's content into the modules of an edge device.
    ApplyConfigurationContent(DeviceId),
    /// Say what is wrong with the queries of a configuration.
    TestConfigurationQueries,
    /// All automatic configurations.
    ListConfigurations,
    /// One configuration, with its metrics counted.
    GetConfiguration(String),
    /// Create or update a configuration.
    PutConfiguration(String),
    /// Delete a configuration and what it set.
    DeleteConfiguration(String),
    /// Begin a file upload.
    StartUpload(DeviceId),
    /// Say how a file upload ended; the id may be in the body instead.
    FinishUpload(DeviceId, Option<String>),
    /// A route of the real service that Ostler does not have yet; the text names the feature.
    NotSupported(&'static str),

    /// Send a file, a block of it, or the list of its blocks: `{device}/{name}`.
    PutBlob(String),

    /// Follow what happens in the hub, line by line.
    Events,
    /// Why a device, or the module that the query names, is or is not connected.
    Diagnosis(DeviceId),
    /// A device sends telemetry.
    SendEvent(EntityId),
    /// A device asks for a message.
    ReceiveMessage(DeviceId),
    /// A device has a message, or refuses it.
    CompleteMessage(DeviceId, Option<String>),
    /// A device gives a message back.
    AbandonMessage(DeviceId, Option<String>),
    /// Put a message into a device's queue.
    SendMessage(DeviceId),
    /// Tell whom a job would touch.
    DryRunJob,
    /// Hold a job.
    PauseJob(String),
    /// Let a held job go on.
    ResumeJob(String),
    /// Create a job for the devices on which another one failed.
    RetryJob(String),
    /// Follow a job to its end, line by line.
    JobProgress(String),
    /// Uploaded files.
    ListFiles,
    /// The content of an uploaded file: `{device}/{name}`.
    GetFile(String),
    /// Delete an uploaded file: `{device}/{name}`.
    DeleteFile(String),
    /// All shared access policies.
    ListPolicies,
    /// One policy.
    GetPolicy(String),
    /// Add a policy; its name is in the body.
    CreatePolicy,
    /// Remove a policy.
    DeletePolicy(String),
    /// Make a new key for a policy.
    RotatePolicyKey(String),
    /// All registered certificate authorities.
    ListAuthorities,
    /// One certificate authority.
    GetAuthority(String),
    /// Register or replace a certificate authority.
    PutAuthority(String),
    /// Forget a certificate authority.
    DeleteAuthority(String),
    /// Copy the data to a folder of the server.
    Backup,
    /// What the hub is and how it fares.
    Status,

    /// The page a browser gets.
    Landing,
    /// Prometheus text.
    Metrics,
    /// Whether the process lives.
    Health,
    /// Whether the hub takes work.
    Readiness,
    /// The door for MQTT over WebSocket.
    WebSocket,
}

/// One row of the table.
pub struct Endpoint {
    /// A name for metrics, logs and tests, unique in the table.
    pub name: &'static str,
    /// The verb.
    pub method: Method,
    /// Who may call.
    pub access: Access,
    /// Whose interface this is.
    pub surface: Surface,
    path: &'static [Part],
    build: Build,
}

impl Endpoint {
    /// The path with its variable parts in braces.
    pub fn path(&self) -> String {
        let mut text = String::new();
        for part in self.path {
            text.push('/');
            match part {
                Part::Fixed(word) => text.push_str(word),
                Part::Variable(name) | Part::Rest(name) => {
                    text.push('{');
                    text.push_str(name);
                    text.push('}');
                }
            }
        }
        if text.is_empty() {
            text.push('/');
        }
        text
    }

    /// The body in which the row's errors are told (service §3.1).
    pub fn error_form(&self) -> ErrorForm {
        match self.name {
            "invokeMethod" | "invokeModuleMethod" => ErrorForm::B,
            _ => ErrorForm::A,
        }
    }

    /// The feature that Ostler lacks, for a route that is only there to say so.
    pub fn missing_feature(&self) -> Option<&'static str> {
        match self.build {
            Build::Missing(feature) => Some(feature),
            _ => None,
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.method.as_str(), self.path())
    }
}

#[derive(Clone, Copy)]
enum Part {
    Fixed(&'static str),
    Variable(&'static str),
    /// One segment or more, to the end of the path.
    Rest(&'static str),
}

/// How a matched row becomes a [`Call`]: by how many of its variable segments name what.
#[derive(Clone, Copy)]
enum Build {
    Plain(fn() -> Call),
    Device(fn(DeviceId) -> Call),
    /// A device, or with a second variable segment a module.
    Entity(fn(EntityId) -> Call),
    Name(fn(String) -> Call),
    /// A device and, with a second variable segment, a name.
    DeviceName(fn(DeviceId, Option<String>) -> Call),
    /// All that the path has after its fixed segments.
    Tail(fn(String) -> Call),
    Missing(&'static str),
}

const fn row(
    name: &'static str,
    method: Method,
    path: &'static [Part],
    access: Access,
    surface: Surface,
    build: Build,
) -> Endpoint {
    Endpoint { name, method, access, surface, path, build }
}

/// Writes a path of the table: words are fixed segments, names in parentheses are variable ones.
macro_rules! path {
    ($($part:tt)*) => { &[$(path_part!($part)),*] };
}
macro_rules! path_part {
    ((rest $name:ident)) => {
        Part::Rest(stringify!($name))
    };
    (($name:ident)) => {
        Part::Variable(stringify!($name))
    };
    ($word:literal) => {
        Part::Fixed($word)
    };
}

use Access::{
    AllRights, Device as TheDevice, Open, RegistryRead, RegistryReadOrServiceConnect, RegistryWrite,
    RegistryWriteOrServiceConnect, ServiceConnect,
};
use Build::{Device, DeviceName, Entity, Missing, Name, Plain, Tail};
use Method::{Delete, Get, Patch, Post, Put};
use Surface::{Azure, Extension, Operations, Storage};

const IMPORT_EXPORT: &str = "import and export jobs";
const DIGITAL_TWINS: &str = "digital twins";

/// Every route, in order of precedence.
#[rustfmt::skip]
pub static ENDPOINTS: &[Endpoint] = &[
    // Twins and methods (service §8, §9); first because they are the busiest.
    row("invokeMethod",       Post,   path!("twins" (id) "methods"), ServiceConnect, Azure, Entity(Call::InvokeMethod)),
    row("getTwin",            Get,    path!("twins" (id)), ServiceConnect, Azure, Entity(Call::GetTwin)),
    row("patchTwin",          Patch,  path!("twins" (id)), ServiceConnect, Azure, Entity(Call::PatchTwin)),
    row("replaceTwin",        Put,    path!("twins" (id)), ServiceConnect, Azure, Entity(Call::ReplaceTwin)),
    row("invokeModuleMethod", Post,   path!("twins" (id) "modules" (mid) "methods"), ServiceConnect, Azure, Entity(Call::InvokeMethod)),
    row("getModuleTwin",      Get,    path!("twins" (id) "modules" (mid)), ServiceConnect, Azure, Entity(Call::GetTwin)),
    row("patchModuleTwin",    Patch,  path!("twins" (id) "modules" (mid)), ServiceConnect, Azure, Entity(Call::PatchTwin)),
    row("replaceModuleTwin",  Put,    path!("twins" (id) "modules" (mid)), ServiceConnect, Azure, Entity(Call::ReplaceTwin)),

    // Identities (service §5, §6.1).
    row("listDevices",        Get,    path!("devices"), RegistryRead, Azure, Plain(|| Call::ListDevices)),
    row("bulkDevices",        Post,   path!("devices"), RegistryWrite, Azure, Plain(|| Call::Bulk)),
    row("queryTwins",         Post,   path!("devices" "query"), ServiceConnect, Azure, Plain(|| Call::QueryTwins)),
    row("getDevice",          Get,    path!("devices" (id)), RegistryRead, Azure, Entity(Call::GetIdentity)),
    row("putDevice",          Put,    path!("devices" (id)), RegistryWrite, Azure, Entity(Call::PutIdentity)),
    row("deleteDevice",       Delete, path!("devices" (id)), RegistryWrite, Azure, Entity(Call::DeleteIdentity)),
    row("listModules",        Get,    path!("devices" (id) "modules"), RegistryRead, Azure, Device(Call::ListModules)),
    row("getModule",          Get,    path!("devices" (id) "modules" (mid)), RegistryRead, Azure, Entity(Call::GetIdentity)),
    row("putModule",          Put,    path!("devices" (id) "modules" (mid)), RegistryWrite, Azure, Entity(Call::PutIdentity)),
    row("deleteModule",       Delete, path!("devices" (id) "modules" (mid)), RegistryWrite, Azure, Entity(Call::DeleteIdentity)),
    row("purgeDevice",        Delete, path!("devices" (id) "commands"), RegistryWriteOrServiceConnect, Azure, Entity(Call::PurgeCommands)),
    row("purgeModule",        Delete, path!("devices" (id) "modules" (mid) "commands"), RegistryWriteOrServiceConnect, Azure, Entity(Call::PurgeCommands)),
    row("applyConfiguration", Post,   path!("devices" (id) "applyConfigurationContent"), RegistryWriteOrServiceConnect, Azure, Device(Call::ApplyConfigurationContent)),

    // Statistics (service §7).
    row("deviceStatistics",   Get,    path!("statistics" "devices"), RegistryReadOrServiceConnect, Azure, Plain(|| Call::DeviceStatistics)),
    row("serviceStatistics",  Get,    path!("statistics" "service"), RegistryReadOrServiceConnect, Azure, Plain(|| Call::ServiceStatistics)),

    // Jobs (service §6.2, §10). The fixed words of `/jobs/v2` and `/jobs/create` come before `/jobs/{id}`.
    row("queryJobs",          Get,    path!("jobs" "v2" "query"), RegistryReadOrServiceConnect, Azure, Plain(|| Call::ListJobs(Audience::Azure))),
    row("getJob",             Get,    path!("jobs" "v2" (id)), RegistryReadOrServiceConnect, Azure, Name(|id| Call::GetJob(id, Audience::Azure))),
    row("putJob",             Put,    path!("jobs" "v2" (id)), RegistryWriteOrServiceConnect, Azure, Name(|id| Call::PutJob(id, Audience::Azure))),
    row("cancelJob",          Post,   path!("jobs" "v2" (id) "cancel"), RegistryWriteOrServiceConnect, Azure, Name(|id| Call::CancelJob(id, Audience::Azure))),
    row("createExport",       Post,   path!("jobs" "create"), RegistryWrite, Azure, Missing(IMPORT_EXPORT)),
    row("listExports",        Get,    path!("jobs"), RegistryWrite, Azure, Missing(IMPORT_EXPORT)),
    row("getExport",          Get,    path!("jobs" (id)), RegistryWrite, Azure, Missing(IMPORT_EXPORT)),
    row("cancelExport",       Delete, path!("jobs" (id)), RegistryWrite, Azure, Missing(IMPORT_EXPORT)),
    row("exportRegistry",     Post,   path!("$admin" "exportRegistry"), RegistryWrite, Azure, Missing(IMPORT_EXPORT)),
    row("importRegistry",     Post,   path!("$admin" "importRegistry"), RegistryWrite, Azure, Missing(IMPORT_EXPORT)),

    // Configurations (service §11).
    row("testQueries",        Post,   path!("configurations" "testQueries"), RegistryReadOrServiceConnect, Azure, Plain(|| Call::TestConfigurationQueries)),
    row("listConfigurations", Get,    path!("configurations"), RegistryReadOrServiceConnect, Azure, Plain(|| Call::ListConfigurations)),
    row("getConfiguration",   Get,    path!("configurations" (id)), RegistryReadOrServiceConnect, Azure, Name(Call::GetConfiguration)),
    row("putConfiguration",   Put,    path!("configurations" (id)), RegistryWriteOrServiceConnect, Azure, Name(Call::PutConfiguration)),
    row("deleteConfiguration", Delete, path!("configurations" (id)), RegistryWriteOrServiceConnect, Azure, Name(Call::DeleteConfiguration)),

    // Digital twins (service §13).
    row("getDigitalTwin",     Get,    path!("digitaltwins" (id)), ServiceConnect, Azure, Missing(DIGITAL_TWINS)),
    row("patchDigitalTwin",   Patch,  path!("digitaltwins" (id)), ServiceConnect, Azure, Missing(DIGITAL_TWINS)),
    row("invokeCommand",      Post,   path!("digitaltwins" (id) "commands" (command)), ServiceConnect, Azure, Missing(DIGITAL_TWINS)),
    row("invokeComponentCommand", Post, path!("digitaltwins" (id) "components" (component) "commands" (command)), ServiceConnect, Azure, Missing(DIGITAL_TWINS)),

    // Feedback over HTTP (service §12.3).
    row("receiveFeedback",    Get,    path!("messages" "serviceBound" "feedback"), ServiceConnect, Azure, Plain(|| Call::ReceiveFeedback)),
    row("completeFeedback",   Delete, path!("messages" "serviceBound" "feedback" (token)), ServiceConnect, Azure, Name(Call::CompleteFeedback)),
    row("abandonFeedback",    Post,   path!("messages" "serviceBound" "feedback" (token) "abandon"), ServiceConnect, Azure, Name(Call::AbandonFeedback)),

    // What devices do over HTTP; they carry a device's token, which is not asked for just to be told that it is in vain.
    row("sendEvent",          Post,   path!("devices" (id) "messages" "events"), TheDevice, Azure, Entity(Call::SendEvent)),
    row("sendModuleEvent",    Post,   path!("devices" (id) "modules" (mid) "messages" "events"), TheDevice, Azure, Entity(Call::SendEvent)),
    row("receiveMessage",     Get,    path!("devices" (id) "messages" "deviceBound"), TheDevice, Azure, Device(Call::ReceiveMessage)),
    row("completeMessage",    Delete, path!("devices" (id) "messages" "deviceBound" (token)), TheDevice, Azure, DeviceName(Call::CompleteMessage)),
    row("abandonMessage",     Post,   path!("devices" (id) "messages" "deviceBound" (token) "abandon"), TheDevice, Azure, DeviceName(Call::AbandonMessage)),
    row("startUpload",        Post,   path!("devices" (id) "files"), TheDevice, Azure, Device(Call::StartUpload)),
    row("finishUpload",       Post,   path!("devices" (id) "files" "notifications"), TheDevice, Azure, DeviceName(Call::FinishUpload)),
    row("finishNamedUpload",  Post,   path!("devices" (id) "files" "notifications" (correlation)), TheDevice, Azure, DeviceName(Call::FinishUpload)),

    // Where the start of a file upload sends a device to (device §8.1); the signature in the query says that it may.
    row("putBlob",            Put,    path!("uploads" (rest blob)), Open, Storage, Tail(Call::PutBlob)),

    // Ostler's own.
    row("events",             Get,    path!("ostler" "v1" "events"), ServiceConnect, Extension, Plain(|| Call::Events)),
    row("diagnosis",          Get,    path!("ostler" "v1" "devices" (id) "diagnosis"), ServiceConnect, Extension, Device(Call::Diagnosis)),
    row("sendMessage",        Post,   path!("ostler" "v1" "devices" (id) "messages"), ServiceConnect, Extension, Device(Call::SendMessage)),
    row("status",             Get,    path!("ostler" "v1" "status"), ServiceConnect, Extension, Plain(|| Call::Status)),
    row("listJobDetails",     Get,    path!("ostler" "v1" "jobs"), RegistryReadOrServiceConnect, Extension, Plain(|| Call::ListJobs(Audience::Ostler))),
    row("dryRunJob",          Post,   path!("ostler" "v1" "jobs" "dryRun"), RegistryReadOrServiceConnect, Extension, Plain(|| Call::DryRunJob)),
    row("getJobDetails",      Get,    path!("ostler" "v1" "jobs" (id)), RegistryReadOrServiceConnect, Extension, Name(|id| Call::GetJob(id, Audience::Ostler))),
    row("putRolloutJob",      Put,    path!("ostler" "v1" "jobs" (id)), RegistryWriteOrServiceConnect, Extension, Name(|id| Call::PutJob(id, Audience::Ostler))),
    row("cancelRolloutJob",   Post,   path!("ostler" "v1" "jobs" (id) "cancel"), RegistryWriteOrServiceConnect, Extension, Name(|id| Call::CancelJob(id, Audience::Ostler))),
    row("pauseJob",           Post,   path!("ostler" "v1" "jobs" (id) "pause"), RegistryWriteOrServiceConnect, Extension, Name(Call::PauseJob)),
    row("resumeJob",          Post,   path!("ostler" "v1" "jobs" (id) "resume"), RegistryWriteOrServiceConnect, Extension, Name(Call::ResumeJob)),
    row("retryJob",           Post,   path!("ostler" "v1" "jobs" (id) "retry"), RegistryWriteOrServiceConnect, Extension, Name(Call::RetryJob)),
    row("jobProgress",        Get,    path!("ostler" "v1" "jobs" (id) "progress"), RegistryReadOrServiceConnect, Extension, Name(Call::JobProgress)),
    row("listFiles",          Get,    path!("ostler" "v1" "files"), ServiceConnect, Extension, Plain(|| Call::ListFiles)),
    row("getFile",            Get,    path!("ostler" "v1" "files" (rest file)), ServiceConnect, Extension, Tail(Call::GetFile)),
    row("deleteFile",         Delete, path!("ostler" "v1" "files" (rest file)), ServiceConnect, Extension, Tail(Call::DeleteFile)),
    row("listPolicies",       Get,    path!("ostler" "v1" "policies"), AllRights, Extension, Plain(|| Call::ListPolicies)),
    row("createPolicy",       Post,   path!("ostler" "v1" "policies"), AllRights, Extension, Plain(|| Call::CreatePolicy)),
    row("getPolicy",          Get,    path!("ostler" "v1" "policies" (name)), AllRights, Extension, Name(Call::GetPolicy)),
    row("deletePolicy",       Delete, path!("ostler" "v1" "policies" (name)), AllRights, Extension, Name(Call::DeletePolicy)),
    row("rotatePolicyKey",    Post,   path!("ostler" "v1" "policies" (name) "rotate"), AllRights, Extension, Name(Call::RotatePolicyKey)),
    row("listAuthorities",    Get,    path!("ostler" "v1" "certificate-authorities"), AllRights, Extension, Plain(|| Call::ListAuthorities)),
    row("getAuthority",       Get,    path!("ostler" "v1" "certificate-authorities" (name)), AllRights, Extension, Name(Call::GetAuthority)),
    row("putAuthority",       Put,    path!("ostler" "v1" "certificate-authorities" (name)), AllRights, Extension, Name(Call::PutAuthority)),
    row("deleteAuthority",    Delete, path!("ostler" "v1" "certificate-authorities" (name)), AllRights, Extension, Name(Call::DeleteAuthority)),
    row("backup",             Post,   path!("ostler" "v1" "backup"), AllRights, Extension, Plain(|| Call::Backup)),

    // Around it.
    row("landing",            Get,    path!(), Open, Operations, Plain(|| Call::Landing)),
    row("metrics",            Get,    path!("metrics"), Open, Operations, Plain(|| Call::Metrics)),
    row("health",             Get,    path!("healthz"), Open, Operations, Plain(|| Call::Health)),
    row("readiness",          Get,    path!("readyz"), Open, Operations, Plain(|| Call::Readiness)),
    row("webSocket",          Get,    path!("$iothub" "websocket"), Open, Operations, Plain(|| Call::WebSocket)),
];

/// A request that found its row.
#[derive(Clone, Debug)]
pub struct Route {
    /// The row.
    pub endpoint: &'static Endpoint,
    /// The row's place in [`ENDPOINTS`].
    pub index: usize,
    /// The call with its ids.
    pub call: Call,
}

/// A request that means no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No row has this path: 404.
    #[error("there is no such path in the service's interface or in Ostler's")]
    Unknown,
    /// The path exists with other verbs: 405, and `OPTIONS` answers with the list.
    #[error("this path takes only {allowed}")]
    Verb {
        /// The verbs of the path, in the form of an `Allow` header.
        allowed: String,
    },
    /// An id breaks the rules of service §5.2: 400.
    #[error("'{text}' is not a valid {what} id: {reason}")]
    Id {
        /// `device` or `module`.
        what: &'static str,
        /// The id as far as it can be shown.
        text: String,
        /// The rule.
        reason: IdError,
        /// The form of the row's errors.
        form: ErrorForm,
    },
    /// A segment is not UTF-8 once decoded: 400.
    #[error("the path is not valid UTF-8 after percent-decoding")]
    Encoding,
}

impl Route {
    /// Finds the call of a request.
    ///
    /// `raw_path` is the path as sent, without the query string. `method_override` is the value of
    /// `X-HTTP-Method-Override`, honoured on POST only: one client patches twins so (service §1.3). `HEAD` is routed as
    /// `GET`.
    ///
    /// # Errors
    /// [`RouteError`] says whether the path, the verb or an id is wrong.
    pub fn parse(method: Method, raw_path: &str, method_override: Option<&str>) -> Result<Route, RouteError> {
        let method = match (method, method_override) {
            (Method::Post, Some(verb)) => Method::parse(verb.trim().to_ascii_uppercase().as_str()),
            (Method::Head, _) => Method::Get,
            (method, _) => method,
        };
        let segments = Segments::split(raw_path).ok_or(RouteError::Unknown)?;
        let mut matching = ENDPOINTS.iter().enumerate().filter(|(_, row)| segments.match_path(row.path));
        match matching.clone().find(|(_, row)| row.method == method) {
            Some((index, endpoint)) => Ok(Route { endpoint, index, call: segments.build(endpoint)? }),
            None => Err(match matching.next() {
                None => RouteError::Unknown,
                Some((_, first)) => {
                    RouteError::Verb { allowed: allowed(first, matching.map(|(_, row)| row)) }
                }
            }),
        }
    }
}

fn allowed<'a>(first: &'a Endpoint, rest: impl Iterator<Item = &'a Endpoint>) -> String {
    let mut text = first.method.as_str().to_owned();
    for endpoint in rest {
        if !text.split(", ").any(|verb| verb == endpoint.method.as_str()) {
            text.push_str(", ");
            text.push_str(endpoint.method.as_str());
        }
    }
    text
}

/// A path in pieces, still encoded.
struct Segments<'a> {
    path: &'a str,
    pieces: [&'a str; MAX_SEGMENTS],
    /// Of the path; more than there are pieces when it is longer than any route without a [`Part::Rest`].
    count: usize,
}

impl<'a> Segments<'a> {
    /// `None` if the path is relative. One slash at the end does not count.
    fn split(raw_path: &'a str) -> Option<Segments<'a>> {
        let path = raw_path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = Segments { path, pieces: [""; MAX_SEGMENTS], count: 0 };
        if path.is_empty() {
            return Some(segments);
        }
        for piece in path.split('/') {
            if let Some(place) = segments.pieces.get_mut(segments.count) {
                *place = piece;
            }
            segments.count += 1;
        }
        Some(segments)
    }

    fn match_path(&self, path: &[Part]) -> bool {
        let fits = match path.last() {
            Some(Part::Rest(_)) => self.count >= path.len(),
            _ => self.count == path.len(),
        };
        fits && path.iter().zip(self.pieces).all(|(part, piece)| match part {
            Part::Fixed(word) => is_word(piece, word),
            Part::Variable(_) | Part::Rest(_) => !piece.is_empty(),
        })
    }

    /// What the path has after its first `fixed` segments, decoded. An encoded `/` is one here, because clients do and
    /// do not encode those of a file's name.
    fn tail(&self, fixed: usize) -> Result<String, RouteError> {
        let rest = self.path.splitn(fixed + 1, '/').nth(fixed).unwrap_or_default();
        let decoded = percent_decode_str(rest).decode_utf8().map_err(|_| RouteError::Encoding)?;
        Ok(decoded.into_owned())
    }

    fn captures(&self, path: &[Part]) -> Result<[Cow<'a, str>; MAX_CAPTURES], RouteError> {
        let mut captures = [const { Cow::Borrowed("") }; MAX_CAPTURES];
        let variable = path.iter().zip(self.pieces).filter(|(part, _)| matches!(part, Part::Variable(_)));
        for (capture, (_, piece)) in captures.iter_mut().zip(variable) {
            *capture = percent_decode_str(piece).decode_utf8().map_err(|_| RouteError::Encoding)?;
        }
        Ok(captures)
    }

    fn build(&self, endpoint: &'static Endpoint) -> Result<Call, RouteError> {
        let id_error = |what: &'static str, text: &str| {
            let text: String = text.chars().take(ostler_core::limits::ID_BYTES).collect();
            move |reason| RouteError::Id { what, text, reason, form: endpoint.error_form() }
        };
        let device = |text: &str| DeviceId::new(text).map_err(id_error("device", text));
        match endpoint.build {
            Build::Plain(call) => Ok(call()),
            Build::Missing(feature) => Ok(Call::NotSupported(feature)),
            Build::Name(call) => {
                let [name, ..] = self.captures(endpoint.path)?;
                Ok(call(name.into_owned()))
            }
            Build::Device(call) => {
                let [id, ..] = self.captures(endpoint.path)?;
                Ok(call(device(&id)?))
            }
            Build::DeviceName(call) => {
                let [id, name, ..] = self.captures(endpoint.path)?;
                Ok(call(device(&id)?, (!name.is_empty()).then(|| name.into_owned())))
            }
            Build::Tail(call) => Ok(call(self.tail(endpoint.path.len() - 1)?)),
            Build::Entity(call) => {
                let [id, module, ..] = self.captures(endpoint.path)?;
                let device = device(&id)?;
                if module.is_empty() {
                    return Ok(call(device.into()));
                }
                let module = ModuleId::new(&module).map_err(id_error("module", &module))?;
                Ok(call(EntityId::of_module(&device, &module)))
            }
        }
    }
}

/// Whether a raw segment spells a fixed word; an encoded `$` is still a `$`.
fn is_word(piece: &str, word: &str) -> bool {
    piece.eq_ignore_ascii_case(word)
        || (piece.contains('%')
            && percent_decode_str(piece).decode_utf8().is_ok_and(|text| text.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests;
