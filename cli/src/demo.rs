//! `sotto demo`: every promise once, against real servers over real sockets.
//!
//! Two people and their servers live in a temporary folder that is gone afterwards. Each act
//! uses the front door that every command uses, and looks at the servers' own files and answers
//! to see whether what the client says is true:
//!
//! 1. `stage` starts a relay and a file server and makes two accounts.
//! 2. `talk`: a text both ways. 3. `photo`: a picture without its place.
//! 4. `vanish`: gone at its second. 5. `delete`: gone for both, with a report.
//! 6. `offline`: delivered on return. 7. `circles`: two lives that do not touch.
//! 8. `ledger`: what the servers saw.

mod circles;
mod delete;
mod disk;
mod jpeg;
mod ledger;
mod offline;
mod photo;
mod probe;
mod stage;
mod talk;
mod transcript;
mod vanish;

use std::time::Instant;

use client_core::{Error, ErrorWord};

use crate::context::{Context, Ended};
use stage::Stage;
use transcript::Transcript;

/// Plays all acts; fails unless every step of every act held.
pub(crate) async fn run(context: &mut Context) -> Ended {
    let started = Instant::now();
    let mut show = Transcript::new(&mut context.printer);
    let mut stage = Stage::set(&mut show).await?;
    // An act that breaks off is a failed step; the others still show what holds.
    macro_rules! play {
        ($($act:ident),+) => {
            $(if let Err(error) = $act::play(&mut stage, &mut show).await {
                show.broke_off(stringify!($act), &error);
            })+
        };
    }
    play!(talk, photo, vanish, delete, offline, circles, ledger);
    stage.strike().await;
    let (held, failed) = show.close(started.elapsed());
    if failed == 0 {
        return Ok(());
    }
    let steps = held.saturating_add(failed);
    Err(Error::new(
        ErrorWord::Internal,
        format!("{failed} of {steps} steps failed"),
    )
    .into())
}
