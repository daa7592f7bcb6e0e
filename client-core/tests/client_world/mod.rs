//! People with homes of their own, over one real relay and one real file server.

#![allow(dead_code, reason = "no test uses all of it")]

use std::io::Cursor;
use std::path::PathBuf;
use std::time::Duration;

use client_core::client::{
    Argon2Params, Client, FileContent, FileSource, Home, InitOptions, Outcome, SendRequest,
    Settings, UnlockWith,
};
use client_core::view::MessageView;
use client_core::{Error, Origin, RelayUrl};
use sotto_files::FileServer;
use sotto_relay::Relay;
use tokio::net::TcpListener;

/// One relay, one file server, and a folder for homes.
pub struct World {
    pub dir: tempfile::TempDir,
    pub relay: Relay,
    pub files: FileServer,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = sotto_files::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            ..sotto_files::Config::new(dir.path().join("files"))
        };
        Self {
            relay: relay_on(0).await,
            files: FileServer::start(files).await.unwrap(),
            dir,
        }
    }

    pub fn relay(&self) -> RelayUrl {
        self.relay.url().parse().unwrap()
    }

    pub fn files(&self) -> Origin {
        self.files.url().parse().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn home(&self, name: &str) -> Person {
        Person {
            home: Home::at(self.path(name)),
            key: UnlockWith::KeyFile(self.path(&format!("{name}.key"))),
        }
    }

    pub async fn person(&self, name: &str) -> Person {
        let person = self.home(name);
        let outcome = person.init(self.options()).await.unwrap();
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        person
    }

    pub fn options(&self) -> InitOptions {
        InitOptions {
            relays: vec![self.relay()],
            file_servers: vec![self.files()],
            argon2: Argon2Params::LEAST,
            show_words: true,
            ..InitOptions::default()
        }
    }

    /// Two people who have added each other.
    pub async fn pair(&self) -> (Person, Person) {
        let (anna, ben) = (self.person("anna").await, self.person("ben").await);
        let (mut a, mut b) = (anna.open(), ben.open());
        let (to_a, to_b) = (
            a.invite().unwrap().to_string(),
            b.invite().unwrap().to_string(),
        );
        a.add_contact(&to_b, Some("ben")).unwrap();
        b.add_contact(&to_a, Some("anna")).unwrap();
        (anna, ben)
    }
}

pub async fn relay_on(port: u16) -> Relay {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    Relay::start(listener, sotto_relay::Config::in_memory())
        .await
        .unwrap()
}

pub struct Person {
    pub home: Home,
    pub key: UnlockWith,
}

impl Person {
    pub async fn init(
        &self,
        options: InitOptions,
    ) -> Result<Outcome<client_core::view::AccountView>, Error> {
        self.home.init(self.key.clone(), options, &settings()).await
    }

    pub fn open(&self) -> Client {
        self.open_circle(None)
    }

    pub fn open_circle(&self, circle: Option<&str>) -> Client {
        self.home
            .open(self.key.clone(), circle, &settings())
            .unwrap()
    }
}

pub fn settings() -> Settings {
    Settings {
        timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

pub fn done<T>(outcome: Outcome<T>) -> T {
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    outcome.value
}

pub async fn say(client: &mut Client, to: &str, text: &str) -> String {
    let sent = done(client.send(SendRequest::text(to, text)).await.unwrap());
    assert!(
        matches!(sent.status, "accepted" | "stored"),
        "{}",
        sent.status
    );
    sent.id
}

pub async fn say_file(client: &mut Client, to: &str, source: FileSource) -> String {
    let request = SendRequest {
        text: None,
        files: vec![source],
        ..SendRequest::text(to, "")
    };
    done(client.send(request).await.unwrap()).id
}

pub fn bytes(name: &str, content: &[u8]) -> FileSource {
    FileSource {
        content: FileContent::Reader(Box::new(Cursor::new(content.to_vec()))),
        name: Some(name.to_owned()),
    }
}

pub fn texts(messages: &[MessageView]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.text.as_str())
        .collect()
}
