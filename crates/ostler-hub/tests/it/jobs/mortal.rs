//! A store that dies: from one commit on, it answers everything with "closed", as a hub that was killed
//! would hear nothing more.

use ostler_core::id::{DeviceId, EntityId};
use ostler_core::query::{Groups, Query};
use ostler_core::record::{Activity, Record};
use ostler_core::twin::Reported;
use ostler_store::{
    After, BoxFuture, Change, CommitError, Counts, Document, Documents, Expect, Explanation, Filter, Found,
    Live, Order, Revision, Setting, Shelf, Store, StoreError, StoreStatus,
};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

/// What becomes of the commit at which the store dies.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// Nothing of it is kept.
    Before,
    /// It is durable, but nobody hears of it.
    After,
}

pub struct Mortal {
    disk: Arc<dyn Store>,
    death: Death,
    commits_left: AtomicUsize,
    dead: AtomicBool,
    refuses: AtomicBool,
    refused: AtomicUsize,
    damaged: Mutex<Option<EntityId>>,
    under_way: Arc<AtomicUsize>,
}

impl Mortal {
    pub fn new(disk: Arc<dyn Store>, death: Death) -> Mortal {
        let commits_left = AtomicUsize::new(usize::MAX);
        let (dead, damaged) = (AtomicBool::new(false), Mutex::default());
        let (refuses, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
        Mortal { disk, death, commits_left, dead, refuses, refused, damaged, under_way: Arc::default() }
    }

    /// From now on, commits are refused, or go well again.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// How many commits were refused.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// So many commits go well, then it dies.
    pub fn die_at(&self, commits: usize) {
        self.commits_left.store(commits, Ordering::SeqCst);
    }

    /// From now on, the record of this entity cannot be read.
    pub fn damage(&self, id: EntityId) {
        *self.damaged.lock() = Some(id);
    }

    fn readable(&self, id: &EntityId) -> Result<(), StoreError> {
        match self.damaged.lock().as_ref() == Some(id) {
            true => Err(StoreError::Corrupt { id: id.to_string(), reason: "damaged".into() }),
            false => Ok(()),
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Waits until nothing is on its way to the disk any more, as before another process could open it.
    pub async fn buried(&self) {
        while self.under_way.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// In a task of its own: who gave it up does not end it.
    async fn commit_to_disk(&self, changes: Vec<Change>) -> Vec<Result<Revision, CommitError>> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let (disk, under_way) = (self.disk.clone(), self.under_way.clone());
        let commit = tokio::spawn(async move {
            let outcomes = disk.commit(changes).await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            outcomes
        });
        commit.await.unwrap()
    }

    fn living(&self) -> Result<&Arc<dyn Store>, StoreError> {
        if self.is_dead() {
            return Err(StoreError::Closed);
        }
        Ok(&self.disk)
    }
}

macro_rules! alive {
    ($self:ident, $store:ident => $ask:expr) => {
        Box::pin(async move {
            let $store = $self.living()?;
            $ask.await
        })
    };
}

impl Store for Mortal {
    fn load<'a>(&'a self, id: &'a EntityId) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            self.readable(id)?;
            self.living()?.load(id).await
        })
    }

    fn load_reported<'a>(
        &'a self,
        id: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<(Revision, Reported)>, StoreError>> {
        Box::pin(async move {
            self.readable(id)?;
            self.living()?.load_reported(id).await
        })
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Vec<Result<Revision, CommitError>>> {
        Box::pin(async move {
            let closed = vec![Err(CommitError::Store(StoreError::Closed)); changes.len()];
            if self.is_dead() {
                return closed;
            }
            if self.refuses.load(Ordering::SeqCst) {
                self.refused.fetch_add(1, Ordering::SeqCst);
                let full = CommitError::Store(StoreError::Unavailable("full".into()));
                return vec![Err(full); changes.len()];
            }
            let left = self.commits_left.fetch_sub(1, Ordering::SeqCst);
            if left == 0 {
                self.dead.store(true, Ordering::SeqCst);
                if matches!(self.death, Death::After) {
                    self.commit_to_disk(changes).await;
                }
                return closed;
            }
            let outcomes = self.commit_to_disk(changes).await;
            // Another commit may have been the last meanwhile.
            if self.is_dead() {
                closed
            } else {
                outcomes
            }
        })
    }

    fn touch(&self, id: &EntityId, activity: Activity) {
        self.disk.touch(id, activity);
    }

    fn list_devices<'a>(
        &'a self,
        after: Option<&'a DeviceId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        alive!(self, store => store.list_devices(after, limit))
    }

    fn list_modules<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        alive!(self, store => store.list_modules(device))
    }

    fn counts(&self) -> Counts {
        self.disk.counts()
    }

    fn setting<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Setting>, StoreError>> {
        alive!(self, store => store.setting(name))
    }

    fn put_setting<'a>(
        &'a self,
        name: &'a str,
        value: Vec<u8>,
        expect: Expect,
    ) -> BoxFuture<'a, Result<Revision, CommitError>> {
        self.disk.put_setting(name, value, expect)
    }

    fn document<'a>(
        &'a self,
        shelf: Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        alive!(self, store => store.document(shelf, key))
    }

    fn documents<'a>(
        &'a self,
        shelf: Shelf,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Documents, StoreError>> {
        alive!(self, store => store.documents(shelf, prefix, after, limit))
    }

    fn find(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        order: Order,
        after: Option<After>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Found, StoreError>> {
        alive!(self, store => store.find(filter, live, order, after, limit))
    }

    fn find_ids(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
    ) -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>> {
        alive!(self, store => store.find_ids(filter, live))
    }

    fn fold(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        query: Arc<Query>,
    ) -> BoxFuture<'_, Result<Groups, StoreError>> {
        alive!(self, store => store.fold(filter, live, query))
    }

    fn explain(&self, filter: &Filter) -> Explanation {
        self.disk.explain(filter)
    }

    fn backup<'a>(
        &'a self,
        to: &'a Path,
        progress: &'a (dyn Fn(u64, u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.disk.backup(to, progress)
    }

    fn status(&self) -> StoreStatus {
        self.disk.status()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
