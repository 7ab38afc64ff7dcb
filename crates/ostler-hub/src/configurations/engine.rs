//! The engine: looks at twins, lets core decide, commits, tells the devices (service §11.4).
//!
//! ```text
//!  twin changed ──► work: queue ──┐
//!  configuration changed ─► sweep ┼─► settle: expand edge devices ─► who is due? ─► lock, commit, tell
//!  start, every 5 minutes ─► all ─┘            ▲                                              │
//!                                              └─ changed ones, if that could matter, 8 times ─┘
//! ```
//!
//! It has no state but what waits: it can stop anywhere and begin anew, because deciding on a twin that is as it should
//! be changes nothing.
//!
//! Invariant: a twin that its configurations keep changing is left alone after [`ROUNDS`] looks, until something else
//! changes it. The engine's own commits never put a twin into the queue.
//! Invariant: twins that changed go before sweeps, and a sweep holds no locks between batches.

use super::work::{Sweep, Triggers, Work};
use super::Set;
use crate::bus::Tell;
use crate::error::Error;
use crate::hub::Hub;
use ostler_core::configuration::{decide, Candidate, Configuration, Decision, Scope, Settings, EDGE_AGENT};
use ostler_core::id::EntityId;
use ostler_core::query::{Condition, Dialect, Presence, TwinRow};
use ostler_core::record::Record;
use ostler_core::twin::DesiredChange;
use ostler_store::{Change, CommitError, Expect, Filter, StoreError};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

/// Looks at one twin in a row before it is left as it is.
const ROUNDS: usize = 8;
/// Twins that are looked at together; those that change share a commit.
const BATCH: usize = 512;
/// How often all twins are looked at, whatever happened.
const REPAIR: Duration = Duration::from_secs(5 * 60);
/// How long the engine waits before it goes on after a fault of the store.
const AFTER_FAULT: Duration = Duration::from_secs(1);

static NO_SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);

/// A twin that is not as it should be.
struct Due {
    id: EntityId,
    change: Change,
    told: Option<DesiredChange>,
}

/// Works until the hub is gone.
pub(super) async fn run(hub: Weak<Hub>, work: Arc<Work>) {
    let mut repair = tokio::time::interval(REPAIR);
    repair.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once, and the first sweep is asked for already.
    repair.tick().await;
    loop {
        tokio::select! {
            () = work.wait() => {}
            // Without configurations, the sweep at the start or at the last deletion left nothing behind.
            _ = repair.tick() => if work.cares(Triggers::RECORD) { work.sweep(Sweep::All) },
        }
        let Some(hub) = hub.upgrade() else { return };
        match hub.work_off(&work).await {
            Ok(()) => {}
            Err(Error::Store(StoreError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "configurations wait for the store; all twins are looked at again");
                drop(hub);
                tokio::time::sleep(AFTER_FAULT).await;
                work.sweep(Sweep::All);
            }
        }
    }
}

impl Hub {
    async fn work_off(&self, work: &Work) -> Result<(), Error> {
        loop {
            self.work_off_queue(work).await?;
            match work.next_sweep() {
                Some(sweep) => self.sweep(work, sweep).await?,
                None if work.rest() => return Ok(()),
                None => {}
            }
        }
    }

    async fn work_off_queue(&self, work: &Work) -> Result<(), Error> {
        loop {
            let ids = work.take(BATCH);
            if ids.is_empty() {
                return Ok(());
            }
            self.settle(work, ids).await?;
        }
    }

