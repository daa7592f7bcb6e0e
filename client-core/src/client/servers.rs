//! Verbs about the circle's own relays and file servers.

use wire::relay_url::Origin;
use wire::{InviteCode, RelayUrl};

use super::bound::{Client, Driven, texts};
use super::circles::shared_warning;
use super::home::check_servers;
use super::request::Outcome;
use crate::engine::Progress;
use crate::error::{Error, ErrorWord, Result};
use crate::home::CircleRow;
use crate::view::ServerView;

impl Client {
    /// The circle's inbox relays.
    pub fn relays(&self) -> Result<Vec<ServerView>> {
        Ok(views(&self.servers()?.0))
    }

    /// The circle's file servers.
    pub fn file_servers(&self) -> Result<Vec<ServerView>> {
        Ok(views(&self.servers()?.1))
    }

    /// Adds an inbox relay and publishes the list. `conflict` where it is there already.
    pub async fn add_relay(&mut self, url: RelayUrl) -> Result<Outcome<ServerView>> {
        let (mut relays, file_servers) = self.servers()?;
        if relays.contains(&url) {
            return Err(there_already());
        }
        self.warn_of_others(url.as_str(), |row| texts(&row.relays))?;
        let view = view(&url);
        relays.push(url);
        let error = self.set_servers(relays, file_servers).await?;
        Ok(Outcome { value: view, error })
    }

    /// Joins an inbox relay with an invite code, adds it where it is not there yet, and publishes
    /// the list. `refused` where the relay does not take the code.
    pub async fn join_relay(
        &mut self,
        url: RelayUrl,
        code: InviteCode,
    ) -> Result<Outcome<ServerView>> {
        let (mut relays, file_servers) = self.servers()?;
        let view = view(&url);
        if !relays.contains(&url) {
            self.warn_of_others(url.as_str(), |row| texts(&row.relays))?;
            relays.push(url.clone());
        }
        self.keep_invites(&[(url, code)])?;
        let error = self.set_servers(relays, file_servers).await?;
        Ok(Outcome { value: view, error })
    }

    /// Removes an inbox relay and publishes the list to the others.
    pub async fn remove_relay(&mut self, url: &RelayUrl) -> Result<Outcome<ServerView>> {
        let (mut relays, file_servers) = self.servers()?;
        if !relays.contains(url) {
            return Err(not_there());
        }
        relays.retain(|relay| relay != url);
        if relays.is_empty() {
            self.warnings
                .push("without an inbox relay nobody can write to this circle".to_owned());
        }
        let error = self.set_servers(relays, file_servers).await?;
        Ok(Outcome {
            value: view(url),
            error,
        })
    }

    /// Adds a file server and publishes the list. `conflict` where it is there already.
    pub async fn add_file_server(&mut self, url: Origin) -> Result<Outcome<ServerView>> {
        let (relays, mut file_servers) = self.servers()?;
        if file_servers.contains(&url) {
            return Err(there_already());
        }
        self.warn_of_others(url.as_str(), |row| texts(&row.file_servers))?;
        let view = view(&url);
        file_servers.push(url);
        let error = self.set_servers(relays, file_servers).await?;
        Ok(Outcome { value: view, error })
    }

    /// Removes a file server and publishes the list. Files that lie there stay reachable for
    /// those who have the message.
    pub async fn remove_file_server(&mut self, url: &Origin) -> Result<Outcome<ServerView>> {
        let (relays, mut file_servers) = self.servers()?;
        if !file_servers.contains(url) {
            return Err(not_there());
        }
        file_servers.retain(|server| server != url);
        let error = self.set_servers(relays, file_servers).await?;
        Ok(Outcome {
            value: view(url),
            error,
        })
    }

    /// Stores invite codes, to be redeemed before anything else is asked of their relays.
    fn keep_invites(&mut self, invites: &[(RelayUrl, InviteCode)]) -> Result<()> {
        let now = self.now();
        self.engine
            .keep_invites(&mut self.store, invites, now, &mut *self.rng)
    }

