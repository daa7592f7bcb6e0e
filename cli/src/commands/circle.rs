//! `sotto circle`

use client_core::client::{NewCircle, Outcome};

use crate::args::Circle;
use crate::commands::init::relays_and_invites;
use crate::context::{Context, Ended};

pub async fn run(context: &mut Context, command: Circle) -> Ended {
    let mut client = context.open().await?;
    match command {
        Circle::Create {
            name,
            relay,
            file_server,
            expire,
        } => {
            let (relays, invites) = relays_and_invites(relay);
            let outcome = client
                .create_circle(NewCircle {
                    name,
                    relays,
                    invites,
                    file_servers: file_server,
                    expire_s: expire,
                })
                .await?;
            context.end(client, outcome).await
        }
        Circle::List => {
            let views = client.circles()?;
            context.end_list(client, Outcome::done(views)).await
        }
        Circle::Use { name } => {
            let view = client.use_circle(&name)?;
            context.end(client, Outcome::done(view)).await
        }
        Circle::Show { name } => {
            let view = client.circle(name.as_deref())?;
            context.end(client, Outcome::done(view)).await
        }
    }
}
