//! Values of options, checked before anything is unlocked: pure.

use std::time::Duration;

use client_core::{Link, NamedRelay, Origin, RelayUrl, limits};

/// `10s`, `1h30m`, `500ms`, `7d`, `2w`: whole numbers with units, added up.
pub fn duration(text: &str) -> Result<Duration, String> {
    const RULE: &str = "a duration is a number with a unit: 30s, 5m, 1h30m, 7d, 2w";
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(RULE.to_owned());
    }
    while !rest.is_empty() {
        let (number, tail) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, tail) = split_where(tail, |c| c.is_ascii_digit());
        let number: u64 = number.parse().map_err(|_| RULE.to_owned())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(RULE.to_owned()),
        };
        total = number
            .checked_mul(millis)
            .and_then(|millis| total.checked_add(Duration::from_millis(millis)))
            .filter(|total| *total <= LONGEST)
            .ok_or("a duration is at most ten years")?;
        rest = tail;
    }
    Ok(total)
}

/// Longer lives are no use and would only overflow a date somewhere.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A [`duration`] that is not nothing, in whole seconds: how long a message lives.
pub fn lifetime(text: &str) -> Result<u64, String> {
    match duration(text)?.as_secs() {
        0 => Err("a message lives for at least one second".to_owned()),
        seconds => Ok(seconds),
    }
}

/// A [`duration`] that is not nothing.
pub fn timeout(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| {
        if duration.is_zero() {
            Err("a timeout is longer than nothing".to_owned())
        } else {
            Ok(duration)
        }
    })
}

/// The URL of a relay.
pub fn relay(text: &str) -> Result<RelayUrl, String> {
    RelayUrl::parse(text).map_err(|error| format!("{error}: ws://HOST[:PORT] or wss://HOST"))
}

/// The URL of a relay, and the code behind `#` that lets one join it.
pub fn named_relay(text: &str) -> Result<NamedRelay, String> {
    let named = NamedRelay::parse(text);
    named.map_err(
        |error| match relay(text.split('#').next().unwrap_or_default()) {
            Err(error) => error,
            Ok(_) => format!(
                "{error}: an invitation is the URL, # and the code, as the operator gave it"
            ),
        },
    )
}

/// The origin of a file server.
pub fn file_server(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|error| format!("{error}: http://HOST[:PORT] or https://HOST"))
}

/// Somebody: an alias, or a key or link that must be whole.
///
/// What looks like a key is checked here, so that a typing error in it is a usage error and not
/// a contact that is not found; what does not is an alias, for the store to know.
pub fn person(text: &str) -> Result<String, String> {
    let text = text.trim();
    let bare = text.strip_prefix("nostr:").unwrap_or(text);
    if ["nsec1", "ncryptsec1"]
        .iter()
        .any(|start| bare.starts_with(start))
    {
        return Err("this is a secret key; a person is named by a public one (npub1…)".to_owned());
    }
    if looks_like_key(text) {
        Link::parse(text).map_err(|error| error.to_string())?;
        return Ok(text.to_owned());
    }
    name(text)
}

/// Whether `text` is meant as a key or link, whole or not, rather than as an alias.
pub fn looks_like_key(text: &str) -> bool {
    let text = text.trim();
    let bare = text.strip_prefix("nostr:").unwrap_or(text);
    let is_hex_key = bare.len() == 64 && bare.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex_key
        || bare.len() < text.len()
        || ["npub1", "nprofile1"]
            .iter()
            .any(|start| bare.starts_with(start))
}

/// A name that the user gives: an alias, a circle's name, the own name in an invite.
pub fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a name is not empty".to_owned());
    }
    if text.len() > limits::NAME_BYTES {
        return Err(format!("a name has at most {} bytes", limits::NAME_BYTES));
    }
    if text.chars().any(crate::printer::harmless::is_dangerous) {
        return Err("a name holds no control or invisible characters".to_owned());
    }
    Ok(text.to_owned())
}

/// A message's id, or at least 8 hexadecimal digits from its start.
pub fn message_id(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    if (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text)
    } else {
        Err("a message is named by its id or at least 8 hexadecimal digits of it".to_owned())
    }
}

/// `text` in front of the first character where `at` holds, and from there on.
fn split_where(text: &str, at: impl Fn(char) -> bool) -> (&str, &str) {
    let place = text.find(at).unwrap_or(text.len());
    text.split_at_checked(place).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units_and_have_an_end() {
        let table = [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("2w", Some(1_209_600_000)),
            (" 5min ", Some(300_000)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5h", None),
            ("1y", None),
            ("99999999999999999999s", None),
            ("18446744073709551615w", None),
            ("1000000000s", None),
        ];
        for (text, millis) in table {
            let parsed = duration(text).ok().map(|d| d.as_millis());
            assert_eq!(parsed, millis, "{text}");
        }
        assert!(lifetime("900ms").is_err());
        assert!(timeout("0s").is_err());
    }

    #[test]
    fn what_looks_like_a_key_must_be_one() {
        let npub = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6";
        assert!(person(npub).is_ok());
        assert!(person(&format!("nostr:{npub}")).is_ok());
        assert!(person(&npub.replace("npub180", "npub181")).is_err());
        assert!(person(&"g".repeat(64)).is_ok() || "g".repeat(64).len() > 63);
        assert!(person(&"0".repeat(64)).is_err(), "not on the curve");
        assert!(person("nsec1xyz").is_err());
        assert!(person("nostr:bob").is_err());
        assert_eq!(person(" bob ").unwrap(), "bob");
        assert!(person("bo\u{202e}b").is_err());
        assert!(person("").is_err());
    }

    #[test]
    fn message_ids_are_hexadecimal() {
        assert_eq!(message_id("ABCDEF01").unwrap(), "abcdef01");
        assert!(message_id("abcdef0").is_err());
        assert!(message_id("xbcdef01").is_err());
        assert!(message_id(&"a".repeat(65)).is_err());
    }
}
