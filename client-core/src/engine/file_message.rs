//! File messages: what the tags of kind 15 say, and the key that they carry.

use crypto::file_cipher::FileKey;
use crypto::foreign_file::ForeignFileKey;
use serde::{Deserialize, Serialize};
use wire::blob::BlobUrl;
use wire::{Rumor, Sha256, Tag, Tags, limits};
use zeroize::Zeroizing;

use crate::engine::compose::SpooledFile;
use crate::error::{Error, ErrorWord, Result};
use crate::store::{FileRow, damaged};

/// Key and nonce of one file.
#[derive(Debug, Clone)]
pub enum FileCipher {
    /// Between our clients: XChaCha20-Poly1305 STREAM.
    Stream(FileKey),
    /// With other NIP-17 clients: aes-gcm in one shot.
    Foreign(ForeignFileKey),
}

/// Addresses of one received file.
const URLS: usize = 5;
/// A MIME type, bytes.
const MIME_BYTES: usize = 127;
/// What one-shot aes-gcm adds to a file.
const GCM_TAG_BYTES: u64 = 16;

#[derive(Serialize, Deserialize)]
struct Stored {
    algorithm: String,
    key: String,
    nonce: String,
}

impl FileCipher {
    /// What the `encryption-algorithm` tag says.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Stream(_) => FileKey::ALGORITHM,
            Self::Foreign(_) => ForeignFileKey::ALGORITHM,
        }
    }

    fn key_hex(&self) -> Zeroizing<String> {
        match self {
            Self::Stream(key) => key.expose_secret_key_hex(),
            Self::Foreign(key) => key.expose_secret_key_hex(),
        }
    }

    fn nonce_hex(&self) -> String {
        match self {
            Self::Stream(key) => key.nonce_hex(),
            Self::Foreign(key) => key.nonce_hex(),
        }
    }

    fn from_tags(algorithm: &str, key: &str, nonce: &str) -> Result<Self> {
        let bad = |_| {
            Error::new(
                ErrorWord::Integrity,
                "the file's key or nonce is not as NIP-17 or our format says",
            )
        };
        match algorithm {
            FileKey::ALGORITHM => FileKey::from_hex(key, nonce).map(Self::Stream).map_err(bad),
            ForeignFileKey::ALGORITHM => ForeignFileKey::from_tags(key, nonce)
                .map(Self::Foreign)
                .map_err(bad),
            _ => Err(Error::new(
                ErrorWord::Integrity,
                "the file is encrypted in a way that this version does not know",
            )),
        }
    }

    /// For the table of secrets.
    pub(crate) fn to_stored(&self) -> Zeroizing<Vec<u8>> {
        let key = self.key_hex();
        let stored = Stored {
            algorithm: self.algorithm().to_owned(),
            key: key.as_str().to_owned(),
            nonce: self.nonce_hex(),
        };
        let json = Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default());
        drop(Zeroizing::new(stored.key));
        json
    }

    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        let key = Zeroizing::new(stored.key);
        Self::from_tags(&stored.algorithm, &key, &stored.nonce)
    }
}

/// The tags of a kind 15 rumor (NIP-17), and ours.
pub(crate) fn tag(file: &SpooledFile, urls: &[BlobUrl], tags: &mut Tags) {
    let mut put = |name: &str, value: String| tags.push(Tag::new([name.to_owned(), value]));
    put("file-type", file.mime.clone());
    put("m", file.mime.clone());
    put("encryption-algorithm", file.cipher.algorithm().to_owned());
    put("decryption-key", file.cipher.key_hex().as_str().to_owned());
    put("decryption-nonce", file.cipher.nonce_hex());
    put("x", file.blob.to_hex());
    put("ox", file.plain_hash.to_hex());
    put("size", file.cipher_size.to_string());
    // Padding hides the file's own size from servers, not from the recipient.
    put("osize", file.plain_size.to_string());
    put("name", file.name.clone());
    for url in urls.iter().skip(1) {
        put("fallback", url.to_string());
    }
}