    /// Looks at every twin that a configuration targets or has targeted.
    async fn sweep(&self, work: &Work, sweep: Sweep) -> Result<(), Error> {
        let set = self.configurations.set.load_full();
        // Those that have it come first: what is applied below would be among them.
        let filters: Vec<Filter> = match &sweep {
            Sweep::All => {
                let any = condition("IS_DEFINED(configurations)")?;
                holders(&any).into_iter().chain(set.all.values().filter_map(|one| filter_of(one))).collect()
            }
            Sweep::One(id) => {
                let held = condition(&format!("IS_DEFINED(configurations.[[{id}]])"))?;
                let aimed = set.all.get(id).and_then(|one| filter_of(one));
                holders(&held).into_iter().chain(aimed).collect()
            }
        };
        let edge = set.edge;
        drop(set);
        for filter in filters {
            let modules = filter.modules;
            let mut ids = self.store.find_ids(Arc::new(filter), self.live()).await?;
            if edge && modules {
                // When one deployment ends, the next may concern other modules of the same device.
                let mut devices: Vec<EntityId> = ids.iter().map(|id| id.device_id().into()).collect();
                devices.dedup();
                ids.append(&mut devices);
            }
            for ids in ids.chunks(BATCH) {
                self.settle(work, ids.to_vec()).await?;
                self.work_off_queue(work).await?;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Brings twins into the state that the configurations ask for.
    async fn settle(&self, work: &Work, mut ids: Vec<EntityId>) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let set = self.configurations.set.load_full();
            self.add_edge_modules(&set, &mut ids).await?;
            let due = self.due(work, &set, ids).await?;
            ids = self.change_due(work, due).await?;
            if ids.is_empty() || !set.reflexive {
                return Ok(());
            }
        }
        if let Some(id) = ids.first().filter(|_| work.may_warn()) {
            tracing::warn!(
                example = %id,
                count = ids.len(),
                "configurations keep changing what makes these twins meet their conditions; the twins are left as \
                 they are until something else changes them"
            );
        }
        Ok(())
    }

    /// Those that are not as they should be, with what they should be.
    async fn due(&self, work: &Work, set: &Set, ids: Vec<EntityId>) -> Result<Vec<Due>, Error> {
        self.stats().configuration_looks.add(ids.len() as u64);
        let mut due = Vec::new();
        let mut refused = None;
        let mut refusals = 0_usize;
        for id in ids {
            let Some((revision, decision)) = self.decide_configurations(set, &id).await? else { continue };
            refusals += decision.refused.len();
            refused = refused.or_else(|| Some((id.clone(), decision.refused.into_iter().next()?)));
            if let Some((record, told)) = decision.change {
                due.push(Due {
                    id,
                    change: Change::Put { record, expect: Expect::Revision(revision) },
                    told,
                });
            }
        }
        if let Some((twin, (configuration, error))) = refused.filter(|_| work.may_warn()) {
            tracing::warn!(
                %twin, %configuration, %error, count = refusals,
                "a configuration cannot be applied; the twin keeps the next-best one"
            );
        }
        Ok(due)
    }

    /// Changes those that are due and tells their devices, in the order of their versions. What changed comes back.
    async fn change_due(&self, work: &Work, due: Vec<Due>) -> Result<Vec<EntityId>, Error> {
        let told = due.iter().filter(|due| due.told.is_some()).map(|due| &due.id);
        // Taken after the decision: if others changed a twin in between, the commit is refused.
        let _turns = self.notify_in_order(told).await;
        let (changes, due): (Vec<Change>, Vec<_>) =
            due.into_iter().map(|Due { id, change, told }| (change, (id, told))).unzip();
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let (mut changed, mut trouble) = (Vec::with_capacity(due.len()), None);
        for ((id, told), outcome) in due.into_iter().zip(self.store.commit(changes).await) {
            match outcome {
                Ok(_) => {
                    if let Some(change) = told {
                        self.tell_desired(&id, change);
                    }
                    self.stats().configuration_changes.add(1);
                    changed.push(id);
                }
                // Others changed it meanwhile: that counts as news, not as a round.
                Err(CommitError::Conflict) => {
                    self.stats().commit_retries.add(1);
                    work.look_at(id);
                }
                Err(CommitError::Exists | CommitError::Missing | CommitError::NoDevice) => {}
                Err(CommitError::Store(error)) => trouble = Some(error),
            }
        }
        trouble.map_or(Ok(changed), |error| Err(error.into()))
    }

    /// What the configurations make of a twin, and the revision on which that is decided; nothing if it is gone.
    async fn decide_configurations(
        &self,
        set: &Set,
        id: &EntityId,
    ) -> Result<Option<(u64, Decision)>, Error> {
        let record = match self.store.load(id).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            // The store has logged it; one damaged record must not hold up the others.
            Err(StoreError::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let device = match id.is_module() && set.edge {
            true => self.store.load(&id.device_id().into()).await?,
            false => None,
        };
        let mut candidates = self.own_candidates(set, &record);
        if let (Some(device), Some(module)) = (&device, id.module()) {
            candidates.extend(edge_candidates(&self.matching_edge(set, device), module));
        }
        let decision = decide(&record, &candidates, self.now());
        Ok(Some((record.revision, decision)))
    }

    fn own_candidates<'a>(&self, set: &'a Set, record: &Record) -> Vec<Candidate<'a>> {
        use ostler_core::configuration::Content::{Device, Edge, Module};
        let row = TwinRow { record, presence: self.presence(record) };
        let met = set.all.values().filter(|one| one.target.is_met(&row));
        let candidate = |one: &'a Arc<Configuration>| match &one.content {
            Device(settings) | Module(settings) => Some(candidate(one, Some(settings))),
            Edge(_) => None,
        };
        met.filter_map(candidate).collect()
    }

    /// The edge configurations whose condition a device meets.
    pub(super) fn matching_edge<'a>(&self, set: &'a Set, device: &Record) -> Vec<&'a Configuration> {
        let row = TwinRow { record: device, presence: self.presence(device) };
        let edge = set.all.values().filter(|one| one.target.scope() == Scope::EdgeDevices);
        edge.filter(|one| one.target.is_met(&row)).map(AsRef::as_ref).collect()
    }

    fn presence(&self, record: &Record) -> Presence {
        let messages = self.messages.count(record.id.as_str());
        match self.bus.sessions.get(&record.id) {
            Some(session) => Presence { connected: true, activity: session.activity(), messages },
            None => Presence { connected: false, activity: record.activity, messages },
        }
    }

    fn tell_desired(&self, id: &EntityId, change: DesiredChange) {
        let change = Arc::new(change);
        self.emit_desired(id, &change);
        self.tell(id, Tell::DesiredChanged(change));
    }
}

