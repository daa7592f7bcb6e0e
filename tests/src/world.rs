//! A world in a temporary folder: real servers behind logging proxies, people with real homes,
//! and one clock for all of them that a story can turn forward.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client_core::client::{
    Client, FileContent, FileSource, Home, InitOptions, Outcome, SendRequest, Settings, UnlockWith,
};
use client_core::clock::Clock;
use client_core::view::{AccountView, MessageView, SavedFileView, SentView};
use client_core::{Error, Result};
use sotto_files::FileServer;
use sotto_relay::Relay;
use tempfile::TempDir;
use wire::RelayUrl;
use wire::relay_url::Origin;

use crate::tap::Tap;

/// The system's clock, turned forward by as much as a story says.
#[derive(Clone, Default)]
pub struct WorldClock(Arc<AtomicU64>);

impl WorldClock {
    /// Turns it forward.
    pub fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for WorldClock {
    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        since.as_secs() + self.0.load(Ordering::SeqCst)
    }
}

/// One relay on disk, behind a proxy whose URL everybody uses.
pub struct RelayPlace {
    /// The proxy.
    pub tap: Tap,
    /// Where its data lies.
    pub data: PathBuf,
    clock: WorldClock,
    rules: Rules,
    running: Option<Relay>,
}

/// What a story changes in a relay's configuration.
type Rules = Box<dyn Fn(&mut sotto_relay::Config) + Send + Sync>;

impl RelayPlace {
    async fn new(data: PathBuf, clock: WorldClock, rules: Rules) -> Self {
        let mut place = Self {
            tap: Tap::relay().await,
            data,
            clock,
            rules,
            running: None,
        };
        place.start().await;
        place
    }

    /// The URL that lists and links name.
    pub fn url(&self) -> RelayUrl {
        RelayUrl::parse(&self.tap.url()).unwrap()
    }

    /// Starts it on its data.
    pub async fn start(&mut self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = self.clock.clone();
        let mut config = sotto_relay::Config::on_disk(&self.data);
        config.urls = vec![self.url()];
        config.clock = sotto_relay::config::Clock::new(move || clock.now());
        (self.rules)(&mut config);
        self.running = Some(Relay::start(listener, config).await.unwrap());
        self.tap.lead_to(address);
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) {
        if let Some(relay) = self.running.take() {
            relay.stop().await.unwrap();
        }
    }
}

/// One file server on disk, behind a proxy.
pub struct FilesPlace {
    /// The proxy.
    pub tap: Tap,
    /// Where its data lies.
    pub data: PathBuf,
    clock: WorldClock,
    running: Option<FileServer>,
}

impl FilesPlace {
    async fn new(data: PathBuf, clock: WorldClock) -> Self {
        let mut place = Self {
            tap: Tap::files().await,
            data,
            clock,
            running: None,
        };
        place.start().await;
        place
    }

    /// The origin that lists and links name.
    pub fn origin(&self) -> Origin {
        Origin::parse(&self.tap.url()).unwrap()
    }

    /// Starts it on its data.
    pub async fn start(&mut self) {
        let clock = self.clock.clone();
        let mut config = sotto_files::Config::new(&self.data);
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.public_url = Some(self.origin());
        let storage = sotto_files::storage::DiskStorage::open(&self.data).unwrap();
        let clock = sotto_files::Clock::new(move || clock.now());
        let server = FileServer::start_with(config, Arc::new(storage), clock)
            .await
            .unwrap();
        self.tap.lead_to(server.address());
        self.running = Some(server);
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) {
        if let Some(server) = self.running.take() {
            server.stop().await;
        }
    }
}

/// Everything in one folder.
pub struct World {
    /// One clock for all.
    pub clock: WorldClock,
    folder: TempDir,
    people: usize,
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self {
            clock: WorldClock::default(),
            folder: tempfile::tempdir().unwrap(),
            people: 0,
        }
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A relay with its own data.
    pub async fn relay(&self, name: &str) -> RelayPlace {
        self.relay_with(name, |_| {}).await
    }

    /// A relay whose operator has other rules.
    pub async fn relay_with(
        &self,
        name: &str,
        rules: impl Fn(&mut sotto_relay::Config) + Send + Sync + 'static,
    ) -> RelayPlace {
        let data = self.folder().join(format!("relay-{name}"));
        RelayPlace::new(data, self.clock.clone(), Box::new(rules)).await
    }

    /// A file server with its own data.
    pub async fn files(&self, name: &str) -> FilesPlace {
        FilesPlace::new(
            self.folder().join(format!("files-{name}")),
            self.clock.clone(),
        )
        .await
    }

    /// A person with a key file and these servers in circle `personal`.
    pub async fn person(
        &mut self,
        name: &str,
        relays: &[&RelayPlace],
        files: &[&FilesPlace],
    ) -> Person {
        let options = InitOptions {
            relays: relays.iter().map(|relay| relay.url()).collect(),
            file_servers: files.iter().map(|files| files.origin()).collect(),
            show_words: true,
            ..InitOptions::default()
        };
        self.person_with(name, options).await
    }

