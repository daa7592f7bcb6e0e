//! Doors for the fuzz targets (`fuzz/`) to decoders that nobody else calls from outside. No part
//! of what this crate offers, and nothing of it counts on them.

use hyper::StatusCode;
use hyper::header::HeaderMap;
use wire::{EventId, Rumor, Sha256, VerifiedEvent};

use crate::engine::comparison::{Comparison, Next};
use crate::engine::io::BlobOutcome;
use crate::engine::{file_message, lookup};
use crate::error::Result;
use crate::runtime::file_link;

/// A comparison of what we hold with what a relay answers, until it ends: what we said, and how
/// many ids it named as missing here and there. The error says why the relay is not believed.
pub fn compare<'a>(
    held: Vec<(u64, EventId)>,
    answers: impl IntoIterator<Item = &'a [u8]>,
) -> std::result::Result<(Vec<Vec<u8>>, [usize; 2]), &'static str> {
    let (mut comparison, first) = Comparison::begin(held)?;
    let mut said = vec![first];
    for answer in answers {
        match comparison.answer(answer)? {
            Next::Say(next) => said.push(next),
            Next::Done | Next::MostlyNew => break,
        }
    }
    let counts = [comparison.missing().len(), comparison.gone().len()];
    Ok((said, counts))
}

/// What a file message says of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMessage {
    /// Of the ciphertext, where it is named.
    pub cipher_size: Option<u64>,
    /// Of the file, where it is named.
    pub plain_size: Option<u64>,
    /// As the sender calls it.
    pub name: String,
    /// As the sender says.
    pub mime: String,
    /// What is to be fetched.
    pub blob: Sha256,
    /// Where.
    pub urls: Vec<String>,
}

/// Reads the tags of a kind 15 rumor; its key survives being stored.
pub fn file_message(rumor: &Rumor) -> Result<FileMessage> {
    let (row, cipher) = file_message::read(rumor)?;
    let again = file_message::FileCipher::from_stored(&cipher.to_stored())?;
    debug_assert_eq!(again.algorithm(), cipher.algorithm());
    Ok(FileMessage {
        cipher_size: row.cipher_size,
        plain_size: row.plain_size,
        name: row.name,
        mime: row.mime,
        blob: row.blob,
        urls: row.urls,
    })
}

/// The addresses in somebody's list of relays or file servers.
pub fn list_urls(event: &VerifiedEvent) -> Vec<String> {
    lookup::list_urls(event)
}

/// What the head of a file server's answer means.
pub fn blob_answer(status: StatusCode, headers: &HeaderMap) -> BlobOutcome {
    file_link::outcome_of(status, headers)
}

/// Whether an answer goes on where `have` bytes end.
pub fn continues_at(headers: &HeaderMap, have: u64) -> bool {
    file_link::continues_at(headers, have)
}

/// The hash in the answer to an upload.
pub fn described(json: &[u8]) -> Option<Sha256> {
    file_link::described(json)
}
