//! Going through ids in order: the way to a page whose rows are soon found, and to rows whose ids are
//! known.
//!
//! Where columns judge a part of the condition, records that they say no to are not looked at.
//!
//! Must not know: how columns judge.
//!
//! Invariant: rows come in the order of their ids, as they were at the snapshot.

use super::plan::{Access, Judge, Node};
use super::row::{CompactRow, Locators};
use super::scan::{go_on, Sink};
use super::turns::Running;
use super::{Asked, Tracked};
use crate::embedded::names::Stretch;
use crate::query::Standing;
use crate::record::decode;
use crate::record::shapes::Known;
use crate::{Found, StoreError};
use ostler_core::query::Column;
use ostler_core::record::Record;
use std::sync::Arc;

/// Ids taken at once.
const IDS: usize = 128;
/// Ids that columns judge at once.
const JUDGED_IDS: usize = 1024;
/// How many ids columns judge while one record is looked at.
pub(super) const IDS_PER_LOOK: usize = 8;

/// A page in the making.
pub(crate) struct Walk<'w, 'q> {
    asked: &'w Asked<'q>,
    locators: Locators,
    prefix: Option<Box<str>>,
    after: Option<String>,
    limit: usize,
    found: Found,
    /// What columns can judge, all of which must be true.
    judges: Vec<Judge<'q>>,
    stretch: Stretch,
    /// In ids that columns judge.
    effort: usize,
}

/// Why going on was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// The page is full, or there are no more ids.
    Done,
    /// There is more to look at.
    Tired,
}

impl<'w, 'q> Walk<'w, 'q> {
    pub(crate) fn new(
        asked: &'w Asked<'q>,
        columns: &[Arc<Tracked>],
        after: Option<&Standing>,
        limit: usize,
    ) -> Walk<'w, 'q> {
        let condition = asked.filter.condition.as_ref();
        let mut judges = Vec::new();
        let node = condition.map(|condition| Node::of(condition.tree(), columns, &mut judges));
        let required = node.as_ref().map(Node::required).unwrap_or_default();
        let prefix = match Access::of(condition) {
            Access::Prefix(prefix) => Some(prefix),
            _ => None,
        };
        Walk {
            asked,
            locators: Locators::new(condition, []),
            prefix,
            after: after.map(|after| String::from(&*after.id)),
            limit,
            found: Found::default(),
            judges: required.into_iter().map(|place| judges[place]).collect(),
            stretch: Stretch::default(),
            effort: 0,
        }
    }

    /// Looks at so many more records, or judges [`IDS_PER_LOOK`] times as many ids by columns.
    pub(crate) fn go(&mut self, most: usize, running: &Running) -> Result<WalkEnd, StoreError> {
        let upto = self.effort.saturating_add(most.saturating_mul(IDS_PER_LOOK));
        while self.effort < upto {
            let Asked { engine, snapshot, .. } = self.asked;
            go_on(&engine.model, snapshot.at(), &running.cancelled)?;
            let left = upto - self.effort;
            let end = match self.judge_some(left)? {
                Some(end) => end,
                None => self.look_at_some(left.div_ceil(IDS_PER_LOOK))?,
            };
            if end == WalkEnd::Done {
                return Ok(end);
            }
        }
        Ok(WalkEnd::Tired)
    }

    /// Goes through some ids with the help of columns; nothing if they cannot help.
    fn judge_some(&mut self, most: usize) -> Result<Option<WalkEnd>, StoreError> {
        let Asked { engine, filter, snapshot, .. } = self.asked;
        if self.judges.is_empty() || self.prefix.is_some() {
            return Ok(None);
        }
        let mut stretch = std::mem::take(&mut self.stretch);
        let most = JUDGED_IDS.min(most);
        let Some(more) = snapshot.stretch(filter.modules, self.after.as_deref(), most, &mut stretch) else {
            return Ok(None);
        };
        let mut kept = Vec::new();
        snapshot.skim(filter.modules, &stretch, &self.judges, &engine.shapes.read(), &mut kept);
        self.effort += stretch.len();
        for place in kept {
            self.effort += IDS_PER_LOOK;
            if self.look_at(stretch.name(place))? {
                return Ok(Some(WalkEnd::Done));
            }
        }
        if let Some(last) = stretch.len().checked_sub(1) {
            self.after = Some(stretch.name(last).to_owned());
        }
        self.stretch = stretch;
        Ok(Some(if more { WalkEnd::Tired } else { WalkEnd::Done }))
    }

    fn look_at_some(&mut self, most: usize) -> Result<WalkEnd, StoreError> {
        let (ids, more) = self.next_ids(IDS.min(most));
        for id in ids {
            if self.is_past_prefix(&id) {
                return Ok(WalkEnd::Done);
            }
            self.effort += IDS_PER_LOOK;
            if self.look_at(&id)? {
                return Ok(WalkEnd::Done);
            }
            self.after = Some(id);
        }
        Ok(if more { WalkEnd::Tired } else { WalkEnd::Done })
    }

