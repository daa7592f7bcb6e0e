//! The other person, who runs nostr-sdk.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nostr_sdk::prelude::*;

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// A person with keys of their own and nostr-sdk's client, connected to one relay.
pub struct Foreign {
    /// The keys.
    pub keys: Keys,
    client: Client,
    relay: String,
}

impl Foreign {
    /// Somebody new.
    pub async fn join(relay: &str) -> Result<Self> {
        Self::with_keys(Keys::generate(), relay, true).await
    }

    /// Somebody whose keys are known. Without `authenticates`, the client ignores the relay's
    /// challenges.
    pub async fn with_keys(keys: Keys, relay: &str, authenticates: bool) -> Result<Self> {
        let client = Client::builder()
            .signer(keys.clone())
            .opts(ClientOptions::new().automatic_authentication(authenticates))
            .build();
        client.add_relay(relay).await?;
        let connected = client.try_connect(PATIENCE).await;
        ensure!(connected.failed.is_empty(), "{:?}", connected.failed);
        Ok(Self {
            keys,
            client,
            relay: relay.to_owned(),
        })
    }

    /// The public key.
    pub fn pubkey(&self) -> PublicKey {
        self.keys.public_key()
    }

    /// As people pass it on.
    pub fn npub(&self) -> Result<String> {
        Ok(self.pubkey().to_bech32()?)
    }

    /// Publishes the list of inbox relays (kind 10050), without which nobody may write.
    pub async fn publish_inbox_relays(&self) -> Result<()> {
        let list = EventBuilder::new(Kind::InboxRelays, "")
            .tag(Tag::parse(["relay", self.relay.as_str()])?);
        accepted(self.client.send_event_builder(list).await?)
    }

    /// The inbox relays that somebody has published.
    pub async fn inbox_relays_of(&self, whom: PublicKey) -> Result<Vec<String>> {
        let filter = Filter::new().author(whom).kind(Kind::InboxRelays);
        let events = self.client.fetch_events(filter, PATIENCE).await?;
        let list = events.first().context("no list of inbox relays")?;
        Ok(nip17::extract_relay_list(list)
            .map(ToString::to_string)
            .collect())
    }

    /// Sends a text as nostr-sdk does it (NIP-17).
    pub async fn send_text(&self, to: PublicKey, text: &str) -> Result<()> {
        accepted(self.client.send_private_msg(to, text, []).await?)
    }

    /// Seals and wraps any rumor and sends it.
    pub async fn send_rumor(&self, to: PublicKey, rumor: UnsignedEvent) -> Result<()> {
        accepted(self.client.gift_wrap(&to, rumor, []).await?)
    }

    /// Every wrap that the relay hands out for this key.
    pub async fn wraps(&self) -> Result<Vec<Event>> {
        let filter = Filter::new().kind(Kind::GiftWrap).pubkey(self.pubkey());
        let events = self.client.fetch_events(filter, PATIENCE).await?;
        Ok(events.into_iter().collect())
    }

    /// Every message in the inbox, opened by nostr-sdk. All must open.
    pub async fn inbox(&self) -> Result<Vec<UnwrappedGift>> {
        let mut messages = Vec::new();
        for wrap in self.wraps().await? {
            messages.push(self.client.unwrap_gift_wrap(&wrap).await?);
        }
        Ok(messages)
    }

    /// What stands in the seal of a wrap for this key, as text: the JSON of the rumor with
    /// everything that nostr-sdk's own types leave out.
    pub fn rumor_json(&self, wrap: &Event) -> Result<String> {
        let secret = self.keys.secret_key();
        let seal = Event::from_json(nip44::decrypt(secret, &wrap.pubkey, &wrap.content)?)?;
        Ok(nip44::decrypt(secret, &seal.pubkey, &seal.content)?)
    }

    /// Leaves the relay.
    pub async fn leave(self) {
        self.client.shutdown().await;
    }
}

fn accepted<T: std::fmt::Debug>(output: Output<T>) -> Result<()> {
    ensure!(
        output.failed.is_empty() && !output.success.is_empty(),
        "{output:?}"
    );
    Ok(())
}