/// Reads the tags of a kind 15 rumor. Fails where one that NIP-17 requires is missing or makes
/// no sense; addresses that do not name the blob `x` are left out.
pub(crate) fn read(rumor: &Rumor) -> Result<(FileRow, FileCipher)> {
    let missing = |what: &'static str| {
        move || {
            Error::new(
                ErrorWord::Integrity,
                format!("the file message has no {what}"),
            )
        }
    };
    let tags = rumor.tags();
    let algorithm = tags.value("encryption-algorithm");
    let cipher = FileCipher::from_tags(
        algorithm.ok_or_else(missing("encryption-algorithm"))?,
        tags.value("decryption-key")
            .ok_or_else(missing("decryption-key"))?,
        tags.value("decryption-nonce")
            .ok_or_else(missing("decryption-nonce"))?,
    )?;
    let hash = |name| {
        tags.value(name)
            .and_then(|text| Sha256::from_hex(text).ok())
    };
    let number = |name: &str| tags.value(name).and_then(|text| text.parse::<u64>().ok());
    let blob = hash("x").ok_or_else(missing("hash"))?;
    let mut urls = vec![rumor.content().to_owned()];
    urls.extend(tags.values("fallback").map(str::to_owned));
    let mut kept: Vec<String> = Vec::new();
    for url in urls.into_iter().filter_map(|url| BlobUrl::parse(&url).ok()) {
        let text = url.to_string();
        if url.hash == blob && !kept.contains(&text) && kept.len() < URLS {
            kept.push(text);
        }
    }
    let mime = tags.value("file-type").or(tags.value("m"));
    let name = tags.value("name").unwrap_or("file");
    let cipher_size = number("size").filter(|size| *size <= limits::FILE_BYTES.saturating_mul(2));
    let plain_size = number("osize").or(match cipher {
        FileCipher::Foreign(_) => cipher_size.and_then(|size| size.checked_sub(GCM_TAG_BYTES)),
        FileCipher::Stream(_) => None,
    });
    let row = FileRow {
        message: rumor.id(),
        author: rumor.author(),
        blob,
        cipher_size,
        plain_size: plain_size.filter(|size| *size <= limits::FILE_BYTES),
        plain_hash: hash("ox"),
        name: cut(name, limits::FILE_NAME_BYTES),
        mime: cut(mime.unwrap_or("application/octet-stream"), MIME_BYTES),
        urls: kept,
    };
    Ok((row, cipher))
}

fn cut(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{EventDraft, PublicKey, kinds};

    fn message(tags: &[(&str, &str)], content: &str) -> Rumor {
        Rumor::new(EventDraft {
            pubkey: PublicKey::from_bytes([1; 32]),
            created_at: 1,
            kind: kinds::FILE,
            tags: tags.iter().map(|(n, v)| Tag::new([*n, *v])).collect(),
            content: content.into(),
        })
    }

    /// As other NIP-17 clients write it: base64 key, 16-byte nonce, no name, a path with an
    /// extension.
    #[test]
    fn another_clients_file_message_is_read() {
        let blob = "ab".repeat(32);
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let nonce = "00112233445566778899aabbccddeeff";
        let url = format!("https://cdn.example/{blob}.jpg");
        let rumor = message(
            &[
                ("file-type", "image/jpeg"),
                ("encryption-algorithm", "aes-gcm"),
                ("decryption-key", key),
                ("decryption-nonce", nonce),
                ("x", &blob),
                ("size", "1234"),
            ],
            &url,
        );
        let (row, cipher) = read(&rumor).unwrap();
        assert!(matches!(cipher, FileCipher::Foreign(_)));
        assert_eq!(
            (row.name.as_str(), row.mime.as_str()),
            ("file", "image/jpeg")
        );
        assert_eq!(row.cipher_size, Some(1_234));
        assert_eq!(row.urls, [format!("https://cdn.example/{blob}")]);
    }

    #[test]
    fn addresses_of_another_blob_are_left_out() {
        let blob = "ab".repeat(32);
        let key = "11".repeat(32);
        let nonce = "22".repeat(19);
        let other = format!("https://evil.example/{}", "cd".repeat(32));
        let rumor = message(
            &[
                ("encryption-algorithm", "xchacha20poly1305-stream"),
                ("decryption-key", &key),
                ("decryption-nonce", &nonce),
                ("x", &blob),
                ("fallback", "https://evil.example/path/of/mine"),
            ],
            &other,
        );
        assert!(read(&rumor).unwrap().0.urls.is_empty());
    }

    #[test]
    fn a_file_message_that_makes_no_sense_is_refused() {
        let blob = "ab".repeat(32);
        let key = "11".repeat(32);
        let good = [
            ("encryption-algorithm", "aes-gcm"),
            ("decryption-key", key.as_str()),
            ("decryption-nonce", "001122334455667788990011"),
            ("x", blob.as_str()),
        ];
        read(&message(&good, "")).unwrap();
        for missing in 0..good.len() {
            let mut tags = good.to_vec();
            tags.remove(missing);
            assert!(
                read(&message(&tags, "")).is_err(),
                "without {}",
                good[missing].0
            );
        }
        let mut unknown = good.to_vec();
        unknown[0].1 = "rot13";
        assert!(read(&message(&unknown, "")).is_err());
    }

    #[test]
    fn a_key_survives_the_table_of_secrets() {
        let mut rng: rand::rngs::StdRng = rand::SeedableRng::seed_from_u64(1);
        let stream = FileCipher::Stream(FileKey::generate(&mut rng));
        let foreign = FileCipher::Foreign(ForeignFileKey::generate(&mut rng));
        for cipher in [stream, foreign] {
            let again = FileCipher::from_stored(&cipher.to_stored()).unwrap();
            assert_eq!(*again.key_hex(), *cipher.key_hex());
            assert_eq!(again.nonce_hex(), cipher.nonce_hex());
            assert_eq!(again.algorithm(), cipher.algorithm());
        }
    }
}
