//! Files: where blobs go, who may fetch them, and how they are taken back.

use crypto::DeletionSecret;
use crypto::{OneTimeKey, Signer};
use rand::RngExt as _;
use wire::blob::{BlobUrl, Token, Verb};
use wire::relay_url::Origin;
use wire::{EventId, PublicKey, Sha256};

use crate::engine::compose::SpooledFile;
use crate::engine::file_message::FileCipher;
use crate::engine::io::{BlobOutcome, Effect};
use crate::engine::machine::{Engine, Op, Turn};
use crate::engine::reach::{OwnPlaces, Verdict};
use crate::error::{Error, ErrorWord, Result};
use crate::store::{
    self, BlobState, ContactRow, FileRow, MessageRow, PlaceRow, SecretPurpose, Store, damaged,
};

/// How a file for somebody must be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// XChaCha20-Poly1305 STREAM: the peer speaks Sotto.
    Stream,
    /// aes-gcm, at most [`wire::limits::FOREIGN_FILE_BYTES`]: any NIP-17 client.
    Foreign,
}

/// How to fetch the file of a message.
#[derive(Debug, Clone)]
pub struct FilePlan {
    /// Where, in the order to try; each with whether the user's own configuration names it.
    pub urls: Vec<(BlobUrl, bool)>,
    /// Key and nonce.
    pub cipher: FileCipher,
    /// SHA-256 of the ciphertext, to check before decrypting.
    pub blob: Sha256,
    /// Bytes of ciphertext, where the sender told.
    pub cipher_size: Option<u64>,
    /// Bytes of the file, where known.
    pub plain_size: Option<u64>,
    /// SHA-256 of the file, to check after decrypting, where the sender told (`ox`).
    pub plain_hash: Option<Sha256>,
    /// As the sender named it. Untrusted.
    pub name: String,
    /// MIME type, as the sender says.
    pub mime: String,
}

/// The blob is uploaded to so many of our file servers.
const UPLOADS: usize = 3;
/// A token lives between these, seconds.
const TOKEN_SECONDS: std::ops::RangeInclusive<u64> = 300..=600;
/// Tries of one upload or removal before the server counts as unwilling.
const SERVER_ERRORS: u32 = 8;

/// The owner of the key of a blob's claim at one server, in the table of secrets.
fn claim(blob: &Sha256, origin: &Origin) -> EventId {
    let text = format!("{blob} {}", origin.with_port());
    EventId::from_bytes(*Sha256::of(text.as_bytes()).as_bytes())
}

impl Engine {
    /// How a file for somebody must be encrypted: as Sotto does where the peer's `sotto` tag or
    /// invite was seen (or it is a note to oneself), else as any NIP-17 client reads it.
    pub fn file_format_for(&self, store: &Store, to: &PublicKey) -> Result<FileFormat> {
        let is_sotto = *to == self.public_key() || ContactRow::of(store.connection(), to)?.is_sotto;
        Ok(if is_sotto {
            FileFormat::Stream
        } else {
            FileFormat::Foreign
        })
    }

    /// Where and with what key to fetch the files of a message, because the user asked for it.
    ///
    /// A stranger's file is fetched from our own servers only (`refused` otherwise, with the
    /// hint to accept the contact). Fails with `not_found` where the message is gone or carries
    /// no file.
    pub fn file_plan(&self, store: &Store, id: EventId, now: u64) -> Result<Vec<FilePlan>> {
        let connection = store.connection();
        let missing = || Error::new(ErrorWord::NotFound, "no such message, or it has no file");
        let message = MessageRow::by_id(connection, &id)?
            .filter(|message| message.expires_at.is_none_or(|at| at > now))
            .ok_or_else(missing)?;
        let file = FileRow::find(connection, &id)?.ok_or_else(missing)?;
        let key = SecretPurpose::File
            .find(connection, &id)?
            .ok_or_else(missing)?;
        let is_trusted = message.is_own || ContactRow::of(connection, &message.author)?.is_accepted;
        let places = OwnPlaces::load(connection)?;
        let own = store::own_file_servers(connection)?;
        let mut urls = Vec::new();
        for url in file.urls.iter().filter_map(|url| BlobUrl::parse(url).ok()) {
            if let Verdict::Dial { is_own } = places.origin(&url.origin)
                && (is_trusted || own.contains(&url.origin))
            {
                urls.push((url, is_own));
            }
        }
        if urls.is_empty() {
            let error = Error::new(
                ErrorWord::Refused,
                "the file lies on no server that may be contacted",
            );
            return Err(if is_trusted {
                error
            } else {
                error.hint("accept the sender with `sotto contact add` first")
            });
        }
        Ok(vec![FilePlan {
            urls,
            cipher: FileCipher::from_stored(&key)?,
            blob: file.blob,
            cipher_size: file.cipher_size,
            plain_size: file.plain_size,
            plain_hash: file.plain_hash,
            name: file.name,
            mime: file.mime,
        }])
    }