    /// Anna and Ben on the same servers, who have added each other by invite.
    pub async fn friends(
        &mut self,
        relays: &[&RelayPlace],
        files: &[&FilesPlace],
    ) -> (Person, Person) {
        let anna = self.person("anna", relays, files).await;
        let ben = self.person("ben", relays, files).await;
        anna.knows(&ben, "ben");
        ben.knows(&anna, "anna");
        (anna, ben)
    }

    /// A person as the options say.
    pub async fn person_with(&mut self, name: &str, options: InitOptions) -> Person {
        self.people += 1;
        let home = self.folder().join(format!("home-{name}-{}", self.people));
        let key_file = home.with_extension("key");
        let mut person = Person {
            home,
            key_file,
            settings: Settings {
                clock: Arc::new(self.clock.clone()),
                timeout: Duration::from_secs(20),
                ..Settings::default()
            },
            account: None,
        };
        let home = Home::at(person.home.clone());
        let made = home
            .init(person.unlock(), options, &person.settings)
            .await
            .unwrap();
        assert!(made.error.is_none(), "init: {:?}", made.error);
        person.account = Some(made.value);
        person
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// One person. Every verb opens the home anew, as a command would.
pub struct Person {
    /// The home folder.
    pub home: PathBuf,
    /// The key file.
    pub key_file: PathBuf,
    /// How it talks to the world.
    pub settings: Settings,
    account: Option<AccountView>,
}

impl Person {
    /// How the home is opened.
    pub fn unlock(&self) -> UnlockWith {
        UnlockWith::KeyFile(self.key_file.clone())
    }

    /// The account as `init` gave it, words included.
    pub fn account(&self) -> &AccountView {
        self.account.as_ref().unwrap()
    }

    /// Key of circle `personal`, hex.
    pub fn key(&self) -> &str {
        &self.account().pubkey
    }

    /// Opens circle `personal`.
    pub fn client(&self) -> Client {
        self.circle("personal")
    }

    /// Opens a circle.
    pub fn circle(&self, name: &str) -> Client {
        let home = Home::at(self.home.clone());
        home.open(self.unlock(), Some(name), &self.settings)
            .unwrap()
    }

    /// An invite link of circle `personal`.
    pub fn invite(&self) -> String {
        self.client().invite().unwrap().to_string()
    }

    /// Makes `other` a contact under `alias`, by link.
    pub fn knows(&self, other: &Person, alias: &str) {
        self.client()
            .add_contact(&other.invite(), Some(alias))
            .unwrap();
    }

    /// Sends; panics unless all went well.
    pub async fn send(&self, request: SendRequest) -> SentView {
        let sent = self.try_send(request).await.unwrap();
        assert!(
            sent.error.is_none(),
            "send: {:?} {:?}",
            sent.error,
            sent.value
        );
        sent.value
    }

    /// Sends.
    pub async fn try_send(&self, request: SendRequest) -> Result<Outcome<SentView>> {
        let mut client = self.client();
        let sent = client.send(request).await;
        client.close().await;
        sent
    }

    /// Sends a text.
    pub async fn text(&self, to: &str, text: &str) -> SentView {
        self.send(SendRequest::text(to, text)).await
    }

    /// Sends a file.
    pub async fn file(&self, to: &str, path: &Path) -> SentView {
        self.send(file_request(to, path)).await
    }

    /// Syncs; panics unless all went well. Gives how many messages were new.
    pub async fn sync(&self) -> u64 {
        let mut client = self.client();
        let synced = client.sync().await.unwrap();
        assert!(
            synced.error.is_none(),
            "sync: {:?} {:?}",
            synced.error,
            synced.value
        );
        client.close().await;
        synced.value.new
    }

    /// The conversation with somebody, oldest first.
    pub fn messages(&self, with: &str) -> Vec<MessageView> {
        self.client().messages(with, 100, None).unwrap()
    }

    /// Its texts.
    pub fn texts(&self, with: &str) -> Vec<String> {
        self.messages(with)
            .into_iter()
            .map(|message| message.text)
            .collect()
    }

    /// Fetches a message's file into a folder.
    pub async fn fetch(&self, id: &str, folder: &Path) -> Result<Vec<SavedFileView>> {
        let mut client = self.client();
        let target = client_core::client::FileTarget::Folder(folder.to_owned());
        let saved = client.fetch_file(id, target).await;
        client.close().await;
        saved
    }
}

/// A request for one file.
pub fn file_request(to: &str, path: &Path) -> SendRequest {
    let mut request = SendRequest::text(to, "");
    request.text = None;
    request.files = vec![FileSource {
        content: FileContent::Path(path.to_owned()),
        name: None,
    }];
    request
}

/// The word of an error, for assertions.
pub fn word(error: &Error) -> &'static str {
    error.word.as_str()
}

/// Whether `needle` lies in any file below `folder`.
pub fn is_in_any_file(folder: &Path, needle: &[u8]) -> bool {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path)
                && bytes.windows(needle.len()).any(|window| window == needle)
            {
                return true;
            }
        }
    }
    false
}
