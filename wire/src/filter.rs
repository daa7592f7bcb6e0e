//! Filters (NIP-01) and their plain matching rule.

mod values;

use serde_json::{Map, Value};

pub use self::values::{TagValues, Values};
use crate::error::DecodeError;
use crate::event::Event;
use crate::ids::{EventId, PublicKey};
use crate::limits;

/// What a subscriber asks for. An absent list matches everything; an empty one nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Event ids.
    pub ids: Option<Values<EventId>>,
    /// Authors.
    pub authors: Option<Values<PublicKey>>,
    /// Kinds.
    pub kinds: Option<Values<u16>>,
    /// Values by single-letter tag name, as in `#p`.
    pub tags: TagValues,
    /// Oldest `created_at`, inclusive.
    pub since: Option<u64>,
    /// Newest `created_at`, inclusive.
    pub until: Option<u64>,
    /// At most this many stored events, the newest.
    pub limit: Option<usize>,
}

impl Filter {
    /// Reads a filter from a JSON object whose size was checked with its frame.
    ///
    /// Refused: unknown keys (a filter that is half understood answers the wrong question),
    /// lists over [`limits::FILTER_VALUES`], more than [`limits::FILTER_TAGS`] tag letters.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let Value::Object(fields) = value else {
            return Err(DecodeError::malformed("filter"));
        };
        let mut filter = Self::default();
        for (key, value) in fields {
            match key.as_str() {
                "ids" => filter.ids = Some(list(value, id)?),
                "authors" => filter.authors = Some(list(value, author)?),
                "kinds" => filter.kinds = Some(list(value, kind)?),
                "since" => filter.since = Some(number(value)?),
                "until" => filter.until = Some(number(value)?),
                "limit" => {
                    filter.limit = Some(usize::try_from(number(value)?).unwrap_or(usize::MAX));
                }
                _ => {
                    let letter = tag_letter(key).ok_or(DecodeError::UnknownFilter)?;
                    if filter.tags.len() == limits::FILTER_TAGS {
                        return Err(DecodeError::TooLarge {
                            what: "number of tag filters",
                            limit: limits::FILTER_TAGS,
                        });
                    }
                    filter.tags.insert(letter, list(value, tag_value)?);
                }
            }
        }
        Ok(filter)
    }

    /// As a JSON object.
    pub fn to_value(&self) -> Value {
        let mut fields = Map::new();
        if let Some(ids) = &self.ids {
            fields.insert("ids".into(), ids.iter().map(EventId::to_hex).collect());
        }
        if let Some(authors) = &self.authors {
            fields.insert(
                "authors".into(),
                authors.iter().map(PublicKey::to_hex).collect(),
            );
        }
        if let Some(kinds) = &self.kinds {
            fields.insert("kinds".into(), kinds.iter().copied().collect());
        }
        for (letter, values) in &self.tags {
            fields.insert(format!("#{letter}"), values.iter().cloned().collect());
        }
        if let Some(since) = self.since {
            fields.insert("since".into(), since.into());
        }
        if let Some(until) = self.until {
            fields.insert("until".into(), until.into());
        }
        if let Some(limit) = self.limit {
            fields.insert("limit".into(), limit.into());
        }
        Value::Object(fields)
    }

    /// Whether the event is asked for; `limit` plays no part. This is the whole rule, and every
    /// faster way to answer is tested against it.
    pub fn matches(&self, event: &Event) -> bool {
        fn allows<T: Ord>(wanted: &Option<Values<T>>, actual: &T) -> bool {
            wanted.as_ref().is_none_or(|set| set.contains(actual))
        }
        allows(&self.ids, &event.id())
            && allows(&self.authors, &event.pubkey())
            && allows(&self.kinds, &event.kind())
            && self.since.is_none_or(|since| event.created_at() >= since)
            && self.until.is_none_or(|until| event.created_at() <= until)
            && self.tags.iter().all(|(letter, wanted)| {
                let mut buffer = [0; 4];
                let name: &str = letter.encode_utf8(&mut buffer);
                event.tags().iter().any(|tag| {
                    tag.name() == name && tag.value().is_some_and(|v| wanted.contains(v))
                })
            })
    }

    /// A filter for values of one tag.
    pub fn with_tag<S: Into<String>>(
        mut self,
        letter: char,
        values: impl IntoIterator<Item = S>,
    ) -> Self {
        self.tags
            .insert(letter, values.into_iter().map(Into::into).collect());
        self
    }

    /// A filter for kinds.
    pub fn with_kinds(mut self, kinds: impl IntoIterator<Item = u16>) -> Self {
        self.kinds = Some(kinds.into_iter().collect());
        self
    }

    /// A filter for authors.
    pub fn with_authors(mut self, authors: impl IntoIterator<Item = PublicKey>) -> Self {
        self.authors = Some(authors.into_iter().collect());
        self
    }

    /// A filter for ids.
    pub fn with_ids(mut self, ids: impl IntoIterator<Item = EventId>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }
}

fn tag_letter(key: &str) -> Option<char> {
    let mut chars = key.strip_prefix('#')?.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    chars.next().is_none().then_some(letter)
}

fn list<T: Ord>(
    value: &Value,
    item: fn(&Value) -> Result<T, DecodeError>,
) -> Result<Values<T>, DecodeError> {
    let Value::Array(items) = value else {
        return Err(DecodeError::malformed("filter"));
    };
    if items.len() > limits::FILTER_VALUES {
        return Err(DecodeError::TooLarge {
            what: "number of values in a filter",
            limit: limits::FILTER_VALUES,
        });
    }
    items.iter().map(item).collect()
}

fn id(value: &Value) -> Result<EventId, DecodeError> {
    EventId::from_hex(value.as_str().unwrap_or_default())
}

fn author(value: &Value) -> Result<PublicKey, DecodeError> {
    PublicKey::from_hex(value.as_str().unwrap_or_default())
}

fn kind(value: &Value) -> Result<u16, DecodeError> {
    value
        .as_u64()
        .and_then(|kind| u16::try_from(kind).ok())
        .ok_or(DecodeError::malformed("filter"))
}

fn number(value: &Value) -> Result<u64, DecodeError> {
    value.as_u64().ok_or(DecodeError::malformed("filter"))
}

fn tag_value(value: &Value) -> Result<String, DecodeError> {
    let text = value.as_str().ok_or(DecodeError::malformed("filter"))?;
    if text.len() > limits::FILTER_VALUE_BYTES {
        return Err(DecodeError::TooLarge {
            what: "value in a filter",
            limit: limits::FILTER_VALUE_BYTES,
        });
    }
    Ok(text.to_owned())
}
