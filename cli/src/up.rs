//! `sotto up`: a relay, a file server and an account for this machine, kept running.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use client_core::client::{Client, Home, InitOptions, Outcome, UnlockWith};
use client_core::{Error, ErrorWord, Origin, RelayUrl, Result};
use serde::Serialize;
use sotto_files::{FileServer, StartError};
use sotto_relay::store::StoreError;
use sotto_relay::{Relay, ServerError};
use tokio::net::TcpListener;

use crate::args::Up;
use crate::commands::new_unlock;
use crate::context::{Context, Ended};
use crate::failure::interrupted;
use crate::internal;
use crate::printer::Printer;
use crate::printer::text::{Line, Look, Text};
use crate::render::{Clock, Render, object};
use crate::signals::Signals;

/// How long to wait before the stream of events is taken up again.
const PAUSE: Duration = Duration::from_secs(5);

/// `sotto.up/1`.
#[derive(Debug, Serialize)]
pub struct UpView {
    /// The relay's URL on this machine.
    pub relay: String,
    /// The file server's URL on this machine.
    pub file_server: String,
    /// The account.
    pub npub: String,
    /// Its folder.
    pub home: String,
    /// What others add the account by.
    pub invite: String,
    /// How the program is called for this account.
    #[serde(skip)]
    program: String,
}

impl Render for UpView {
    const SCHEMA: &'static str = "sotto.up/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        let field = |name: &str, value: &str| Line::new().dim(name).to_column(13).plain(value);
        let hint = |words: &str, command: &str| {
            Line::new()
                .dim(words)
                .to_column(26)
                .add(Look::Link, command)
        };
        Text::new()
            .line(field("relay", &self.relay))
            .line(field("file server", &self.file_server))
            .line(field("account", &self.npub))
            .line(field("home", &self.home))
            .line(field("invite", &self.invite))
            .line(Line::new())
            .line(hint(
                "In another terminal:",
                &format!("{} contact add LINK --alias bob", self.program),
            ))
            .line(hint("", &format!("{} send bob 'Hello'", self.program)))
            .line(hint(
                "A second account here:",
                &format!("sotto --home DIR init --relay {}", self.relay),
            ))
            .line(Line::new().dim("Ctrl-C ends it; accounts and messages stay."))
            .line(Line::new())
    }
}

/// Runs until a signal comes, then finishes what is in flight.
pub(crate) async fn run(context: &mut Context, args: &Up, signals: &mut Signals) -> Ended {
    let home = context.new_home()?;
    // Asked for before anything is started or written.
    let unlock = tokio::select! {
        unlock = unlock(context, &home) => unlock?,
        () = signals.stop() => return Err(interrupted().into()),
    };
    let servers = Servers::start(home.path(), args.listen_relay, args.listen_files).await?;
    for warning in servers.relay.warnings() {
        context.printer.warn(warning);
    }
    let ended = tokio::select! {
        ended = serve(context, &home, unlock, args, &servers) => ended,
        () = signals.stop() => Ok(()),
    };
    let stopped = servers.stop().await;
    ended?;
    stopped?;
    Ok(())
}

/// Makes or opens the account, says where everything is, then shows what happens.
async fn serve(
    context: &mut Context,
    home: &Home,
    unlock: UnlockWith,
    args: &Up,
    servers: &Servers,
) -> Ended {
    let mut client = account(context, home, unlock, args, servers).await?;
    context.pass_on_warnings(&mut client);
    let view = UpView {
        relay: servers.relay_url.to_string(),
        file_server: servers.files_url.to_string(),
        npub: client.account()?.npub,
        home: home.path().display().to_string(),
        invite: client.invite()?.to_string(),
        program: context.program(),
    };
    context.printer.show(&view)?;
    loop {
        let watching = client.watch(None, |event| show(&mut context.printer, &event));
        if let Err(error) = watching.await {
            context.printer.warn(&error.detail);
        }
        if context.printer.is_closed() {
            // Nobody reads any more; the servers go on all the same.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn show(printer: &mut Printer, event: &client_core::view::EventView) -> ControlFlow<()> {
    match printer.show(event) {
        Ok(()) if !printer.is_closed() => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}

/// What opens the account in `home`, or will open the one that is made there.
async fn unlock(context: &Context, home: &Home) -> Result<UnlockWith> {
    if home.exists() {
        context.unlock(home).await
    } else {
        new_unlock(context).await
    }
}

/// The account in `home`, made where there is none, that uses these servers.
async fn account(
    context: &mut Context,
    home: &Home,
    unlock: UnlockWith,
    args: &Up,
    servers: &Servers,
) -> Result<Client> {
    if !home.exists() {
        let options = InitOptions {
            name: args.name.clone(),
            relays: vec![servers.relay_url.clone()],
            file_servers: vec![servers.files_url.clone()],
            ..InitOptions::default()
        };
        let made = home
            .init(unlock.clone(), options, &context.settings())
            .await?;
        if let Some(error) = made.error {
            return Err(error);
        }
    }
    let circle = context
        .global
        .circle
        .as_deref()
        .filter(|name| !name.is_empty());
    let mut client = home.open(unlock, circle, &context.settings())?;
    let relay = servers.relay_url.as_str();
    if !client.relays()?.iter().any(|known| known.url == relay) {
        full(client.add_relay(servers.relay_url.clone()).await?)?;
    }
    let files = servers.files_url.as_str();
    if !client
        .file_servers()?
        .iter()
        .any(|known| known.url == files)
    {
        full(client.add_file_server(servers.files_url.clone()).await?)?;
    }
    Ok(client)
}

fn full<T>(outcome: Outcome<T>) -> Result<()> {
    outcome.error.map_or(Ok(()), Err)
}

/// Both servers, with their data in the account's folder.
struct Servers {
    relay: Relay,
    files: FileServer,
    relay_url: RelayUrl,
    files_url: Origin,
}

impl Servers {
    async fn start(home: &Path, relay: SocketAddr, files: SocketAddr) -> Result<Self> {
        let data = home.join("servers");
        let listener = TcpListener::bind(relay)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => busy(relay, "--listen-relay"),
                _ => Error::from(error),
            })?;
        let relay = Relay::start(listener, sotto_relay::Config::on_disk(data.join("relay")))
            .await
            .map_err(|error| match error {
                ServerError::Store(StoreError::InUse) => in_use(),
                ServerError::Store(StoreError::Damaged(_)) => {
                    Error::new(ErrorWord::Integrity, error.to_string())
                }
                other => internal(other),
            })?;
        let config = sotto_files::Config {
            listen: files,
            ..sotto_files::Config::new(data.join("files"))
        };
        let files = FileServer::start(config)
            .await
            .map_err(|error| match error {
                StartError::PortBusy(address) => busy(address, "--listen-files"),
                StartError::DataBusy => in_use(),
                other => internal(other),
            })?;
        Ok(Self {
            relay_url: RelayUrl::parse(&relay.url()).map_err(internal)?,
            files_url: Origin::parse(&files.url()).map_err(internal)?,
            relay,
            files,
        })
    }

    async fn stop(self) -> Result<()> {
        self.files.stop().await;
        self.relay.stop().await.map_err(internal)
    }
}

fn busy(address: SocketAddr, option: &str) -> Error {
    Error::new(ErrorWord::Conflict, format!("{address} is in use")).hint(format!(
        "is `sotto up` running already? Or choose a port with {option}"
    ))
}

fn in_use() -> Error {
    Error::new(ErrorWord::Conflict, "another server uses the same data")
        .hint("is `sotto up` running already?")
}
