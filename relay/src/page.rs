//! The page for a person who opens the relay's URL in a browser: what it is, how to connect, what
//! its rules and limits are. The same facts as in NIP-11, in words.
//!
//! One document without scripts and without anything to load; the policy that is sent with it
//! lets a browser do nothing else. Whatever the operator wrote is escaped.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use wire::{RelayUrl, kinds};

use crate::budget::Rate;
use crate::config::Tls;
use crate::nip11;
use crate::policy::{WorkOf, Writers};
use crate::settings::InForce;
use crate::told::{self, Amount, Kinds, Limit};

const STYLE: &str = include_str!("page/style.css");

/// A sealed envelope. Its colour is the text's.
const SEAL: &str = "<svg class=\"seal\" viewBox=\"0 0 48 48\" fill=\"none\" stroke=\"currentColor\" \
     stroke-width=\"2.5\" stroke-linejoin=\"round\" aria-hidden=\"true\">\
     <rect x=\"4\" y=\"10\" width=\"40\" height=\"29\" rx=\"4\"/>\
     <path d=\"M5 13l19 14 19-14\"/>\
     <circle cx=\"24\" cy=\"27\" r=\"6.5\" fill=\"currentColor\"/></svg>";

/// The `Content-Security-Policy` of the page: its own style, by its hash, and nothing else.
pub fn security_policy() -> String {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page, as HTML. The request's headers tell under which name the relay was reached, where
/// the configuration names none.
pub fn page(in_force: &InForce, headers: &HeaderMap) -> String {
    let about = in_force.about();
    let name = match about.name.as_str() {
        "" => "A relay",
        name => name,
    };
    let mut html = String::with_capacity(16 * 1024);
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{name}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header>\n{SEAL}\n<h1>{name}</h1>\n",
        name = escaped(name)
    );
    if !about.description.is_empty() {
        let _ = writeln!(
            html,
            "<p class=\"about\">{}</p>",
            escaped(&about.description)
        );
    }
    html.push_str("</header>\n<main>\n");
    connecting(&mut html, in_force, headers);
    promises(&mut html, in_force);
    writing(&mut html, in_force);
    limits(&mut html, in_force);
    operator(
        &mut html,
        &about.contact,
        about.pubkey.map(|key| key.to_hex()),
    );
    html.push_str("</main>\n");
    let nips: Vec<String> = nip11::supported_nips(&in_force.config)
        .iter()
        .map(|nip| format!("{nip:02}"))
        .collect();
    let _ = write!(
        html,
        "<footer>\n<p>sotto-relay {version} speaks the Nostr protocol, NIPs {nips}. For programs \
         the same facts are here as JSON, with <code>Accept: application/nostr+json</code>.</p>\n\
         </footer>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
        nips = nips.join(", ")
    );
    html
}

fn connecting(html: &mut String, in_force: &InForce, headers: &HeaderMap) {
    html.push_str("<section class=\"card\" aria-labelledby=\"connect\">\n<h2 id=\"connect\">How to connect</h2>\n");
    let urls = addresses(in_force, headers);
    for url in &urls {
        let _ = writeln!(
            html,
            "<p class=\"address\"><code>{}</code></p>",
            escaped(url.as_str())
        );
    }
    html.push_str(
        "<p>This is where a messenger picks up your mail; there is nothing to see in a browser.",
    );
    let Some(first) = urls.first() else {
        html.push_str(
            " Its operator has not named the address that apps use \
             (<code>server.public_urls</code>), so none can be given here.</p>\n</section>\n",
        );
        return;
    };
    let first = escaped(first.as_str());
    if in_force.config.rules.writers != Writers::Anybody {
        let _ = write!(
            html,
            " Only its members have a mailbox here; whoever wants to be one asks its operator for an \
             invite.</p>\n\
             <ul>\n<li>With Sotto and an invite: <code>sotto init --relay '{first}#CODE'</code>, \
             where what is in quotes is the invite as it came.</li>\n\
             <li>Members with another app for private messages (NIP-17) add the address above to \
             their list of relays for direct messages.</li>\n</ul>\n</section>\n",
        );
        return;
    }
    let _ = write!(
        html,
        " Give the address above to your app as an inbox relay.</p>\n\
         <ul>\n<li>With Sotto: <code>sotto init --relay {first}</code></li>\n\
         <li>With another app for private messages (NIP-17): add it to your list of relays for \
         direct messages.</li>\n</ul>\n</section>\n",
    );
}

