//! File servers in memory, and how they answer.

use std::collections::BTreeMap;

use client_core::engine::io::BlobOutcome;
use wire::blob::{BlobUrl, Token, Verb};
use wire::relay_url::Origin;
use wire::{PublicKey, Sha256};

/// A file server in memory.
#[derive(Debug, Default)]
pub struct FileServer {
    pub is_down: bool,
    pub refuses: bool,
    /// Says it deleted and keeps the blob.
    pub lies: bool,
    pub blobs: BTreeMap<Sha256, (PublicKey, Option<u64>)>,
    pub keys: Vec<PublicKey>,
}

impl FileServer {
    pub(super) fn upload(
        &mut self,
        origin: &Origin,
        blob: Sha256,
        authorization: &str,
        sunset: Option<u64>,
        now: u64,
    ) -> BlobOutcome {
        if self.is_down {
            return no_connection();
        }
        if self.refuses {
            return refused("no");
        }
        let token = Token::from_header(authorization).unwrap();
        token
            .check(Verb::Upload, &blob, &[origin.host()], now)
            .unwrap();
        self.keys.push(token.pubkey());
        self.blobs.insert(blob, (token.pubkey(), sunset));
        BlobOutcome::Done { sunset }
    }

    pub(super) fn remove(&mut self, url: &BlobUrl, authorization: &str, now: u64) -> BlobOutcome {
        if self.is_down {
            return no_connection();
        }
        let token = Token::from_header(authorization).unwrap();
        token
            .check(Verb::Delete, &url.hash, &[url.origin.host()], now)
            .unwrap();
        match self.blobs.get(&url.hash) {
            None => BlobOutcome::Absent,
            Some((owner, _)) if *owner != token.pubkey() => refused("not yours"),
            Some(_) => {
                if !self.lies {
                    self.blobs.remove(&url.hash);
                }
                BlobOutcome::Done { sunset: None }
            }
        }
    }

    pub(super) fn probe(&self, url: &BlobUrl) -> BlobOutcome {
        if self.is_down {
            return no_connection();
        }
        match self.blobs.contains_key(&url.hash) {
            true => BlobOutcome::Done { sunset: None },
            false => BlobOutcome::Absent,
        }
    }
}

fn no_connection() -> BlobOutcome {
    BlobOutcome::Unreachable("no connection".into())
}

fn refused(reason: &str) -> BlobOutcome {
    BlobOutcome::Refused {
        status: 403,
        reason: reason.into(),
    }
}
