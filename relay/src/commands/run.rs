//! `run`: the relay in the foreground.

use std::process::ExitCode;

use serde_json::json;
use sotto_relay::Relay;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Say, Word, configuration};
use crate::Place;

/// Serves until SIGTERM (0) or SIGINT (130).
pub fn run(
    say: &Say,
    place: Place,
    listen: Option<String>,
    public_urls: Vec<String>,
) -> Result<ExitCode, Failure> {
    let config = configuration(place, listen, public_urls)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            let mut failure = Failure::from(std::io::Error::from(error.kind()));
            failure.detail = format!("{}: {error}", config.listen);
            failure
        })?;
        let relay = Relay::start(listener, config).await?;
        for warning in relay.warnings() {
            say.warn(warning);
        }
        let url = relay.url();
        let object = json!({
            "schema": "sotto.listening/1",
            "url": url,
            "pid": std::process::id(),
        });
        say.out(&object, &format!("listening on {url}"));
        let code = tokio::select! {
            _ = terminated.recv() => ExitCode::SUCCESS,
            _ = interrupted.recv() => ExitCode::from(Word::Interrupted.exit_code()),
            () = relay.ended() => ExitCode::FAILURE,
        };
        relay.stop().await?;
        Ok(code)
    })
}
