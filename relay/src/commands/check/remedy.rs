//! What an operator can do about a relay's refusal: by its prefix (NIP-01), and by its words where
//! a prefix has several causes.

use wire::{OkMessage, Reason};

use super::target::Trouble;

const WALLED: &str = "if the relay takes wraps for its own users only, as it may: make an invite \
                      (`sotto-relay user invite --expires 1h`) and check with 'URL#CODE'";
const KINDS: &str = "take kinds 1059 and 21059: add them to policy.kinds, and allow them again \
                     where an administrator disallowed them";
const WORK: &str = "let the information document tell how much work is asked for \
                    (min_pow_difficulty), which this check then does; see policy.pow_bits";
const RATE: &str = "wait as long as it says and check again, or from the relay's own machine; the \
                    rates are limits.address_...";
const DISK: &str = "free some space where the data folder is, or lower store.reserve_bytes";
const FAILED: &str = "its log says what failed; where it can store nothing any more, restart it";
const TIMES: &str = "set policy.wrap_past_s to 173700 and policy.future_s to 900, and the clocks of \
                     both machines by NTP";
/// A deletion that cannot pay: whoever wrote with a key used once has to be free to take it back.
const FREE: &str = "ask no work for deletions (kind 5)";

/// What to do about an event that is refused; none where the refusal says no more than that.
pub fn remedy(message: &OkMessage) -> Option<&'static str> {
    let speaks_of = |words: &[&str]| speaks_of(&message.text, words);
    match message.reason {
        Reason::Pow => Some(WORK),
        Reason::RateLimited => Some(RATE),
        Reason::Error if speaks_of(&["disk", "space", "full"]) => Some(DISK),
        Reason::Error => Some(FAILED),
        Reason::AuthRequired | Reason::Restricted | Reason::Blocked => {
            Some(match speaks_of(&["kind", "kinds"]) {
                true => KINDS,
                false => WALLED,
            })
        }
        _ if speaks_of(&[
            "old",
            "older",
            "past",
            "early",
            "future",
            "ahead",
            "created",
            "timestamp",
        ]) =>
        {
            Some(TIMES)
        }
        _ => None,
    }
}

/// An event that should have been taken.
pub fn refused(what: &str, message: &OkMessage) -> Trouble {
    Trouble {
        fix: remedy(message),
        ..format!("{what} is refused: {}", shown(message)).into()
    }
}

/// A deletion that should have been taken.
pub fn refused_deletion(by: &str, message: &OkMessage) -> Trouble {
    let fix = match message.reason {
        Reason::Pow => Some(FREE),
        Reason::RateLimited | Reason::Error => remedy(message),
        _ => None,
    };
    Trouble {
        fix,
        ..format!("a deletion by {by} is refused: {}", shown(message)).into()
    }
}

/// A question that should have been answered.
pub fn refused_to_answer(message: &OkMessage) -> Trouble {
    let fix = match message.reason {
        Reason::RateLimited | Reason::Error => remedy(message),
        _ => None,
    };
    Trouble {
        fix,
        ..format!("its recipient is refused: {}", shown(message)).into()
    }
}

/// Whether a relay's words are about the size of what was sent.
pub fn is_about_size(words: &str) -> bool {
    speaks_of(
        words,
        &[
            "big",
            "bigger",
            "bytes",
            "exceed",
            "exceeded",
            "exceeds",
            "large",
            "larger",
            "length",
            "long",
            "longer",
            "oversize",
            "oversized",
            "size",
        ],
    )
}

fn speaks_of(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    let mut spoken = text.split(|c: char| !c.is_ascii_alphabetic());
    spoken.any(|word| words.contains(&word))
}

/// A relay's own words, without what a terminal would obey.
pub fn shown(message: &OkMessage) -> String {
    sotto_relay::stated::shown(&message.text)
}
