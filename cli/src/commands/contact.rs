//! `sotto contact`

use client_core::client::Outcome;

use crate::args::Contact;
use crate::context::{Context, Ended};
use crate::secrets;

pub async fn run(context: &mut Context, command: Contact) -> Ended {
    if let Contact::Remove { who, yes } = &command {
        context.existing_home()?;
        let question = format!("Forget {who}?");
        secrets::confirm(&question, *yes, context.global.no_input).await?;
    }
    let mut client = context.open().await?;
    let view = match &command {
        Contact::List => {
            let views = client.contacts()?;
            return context.end_list(client, Outcome::done(views)).await;
        }
        Contact::Add { who, alias } => client.add_contact(who, alias.as_deref())?,
        Contact::Show { who } => client.contact(who)?,
        Contact::Verify { who } => client.verify_contact(who)?,
        Contact::Block { who } => client.block_contact(who)?,
        Contact::Unblock { who } => client.unblock_contact(who)?,
        Contact::Remove { who, .. } => client.remove_contact(who)?,
    };
    context.end(client, Outcome::done(view)).await
}
