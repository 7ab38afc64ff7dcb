//! The twin: three sections of JSON properties and how they change.
//!
//! Rules and limits: device §5, service §8. A patch is checked whole before anything is applied, and
//! an operation consumes the old value, so there is no half-changed twin.
//!
//! Must not know: who may change what, how a twin is stored, which notification follows.
//!
//! Invariant: a stored section obeys every rule of `check`; it holds no `null`.
//!
//! Invariant: a section's version grows by one with each accepted change of it.

mod check;
mod write;

pub use check::{LimitKind, TwinError};

use crate::json::{Key, Number, Object, Value};
use crate::time::Timestamp;
use std::collections::{HashMap, HashSet};

/// When a member last changed, and in which version of its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The time of the change.
    pub updated: Timestamp,
    /// The section's version that the change made; 0 in a section never written.
    pub version: u64,
}

impl Stamp {
    /// The stamp of what was never written.
    pub const NEVER: Stamp = Stamp { updated: Timestamp::NEVER, version: 0 };
}

/// A named value of a section.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub key: Key,
    /// Its last change; for an object the last change of anything below it.
    pub stamp: Stamp,
    /// Its value.
    pub node: Node,
}

/// A stored value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `true` or `false`.
    Bool(bool),
    /// A number, text kept.
    Number(Number),
    /// A string.
    String(Box<str>),
    /// An array; it is replaced as a whole and has one stamp.
    Array(Vec<Value>),
    /// An object; its members have stamps of their own.
    Object(Vec<Member>),
}

/// Which of the three sections: they differ in size limit and in the metadata that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// Written by back ends, invisible to the device.
    Tags,
    /// Written by back ends, read by the device.
    Desired,
    /// Written by the device, read by back ends.
    Reported,
}

impl SectionKind {
    /// The section's name as texts show it.
    pub const fn name(self) -> &'static str {
        match self {
            SectionKind::Tags => "tags",
            SectionKind::Desired => "properties.desired",
            SectionKind::Reported => "properties.reported",
        }
    }
}

/// One section of a twin.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// `$version`: 1 for a new twin, plus 1 with each change.
    pub version: u64,
    /// The last change of anything in it.
    pub stamp: Stamp,
    /// The properties, in the order in which they first came.
    pub members: Vec<Member>,
}

impl Default for Section {
    fn default() -> Section {
        Section { version: 1, stamp: Stamp::NEVER, members: Vec::new() }
    }
}

impl Section {
    /// Applies a patch: objects merge, `null` removes, everything else replaces (device §5.2).
    ///
    /// `$version` and `$metadata` at the top are left out, because clients send whole sections back.
    ///
    /// # Errors
    /// [`TwinError`] names the rule and the property; size is judged after the merge.
    pub fn merge(mut self, kind: SectionKind, patch: &Object, now: Timestamp) -> Result<Section, TwinError> {
        check::patch(patch, check::Nulls::Remove)?;
        let stamp = self.advance(now);
        merge_members(&mut self.members, own_members(patch), stamp);
        check::size(kind, &self.members)?;
        Ok(self)
    }

    /// Replaces every property (service §8.3). `null` members are left out.
    ///
    /// # Errors
    /// [`TwinError`] names the rule and the property.
    pub fn replace(
        mut self,
        kind: SectionKind,
        content: &Object,
        now: Timestamp,
    ) -> Result<Section, TwinError> {
        check::patch(content, check::Nulls::Remove)?;
        let stamp = self.advance(now);
        self.members.clear();
        merge_members(&mut self.members, own_members(content), stamp);
        check::size(kind, &self.members)?;
        Ok(self)
    }

    fn advance(&mut self, now: Timestamp) -> Stamp {
        self.version += 1;
        self.stamp = Stamp { updated: now, version: self.version };
        self.stamp
    }

    /// The patch that turns `old` into this section at a client which merges: all of this section,
    /// and `null` for each key that is gone.
    pub fn as_patch_over(&self, old: &Section) -> Object {
        patch_over(&self.members, &old.members)
    }

    /// The size that counts against the limit: UTF-8 bytes of names and strings without control
    /// characters, 8 a number, 4 a boolean, nested values recursively (service §8.4).
    pub fn size(&self) -> usize {
        check::members_size(&self.members)
    }

    /// A property by its path of names.
    pub fn get(&self, path: &[&str]) -> Option<&Node> {
        let mut members = &self.members;
        let (last, parents) = path.split_last()?;
        for name in parents {
            match &members.iter().find(|m| *m.key == **name)?.node {
                Node::Object(inner) => members = inner,
                _ => return None,
            }
        }
        members.iter().find(|m| *m.key == **last).map(|m| &m.node)
    }
}

/// A patch's members without the two that the service owns.
fn own_members(patch: &Object) -> impl Iterator<Item = (&Key, &Value)> {
    patch.iter().filter(|(key, _)| !check::is_service_key(key))
}