    /// The page.
    pub(crate) fn found(self) -> Found {
        self.found
    }

    /// The last id looked at.
    pub(crate) fn after(&self) -> Option<Standing> {
        self.after.as_ref().map(|id| Standing { values: Vec::new(), id: id.as_str().into() })
    }

    /// How many records will still have to be looked at, to judge by those seen.
    pub(crate) fn expected(&self) -> usize {
        let found = self.found.records.len().max(1);
        (self.limit.saturating_add(1) - self.found.records.len()).saturating_mul(self.effort)
            / found
            / IDS_PER_LOOK
    }

    fn next_ids(&self, most: usize) -> (Vec<String>, bool) {
        let Asked { filter, snapshot, .. } = self.asked;
        match (&self.prefix, &self.after) {
            (Some(prefix), after) if after.as_deref().is_none_or(|after| after < &**prefix) => {
                let (mut ids, more) = snapshot.ids(filter.modules, Some(prefix), most);
                // What follows the prefix does not include it.
                ids.insert(0, String::from(&**prefix));
                (ids, more)
            }
            (_, after) => snapshot.ids(filter.modules, after.as_deref(), most),
        }
    }

    fn is_past_prefix(&self, id: &str) -> bool {
        self.prefix.as_ref().is_some_and(|prefix| !id.starts_with(&**prefix))
    }

    /// `true` if the page is full.
    fn look_at(&mut self, id: &str) -> Result<bool, StoreError> {
        let is_full = self.found.records.len() >= self.limit;
        let shapes = self.asked.engine.shapes.read();
        let kept = self.asked.kept(id, &self.locators, &shapes, |row| {
            let record = (!is_full).then(|| decode(row.bytes, &shapes));
            record
                .transpose()
                .map_err(|damage| StoreError::Corrupt { id: row.id().into(), reason: damage.to_string() })
        });
        match kept.transpose()? {
            None => Ok(false),
            Some(record) => {
                self.found.more = record.is_none();
                self.found.records.extend::<Option<Record>>(record);
                Ok(self.found.more)
            }
        }
    }
}

impl Asked<'_> {
    /// Hands the row of an id to `take`, if there is one and the filter means it.
    fn kept<T>(
        &self,
        id: &str,
        locators: &Locators,
        shapes: &Known,
        take: impl FnOnce(&CompactRow<'_>) -> T,
    ) -> Option<T> {
        // What a query names need not be an id of its collection.
        if id.contains('/') != self.filter.modules {
            return None;
        }
        let judge = |bytes: &[u8]| {
            let row = CompactRow { bytes, sections: None, shapes, locators, live: self.live };
            self.filter.keeps(&row).then(|| take(&row))
        };
        self.snapshot.read(id, judge).flatten()
    }
}

/// Gives a sink the rows of these devices, or of their modules, as far as the filter means them.
pub(crate) fn look_up<S: Sink>(asked: &Asked<'_>, ids: &[Box<str>], columns: &[&Column], sink: &mut S) {
    let locators = Locators::new(asked.filter.condition.as_ref(), columns.iter().copied());
    let mut take = |id: &str| {
        let shapes = asked.engine.shapes.read();
        asked.kept(id, &locators, &shapes, |row| sink.row(row));
    };
    for id in ids {
        if !asked.filter.modules {
            take(id);
            continue;
        }
        let prefix = format!("{id}/");
        let mut after = prefix.clone();
        loop {
            let (modules, more) = asked.snapshot.ids(true, Some(&after), IDS);
            let mut of_device = modules.iter().take_while(|module| module.starts_with(&prefix)).peekable();
            let is_last = of_device.clone().count() < modules.len() || !more;
            of_device.by_ref().for_each(|module| take(module));
            match modules.into_iter().next_back() {
                Some(last) if !is_last => after = last,
                _ => break,
            }
        }
    }
}

/// Gives a sink the rows of the ids with this prefix; `false`, and no row, if there are too many ids.
pub(crate) fn look_up_prefix<S: Sink>(
    asked: &Asked<'_>,
    prefix: &str,
    most: usize,
    columns: &[&Column],
    sink: &mut S,
) -> bool {
    let modules = asked.filter.modules;
    let (mut ids, more) = asked.snapshot.ids(modules, Some(prefix), most);
    let all = ids.len();
    ids.retain(|id| id.starts_with(prefix));
    if more && ids.len() == all {
        return false;
    }
    // What follows the prefix does not include it.
    ids.insert(0, prefix.into());
    let locators = Locators::new(asked.filter.condition.as_ref(), columns.iter().copied());
    for id in &ids {
        let shapes = asked.engine.shapes.read();
        asked.kept(id, &locators, &shapes, |row| sink.row(row));
    }
    true
}