    /// The blobs that this circle still needs in the spool: what else lies there is garbage of a
    /// crash.
    pub fn spooled(&self, store: &Store) -> Result<Vec<Sha256>> {
        let open = PlaceRow::open(store.connection())?;
        let mut blobs: Vec<Sha256> = open
            .into_iter()
            .filter(|place| place.state == BlobState::Upload)
            .map(|place| place.blob)
            .collect();
        blobs.dedup();
        Ok(blobs)
    }
}

impl Turn<'_> {
    /// Where a file of ours will lie: on our file servers, the first named first.
    pub fn upload_urls(&self, file: &SpooledFile) -> Result<Vec<BlobUrl>> {
        let origins = store::own_file_servers(self.tx)?;
        if origins.is_empty() {
            return Err(Error::new(
                ErrorWord::Conflict,
                "this circle has no file server to put the file on",
            )
            .hint("add one with `sotto fileserver add URL`"));
        }
        Ok(origins
            .into_iter()
            .take(UPLOADS)
            .map(|origin| BlobUrl {
                origin,
                hash: file.blob,
            })
            .collect())
    }

    /// Stores the intent to upload, with a key of its own and an end of life drawn apart for
    /// each server.
    pub fn queue_uploads(
        &mut self,
        message: &EventId,
        file: &SpooledFile,
        expires_at: Option<u64>,
        secret: &DeletionSecret,
    ) -> Result<()> {
        store::note_spooled(self.tx, &file.blob, message)?;
        for url in self.upload_urls(file)? {
            self.keep_upload_key(&file.blob, &url.origin, secret)?;
            let sunset = expires_at.map(|at| {
                let ttl = at.saturating_sub(self.now);
                crypto::expiry::outer_expiry(at, ttl, self.rng)
            });
            PlaceRow {
                blob: file.blob,
                origin: url.origin,
                message: *message,
                is_own: true,
                size: file.cipher_size,
                state: BlobState::Upload,
                touched: false,
                sunset,
                granted: None,
                last: String::new(),
                detail: String::new(),
                attempts: 0,
                next_at: self.now,
                lease_until: 0,
            }
            .save(self.tx)?;
        }
        Ok(())
    }

    /// Keeps the key of one claim until the blob is gone: the deletion secret itself goes with
    /// the message.
    pub fn keep_upload_key(
        &mut self,
        blob: &Sha256,
        origin: &Origin,
        secret: &DeletionSecret,
    ) -> Result<()> {
        let key = secret.upload_key(blob, origin);
        let bytes = key.expose_secret_bytes();
        SecretPurpose::Upload.keep(self.tx, &claim(blob, origin), bytes.as_slice(), None)
    }

    fn authorization(&mut self, place: &PlaceRow, verb: Verb) -> Result<Option<String>> {
        let owner = claim(&place.blob, &place.origin);
        let Some(bytes) = SecretPurpose::Upload.find(self.tx, &owner)? else {
            return Ok(None);
        };
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged())?;
        let key = OneTimeKey::from_secret_bytes(bytes).map_err(|_| damaged())?;
        let life = self.rng.random_range(TOKEN_SECONDS);
        let expiration = self.now.saturating_add(life);
        let draft = Token::draft(
            Signer::public_key(&key),
            verb,
            &place.blob,
            &place.origin,
            self.now,
            expiration,
        );
        Ok(Some(Token::header(&key.sign(draft, self.rng))))
    }

    /// Leases what is due on file servers and starts it.
    pub fn emit_blobs(&mut self) -> Result<()> {
        for mut place in PlaceRow::due(self.tx, self.now)? {
            let verb = match place.state {
                BlobState::Upload => Verb::Upload,
                _ => Verb::Delete,
            };
            let authorization = match place.state {
                BlobState::Probe => Some(String::new()),
                _ => self.authorization(&place, verb)?,
            };
            let Some(authorization) = authorization else {
                place.state = BlobState::Kept;
                "the key of the claim is gone".clone_into(&mut place.detail);
                place.save(self.tx)?;
                continue;
            };
            let op = self.begin(Op::Blob {
                blob: place.blob,
                origin: place.origin.clone(),
                was_touched: place.touched,
                asked: place.state,
                message: place.message,
            });
            let url = BlobUrl {
                origin: place.origin.clone(),
                hash: place.blob,
            };
            let is_own = place.is_own;
            self.effects.push(match place.state {
                BlobState::Upload => Effect::Upload {
                    op,
                    origin: place.origin.clone(),
                    is_own,
                    blob: place.blob,
                    size: place.size,
                    authorization,
                    sunset: place.sunset,
                },
                BlobState::Probe => Effect::ProbeBlob { op, url, is_own },
                _ => Effect::RemoveBlob {
                    op,
                    url,
                    is_own,
                    authorization,
                },
            });
            place.touched = true;
            place.attempts = place.attempts.saturating_add(1);
            place.lease_until = self.lease();
            place.save(self.tx)?;
        }
        Ok(())
    }

    /// A file server answered, or did not.
    pub fn blob_done(
        &mut self,
        blob: &Sha256,
        origin: &Origin,
        (asked, was_touched): (BlobState, bool),
        outcome: BlobOutcome,
    ) -> Result<()> {
        let Some(mut place) = PlaceRow::find(self.tx, blob, origin)? else {
            return Ok(());
        };
        place.lease_until = 0;
        if place.state != asked {
            // The user changed their mind while it was on its way; the new way goes on.
            place.next_at = self.now;
            return place.save(self.tx);
        }
        let is_retry = |status: u16| status == 408 || status == 429 || status >= 500;
        match (place.state, outcome) {
            (BlobState::Upload, BlobOutcome::Done { sunset }) => {
                place.state = BlobState::Stored;
                place.granted = sunset;
                "stored".clone_into(&mut place.detail);
            }
            (BlobState::Remove, BlobOutcome::Done { .. } | BlobOutcome::Absent) => {
                // What the server says it did is asked for once more.
                place.state = BlobState::Probe;
                place.attempts = 0;
                place.next_at = self.now;
            }
            (BlobState::Probe, BlobOutcome::Absent) => {
                place.state = BlobState::Gone;
                "gone".clone_into(&mut place.detail);
                SecretPurpose::Upload.erase(self.tx, &claim(blob, origin))?;
            }
            (BlobState::Probe, BlobOutcome::Done { .. }) => {
                place.state = BlobState::Kept;
                "the server still has it".clone_into(&mut place.detail);
            }
            (_, BlobOutcome::Refused { status, reason }) => {
                place.detail = format!("{status} {reason}");
                "refused".clone_into(&mut place.last);
                if place.state == BlobState::Upload {
                    place.touched = was_touched;
                }
                if is_retry(status) && place.attempts < SERVER_ERRORS {
                    place.next_at = self.backoff(place.attempts, 0);
                } else {
                    place.state = match place.state {
                        BlobState::Upload => BlobState::Refused,
                        _ => BlobState::Kept,
                    };
                }
            }
            (BlobState::Upload, BlobOutcome::Absent) => {
                place.state = BlobState::Refused;
                "the server knows no upload".clone_into(&mut place.detail);
            }
            (_, BlobOutcome::Unreachable(why)) => {
                "unreachable".clone_into(&mut place.last);
                place.detail = why;
                place.next_at = self.backoff(place.attempts, 0);
            }
            (state, BlobOutcome::Forbidden(why)) => {
                place.detail = why;
                place.state = match state {
                    BlobState::Upload => BlobState::Refused,
                    _ => BlobState::Kept,
                };
            }
            // Answered twice, or after the way changed: nothing more to do here.
            _ => {}
        }
        place.save(self.tx)
    }

    /// Removes ciphertext from the spool that no upload needs any more.
    pub fn unspool(&mut self) -> Result<()> {
        for blob in store::spool_garbage(self.tx)? {
            store::drop_spooled(self.tx, &blob)?;
            self.effects.push(Effect::Unspool { blob });
        }
        Ok(())
    }
}