/// Above this many, members are found by a table: a hostile patch must not make a merge quadratic.
const SEARCHED: usize = 16;

/// The keys of `patch` are unique, as those of an [`Object`] are.
fn merge_members<'a>(
    members: &mut Vec<Member>,
    patch: impl Iterator<Item = (&'a Key, &'a Value)>,
    stamp: Stamp,
) {
    if members.len() > SEARCHED && patch.size_hint().1.is_none_or(|most| most > SEARCHED) {
        return merge_many(members, patch, stamp);
    }
    // What is pushed behind these is new and need not be searched.
    let mut known = members.len();
    for (key, value) in patch {
        match members[..known].iter().position(|member| member.key == *key) {
            Some(place) if value.is_null() => {
                members.remove(place);
                known -= 1;
            }
            Some(place) => change_member(&mut members[place], value, stamp),
            None if value.is_null() => {}
            None => members.push(Member { key: key.clone(), stamp, node: node(value, stamp) }),
        }
    }
}

fn merge_many<'a>(
    members: &mut Vec<Member>,
    patch: impl Iterator<Item = (&'a Key, &'a Value)>,
    stamp: Stamp,
) {
    let patch: Vec<_> = patch.collect();
    let mut open: HashMap<&str, &Value> = patch.iter().map(|(key, value)| (&***key, *value)).collect();
    members.retain_mut(|member| match open.remove(&*member.key) {
        None => true,
        Some(Value::Null) => false,
        Some(value) => {
            change_member(member, value, stamp);
            true
        }
    });
    let new = patch.into_iter().filter(|(key, value)| !value.is_null() && open.contains_key(&***key));
    members.extend(new.map(|(key, value)| Member { key: key.clone(), stamp, node: node(value, stamp) }));
}

fn change_member(member: &mut Member, value: &Value, stamp: Stamp) {
    member.stamp = stamp;
    match (&mut member.node, value) {
        (Node::Object(existing), Value::Object(inner)) => merge_members(existing, inner.iter(), stamp),
        (other, value) => *other = node(value, stamp),
    }
}

/// `null` has been dealt with by the caller.
fn node(value: &Value, stamp: Stamp) -> Node {
    match value {
        Value::Bool(value) => Node::Bool(*value),
        Value::Number(number) => Node::Number(number.clone()),
        Value::String(text) => Node::String(text.clone()),
        Value::Array(elements) => Node::Array(elements.clone()),
        Value::Object(inner) => object_node(inner, stamp),
        Value::Null => Node::Array(Vec::new()),
    }
}

fn object_node(object: &Object, stamp: Stamp) -> Node {
    let mut members = Vec::with_capacity(object.len());
    merge_members(&mut members, object.iter(), stamp);
    Node::Object(members)
}

fn patch_over(new: &[Member], old: &[Member]) -> Object {
    let after: HashSet<&str> = new.iter().map(|member| &*member.key).collect();
    let before: HashMap<&str, &Node> = old.iter().map(|member| (&*member.key, &member.node)).collect();
    let gone = old.iter().filter(|old| !after.contains(&*old.key));
    let kept = new.iter().map(|new| {
        let value = match (&new.node, before.get(&*new.key)) {
            (Node::Object(new), Some(Node::Object(old))) => Value::Object(patch_over(new, old)),
            (node, _) => node.to_value(),
        };
        (new.key.clone(), value)
    });
    kept.chain(gone.map(|old| (old.key.clone(), Value::Null))).collect()
}

impl Node {
    /// The value without stamps.
    pub fn to_value(&self) -> Value {
        match self {
            Node::Bool(value) => Value::Bool(*value),
            Node::Number(number) => Value::Number(number.clone()),
            Node::String(text) => Value::String(text.clone()),
            Node::Array(elements) => Value::Array(elements.clone()),
            Node::Object(members) => {
                Value::Object(members.iter().map(|m| (m.key.clone(), m.node.to_value())).collect())
            }
        }
    }
}

/// What a patch asks of one section.
#[derive(Clone, Debug, PartialEq)]
pub enum SectionPatch {
    /// Merge these members.
    Merge(Object),
    /// Remove everything: the section was given as `null` (service §8.3).
    Clear,
}

/// A back end's change of a twin; a section left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinPatch {
    /// Change of the tags.
    pub tags: Option<SectionPatch>,
    /// Change of the desired properties.
    pub desired: Option<SectionPatch>,
}

impl TwinPatch {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.tags.is_none() && self.desired.is_none()
    }
}

/// A back end's replacement of a twin; a section left out becomes empty (service §8.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinContent {
    /// The new tags.
    pub tags: Option<Object>,
    /// The new desired properties.
    pub desired: Option<Object>,
}

