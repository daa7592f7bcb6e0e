//! From a verdict to the store: the one place where verified events meet the writer.
//!
//! The relay's writer thread and the model both call it, so they cannot come to differ.

use wire::{OkMessage, Reason, VerifiedEvent};

use crate::policy::{Refusal, Verdict};
use crate::store::transaction::SLICE;
use crate::store::{Outcome, StoreError, Transaction, Writer};

/// The answer to one event, and whether subscribers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The `true` or `false` of OK.
    pub accepted: bool,
    /// The message of OK; empty where there is nothing to say.
    pub message: String,
    /// The rule that says no; none where the event was taken, a newer one is here, or the store
    /// failed.
    pub refusal: Option<Refusal>,
    /// Under which sequence number it goes to subscribers; none: it does not.
    pub deliver: Option<u64>,
}

/// Carries out `verdicts` in order and commits; one answer for each, valid from then on.
///
/// An answer that the store could not make durable says `error:`, and its event counts nowhere.
pub fn write_all(
    writer: &mut Writer,
    verdicts: &[(VerifiedEvent, Verdict)],
    now: u64,
) -> Vec<Answer> {
    let answers = write_some(writer, verdicts, SLICE, now);
    let mut whole = Vec::with_capacity(answers.len());
    for (verdict, mut answer) in verdicts.iter().zip(answers) {
        whole.push(loop {
            match answer {
                Some(answer) => break answer,
                None => {
                    let again = write_some(writer, std::slice::from_ref(verdict), SLICE, now);
                    answer = again.into_iter().next().flatten();
                }
            }
        });
    }
    whole
}

/// The same for so much of it as may go at once: of each request that takes something away about
/// `budget` rows. No answer: there is more of that to do, and it is to be handed in again.
pub fn write_some(
    writer: &mut Writer,
    verdicts: &[(VerifiedEvent, Verdict)],
    budget: usize,
    now: u64,
) -> Vec<Option<Answer>> {
    let mut answers = Vec::with_capacity(verdicts.len());
    let mut rest = verdicts;
    while !rest.is_empty() {
        // A request to vanish is a series of transactions of its own.
        let count = rest
            .iter()
            .position(|(_, verdict)| *verdict == Verdict::Vanish)
            .unwrap_or(rest.len());
        let (before, after) = rest.split_at(count);
        if !before.is_empty() {
            write_together(writer, before, budget, now, &mut answers);
        }
        rest = after;
        if let Some(((request, _), others)) = after.split_first() {
            let outcome = writer.vanish(request, budget, now);
            answers.push(outcome.map_or_else(|error| Some(failed(&error)), answer));
            rest = others;
        }
    }
    answers
}

fn write_together(
    writer: &mut Writer,
    verdicts: &[(VerifiedEvent, Verdict)],
    budget: usize,
    now: u64,
    answers: &mut Vec<Option<Answer>>,
) {
    let mut transaction = match writer.begin(now) {
        Ok(transaction) => transaction,
        Err(error) => {
            answers.extend(verdicts.iter().map(|_| Some(failed(&error))));
            return;
        }
    };
    let outcomes: Vec<_> = verdicts
        .iter()
        .map(|(event, verdict)| carry_out(&mut transaction, event, *verdict, budget))
        .collect();
    match transaction.commit() {
        Ok(()) => answers.extend(outcomes),
        Err(error) => answers.extend(outcomes.into_iter().map(|outcome| match outcome {
            Some(refused) if !refused.accepted => Some(refused),
            _ => Some(failed(&error)),
        })),
    }
}

fn carry_out(
    transaction: &mut Transaction<'_>,
    event: &VerifiedEvent,
    verdict: Verdict,
    budget: usize,
) -> Option<Answer> {
    let outcome = match verdict {
        Verdict::Store => transaction.put(event),
        Verdict::Delete { unless_own } => transaction.delete(event, unless_own, budget),
        Verdict::Pass => match transaction.memory_forbids(event) {
            Ok(Some(refusal)) => Ok(Outcome::Refused(refusal)),
            // Nothing is kept, so no subscriber's history can hold it already.
            Ok(None) => Ok(Outcome::Stored { seq: u64::MAX }),
            Err(error) => Err(error),
        },
        Verdict::Vanish => Ok(Outcome::Duplicate),
    };
    outcome.map_or_else(|error| Some(failed(&error)), answer)
}

/// None where there is more to do.
fn answer(outcome: Outcome) -> Option<Answer> {
    let accepted = |message: &str, deliver| Answer {
        accepted: true,
        message: message.to_owned(),
        refusal: None,
        deliver,
    };
    Some(match outcome {
        Outcome::Unfinished => return None,
        Outcome::Stored { seq } => accepted("", Some(seq)),
        Outcome::CarriedOut => accepted("", None),
        Outcome::Duplicate => accepted("duplicate: already have this event", None),
        // Not accepted (NIP-01): it is stored nowhere, and whoever sent it should know.
        Outcome::Superseded => Answer {
            accepted: false,
            message: "duplicate: have a newer version".to_owned(),
            refusal: None,
            deliver: None,
        },
        Outcome::Refused(refusal) => Answer {
            accepted: false,
            message: refusal.message().text,
            refusal: Some(refusal),
            deliver: None,
        },
    })
}

fn failed(error: &StoreError) -> Answer {
    Answer {
        accepted: false,
        message: OkMessage::new(Reason::Error, error.for_client()).text,
        refusal: None,
        deliver: None,
    }
}

#[cfg(test)]
mod tests;
