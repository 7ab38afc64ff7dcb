//! The registry: identities of devices and modules, one by one and in bulk (service §5–7).
//!
//! One operation and a hundred take the same path: plan each against what is stored, commit all
//! plans together, then tell. So a bulk request costs one durable commit.
//!
//! Invariant: operations of one request are independent of each other.

use crate::bus::Tell;
use crate::error::Error;
use crate::events::{about, EventKind};
use crate::hub::{Hub, View};
use crate::session::EndReason;
use ostler_core::id::{DeviceId, EntityId, ModuleId};
use ostler_core::identity::{edge_scope, twin_etag_text, FreshSecrets, Identity, IdentitySpec, Status};
use ostler_core::limits::MODULES_PER_DEVICE;
use ostler_core::record::Record;
use ostler_core::time::Timestamp;
use ostler_core::twin::{DesiredChange, SectionPatch, TwinContent, TwinPatch};
use ostler_store::{Change, CommitError, Counts, Expect};
use std::sync::Arc;

/// How often an operation is planned again when others change the same record.
const PLAN_TRIES: usize = 20;
/// The modules that every edge gateway has (service §5.6).
const EDGE_MODULES: [&str; 2] = ["$edgeAgent", "$edgeHub"];

/// The version that a caller insists on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// Whatever there is.
    #[default]
    Any,
    /// This etag, bare.
    Etag(String),
}

impl IfMatch {
    pub(crate) fn check(&self, current: &str) -> Result<(), Error> {
        match self {
            IfMatch::Etag(etag) if etag != current => Err(Error::PreconditionFailed),
            _ => Ok(()),
        }
    }
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create; fail when it is there.
    Create,
    /// Update; fail when it is not there or has another etag.
    Update(IfMatch),
    /// Create, or update if the etag is right.
    Upsert(IfMatch),
    /// Delete; fail when it is not there or has another etag.
    Delete(IfMatch),
    /// Change tags and desired properties only; the etag is the twin's.
    PatchTwin(IfMatch),
}

/// One change of the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Of whom.
    pub id: EntityId,
    /// What.
    pub action: Action,
    /// The identity asked for; not used by deletions and twin changes.
    pub identity: IdentitySpec,
    /// Tags and desired properties to start with or to change; left out when empty.
    pub twin: TwinContent,
}

/// An operation decided against what is stored.
struct Plan {
    change: Change,
    after: After,
}

/// What is to be told once a plan is durable.
struct After {
    record: Option<Record>,
    operation: &'static str,
    /// Why live connections must end, if they must.
    ends: Option<EndReason>,
    /// Whose connections end too: a disabled or deleted device takes its modules with it.
    modules: Vec<EntityId>,
    desired: Option<DesiredChange>,
}

impl Hub {
    /// A device or module.
    ///
    /// # Errors
    /// Not found, or the store's.
    pub async fn identity(&self, id: &EntityId) -> Result<View, Error> {
        Ok(self.view(self.load_of_device(id).await?))
    }