/// What clients connect to: as configured, or as this very request did where a key can be proved
/// for that address. No other is shown: whoever used it would be refused.
fn addresses(in_force: &InForce, headers: &HeaderMap) -> Vec<RelayUrl> {
    let urls = in_force.config.public_urls();
    if !urls.is_empty() {
        return urls;
    }
    let scheme = match in_force.config.tls {
        Tls::Off => "ws",
        Tls::Files { .. } | Tls::Acme(_) => "wss",
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.map(|host| format!("{scheme}://{host}"))
        .filter(|url| in_force.own.contains(url))
        .and_then(|url| RelayUrl::parse(&url).ok())
        .into_iter()
        .collect()
}

fn promises(html: &mut String, in_force: &InForce) {
    html.push_str(
        "<section aria-labelledby=\"promises\">\n<h2 id=\"promises\">What it does</h2>\n<ul>\n\
         <li>What arrives sealed neither the relay nor its operator can read, or tell who wrote \
         it.</li>\n\
         <li>A sealed message is handed to the key that it is addressed to, once that key has \
         proven itself, and to nobody else.</li>\n",
    );
    let is_sealed = |kinds: &BTreeSet<u16>| kinds.iter().all(|kind| kinds::is_wrap(*kind));
    if !matches!(Kinds::of(in_force), Kinds::Only(kinds) if is_sealed(&kinds)) {
        html.push_str(
            "<li>Other events are not sealed: they name their author, and but for direct messages of \
             the old kind (4) anybody may read them.</li>\n",
        );
    }
    html.push_str(
        "<li>What was acknowledged is on the disk.</li>\n\
         <li>What is deleted, or has reached its end, is overwritten, not only hidden.</li>\n\
         </ul>\n</section>\n",
    );
}

fn writing(html: &mut String, in_force: &InForce) {
    let rules = &in_force.config.rules;
    html.push_str(
        "<section aria-labelledby=\"writing\">\n<h2 id=\"writing\">Who may write</h2>\n<ul>\n",
    );
    let mut rule = |text: String| {
        let _ = writeln!(html, "<li>{text}</li>");
    };
    match rules.writers {
        Writers::Anybody => rule("Everybody.".to_owned()),
        Writers::Members(_) => {
            rule("Its members, once they have proven their key.".to_owned());
            rule("Everybody who writes a sealed message to a member.".to_owned());
        }
        Writers::Recipients(_) => {
            rule("Everybody who writes a sealed message to a listed key.".to_owned());
            rule("Listed keys, what they signed themselves.".to_owned());
        }
    }
    let list = |kinds: &BTreeSet<u16>| {
        let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        kinds.join(", ")
    };
    match Kinds::of(in_force) {
        Kinds::AllBut(kinds) if kinds.is_empty() => {}
        Kinds::AllBut(kinds) => rule(format!("No events of these kinds: {}.", list(&kinds))),
        Kinds::Only(kinds) => rule(format!(
            "Only events of these kinds: {}. Deletions are always taken.",
            list(&kinds)
        )),
    }
    if let Some(work) = rules.work {
        let of = match work.of {
            WorkOf::AnonymousWraps => "Sealed messages of senders who have proven no member's key",
            WorkOf::Everything => "Everything but deletions",
        };
        rule(format!(
            "{of} must carry {} bits of work (NIP-13).",
            work.bits
        ));
    }
    let age = rules
        .wrap_past
        .map_or("may have any age".to_owned(), |past| {
            format!("may be up to {} old", span(past))
        });
    rule(format!(
        "Sealed messages {age}; nothing may be dated more than {} ahead.",
        span(rules.future)
    ));
    html.push_str("</ul>\n</section>\n");
}

fn limits(html: &mut String, in_force: &InForce) {
    let (common, others): (Vec<Limit>, Vec<Limit>) = told::limits(&in_force.config)
        .into_iter()
        .partition(|limit| limit.is_common);
    html.push_str(
        "<section aria-labelledby=\"limits\">\n<h2 id=\"limits\">Limits</h2>\n<table>\n\
         <caption>For one connection, where nothing else is said.</caption>\n",
    );
    rows(html, &common);
    html.push_str("</table>\n<details>\n<summary>All the others</summary>\n<table>\n");
    rows(html, &others);
    html.push_str("</table>\n</details>\n</section>\n");
}

fn rows(html: &mut String, limits: &[Limit]) {
    html.push_str("<tbody>\n");
    for Limit { of, most, .. } in limits {
        let most = match *most {
            Amount::Count(count) => number(count),
            Amount::Bytes(bytes) => size(bytes),
            Amount::Seconds(seconds) => span(seconds),
            Amount::Counts(rate) => per(rate, number),
            Amount::ByteRate(rate) => per(rate, size),
        };
        let _ = writeln!(html, "<tr><th scope=\"row\">{of}</th><td>{most}</td></tr>");
    }
    html.push_str("</tbody>\n");
}

fn operator(html: &mut String, contact: &str, pubkey: Option<String>) {
    if contact.is_empty() && pubkey.is_none() {
        return;
    }
    html.push_str(
        "<section aria-labelledby=\"operator\">\n<h2 id=\"operator\">Who runs it</h2>\n<dl>\n",
    );
    if !contact.is_empty() {
        let text = escaped(contact);
        let is_link = ["mailto:", "https://"]
            .iter()
            .any(|scheme| contact.starts_with(scheme));
        let shown = escaped(contact.strip_prefix("mailto:").unwrap_or(contact));
        let _ = match is_link {
            true => writeln!(
                html,
                "<dt>Contact</dt><dd><a href=\"{text}\" rel=\"noreferrer\">{shown}</a></dd>"
            ),
            false => writeln!(html, "<dt>Contact</dt><dd>{text}</dd>"),
        };
    }
    if let Some(key) = pubkey {
        let _ = writeln!(html, "<dt>Key</dt><dd><code>{key}</code></dd>");
    }
    html.push_str("</dl>\n</section>\n");
}

/// Text that is only text, in an element or an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

/// `5,000`
fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `80 KiB`, rounded down to a tenth.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["bytes", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match tenths % 10 {
        0 => format!("{} {name}", number(tenths / 10)),
        tenth => format!("{}.{tenth} {name}", number(tenths / 10)),
    }
}

/// `2 days 15 minutes`
fn span(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3_600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let words: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}{}", if count == 1 { "" } else { "s" }))
        .collect();
    match words.is_empty() {
        true => "0 seconds".to_owned(),
        false => words.join(" "),
    }
}

