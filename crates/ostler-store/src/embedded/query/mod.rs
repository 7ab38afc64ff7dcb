//! Queries over the records in memory.
//!
//! Must not know: how a query is written; disks.
//!
//! Invariant: an answer is what core's evaluator gives over the records of one point.

use super::model::{Model, Snapshot};
use crate::query::Standing;
use crate::record::decode;
use crate::record::header::Head;
use crate::record::shapes::Shapes;
use crate::{After, Explanation, Filter, Found, Live, Order, Plan, StoreError};
use ostler_core::id::EntityId;
use ostler_core::query::{Groups, Presence, Query, TwinRow};
use ostler_core::record::Record;
use std::sync::Arc;

/// Ids taken at once.
const IDS: usize = 256;

/// See the module documentation.
pub(crate) struct Queries {
    model: Arc<Model>,
    shapes: Arc<Shapes>,
}

impl Queries {
    pub(crate) fn new(model: Arc<Model>, shapes: Arc<Shapes>) -> Queries {
        Queries { model, shapes }
    }

    pub(crate) async fn find(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        order: Order,
        after: Option<After>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let after = after.as_ref().map(Standing::after);
        let mut found = Vec::new();
        self.each(&filter, &*live, |record, row| {
            let standing = Standing::of(&row, record.id.as_str(), &order);
            if after.as_ref().is_none_or(|after| standing.compare(after, &order).is_gt()) {
                found.push((standing, record.clone()));
            }
        })?;
        found.sort_by(|(left, _), (right, _)| left.compare(right, &order));
        let more = found.len() > limit;
        Ok(Found { records: found.into_iter().take(limit).map(|(_, record)| record).collect(), more })
    }

    pub(crate) async fn find_ids(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
    ) -> Result<Vec<EntityId>, StoreError> {
        let mut ids = Vec::new();
        self.each(&filter, &*live, |record, _| ids.push(record.id.clone()))?;
        Ok(ids)
    }

    pub(crate) async fn fold(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        query: Arc<Query>,
    ) -> Result<Groups, StoreError> {
        let mut groups = Groups::new(&query);
        let mut refused = Ok(());
        self.each(&filter, &*live, |_, row| {
            if refused.is_ok() {
                refused = groups.add(&row);
            }
        })?;
        refused.map_err(StoreError::Groups)?;
        Ok(groups)
    }

    pub(crate) fn explain(&self, filter: &Filter) -> Explanation {
        let counts = self.model.counts();
        let rows = if filter.modules { counts.modules } else { counts.devices };
        Explanation { plan: Plan::Scan, columns: Vec::new(), rows }
    }

    fn each(
        &self,
        filter: &Filter,
        live: &dyn Live,
        mut take: impl FnMut(&Record, TwinRow<'_>),
    ) -> Result<(), StoreError> {
        let snapshot = self.model.snapshot();
        let mut after: Option<String> = None;
        loop {
            let (ids, more) = snapshot.ids(filter.modules, after.as_deref(), IDS);
            for id in &ids {
                let Some(record) = self.read(&snapshot, id)? else { continue };
                let presence =
                    live.presence(id).unwrap_or(Presence { connected: false, activity: record.activity });
                let row = TwinRow { record: &record, presence };
                if filter.keeps(&row) {
                    take(&record, row);
                }
            }
            if !more {
                return Ok(());
            }
            after = ids.into_iter().next_back();
        }
    }

    fn read(&self, snapshot: &Snapshot<'_>, id: &str) -> Result<Option<Record>, StoreError> {
        let shapes = self.shapes.read();
        let record = snapshot.read(id, |bytes| {
            decode(bytes, &shapes).map_err(|damage| StoreError::Corrupt {
                id: Head::trusted(bytes).id().into(),
                reason: damage.to_string(),
            })
        });
        record.transpose()
    }
}
