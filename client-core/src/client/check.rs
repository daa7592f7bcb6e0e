//! `relay check` and `fileserver check`: whether a server would do, asked from outside with keys
//! made for this alone. No key of the account is shown to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::OneTimeKey;
use rand::CryptoRng;
use wire::blob::{BlobUrl, Token, Verb};
use wire::relay_url::Origin;
use wire::{Event, EventDraft, Filter, PublicKey, RelayUrl, Sha256, Tag, Tags, kinds, limits};

use super::bound::Client;
use super::probe::Probing;
use super::request::Outcome;
use crate::engine::io::{BlobOutcome, PublishOutcome, QueryEnd, Role};
use crate::error::{Error, ErrorWord, Result};
use crate::runtime::file_link::{FileLink, Upload};
use crate::runtime::relay_document::{NoDocument, RelayDocument};
use crate::runtime::spool::Spool;
use crate::view::{CheckView, ServerView};

/// What a check leaves behind goes by itself after so long, seconds.
const LIFE_SECONDS: u64 = 120;
/// The size of the wrap that is tried: as large as an ordinary message's.
const WRAP_CONTENT_BYTES: usize = 1_024;
/// The size of the blob that is tried.
const BLOB_BYTES: usize = 1_024;

/// Collects the answers.
struct Report {
    url: String,
    checks: Vec<CheckView>,
    unreachable: Option<String>,
}

impl Report {
    fn new(url: &impl ToString) -> Self {
        Self {
            url: url.to_string(),
            checks: Vec::new(),
            unreachable: None,
        }
    }

    fn note(&mut self, name: &str, ok: bool, detail: impl Into<String>) -> bool {
        self.checks.push(CheckView {
            name: name.to_owned(),
            ok,
            detail: detail.into(),
        });
        ok
    }

    fn lost(&mut self, name: &str, why: String) {
        self.note(name, false, why.clone());
        self.unreachable = Some(why);
    }

    fn outcome(self) -> Outcome<ServerView> {
        let failed = self.checks.iter().find(|check| !check.ok);
        let error = match (self.unreachable, failed) {
            (Some(why), _) => Some(Error::new(ErrorWord::Unreachable, why)),
            (None, Some(check)) => Some(Error::new(
                ErrorWord::PartlyDone,
                format!("{}: {}", check.name, check.detail),
            )),
            (None, None) => None,
        };
        Outcome {
            value: ServerView {
                url: self.url,
                ok: Some(error.is_none()),
                checks: self.checks,
            },
            error,
        }
    }
}

impl Client {
    /// Whether a relay would do as an inbox: it takes a wrap from a stranger, shows it to the
    /// recipient and to nobody else, and forgets it when the recipient says so.
    ///
    /// The error: `unreachable` (3), `partly_done` (5) where a check fails, `timeout` (124).
    pub async fn check_relay(&mut self, url: &RelayUrl) -> Result<Outcome<ServerView>> {
        let clock = self.settings.clock.clone();
        let probing = Probing {
            relay: url.clone(),
            circle: self.row.index,
            dialer: self.driver.dialer().clone(),
            timeouts: self.settings.timeouts,
            clock: &*clock,
        };
        let files = self.driver.files().clone();
        let mut rng = (self.settings.rng)();
        let mut report = Report::new(url);
        let checks = async {
            describe(&files, url, &mut report).await;
            if report.unreachable.is_none() {
                exchange(&probing, &mut report, &mut *rng).await;
            }
        };
        let result = tokio::time::timeout(self.settings.timeout, checks).await;
        finish(report, result.is_err())
    }

    /// Whether a file server would do: it takes a blob for a while, gives it back whole and in
    /// part, lets nobody else delete it, and deletes it for its owner.
    ///
    /// The error: `unreachable` (3), `partly_done` (5) where a check fails, `timeout` (124).
    pub async fn check_file_server(&mut self, url: &Origin) -> Result<Outcome<ServerView>> {
        let files = self.driver.files().clone();
        let spool = self.driver.spool().clone();
        let now = self.now();
        let mut rng = (self.settings.rng)();
        let mut report = Report::new(url);
        let checks = store_and_remove(&files, &spool, url, now, &mut report, &mut *rng);
        let result = tokio::time::timeout(self.settings.timeout, checks).await;
        match result {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => finish(report, false),
            Err(_) => finish(report, true),
        }
    }
}

fn finish(report: Report, is_timeout: bool) -> Result<Outcome<ServerView>> {
    let mut outcome = report.outcome();
    if is_timeout {
        outcome.value.ok = Some(false);
        // The question that was open when time ran out; there is always one.
        outcome.value.checks.push(CheckView {
            name: "answers_in_time".to_owned(),
            ok: false,
            detail: "no answer in time".to_owned(),
        });
        outcome.error = Some(Error::new(
            ErrorWord::Timeout,
            "the server did not answer everything in time",
        ));
    }
    Ok(outcome)
}

// Relays