fn candidate<'a>(configuration: &'a Configuration, settings: Option<&'a Settings>) -> Candidate<'a> {
    Candidate {
        id: &configuration.id,
        priority: configuration.priority,
        created: configuration.created,
        settings,
    }
}

/// The one that an edge device gets: a deployment is whole, so the winner is one for all modules.
pub(super) fn edge_winner<'a>(matching: &[&'a Configuration]) -> Option<&'a Configuration> {
    matching.iter().copied().max_by_key(|one| (one.priority, one.created, &one.id))
}

/// What edge configurations mean for one module: those that name it target it, the winner sets it. The agent
/// shows all of them, because that is where deployments are counted (service §11.3).
fn edge_candidates<'a>(matching: &[&'a Configuration], module: &str) -> Vec<Candidate<'a>> {
    let winner = edge_winner(matching).map(|winner| &winner.id);
    let one = |configuration: &&'a Configuration| {
        let own = configuration.content.of_module(module);
        let settings = own.or_else(|| (module == EDGE_AGENT).then_some(&*NO_SETTINGS))?;
        let wins = winner == Some(&configuration.id);
        Some(candidate(configuration, wins.then_some(settings)))
    };
    matching.iter().filter_map(one).collect()
}

fn condition(text: &str) -> Result<Condition, Error> {
    // Written by this module from ids that need no escape.
    Condition::parse(text, Dialect::Extended).map_err(|error| Error::InvalidArgument(error.to_string()))
}

/// The twins whose own row decides; for edge devices, their devices.
fn filter_of(configuration: &Configuration) -> Option<Filter> {
    let Condition(condition) = configuration.target.condition()?;
    let modules = configuration.target.scope() == Scope::Modules;
    if configuration.target.scope() == Scope::EdgeDevices {
        // Narrower, if the longer text is still a condition; each twin is looked at anyway.
        let edge = configuration.target.edge_condition();
        if let Ok(Condition(condition)) = Condition::parse(&edge, Dialect::Extended) {
            return Some(Filter { modules, condition });
        }
    }
    Some(Filter { modules, condition: condition.clone() })
}

fn holders(condition: &Condition) -> [Filter; 2] {
    [false, true].map(|modules| Filter { modules, condition: condition.0.clone() })
}