/// `600 a minute`
fn per(rate: Rate, shown: fn(u64) -> String) -> String {
    let unit = match Duration::from_secs(rate.seconds).as_secs() {
        60 => "a minute".to_owned(),
        3_600 => "an hour".to_owned(),
        86_400 => "a day".to_owned(),
        seconds => format!("in {}", span(seconds)),
    };
    format!("{} {unit}", shown(rate.count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn in_force(config: Config) -> InForce {
        InForce::new(config, 7447, std::sync::Arc::default())
    }

    #[test]
    fn what_the_operator_wrote_is_text() {
        let mut config = Config::in_memory();
        let nasty = "\"'><script>alert(1)</script>&amp;";
        config.about.name = nasty.to_owned();
        config.about.description = nasty.to_owned();
        config.about.contact = format!("https://{nasty}");
        let html = page(&in_force(config.clone()), &HeaderMap::new());
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("'>"), "{html}");
        assert!(html.contains("&quot;&#39;&gt;&lt;script&gt;"));
        // No other scheme becomes a link.
        config.about.contact = "javascript:alert(1)".to_owned();
        let html = page(&in_force(config), &HeaderMap::new());
        assert!(!html.contains("href=\"javascript"), "{html}");
    }

    #[test]
    fn r_url_1_a_name_in_the_request_is_shown_only_if_keys_can_be_proved_for_it() {
        let shown = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            page(&in_force(Config::in_memory()), &headers)
        };
        assert!(shown("localhost:7447").contains("<code>ws://localhost:7447"));
        for name in ["relay.example:7447", "localhost:7448", "x\"><img src=y>"] {
            let html = shown(name);
            assert!(!html.contains("<img"), "{html}");
            assert!(!html.contains("class=\"address\""), "{html}");
            assert!(!html.contains("sotto init"), "{html}");
        }
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            (number(0), number(999), number(1_000_000)),
            ("0".into(), "999".into(), "1,000,000".into())
        );
        assert_eq!(
            (size(81_920), size(500), size(1_536)),
            ("80 KiB".into(), "500 bytes".into(), "1.5 KiB".into())
        );
        assert_eq!(size(8 * 1024 * 1024 * 1024), "8 GiB");
        assert_eq!(span(2 * 86_400 + 15 * 60), "2 days 15 minutes");
        assert_eq!(
            (span(0), span(3_601)),
            ("0 seconds".into(), "1 hour 1 second".into())
        );
        let rate = Rate {
            count: 600,
            seconds: 60,
            burst: 3_000,
        };
        assert_eq!(per(rate, number), "600 a minute");
    }
}