    /// Joins the relays for which there are `invites`, and publishes the lists of a new or restored
    /// circle as its row names them. A restored one reads first what its relays hold, and takes it
    /// over.
    pub(super) async fn announce(
        &mut self,
        invites: &[(RelayUrl, InviteCode)],
        is_restored: bool,
    ) -> Result<Option<Error>> {
        self.keep_invites(invites)?;
        let (relays, file_servers) = (self.row.relays.clone(), self.row.file_servers.clone());
        if relays.is_empty() {
            self.warnings
                .push("without an inbox relay nobody can write to this circle".to_owned());
        }
        let error = self.set_servers(relays, file_servers).await?;
        if is_restored && error.is_none() {
            // The definitions that were read may name what the lists did not.
            self.resume()?;
        }
        Ok(error)
    }

    /// Stores the new lists, publishes them, and says what kept them from being published.
    async fn set_servers(
        &mut self,
        relays: Vec<RelayUrl>,
        file_servers: Vec<Origin>,
    ) -> Result<Option<Error>> {
        check_servers(relays.len(), file_servers.len())?;
        let until = self.deadline();
        let has_relay = !relays.is_empty();
        if has_relay {
            self.resume()?;
        }
        let now = self.now();
        let step =
            self.engine
                .set_servers(&mut self.store, relays, file_servers, now, &mut *self.rng)?;
        self.execute(step);
        self.adopt_servers()?;
        if !has_relay {
            return Ok(None);
        }
        let driven = self
            .drive(until, false, |engine, store| {
                if engine.busy() {
                    return Ok(None);
                }
                Ok(match engine.lists_state(store)? {
                    Progress::Reached => Some(None),
                    Progress::Pending => None,
                    Progress::Failed(error) => Some(Some(error)),
                })
            })
            .await?;
        // What other devices had published was merged on the way.
        self.adopt_servers()?;
        self.merge_definitions()?;
        if let Some(refused) = self.warn_of_refused_definitions()? {
            self.warnings.push(refused.detail);
        }
        Ok(match driven {
            Driven::Reached(error) => error,
            Driven::Idle | Driven::TimedOut => Some(
                Error::new(ErrorWord::Timeout, "the lists were not published in time")
                    .hint("the next command that reaches a relay publishes them"),
            ),
        })
    }

    /// Writes the servers as the engine has them into the circle's definition.
    pub(super) fn adopt_servers(&mut self) -> Result<()> {
        let (relays, file_servers) = self.engine.servers(&self.store)?;
        if relays == self.row.relays && file_servers == self.row.file_servers {
            return Ok(());
        }
        let row = CircleRow {
            relays,
            file_servers,
            made_at: self.now().max(self.row.made_at),
            ..self.row.clone()
        };
        self.unlocked.root.update_circle(&row)?;
        self.row = row;
        Ok(())
    }

    fn warn_of_others(
        &mut self,
        url: &str,
        urls_of: impl Fn(&CircleRow) -> Vec<String>,
    ) -> Result<()> {
        for row in self.unlocked.root.circles()? {
            let is_other = !row.removed && row.index != self.row.index;
            if is_other && urls_of(&row).iter().any(|other| other == url) {
                self.warnings.push(shared_warning(url, &row.name));
            }
        }
        Ok(())
    }
}

fn view(url: &impl ToString) -> ServerView {
    ServerView {
        url: url.to_string(),
        ok: None,
        checks: Vec::new(),
    }
}

fn views<T: ToString>(urls: &[T]) -> Vec<ServerView> {
    urls.iter().map(view).collect()
}

fn there_already() -> Error {
    Error::new(ErrorWord::Conflict, "this circle uses that server already")
}

fn not_there() -> Error {
    Error::new(ErrorWord::NotFound, "this circle does not use that server")
}
