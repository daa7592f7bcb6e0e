//! What a relay that may be anybody's says of itself, read for the command `check`: its
//! information document (NIP-11), and its words on their way to a terminal.

use serde_json::Value;

/// NIPs without which private messages do not work.
const WANTED_NIPS: [u64; 7] = [1, 9, 40, 42, 59, 62, 70];
/// Bytes of the largest event that is tried.
const LARGEST_TRIED: usize = 1024 * 1024;
/// More than this of a relay's words helps nobody.
const SHOWN_CHARS: usize = 200;

/// A relay's information document, as far as it is checked. Fields of another type than NIP-11
/// gives them are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    nips: Vec<u64>,
    /// The largest content of an event, where all the limits that clients need are stated.
    content: Option<u64>,
    /// The largest message.
    message: Option<u64>,
    /// Bits of work that a wrap of somebody unknown has to show.
    work: u64,
}

/// Why a limit cannot be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untried {
    /// One of those that clients need is missing.
    #[error("the information document does not tell the limits")]
    NotStated,
    /// The check would have to send too much.
    #[error("events of {0} bytes are said to be taken")]
    TooLarge(u64),
}

impl Stated {
    /// Reads a document; none where it is not JSON.
    pub fn decode(json: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(json).ok()?;
        let limit = |name: &str| document.get("limitation")?.get(name)?.as_u64();
        let message = limit("max_message_length");
        let others = message.and(limit("max_subscriptions"));
        let of_all = limit("min_pow_difficulty");
        let of_wraps = limit("anonymous_wrap_pow_difficulty");
        let nips = document.get("supported_nips").and_then(Value::as_array);
        Some(Self {
            nips: nips
                .map(|list| list.iter().filter_map(Value::as_u64).collect())
                .unwrap_or_default(),
            content: limit("max_content_length").filter(|_| others.is_some()),
            message,
            work: of_all.max(of_wraps).unwrap_or(0),
        })
    }

    /// Leading zero bits that the id of a wrap must have, where its sender proves no key: what is
    /// asked of every event, or (our own field) of such wraps.
    pub fn work(&self) -> u8 {
        u8::try_from(self.work).unwrap_or(u8::MAX)
    }

    /// Whether a message with an event of so many bytes is larger than any that is read.
    pub fn cuts_off(&self, event_bytes: usize) -> bool {
        let bytes = u64::try_from(event_bytes).unwrap_or(u64::MAX);
        self.message.is_some_and(|most| bytes > most)
    }

    /// The NIPs that private messages need and that are not listed.
    pub fn missing_nips(&self) -> Vec<u64> {
        let is_missing = |nip: &u64| !self.nips.contains(nip);
        WANTED_NIPS.into_iter().filter(is_missing).collect()
    }

    /// Bytes of content that are clearly more than the relay says it takes.
    pub fn too_much(&self) -> Result<usize, Untried> {
        let stated = self.content.ok_or(Untried::NotStated)?;
        let size = usize::try_from(stated)
            .unwrap_or(usize::MAX)
            .saturating_add(2_048);
        match size > LARGEST_TRIED {
            true => Err(Untried::TooLarge(stated)),
            false => Ok(size),
        }
    }
}

/// A relay's own words, without what a terminal would obey, and no more than anybody reads.
pub fn shown(words: &str) -> String {
    words
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(SHOWN_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_states_limits_only_where_it_states_all_that_clients_need() {
        let document = |json: &str| Stated::decode(json.as_bytes()).unwrap();
        let whole = document(
            r#"{"supported_nips": [1, 9, "40", 42, 59, 62], "limitation":
            {"max_content_length": 4096, "max_message_length": 9999, "max_subscriptions": 20}}"#,
        );
        assert_eq!(whole.missing_nips(), [40, 70]);
        assert_eq!(whole.too_much(), Ok(6_144));
        let half = document(r#"{"limitation": {"max_content_length": 4096}}"#);
        assert_eq!(half.missing_nips(), WANTED_NIPS);
        assert_eq!(half.too_much(), Err(Untried::NotStated));
        let huge = document(
            r#"{"limitation": {"max_content_length": 18446744073709551615,
            "max_message_length": 1, "max_subscriptions": 1}}"#,
        );
        assert_eq!(huge.too_much(), Err(Untried::TooLarge(u64::MAX)));
        assert!(Stated::decode(b"<html>").is_none());
        assert_eq!(document("7").too_much(), Err(Untried::NotStated));
        assert!(whole.cuts_off(10_000) && !whole.cuts_off(9_999));
        assert!(!document("7").cuts_off(usize::MAX));
    }

    #[test]
    fn the_work_of_a_wrap_is_what_is_asked_of_every_event_or_of_such() {
        let work = |limitation: &str| {
            let json = format!("{{\"limitation\": {limitation}}}");
            Stated::decode(json.as_bytes()).unwrap().work()
        };
        assert_eq!(work("{}"), 0);
        assert_eq!(work(r#"{"min_pow_difficulty": 8}"#), 8);
        assert_eq!(work(r#"{"anonymous_wrap_pow_difficulty": 9}"#), 9);
        assert_eq!(work(r#"{"min_pow_difficulty": 5000}"#), 255);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        assert_eq!(
            shown("no\u{1b}[2J \u{9b}31m\u{202e}\r\nmore"),
            "no[2J 31mmore"
        );
        assert_eq!(shown(&"x".repeat(1_000)).len(), SHOWN_CHARS);
    }
}
