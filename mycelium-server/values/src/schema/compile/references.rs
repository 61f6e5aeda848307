//! What `$ref` refers to, within the schema itself: nobody fetches another.

use std::borrow::Cow;
use std::collections::HashMap;

use super::is_document;
use crate::json::Json;

/// The named places of a schema.
pub(super) struct References<'a> {
    /// Documents within the schema, by their `$id`.
    documents: HashMap<&'a str, &'a Json<'a>>,
    /// Places with a name, by the document they stand in and that name.
    anchors: HashMap<(*const Json<'a>, &'a str), &'a Json<'a>>,
    /// Until draft 2019-09 nothing counted that stood beside a `$ref`.
    only_reference: bool,
}

/// What a reference leads to.
pub(super) enum Target<'a> {
    Schema {
        json: &'a Json<'a>,
        /// The document it stands in.
        resource: &'a Json<'a>,
    },
    /// Another document.
    Elsewhere,
    Nothing,
}

impl<'a> References<'a> {
    pub(super) fn of(root: &'a Json<'a>) -> Self {
        let draft = root.get("$schema");
        let only_reference = matches!(draft, Some(Json::Text(draft)) if draft.contains("/draft-0"));
        let mut found = Self { documents: HashMap::new(), anchors: HashMap::new(), only_reference };
        let mut waiting = vec![(root, root)];
        while let Some((json, resource)) = waiting.pop() {
            match json {
                Json::Map(entries) => {
                    let resource = if json.get("$id").is_some_and(is_document) { json } else { resource };
                    for (key, value) in entries {
                        match (&**key, value) {
                            ("$id", Json::Text(id)) if is_document(value) => {
                                found.documents.insert(id.trim_end_matches('#'), json);
                            }
                            ("$id" | "$anchor" | "$dynamicAnchor", Json::Text(anchor)) => {
                                let anchor = anchor.trim_start_matches('#');
                                found.anchors.insert((std::ptr::from_ref(resource), anchor), json);
                            }
                            _ => waiting.push((value, resource)),
                        }
                    }
                }
                Json::List(items) => waiting.extend(items.iter().map(|item| (item, resource))),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
            }
        }
        found
    }

    /// Whether nothing counts that stands beside a `$ref`.
    pub(super) fn only_reference(&self) -> bool {
        self.only_reference
    }

    pub(super) fn resolve(&self, reference: &str, resource: &'a Json<'a>) -> Target<'a> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let resource = if document.is_empty() {
            resource
        } else {
            // An id may be given in full and referred to by its last part.
            let is_named = |id: &str| {
                id == document || id.strip_suffix(document).is_some_and(|before| before.ends_with('/'))
            };
            match self.documents.iter().find(|(id, _)| is_named(id)) {
                Some((_, named)) => *named,
                None => return Target::Elsewhere,
            }
        };
        let fragment = percent_decoded(fragment);
        let Some(pointer) = fragment.strip_prefix('/') else {
            let json = match &*fragment {
                "" => Some(resource),
                anchor => self.anchors.get(&(std::ptr::from_ref(resource), anchor)).copied(),
            };
            return json.map_or(Target::Nothing, |json| Target::Schema { json, resource });
        };
        let (mut json, mut resource) = (resource, resource);
        for step in pointer.split('/') {
            let step = step.replace("~1", "/").replace("~0", "~");
            let below = match json {
                Json::Map(_) => json.get(&step),
                Json::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => None,
            };
            let Some(below) = below else { return Target::Nothing };
            json = below;
            if json.get("$id").is_some_and(is_document) {
                resource = json;
            }
        }
        Target::Schema { json, resource }
    }
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                // Two digits of 16 make a byte.
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}
