//! `run`: the relay in the foreground.

use std::process::ExitCode;

use serde_json::json;
use sotto_relay::config::Storage;
use sotto_relay::{Config, Relay};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Say, Word, configuration, data, on_address};
use crate::Place;

/// Serves until SIGTERM (0) or SIGINT (130). SIGHUP puts the configuration file in force again.
pub fn run(
    say: &Say,
    place: Place,
    listen: Option<String>,
    public_urls: Vec<String>,
) -> Result<ExitCode, Failure> {
    let read = || configuration(place.clone(), listen.clone(), public_urls.clone());
    let config = read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| on_address(&config.listen.to_string(), &error))?;
        let folder = match &config.storage {
            Storage::Disk { folder, .. } => folder.display().to_string(),
            Storage::Memory => String::new(),
        };
        let relay = Relay::start(listener, config.clone()).await;
        let relay = relay.map_err(|error| data::not_opened(&config, error))?;
        for warning in relay.warnings().iter().chain(&relay.concerns()) {
            say.warn(warning);
        }
        warn_of_overridden(say, &relay);
        let url = relay.url();
        let mut object = json!({
            "schema": "sotto.listening/1",
            "url": url,
            "pid": std::process::id(),
            "data": folder,
        });
        if let (Some(fields), Some(metrics)) = (object.as_object_mut(), relay.metrics_url()) {
            fields.insert("metrics".to_owned(), metrics.into());
        }
        say.out(&object, &format!("listening on {url}, data in {folder}"));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "the relay has started");
        let code = loop {
            tokio::select! {
                _ = terminated.recv() => break ExitCode::SUCCESS,
                _ = interrupted.recv() => {
                    break ExitCode::from(Word::Interrupted.exit_code());
                }
                _ = hung_up.recv() => reload(say, &relay, read()),
                () = relay.ended() => break ExitCode::FAILURE,
            }
        };
        tracing::info!("the relay stops");
        relay.stop().await?;
        tracing::info!("the relay has stopped");
        // A program that called is told by a word; a person pressed the keys.
        match code == ExitCode::from(Word::Interrupted.exit_code()) && say.json {
            true => Err(Failure::new(Word::Interrupted, "stopped by SIGINT")),
            false => Ok(code),
        }
    })
}

/// What was given over the management API outlives restarts, and may be long forgotten.
fn warn_of_overridden(say: &Say, relay: &Relay) {
    for (name, method) in relay.overridden() {
        say.warn(&format!(
            "{name} is not shown: another was given over the management API and wins, until \
             {method} gives an empty one"
        ));
    }
}

/// What was in force stays in force where the file, or one that it names, is not in order.
fn reload(say: &Say, relay: &Relay, read: Result<Config, Failure>) {
    let reloaded = read.and_then(|config| Ok(relay.reload(config)?));
    match reloaded {
        Ok(fixed) => {
            for name in fixed {
                say.warn(&format!("{name} has changed, which takes a restart"));
            }
            warn_of_overridden(say, relay);
            for concern in relay.concerns() {
                say.warn(&concern);
            }
            tracing::info!("the configuration was reloaded");
        }
        Err(failure) => {
            relay.metrics().reloads.add("failed");
            tracing::error!(
                detail = failure.detail(),
                "the configuration was not reloaded: the file is not in order"
            );
        }
    }
}
