//! Printing sections. Values come before `$metadata`, `$metadata` before `$version`, and the text is
//! compact: programs in the field match substrings of it.

use super::{Member, Node, Section, SectionKind, Stamp};
use crate::json::{write_string, ObjectWriter, Value};

impl Section {
    /// Appends `{…values…,"$version":n}`: what a device sees (device §4.2).
    pub fn write_values(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        members(&self.members, &mut object);
        object.count("$version", self.version);
        object.end();
    }

    /// Appends what a back end sees: tags are bare values; the other sections carry `$metadata` and
    /// `$version`, and desired metadata also `$lastUpdatedVersion` (service §8.1).
    pub fn write_for_service(&self, kind: SectionKind, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        members(&self.members, &mut object);
        if kind != SectionKind::Tags {
            metadata(&self.members, self.stamp, kind, object.object("$metadata"));
            object.count("$version", self.version);
        }
        object.end();
    }
}

fn members(members: &[Member], object: &mut ObjectWriter<'_>) {
    for member in members {
        node(&member.node, object.key(&member.key));
    }
}

fn node(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Node::Number(number) => number.write_to(out),
        Node::String(text) => write_string(text, out),
        Node::Array(elements) => array(elements, out),
        Node::Object(inner) => {
            let mut object = ObjectWriter::new(out);
            members(inner, &mut object);
            object.end();
        }
    }
}

fn array(elements: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, element) in elements.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        element.write_to(out);
    }
    out.push(b']');
}

fn metadata(members: &[Member], stamp: Stamp, kind: SectionKind, mut object: ObjectWriter<'_>) {
    object.time("$lastUpdated", stamp.updated);
    if kind == SectionKind::Desired && stamp.version > 0 {
        object.count("$lastUpdatedVersion", stamp.version);
    }
    for member in members {
        let inner = match &member.node {
            Node::Object(inner) => inner.as_slice(),
            _ => &[],
        };
        metadata(inner, member.stamp, kind, object.object(&member.key));
    }
    object.end();
}
