//! Requests to join and to leave (NIP-43), answered.

use std::sync::Arc;

use wire::{Event, OkMessage, PublicKey, Reason, VerifiedEvent};

use crate::enforcement;
use crate::history::History;
use crate::policy::{Refusal, Wish};
use crate::roster::{Joined, RosterFile};
use crate::server::Shared;
use crate::settings::InForce;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The `true` or `false` of OK.
    pub accepted: bool,
    /// The message of OK.
    pub message: OkMessage,
    /// Whether it was a guess that did not hit: only so many are answered.
    pub is_wrong_code: bool,
}

impl Answer {
    fn yes(reason: Reason, text: &str) -> Self {
        Self {
            accepted: true,
            message: OkMessage::new(reason, text),
            is_wrong_code: false,
        }
    }

    pub(crate) fn no(refusal: Refusal) -> Self {
        Self {
            accepted: false,
            message: refusal.message(),
            is_wrong_code: refusal == Refusal::UnknownInvite,
        }
    }

    fn failed(text: &str) -> Self {
        Self {
            accepted: false,
            message: OkMessage::new(Reason::Error, text),
            is_wrong_code: false,
        }
    }
}

/// Answers a request of somebody who has authenticated `auth`; it waits its turn among `readers`.
/// What it granted is on disk before this returns, and counts for the next event of the same
/// connection.
pub async fn answer(
    shared: &Arc<Shared>,
    readers: &History,
    event: Event,
    auth: &[PublicKey],
) -> Answer {
    let in_force = shared.settings.get();
    let now = in_force.config.clock.now();
    let (auth, file) = (auth.to_vec(), shared.roster.clone());
    let asked = in_force.clone();
    // A signature, and a look at a file.
    let read = readers.aside(move || read(event, &auth, now, &file, &asked));
    let (key, wish) = match read.await {
        Ok(Ok(wish)) => wish,
        Ok(Err(answer)) => return answer,
        Err(_) => return Answer::failed("the relay failed"),
    };
    let is_configured = in_force.config.rules.writers.lists(&key);
    let changed = match wish {
        Wish::Join(code) => {
            let redeem = move |roster: &mut crate::roster::Roster| {
                roster.redeem(&code, key, is_configured, now)
            };
            let joined = enforcement::change(shared, redeem).await;
            joined.map(|done| done.map(|joined| welcome(joined, &in_force)))
        }
        Wish::Leave => {
            let leave = move |roster: &mut crate::roster::Roster| Ok(roster.unallow(&key));
            let left = enforcement::change(shared, leave).await;
            left.map(|done| done.map(goodbye))
        }
    };
    match changed {
        Ok(Ok(answer)) => answer,
        Ok(Err(refusal)) => Answer::no(refusal),
        Err(error) => {
            tracing::error!(%error, "a request to join or leave was not carried out");
            Answer::failed("the relay could not write it down, try again later")
        }
    }
}

/// Who wishes what; or the answer, where nothing need be written for it. Wrong codes end here.
fn read(
    event: Event,
    auth: &[PublicKey],
    now: u64,
    file: &RosterFile,
    in_force: &InForce,
) -> Result<(PublicKey, Wish), Answer> {
    let event = VerifiedEvent::verify(event).map_err(|error| Answer {
        accepted: false,
        message: OkMessage::new(Reason::Invalid, &error.to_string()),
        is_wrong_code: false,
    })?;
    let key = event.pubkey();
    let wish = Wish::read(&event, auth, now).map_err(Answer::no)?;
    // The command line may have made an invite, or a member, a moment ago.
    let roster = file.refresh().map_err(|error| {
        tracing::error!(%error, "the roster was not read");
        Answer::failed("the relay could not look it up, try again later")
    })?;
    let is_listed = in_force.config.rules.writers.lists(&key);
    let is_member = roster.is_member(&key);
    // Whatever would change nothing ends here: anybody may ask for it, again and again.
    match &wish {
        Wish::Join(_) if is_listed || is_member => return Err(welcome(Joined::Before, in_force)),
        Wish::Join(code) => roster.may_redeem(code, &key, now).map_err(Answer::no)?,
        Wish::Leave if is_listed => return Err(Answer::no(Refusal::ConfiguredMember)),
        Wish::Leave if !is_member => return Err(goodbye(false)),
        Wish::Leave => {}
    }
    Ok((key, wish))
}

fn welcome(joined: Joined, in_force: &InForce) -> Answer {
    match joined {
        // Not a standard prefix, but the one that NIP-43 shows.
        Joined::Now => Answer::yes(
            Reason::None,
            &format!("info: welcome to {}", in_force.about().name),
        ),
        Joined::Before => Answer::yes(Reason::Duplicate, "you are a member of this relay"),
    }
}

fn goodbye(was_member: bool) -> Answer {
    match was_member {
        true => Answer::yes(
            Reason::None,
            "info: you are no member of this relay any more",
        ),
        false => Answer::yes(Reason::Duplicate, "you were no member of this relay"),
    }
}
