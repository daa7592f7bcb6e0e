//! `import`: events from JSON Lines, each verified as if it had come over the network.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;
use sotto_relay::json_lines::{self, Line};
use sotto_relay::metrics::name_of;
use sotto_relay::pipeline;
use sotto_relay::policy::{self, Law, OwnUrls, Refusal, Rules, Verdict, Writers};
use sotto_relay::server;
use sotto_relay::store::{StoreError, Writer};
use wire::{Event, VerifiedEvent, limits};

use super::open;
use crate::Place;
use crate::commands::{Failure, Say, Word, configuration, on_file};

/// Events committed together, and how many bytes of them: what is held at a time.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Refused lines that are told one by one; a file of another kind would fill the terminal.
const TOLD: u64 = 20;

/// Verifies and stores events. The operator vouches for their age and senders; signatures,
/// kinds, bans, deletions and quotas count as ever. Ends with 5 where some were refused; those
/// that have expired meanwhile are counted apart, since nobody misses them.
pub fn import(say: &Say, place: Place, file: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut config = configuration(place, None, Vec::new())?;
    config.rules = Rules {
        writers: Writers::Anybody,
        work: None,
        wrap_past: None,
        ..config.rules
    };
    let mut source = source(file)?;
    let own = OwnUrls::new(&config.public_urls(), config.listen.port());
    let mut opened = open(say, &config)?;
    // A backup is what brings back what was lost, whether or not that is known yet.
    opened.writer.check_duplicates();
    let roster = server::open_roster(&config)?.get();
    let law = Law {
        rules: &config.rules,
        roster: &roster,
        own: &own,
    };
    let mut tally = Tally::default();
    let mut batch = Batch::default();
    let imported = loop {
        let line = match json_lines::next(&mut source, limits::EVENT_BYTES) {
            Ok(Some(line)) => line,
            Ok(None) => break batch.write(&mut opened.writer, config.clock.now(), &mut tally, say),
            Err(error) => {
                let written = batch.write(&mut opened.writer, config.clock.now(), &mut tally, say);
                break written.and(Err(error.into()));
            }
        };
        tally.lines += 1;
        match judge(line, config.clock.now(), law) {
            Ok(None) => {}
            Ok(Some((event, verdict))) => batch.add(tally.lines, event, verdict),
            Err(why) => tally.refuse(say, tally.lines, &why),
        }
        if batch.is_full()
            && let Err(failure) =
                batch.write(&mut opened.writer, config.clock.now(), &mut tally, say)
        {
            break Err(failure);
        }
    };
    opened.store.close()?;
    tally.tell(say);
    imported?;
    match tally.refused() {
        0 => Ok(ExitCode::SUCCESS),
        refused => Err(Failure::new(
            Word::PartlyDone,
            format!("{refused} lines were refused"),
        )),
    }
}

fn source(file: Option<PathBuf>) -> Result<Box<dyn BufRead>, Failure> {
    let Some(path) = file.filter(|path| path.as_os_str() != "-") else {
        return Ok(Box::new(std::io::stdin().lock()));
    };
    if path.is_dir() {
        let detail = format!("{} is a folder", path.display());
        return Err(Failure::new(Word::Usage, detail));
    }
    let file = File::open(&path).map_err(|error| on_file(&path, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

/// Why a line was not taken: a name to count it by, and words.
struct Why(String, String);

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        Self(name_of(refusal), refusal.to_string())
    }
}

/// What to do with a line; nothing where it is empty.
fn judge(line: Line, now: u64, law: Law<'_>) -> Result<Option<(VerifiedEvent, Verdict)>, Why> {
    let line = match line {
        Line::Text(line) if line.is_empty() => return Ok(None),
        Line::Text(line) => line,
        Line::TooLong => return Err(Refusal::TooLarge.into()),
    };
    let event = Event::decode(Bytes::from(line))
        .map_err(|error| Why("no_event".to_owned(), error.to_string()))?;
    let event = VerifiedEvent::verify(event)
        .map_err(|error| Why("forged".to_owned(), error.to_string()))?;
    let author = [event.pubkey()];
    match policy::judge(&event, &author, now, law)? {
        Verdict::Pass => Err(Why(
            "ephemeral".to_owned(),
            "an ephemeral event is stored nowhere".to_owned(),
        )),
        verdict => Ok(Some((event, verdict))),
    }
}

/// Events that wait to be committed together.
#[derive(Default)]
struct Batch {
    events: Vec<(VerifiedEvent, Verdict)>,
    /// On which line each of them stood.
    lines: Vec<u64>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, line: u64, event: VerifiedEvent, verdict: Verdict) {
        self.bytes = self.bytes.saturating_add(event.json().len());
        self.events.push((event, verdict));
        self.lines.push(line);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    fn write(
        &mut self,
        writer: &mut Writer,
        now: u64,
        tally: &mut Tally,
        say: &Say,
    ) -> Result<(), Failure> {
        let batch = std::mem::take(self);
        let answers = pipeline::write_all(writer, &batch.events, now);
        for (answer, line) in answers.into_iter().zip(batch.lines) {
            match (answer.accepted, answer.message.starts_with("duplicate:")) {
                (true, false) => tally.stored += 1,
                // It, or a newer version of it.
                (_, true) => tally.known += 1,
                (false, _) => match answer.refusal {
                    Some(refusal) => tally.refuse(say, line, &refusal.into()),
                    None if answer.message.ends_with(StoreError::DiskFull.for_client()) => {
                        return Err(StoreError::DiskFull.into());
                    }
                    None => {
                        return Err(Failure::new(
                            Word::Internal,
                            format!("line {line}: {}", answer.message),
                        ));
                    }
                },
            }
        }
        Ok(())
    }
}

/// What became of the lines.
#[derive(Default)]
struct Tally {
    lines: u64,
    stored: u64,
    known: u64,
    expired: u64,
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    fn refused(&self) -> u64 {
        self.reasons.values().sum()
    }

    fn refuse(&mut self, say: &Say, line: u64, why: &Why) {
        let Why(name, words) = why;
        if *name == name_of(Refusal::Expired) {
            self.expired += 1;
            return;
        }
        match self.refused() {
            told if told < TOLD => say.warn(&format!("line {line}: {words}")),
            TOLD => say.warn("lines that are refused from here on are only counted"),
            _ => {}
        }
        *self.reasons.entry(name.clone()).or_default() += 1;
    }

    fn tell(&self, say: &Say) {
        let refused = self.refused();
        let object = json!({
            "schema": "sotto.imported/1",
            "lines": self.lines,
            "stored": self.stored,
            "known": self.known,
            "expired": self.expired,
            "refused": refused,
            "reasons": self.reasons,
        });
        let mut text = format!(
            "{} stored, {} known already, {} expired, {refused} refused",
            self.stored, self.known, self.expired
        );
        for (reason, count) in &self.reasons {
            text.push_str(&format!("\n  {reason}: {count}"));
        }
        say.out(&object, &text);
    }
}
