//! A relay, a file server and two people, in a folder that is gone afterwards.

use std::path::{Path, PathBuf};
use std::time::Duration;

use client_core::client::{Client, Home, InitOptions, Outcome, Settings, UnlockWith};
use client_core::view::{AccountView, MessageView};
use client_core::{Error, Origin, RelayUrl, Result, SecretText};
use sotto_files::FileServer;
use sotto_relay::Relay;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::transcript::Transcript;
use crate::internal;
use crate::printer::text::{Line, Text};

/// Everything that is needed to play.
pub struct Stage {
    dir: TempDir,
    /// The relay of both people.
    pub relay: RelayUrl,
    /// Where it keeps its data.
    pub relay_data: PathBuf,
    /// The relay of Alice's second circle.
    pub work_relay: RelayUrl,
    /// Where that keeps its data.
    pub work_data: PathBuf,
    /// The file server.
    pub files: Origin,
    /// Where it keeps its data.
    pub files_data: PathBuf,
    /// Locked with a PIN.
    pub alice: Person,
    /// Opened by a key file.
    pub bob: Person,
    relays: Vec<Relay>,
    file_server: FileServer,
}

/// Somebody with a home folder.
pub struct Person {
    /// As the other one calls them.
    pub name: &'static str,
    /// Their folder.
    pub home: Home,
    /// What opens it.
    pub unlock: UnlockWith,
    /// Their account.
    pub account: AccountView,
    client: Option<Client>,
}

impl Stage {
    /// Starts the servers and makes both accounts, who then know each other.
    pub async fn set(show: &mut Transcript<'_>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sotto-demo-").tempdir()?;
        let place = |name: &str| dir.path().join(name);

        let line = Line::new()
            .dim("Real servers, real sockets, two people, in a folder that is gone afterwards.");
        show.show_table(Text::new().line(line));
        show.act("Two servers on this machine");
        let (relay_data, work_data, files_data) =
            (place("relay"), place("work-relay"), place("files"));
        let relay = start_relay(&relay_data).await?;
        let work = start_relay(&work_data).await?;
        let config = sotto_files::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            ..sotto_files::Config::new(&files_data)
        };
        let file_server = FileServer::start(config).await.map_err(internal)?;
        let relay_url = RelayUrl::parse(&relay.url()).map_err(internal)?;
        let work_url = RelayUrl::parse(&work.url()).map_err(internal)?;
        let files = Origin::parse(&file_server.url()).map_err(internal)?;
        show.step("a relay listens", true, relay_url.as_str());
        show.step("a file server listens", true, files.as_str());

        show.act("Two accounts, each from 24 seed words");
        let key_file = place("bob.key");
        let servers = (&relay_url, &files);
        let pin = UnlockWith::Pin(SecretText::new("271828".to_owned()));
        let mut alice = Person::join("Alice", place("alice"), pin, servers).await?;
        show.step("Alice, locked with a PIN", true, &alice.account.npub);
        let unlock = UnlockWith::KeyFile(key_file);
        let mut bob = Person::join("Bob", place("bob"), unlock, servers).await?;
        show.step("Bob, opened by a key file", true, &bob.account.npub);
        let wrong = UnlockWith::Pin(SecretText::new("314159".to_owned()));
        let refused = alice.home.check_unlock(wrong, &settings());
        let said = refused.as_ref().err().map(Error::to_string);
        show.step(
            "a wrong PIN does not open Alice's",
            refused.is_err(),
            said.unwrap_or_default(),
        );

        let (to_alice, to_bob) = (alice.client()?.invite()?, bob.client()?.invite()?);
        let known = alice
            .client()?
            .add_contact(&to_bob.to_string(), Some("Bob"))?;
        bob.client()?
            .add_contact(&to_alice.to_string(), Some("Alice"))?;
        let is_right = known.pubkey == bob.account.pubkey;
        show.step("they add each other by invite links", is_right, "");
        Ok(Self {
            relay: relay_url,
            relay_data,
            work_relay: work_url,
            work_data,
            files,
            files_data,
            alice,
            bob,
            relays: vec![relay, work],
            file_server,
            dir,
        })
    }

    /// A path in the folder.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Ends everything; the folder goes when this returns.
    pub async fn strike(mut self) {
        self.alice.leave().await;
        self.bob.leave().await;
        for relay in self.relays {
            // What it could not finish is gone with the folder.
            let _ = relay.stop().await;
        }
        self.file_server.stop().await;
    }
}

impl Person {
    /// Makes an account that uses the given servers, through the same door as `sotto init`.
    async fn join(
        name: &'static str,
        dir: PathBuf,
        unlock: UnlockWith,
        (relay, files): (&RelayUrl, &Origin),
    ) -> Result<Self> {
        let home = Home::at(dir);
        let options = InitOptions {
            name: Some(name.to_owned()),
            relays: vec![relay.clone()],
            file_servers: vec![files.clone()],
            ..InitOptions::default()
        };
        let account = full(home.init(unlock.clone(), options, &settings()).await?)?;
        Ok(Self {
            name,
            home,
            unlock,
            account,
            client: None,
        })
    }

    /// Their client, opened where it is not open.
    pub fn client(&mut self) -> Result<&mut Client> {
        if self.client.is_none() {
            self.client = Some(self.home.open(self.unlock.clone(), None, &settings())?);
        }
        self.client
            .as_mut()
            .ok_or_else(|| internal("a client was just opened"))
    }

    /// Their client of another circle.
    pub fn client_of(&self, circle: &str) -> Result<Client> {
        self.home
            .open(self.unlock.clone(), Some(circle), &settings())
    }

    /// Closes their client: they are offline.
    pub async fn leave(&mut self) {
        if let Some(client) = self.client.take() {
            client.close().await;
        }
    }

    /// Fetches what is new; how many messages that were.
    pub async fn sync(&mut self) -> Result<u64> {
        Ok(full(self.client()?.sync().await?)?.new)
    }

    /// The conversation with somebody, oldest first.
    pub fn messages(&mut self, who: &str) -> Result<Vec<MessageView>> {
        self.client()?.messages(who, 1_000, None)
    }

    /// Whether a message of that id is still shown, alone or in its conversation.
    pub fn shows(&mut self, who: &str, id: &str) -> Result<bool> {
        let is_listed = self.messages(who)?.iter().any(|message| message.id == id);
        Ok(is_listed || self.client()?.message(id).is_ok())
    }
}

/// This machine's clock, randomness and network; nothing here takes long.
pub fn settings() -> Settings {
    Settings {
        timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

/// What was done, where all of it was.
pub fn full<T>(outcome: Outcome<T>) -> Result<T> {
    match outcome.error {
        Some(error) => Err(error),
        None => Ok(outcome.value),
    }
}

async fn start_relay(data: &Path) -> Result<Relay> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    Relay::start(listener, sotto_relay::Config::on_disk(data))
        .await
        .map_err(internal)
}