/// NIP-11: what the relay says about itself. A relay that says nothing may do all the same.
async fn describe(files: &FileLink, url: &RelayUrl, report: &mut Report) {
    const NAME: &str = "description";
    let description = match RelayDocument::read(files, url, true).await {
        Ok(description) => description,
        Err(NoDocument::Unreachable(why)) => return report.lost("connect", why),
        Err(error) => {
            let is_fine = matches!(error, NoDocument::Other(_));
            report.note(NAME, is_fine, error.to_string());
            return;
        }
    };
    let nips = description.nips();
    let nips: Vec<String> = nips.iter().map(ToString::to_string).collect();
    let limit = description.limitation.max_message_length;
    let least = u64::try_from(limits::EVENT_BYTES).unwrap_or(u64::MAX);
    if description.limitation.payment_required == Some(true) {
        report.note(
            NAME,
            false,
            "it wants to be paid, so strangers cannot write",
        );
    } else if limit.is_some_and(|limit| limit < least) {
        report.note(
            NAME,
            false,
            format!(
                "it takes frames of {} bytes only",
                limit.unwrap_or_default()
            ),
        );
    } else {
        report.note(NAME, true, format!("NIPs {}", nips.join(", ")));
    }
}

async fn exchange(probing: &Probing<'_>, report: &mut Report, rng: &mut dyn CryptoRng) {
    let now = probing.clock.now();
    let recipient = OneTimeKey::generate(rng);
    let wrap = probe_wrap(&recipient.public_key(), now, rng);
    let wanted = Filter::default()
        .with_kinds([kinds::WRAP, kinds::EPHEMERAL_WRAP])
        .with_tag('p', [recipient.public_key().to_hex()]);
    let has_wrap = |events: &[bytes::Bytes]| {
        events
            .iter()
            .any(|bytes| Event::decode(bytes.clone()).is_ok_and(|event| event.id() == wrap.id()))
    };

    let mut sender = probing.socket(Role::Publish, None, rng);
    match sender.publish(&wrap, rng).await {
        PublishOutcome::Accepted(_) => {
            report.note("connect", true, "WebSocket");
            report.note("takes_wraps", true, "from a key that it never saw");
        }
        PublishOutcome::Refused(message) => {
            report.note("connect", true, "WebSocket");
            // A member of a relay for members need not mind: their own key was not asked for.
            let detail = format!("not for a key that it does not know: {}", message.text);
            report.note("takes_wraps", false, detail);
            return;
        }
        PublishOutcome::Unreachable(why) | PublishOutcome::Forbidden(why) => {
            return report.lost("connect", why);
        }
        PublishOutcome::Unknown(why) => {
            report.note("connect", true, "WebSocket");
            report.note("takes_wraps", false, why);
            return;
        }
    }

    let mut stranger = probing.socket(Role::Lookup, None, rng);
    let (events, _) = stranger.query(wanted.clone(), rng).await;
    let is_private = !has_wrap(&events);
    let detail = if is_private {
        "nobody else was shown it"
    } else {
        "anybody may read it"
    };
    report.note("keeps_wraps_private", is_private, detail);

    let mut reader = probing.socket(Role::Inbox, Some(&recipient), rng);
    let (events, end) = reader.query(wanted.clone(), rng).await;
    let was_served = has_wrap(&events);
    let detail = match (&end, was_served, reader.was_challenged) {
        (_, true, true) => "after AUTH".to_owned(),
        (_, true, false) => "without AUTH".to_owned(),
        (QueryEnd::Closed(message), ..) => message.text.clone(),
        (QueryEnd::Unreachable(why) | QueryEnd::Forbidden(why), ..) => why.clone(),
        (QueryEnd::Eose { .. }, ..) => "the wrap was not there".to_owned(),
    };
    if !report.note("serves_the_recipient", was_served, detail) {
        return;
    }

    let deletion = recipient.sign(
        EventDraft {
            pubkey: recipient.public_key(),
            created_at: now,
            kind: kinds::DELETION,
            tags: Tags::from_iter([
                Tag::new(["e".to_owned(), wrap.id().to_hex()]),
                Tag::new(["k".to_owned(), kinds::WRAP.to_string()]),
            ]),
            content: String::new(),
        },
        rng,
    );
    let said = reader.publish(&deletion, rng).await;
    let (events, _) = reader.query(wanted, rng).await;
    let is_gone = !has_wrap(&events);
    let detail = match (&said, is_gone) {
        (PublishOutcome::Accepted(_), true) => "at the recipient's word".to_owned(),
        (PublishOutcome::Refused(message), _) => message.text.clone(),
        (PublishOutcome::Unknown(why) | PublishOutcome::Unreachable(why), _) => why.clone(),
        (PublishOutcome::Accepted(_), false) => "it said so and still has it".to_owned(),
        (PublishOutcome::Forbidden(why), _) => why.clone(),
    };
    let is_done = is_gone && matches!(said, PublishOutcome::Accepted(_));
    report.note("deletes_wraps", is_done, detail);
}