/// The part of a twin that its device changes: a report needs no more, so a store may load no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The whole twin's `version`.
    pub twin_version: u64,
    /// The reported properties.
    pub section: Section,
}

impl Reported {
    /// Applies a device's patch.
    ///
    /// # Errors
    /// [`TwinError`] names the rule and the property.
    pub fn report(self, patch: &Object, now: Timestamp) -> Result<Reported, TwinError> {
        let section = self.section.merge(SectionKind::Reported, patch, now)?;
        Ok(Reported { twin_version: self.twin_version + 1, section })
    }
}

/// The document of a device or module.
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    /// `version`: raised by every change of any section.
    pub version: u64,
    /// The counter behind `etag`: raised by every change of tags or desired properties.
    pub etag: u64,
    /// The plug-and-play model that the device named when it last connected.
    pub model_id: Option<Box<str>>,
    /// The tags.
    pub tags: Section,
    /// The desired properties.
    pub desired: Section,
    /// The reported properties.
    pub reported: Section,
}

impl Default for Twin {
    /// A new twin: version 2 and etag 1, as the service makes it (service §8.1).
    fn default() -> Twin {
        Twin {
            version: 2,
            etag: 1,
            model_id: None,
            tags: Section::default(),
            desired: Section::default(),
            reported: Section::default(),
        }
    }
}

/// A change of desired properties that a connected device must hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredChange {
    /// What changed, removals as `null`; without `$version`.
    pub patch: Object,
    /// The version of the desired properties after the change.
    pub version: u64,
}

impl Twin {
    /// Applies a back end's patch.
    ///
    /// # Errors
    /// [`TwinError`] names the rule and the property.
    pub fn patch(
        mut self,
        patch: &TwinPatch,
        now: Timestamp,
    ) -> Result<(Twin, Option<DesiredChange>), TwinError> {
        if patch.is_empty() {
            return Ok((self, None));
        }
        if let Some(tags) = &patch.tags {
            self.tags = change(std::mem::take(&mut self.tags), SectionKind::Tags, tags, now)?;
        }
        let mut told = None;
        if let Some(desired) = &patch.desired {
            let old = std::mem::take(&mut self.desired);
            let patch = match desired {
                SectionPatch::Merge(patch) => {
                    own_members(patch).map(|(k, v)| (k.clone(), v.clone())).collect()
                }
                SectionPatch::Clear => Section::default().as_patch_over(&old),
            };
            self.desired = change(old, SectionKind::Desired, desired, now)?;
            told = Some(DesiredChange { patch, version: self.desired.version });
        }
        Ok((self.advanced(), told))
    }

    /// Applies a back end's replacement.
    ///
    /// # Errors
    /// [`TwinError`] names the rule and the property.
    pub fn replace(
        mut self,
        content: &TwinContent,
        now: Timestamp,
    ) -> Result<(Twin, Option<DesiredChange>), TwinError> {
        let empty = Object::new();
        let tags = content.tags.as_ref().unwrap_or(&empty);
        self.tags = std::mem::take(&mut self.tags).replace(SectionKind::Tags, tags, now)?;
        let mut told = None;
        if content.desired.is_some() || !self.desired.members.is_empty() {
            let desired = content.desired.as_ref().unwrap_or(&empty);
            let old = self.desired.clone();
            self.desired = std::mem::take(&mut self.desired).replace(SectionKind::Desired, desired, now)?;
            told = Some(DesiredChange {
                patch: self.desired.as_patch_over(&old),
                version: self.desired.version,
            });
        }
        Ok((self.advanced(), told))
    }

    /// Applies a device's patch of its reported properties.
    ///
    /// # Errors
    /// [`TwinError`] names the rule and the property.
    pub fn report(mut self, patch: &Object, now: Timestamp) -> Result<Twin, TwinError> {
        let reported = Reported { twin_version: self.version, section: std::mem::take(&mut self.reported) };
        let reported = reported.report(patch, now)?;
        (self.version, self.reported) = (reported.twin_version, reported.section);
        Ok(self)
    }

    fn advanced(mut self) -> Twin {
        self.version += 1;
        self.etag += 1;
        self
    }

    /// Appends what the device sees: `{"desired":{…},"reported":{…}}`, each with `$version` (device §4.2).
    pub fn write_for_device(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"desired\":");
        self.desired.write_values(out);
        out.extend_from_slice(b",\"reported\":");
        self.reported.write_values(out);
        out.push(b'}');
    }
}

fn change(
    section: Section,
    kind: SectionKind,
    patch: &SectionPatch,
    now: Timestamp,
) -> Result<Section, TwinError> {
    match patch {
        SectionPatch::Merge(patch) => section.merge(kind, patch, now),
        SectionPatch::Clear => section.replace(kind, &Object::new(), now),
    }
}

#[cfg(test)]
mod tests;