    /// Devices in the order of their ids, at most `limit`.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_devices(&self, after: Option<&DeviceId>, limit: usize) -> Result<Vec<View>, Error> {
        let records = self.store.list_devices(after, limit).await?;
        Ok(records.into_iter().map(|record| self.view(record)).collect())
    }

    /// The modules of a device.
    ///
    /// # Errors
    /// Not found, or the store's.
    pub async fn list_modules(&self, device: &DeviceId) -> Result<Vec<View>, Error> {
        self.load(&device.into()).await?;
        let records = self.store.list_modules(device).await?;
        Ok(records.into_iter().map(|record| self.view(record)).collect())
    }

    /// How many identities there are.
    pub fn counts(&self) -> Counts {
        self.store.counts()
    }

    /// Carries out one operation; what is stored afterwards comes back, nothing for a deletion.
    ///
    /// # Errors
    /// Exists, not found, [`Error::PreconditionFailed`], a rule of identities or twins, a limit, or
    /// the store's.
    pub async fn apply(&self, operation: Operation) -> Result<Option<View>, Error> {
        let outcome = self.apply_all(vec![operation]).await.pop();
        outcome.unwrap_or(Err(Error::Contended))
    }

    /// Carries out operations, each by itself; the outcomes come in their order.
    pub async fn apply_all(&self, operations: Vec<Operation>) -> Vec<Result<Option<View>, Error>> {
        let mut outcomes: Vec<Option<Result<Option<View>, Error>>> =
            operations.iter().map(|_| None).collect();
        for _ in 0..PLAN_TRIES {
            let mut plans = Vec::new();
            for (i, operation) in operations.iter().enumerate() {
                if outcomes[i].is_some() {
                    continue;
                }
                match self.plan(operation).await {
                    Ok(plan) => plans.push((i, plan)),
                    Err(error) => outcomes[i] = Some(Err(error)),
                }
            }
            if plans.is_empty() {
                break;
            }
            self.commit_plans(&operations, plans, &mut outcomes).await;
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(Error::Contended))).collect()
    }

    /// Outcomes stay open where the plan was overtaken and must be made again.
    async fn commit_plans(
        &self,
        operations: &[Operation],
        plans: Vec<(usize, Plan)>,
        outcomes: &mut [Option<Result<Option<View>, Error>>],
    ) {
        let (changes, afters): (Vec<Change>, Vec<(usize, After)>) =
            plans.into_iter().map(|(i, plan)| (plan.change, (i, plan.after))).unzip();
        let results = self.commit_all(changes).await;
        for ((i, after), result) in afters.into_iter().zip(results) {
            let id = &operations[i].id;
            match result {
                Ok(_) => outcomes[i] = Some(self.follow_up(id, after).await),
                // Overtaken: what is there now decides what to answer.
                Err(CommitError::Conflict | CommitError::Exists | CommitError::Missing) => {
                    self.stats().commit_retries.add(1);
                }
                Err(error) => outcomes[i] = Some(Err(Error::commit(id, error))),
            }
        }
    }

    async fn plan(&self, operation: &Operation) -> Result<Plan, Error> {
        let id = &operation.id;
        let current = self.store.load(id).await?;
        match (&operation.action, current) {
            (Action::Create, Some(_)) => Err(Error::exists(id)),
            (Action::Create | Action::Upsert(_), None) => {
                self.check_room(id).await?;
                self.plan_create(operation, self.now())
            }
            (Action::Update(if_match) | Action::Upsert(if_match), Some(record)) => {
                if_match.check(&record.identity.etag_text())?;
                self.plan_update(operation, record, self.now()).await
            }
            (Action::Delete(if_match), Some(record)) => {
                if_match.check(&record.identity.etag_text())?;
                self.plan_delete(id, record.revision).await
            }
            (Action::PatchTwin(if_match), Some(record)) => {
                if_match.check(&twin_etag_text(record.twin.etag))?;
                plan_twin(operation, record, self.now())
            }
            (Action::Update(_) | Action::Delete(_) | Action::PatchTwin(_), None) => {
                // Without its device, the device is what is missing.
                Err(self.load_of_device(id).await.err().unwrap_or_else(|| Error::not_found(id)))
            }
        }
    }

    async fn check_room(&self, id: &EntityId) -> Result<(), Error> {
        let counts = self.store.counts();
        if counts.devices + counts.modules >= self.options().max_identities {
            return Err(Error::TooManyDevices);
        }
        if id.is_module() && self.store.list_modules(&id.device_id()).await?.len() >= MODULES_PER_DEVICE {
            return Err(Error::TooManyModules);
        }
        Ok(())
    }

    fn plan_create(&self, operation: &Operation, now: Timestamp) -> Result<Plan, Error> {
        let id = operation.id.clone();
        let mut identity = Identity::create(operation.identity.clone(), &self.fresh_secrets()?, now)?;
        if identity.iot_edge && identity.device_scope.is_none() {
            identity.device_scope = Some(edge_scope(id.device(), now));
        }
        let mut record = Record::new(id, identity);
        if operation.twin != TwinContent::default() {
            let (twin, _) = std::mem::take(&mut record.twin).patch(&as_patch(&operation.twin), now)?;
            record.twin = twin;
        }
        let after = After {
            record: Some(record.clone()),
            operation: "created",
            ends: None,
            modules: Vec::new(),
            desired: None,
        };
        Ok(Plan { change: Change::Put { record: Box::new(record), expect: Expect::Absent }, after })
    }

    async fn plan_update(
        &self,
        operation: &Operation,
        mut record: Record,
        now: Timestamp,
    ) -> Result<Plan, Error> {
        let fresh = self.secrets_if_needed(&operation.identity)?;
        let identity = record.identity.update(operation.identity.clone(), &fresh, now)?;
        let ends = record.identity.ends_connections(&identity).then_some(match identity.status {
            Status::Disabled => EndReason::Disabled,
            Status::Enabled => EndReason::CredentialChanged,
        });
        record.identity = identity;
        let (twin, desired) = std::mem::take(&mut record.twin).patch(&as_patch(&operation.twin), now)?;
        record.twin = twin;
        let modules = match ends {
            Some(EndReason::Disabled) => self.modules_of(&record.id).await?,
            _ => Vec::new(),
        };
        Ok(Plan::put(record, ends, modules, desired))
    }

    async fn plan_delete(&self, id: &EntityId, revision: u64) -> Result<Plan, Error> {
        let device = id.device_id();
        let modules = self.modules_of(id).await?;
        let change = match id.module_id() {
            None => Change::DeleteDevice { id: device, expect: Some(revision) },
            Some(module) => Change::DeleteModule { device, module, expect: Some(revision) },
        };
        let ends = Some(EndReason::Deleted);
        Ok(Plan { change, after: After { record: None, operation: "deleted", ends, modules, desired: None } })
    }

    /// The modules that share a device's fate.
    async fn modules_of(&self, id: &EntityId) -> Result<Vec<EntityId>, Error> {
        if id.is_module() {
            return Ok(Vec::new());
        }
        let modules = self.store.list_modules(&id.device_id()).await?;
        Ok(modules.into_iter().map(|record| record.id).collect())
    }

    /// Updates mostly leave the keys alone; then no randomness is drawn.
    fn secrets_if_needed(&self, spec: &IdentitySpec) -> Result<FreshSecrets, Error> {
        use ostler_core::identity::AuthenticationSpec::Sas;
        match &spec.authentication {
            Sas { primary: Some(_), secondary: Some(_) } => {
                Ok(FreshSecrets { primary: [0; 32], secondary: [0; 32], etag_start: 0 })
            }
            _ => self.fresh_secrets(),
        }
    }

    async fn follow_up(&self, id: &EntityId, after: After) -> Result<Option<View>, Error> {
        if let Some(reason) = after.ends {
            for id in after.modules.iter().chain([id]) {
                self.tell(id, Tell::End(reason));
            }
            if after.record.is_none() && !id.is_module() {
                // Its record is gone, so nothing is sent to it any more; what cannot be removed now is at a start.
                if let Err(error) = self.remove_messages(id).await {
                    tracing::debug!(device = %id, %error, "messages of a deleted device remain for now");
                }
            }
            // A job that waits for a deleted device looks again and learns of it.
            self.jobs.arrived(id);
        }
        if let Some(change) = after.desired {
            self.tell(id, Tell::DesiredChanged(Arc::new(change)));
        }
        let operation = after.operation;
        self.events().emit(|| about(id, self.now(), EventKind::Registry { operation }));
        let Some(record) = after.record else { return Ok(None) };
        if operation == "created" && record.identity.iot_edge && !id.is_module() {
            self.create_edge_modules(id).await?;
        }
        Ok(Some(self.view(record)))
    }

    async fn create_edge_modules(&self, id: &EntityId) -> Result<(), Error> {
        let mut changes = Vec::new();
        for name in EDGE_MODULES {
            let module = ModuleId::new(name).map_err(|error| Error::InvalidArgument(error.to_string()))?;
            let spec = IdentitySpec { managed_by: Some("iotEdge".into()), ..IdentitySpec::default() };
            let identity = Identity::create(spec, &self.fresh_secrets()?, self.now())?;
            let record = Record::new(EntityId::of_module(&id.device_id(), &module), identity);
            changes.push(Change::Put { record: Box::new(record), expect: Expect::Absent });
        }
        for outcome in self.commit_all(changes).await {
            match outcome {
                Ok(_) | Err(CommitError::Exists) => {}
                Err(error) => return Err(Error::commit(id, error)),
            }
        }
        Ok(())
    }
}

impl Plan {
    fn put(
        record: Record,
        ends: Option<EndReason>,
        modules: Vec<EntityId>,
        desired: Option<DesiredChange>,
    ) -> Plan {
        let expect = Expect::Revision(record.revision);
        let after = After { record: Some(record.clone()), operation: "updated", ends, modules, desired };
        Plan { change: Change::Put { record: Box::new(record), expect }, after }
    }
}

fn plan_twin(operation: &Operation, mut record: Record, now: Timestamp) -> Result<Plan, Error> {
    let (twin, desired) = std::mem::take(&mut record.twin).patch(&as_patch(&operation.twin), now)?;
    record.twin = twin;
    Ok(Plan::put(record, None, Vec::new(), desired))
}

fn as_patch(content: &TwinContent) -> TwinPatch {
    TwinPatch {
        tags: content.tags.clone().map(SectionPatch::Merge),
        desired: content.desired.clone().map(SectionPatch::Merge),
    }
}