/// A wrap of noise that nobody can open, expiring soon.
fn probe_wrap(recipient: &PublicKey, now: u64, rng: &mut dyn CryptoRng) -> Event {
    let mut noise = vec![0; WRAP_CONTENT_BYTES];
    rng.fill_bytes(&mut noise);
    // NIP-44's version byte, so that a relay which looks sees nothing unusual.
    if let Some(version) = noise.first_mut() {
        *version = 2;
    }
    let key = OneTimeKey::generate(rng);
    let draft = EventDraft {
        pubkey: key.public_key(),
        created_at: now,
        kind: kinds::WRAP,
        tags: Tags::from_iter([
            Tag::new(["p".to_owned(), recipient.to_hex()]),
            Tag::new([
                "expiration".to_owned(),
                now.saturating_add(LIFE_SECONDS).to_string(),
            ]),
        ]),
        content: STANDARD.encode(noise),
    };
    key.sign(draft, rng)
}

// File servers

async fn store_and_remove(
    files: &FileLink,
    spool: &Spool,
    origin: &Origin,
    now: u64,
    report: &mut Report,
    rng: &mut dyn CryptoRng,
) -> Result<()> {
    let owner = OneTimeKey::generate(rng);
    let other = OneTimeKey::generate(rng);
    let mut blob = vec![0; BLOB_BYTES];
    rng.fill_bytes(&mut blob);
    let hash = Sha256::of(&blob);
    let url = BlobUrl {
        origin: origin.clone(),
        hash,
    };
    let upload = Upload {
        origin: origin.clone(),
        is_own: true,
        blob: hash,
        size: u64::try_from(blob.len()).unwrap_or_default(),
        authorization: token(&owner, Verb::Upload, &url, now, rng),
        sunset: Some(now.saturating_add(LIFE_SECONDS)),
    };
    let sunset = match files
        .upload(&upload, spool.scratch(&blob, rng)?, None)
        .await
    {
        BlobOutcome::Done { sunset } => sunset,
        BlobOutcome::Unreachable(why) | BlobOutcome::Forbidden(why) => {
            report.lost("connect", why);
            return Ok(());
        }
        BlobOutcome::Refused { status, reason } => {
            report.note("connect", true, "HTTP");
            report.note("takes_blobs", false, format!("{status} {reason}"));
            return Ok(());
        }
        BlobOutcome::Absent => {
            report.note("takes_blobs", false, "it knows no upload");
            return Ok(());
        }
    };
    report.note("connect", true, "HTTP");
    report.note("takes_blobs", true, "from a key that it never saw");
    match sunset {
        Some(_) => report.note("forgets_in_time", true, "Sunset is granted"),
        None => report.note("forgets_in_time", false, "it does not know Sunset"),
    };

    let size = Some(upload.size);
    let whole = files
        .download(
            &url,
            true,
            size,
            upload.size,
            spool.scratch(b"", rng)?,
            None,
        )
        .await;
    let detail = whole.as_ref().err().map(ToString::to_string);
    report.note(
        "gives_blobs_back",
        whole.is_ok(),
        detail.unwrap_or_else(|| "whole".to_owned()),
    );
    let half = blob.get(..BLOB_BYTES / 2).unwrap_or_default();
    let part = files
        .download(
            &url,
            true,
            size,
            upload.size,
            spool.scratch(half, rng)?,
            None,
        )
        .await;
    let detail = part.as_ref().err().map(ToString::to_string);
    report.note(
        "goes_on_where_it_stopped",
        part.is_ok(),
        detail.unwrap_or_else(|| "a range was served".to_owned()),
    );

    let stolen = token(&other, Verb::Delete, &url, now, rng);
    files.remove(&url, true, &stolen).await;
    let is_there = matches!(files.probe(&url, true).await, BlobOutcome::Done { .. });
    let detail = if is_there {
        "another key could not delete it"
    } else {
        "another key deleted it"
    };
    report.note("guards_blobs", is_there, detail);

    let own = token(&owner, Verb::Delete, &url, now, rng);
    let said = files.remove(&url, true, &own).await;
    let is_gone = matches!(files.probe(&url, true).await, BlobOutcome::Absent);
    let detail = match said {
        BlobOutcome::Refused { status, reason } => format!("{status} {reason}"),
        _ if is_gone => "at its owner's word".to_owned(),
        _ => "it said so and still has it".to_owned(),
    };
    report.note("deletes_blobs", is_gone, detail);
    Ok(())
}

fn token(key: &OneTimeKey, verb: Verb, url: &BlobUrl, now: u64, rng: &mut dyn CryptoRng) -> String {
    let expiration = now.saturating_add(LIFE_SECONDS);
    let draft = Token::draft(
        key.public_key(),
        verb,
        &url.hash,
        &url.origin,
        now,
        expiration,
    );
    Token::header(&key.sign(draft, rng))
}
