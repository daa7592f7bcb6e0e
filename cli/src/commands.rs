//! One file per noun. A command checks what it can, opens the account, asks the front door for
//! one thing, and shows the answer.

mod account;
mod circle;
mod contact;
mod file;
mod fileserver;
mod inbox;
mod init;
mod invite;
mod manual;
mod message;
mod outbox;
mod pin;
mod relay;
mod send;
mod sync;
mod version;

pub(crate) use init::new_unlock;

use crate::args::Command;
use crate::context::{Context, Ended};
use crate::demo;

/// Runs a command to its end.
pub(crate) async fn run(context: &mut Context, command: Command) -> Ended {
    match command {
        Command::Send(args) => send::run(context, args).await,
        Command::Inbox => inbox::run(context).await,
        Command::Sync => sync::run(context).await,
        Command::Message(command) => message::run(context, command).await,
        Command::File(command) => file::run(context, command).await,
        Command::Invite => invite::run(context).await,
        Command::Contact(command) => contact::run(context, command).await,
        Command::Circle(command) => circle::run(context, command).await,
        Command::Init(args) => init::run(context, args).await,
        Command::Account(command) => account::run(context, command).await,
        Command::Pin(command) => pin::run(context, command).await,
        Command::Relay(command) => relay::run(context, command).await,
        Command::Fileserver(command) => fileserver::run(context, command).await,
        Command::Outbox(command) => outbox::run(context, command).await,
        Command::Demo => demo::run(context).await,
        // `supervise` took it already: it handles signals by itself.
        Command::Up(_) => Ok(()),
        Command::Completions(args) => manual::completions(context, &args),
        Command::Man(args) => manual::man(context, &args),
        Command::Version => version::run(context),
    }
}
