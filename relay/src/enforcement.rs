//! What a changed roster means at once: for those who are connected, and for what is stored.

use std::sync::Arc;
use std::time::Duration;

use wire::EventId;

use crate::roster::{Roster, RosterError};
use crate::server::Shared;

/// How often the roster's file is looked at, which the command line changes too.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks at the file until the relay stops.
pub async fn watch(shared: Arc<Shared>) {
    let mut was_fine = true;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let file = shared.roster.clone();
        let read = tokio::task::spawn_blocking(move || file.refresh()).await;
        let is_fine = matches!(read, Ok(Ok(_)));
        match read {
            Ok(Ok(roster)) => adopt(&shared, roster).await,
            // What was in force stays in force. Said once, not every second.
            Ok(Err(error)) if was_fine => tracing::error!(%error, "the roster was not read"),
            Ok(Err(_)) | Err(_) => {}
        }
        was_fine = is_fine;
    }
}

/// Changes the roster, durably, and puts it in force; what `work` returned.
pub async fn change<T: Send + 'static, E: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&mut Roster) -> Result<T, E> + Send + 'static,
) -> Result<Result<T, E>, RosterError> {
    let file = shared.roster.clone();
    let changing = move || (file.change(work), file.get());
    let (done, roster) = tokio::task::spawn_blocking(changing)
        .await
        .map_err(|_| RosterError::Io(std::io::ErrorKind::Other.into()))?;
    adopt(shared, roster).await;
    done
}

/// Whether a banned event could not be erased yet. That is tried again every second.
pub async fn is_to_be_erased(shared: &Shared, id: &EventId) -> bool {
    shared.enforcing.lock().await.contains(id)
}

/// Puts a roster in force. Whoever is banned or blocked now is disconnected; what is banned now is
/// erased, and so is what could not be erased before.
async fn adopt(shared: &Arc<Shared>, roster: Arc<Roster>) {
    // Whoever finds that another did it already answers when that other has finished.
    let mut to_erase = shared.enforcing.lock().await;
    let mut is_news = false;
    if let Some(before) = shared.settings.enlist(roster.clone()) {
        let change = roster.since(&before);
        if !change.banned.is_empty() {
            shared.live.change(|fanout, _| {
                for outbox in fanout.who_proved(&change.banned) {
                    outbox.close();
                }
            });
        }
        for origin in change.blocked {
            shared.addresses.disconnect(origin);
        }
        is_news = !change.banned_events.is_empty();
        to_erase.extend(change.banned_events);
        to_erase.retain(|id| roster.bans_event(id));
    }
    if to_erase.is_empty() {
        return;
    }
    match shared.ingest.erase(to_erase.clone()).await {
        Ok(_) => to_erase.clear(),
        // Said once, not every second.
        Err(error) if is_news => {
            tracing::error!(%error, "banned events were not erased; it is tried again");
        }
        Err(_) => {}
    }
}
