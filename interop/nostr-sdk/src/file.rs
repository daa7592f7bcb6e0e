//! NIP-17 file messages: aes-gcm, a Blossom server, and a kind 15 rumor.

use aes_gcm::aead::{Aead as _, KeyInit as _, OsRng};
use aes_gcm::{AeadCore as _, Aes256Gcm, Key, Nonce};
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nostr_sdk::prelude::*;
use sha2::{Digest as _, Sha256};

/// Kind of a file message.
pub const KIND: u16 = 15;

/// How long an upload token lives, seconds.
const TOKEN_LIFE: u64 = 300;

/// Encrypts and uploads a file, and says where it is and how to open it: the rumor of a file
/// message from `author` to `to`.
pub fn upload(
    server: &str,
    author: &Keys,
    to: PublicKey,
    plain: &[u8],
    mime: &str,
) -> Result<UnsignedEvent> {
    let key = Aes256Gcm::generate_key(OsRng);
    let nonce = Aes256Gcm::generate_nonce(OsRng);
    let blob = Aes256Gcm::new(&key)
        .encrypt(&nonce, plain)
        .ok()
        .context("aes-gcm encrypts")?;
    let hash = sha256(&blob);
    let answer = ureq::put(format!("{server}/upload"))
        .header("Authorization", token(&hash, server)?)
        .header("Content-Type", "application/octet-stream")
        .send(&blob)?
        .body_mut()
        .read_to_string()?;
    let descriptor: serde_json::Value = serde_json::from_str(&answer)?;
    ensure!(descriptor["sha256"] == hash.as_str(), "{descriptor}");
    ensure!(descriptor["size"] == blob.len(), "{descriptor}");
    let url = descriptor["url"].as_str().context("no url in the answer")?;
    Ok(EventBuilder::new(Kind::Custom(KIND), url)
        .tags([
            Tag::public_key(to),
            Tag::parse(["file-type", mime])?,
            Tag::parse(["encryption-algorithm", "aes-gcm"])?,
            Tag::parse(["decryption-key", &hex::encode(key)])?,
            Tag::parse(["decryption-nonce", &hex::encode(nonce)])?,
            Tag::parse(["x", &hash])?,
            Tag::parse(["ox", &sha256(plain)])?,
            Tag::parse(["size", &blob.len().to_string()])?,
        ])
        .build(author.public_key()))
}

/// Fetches and opens the file that a kind 15 rumor speaks of, as a client does that knows NIP-17
/// and nothing of Sotto: plain GET of the URL, hash checked, aes-gcm.
pub fn download(rumor: &UnsignedEvent) -> Result<Vec<u8>> {
    ensure!(
        rumor.kind == Kind::Custom(KIND),
        "{} is no file message",
        rumor.kind
    );
    ensure!(tag(rumor, "encryption-algorithm")? == "aes-gcm");
    let blob = ureq::get(&rumor.content).call()?.body_mut().read_to_vec()?;
    ensure!(
        sha256(&blob) == tag(rumor, "x")?,
        "the blob is not what x names"
    );
    let key = hex::decode(tag(rumor, "decryption-key")?)?;
    let nonce = hex::decode(tag(rumor, "decryption-nonce")?)?;
    ensure!(key.len() == 32 && nonce.len() == 12);
    Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(&key))
        .decrypt(Nonce::from_slice(&nonce), blob.as_slice())
        .ok()
        .context("the blob does not open with the message's key")
}

/// The first value of a tag that must be there.
pub fn tag<'a>(rumor: &'a UnsignedEvent, name: &str) -> Result<&'a str> {
    rumor
        .tags
        .iter()
        .map(Tag::as_slice)
        .find(|tag| tag.first().is_some_and(|first| first == name))
        .and_then(|tag| tag.get(1))
        .map(String::as_str)
        .with_context(|| format!("no tag {name} in {rumor:?}"))
}

/// Hash as lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The header that allows one upload (BUD-11), signed by a key of its own: the file server need
/// not learn who writes.
fn token(hash: &str, server: &str) -> Result<String> {
    let host = Url::parse(server)?
        .host_str()
        .context("a server has a host")?
        .to_owned();
    let expiration = Timestamp::now().as_secs() + TOKEN_LIFE;
    let event = EventBuilder::new(Kind::Custom(24242), "Upload")
        .tags([
            Tag::parse(["t", "upload"])?,
            Tag::parse(["x", hash])?,
            Tag::parse(["server", &host])?,
            Tag::parse(["expiration", &expiration.to_string()])?,
        ])
        .sign_with_keys(&Keys::generate())?;
    Ok(format!("Nostr {}", URL_SAFE_NO_PAD.encode(event.as_json())))
}
