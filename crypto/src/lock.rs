//! The lock of a home folder: `lock.json` wraps one random data key for each PIN, passphrase or
//! key file that may open it.
//!
//! Four equal slots hold either a wrapped data key or random bytes, so the file does not tell how
//! many ways in there are, or of which kind. See `docs/protocol/lock.md`.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::CryptoRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::derivation::hkdf;
use crate::secret::{SecretText, secret_bytes};

/// Slots of a lock, used or not.
pub const SLOTS: usize = 4;
/// The largest `lock.json` that is read.
pub const LOCK_FILE_BYTES: usize = 4_096;
/// The fewest digits of a PIN and characters of a passphrase in its place.
pub const SECRET_CHARS: usize = 4;
/// The longest PIN or passphrase, bytes of UTF-8.
pub const SECRET_BYTES: usize = 1_024;
/// What a key file may measure, bytes.
pub const KEY_FILE_BYTES: std::ops::RangeInclusive<usize> = 32..=4_096;

const VERSION: u32 = 1;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// A nonce, the 32-byte data key, and the tag of 16 bytes.
const SLOT_BYTES: usize = NONCE_BYTES + 32 + 16;

secret_bytes!(
    /// 32 random bytes in a file of the home (mode 0600), mixed into every slot key: a copied
    /// `lock.json` alone cannot be tried.
    DeviceSecret, 32
);
secret_bytes!(
    /// What the lock protects. The databases' and the spool's keys come from it.
    DataKey, 32
);
secret_bytes!(
    /// A raw 32-byte key of one database or of the spool, for SQLCipher.
    StoreKey, 32
);

impl DeviceSecret {
    /// A random one.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut secret = Self::from_secret_bytes([0; 32]);
        rng.fill_bytes(secret.0.as_mut_slice());
        secret
    }
}

impl DataKey {
    fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut key = Self::from_secret_bytes([0; 32]);
        rng.fill_bytes(key.0.as_mut_slice());
        key
    }

    /// The key of `root.db`: HKDF(data key, `db/root`).
    pub fn root_store(&self) -> StoreKey {
        self.subkey("db/root")
    }

    /// The key of a circle's store: HKDF(data key, `db/<index>`), the index in decimal.
    pub fn circle_store(&self, circle: u32) -> StoreKey {
        self.subkey(&format!("db/{circle}"))
    }

    /// The key of the spool: HKDF(data key, `spool`).
    pub fn spool(&self) -> StoreKey {
        self.subkey("spool")
    }

    fn subkey(&self, label: &str) -> StoreKey {
        StoreKey(hkdf(self.0.as_slice(), &[label.as_bytes()]))
    }
}

/// How much work a PIN costs (Argon2id, RFC 9106). Stored in the lock; checked before a byte of
/// memory is taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argon2Params {
    /// Memory, KiB: 8,192 to 1,048,576.
    pub m: u32,
    /// Passes: 1 to 10.
    pub t: u32,
    /// Lanes: 1 to 4.
    pub p: u32,
}

impl Argon2Params {
    /// RFC 9106's second choice: 64 MiB, 3 passes, 4 lanes.
    pub const RECOMMENDED: Self = Self {
        m: 64 * 1024,
        t: 3,
        p: 4,
    };
    /// The least that a lock may ask for. For tests.
    pub const LEAST: Self = Self {
        m: 8 * 1024,
        t: 1,
        p: 1,
    };

    fn are_allowed(&self) -> bool {
        (8 * 1024..=1024 * 1024).contains(&self.m)
            && (1..=10).contains(&self.t)
            && (1..=4).contains(&self.p)
    }
}

impl Default for Argon2Params {
    fn default() -> Self {
        Self::RECOMMENDED
    }
}

/// The content of a key file: 32 to 4,096 bytes of anything.
#[derive(Clone)]
pub struct KeyFile(Zeroizing<Vec<u8>>);

impl KeyFile {
    /// Takes the bytes over. Fails with [`LockError::KeyFileSize`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, LockError> {
        let bytes = Zeroizing::new(bytes);
        if KEY_FILE_BYTES.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(LockError::KeyFileSize)
        }
    }

    /// What a new key file gets: 64 random hex digits.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(Zeroizing::new(hex::encode(bytes.as_slice()).into_bytes()))
    }

    /// The bytes to write into the file.
    pub fn expose_secret_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFile(secret)")
    }
}

/// One way into a lock.
#[derive(Debug, Clone)]
pub enum Unlock {
    /// Digits; see [`Unlock::from_text`].
    Pin(SecretText),
    /// Any other text in a PIN's place.
    Passphrase(SecretText),
    /// A file, which pays no Argon2: its 32 bytes or more are expected to be random.
    KeyFile(KeyFile),
}

impl Unlock {
    /// A PIN where the text is digits only (after NFKC), else a passphrase. Surrounding white
    /// space, such as the line end of a PIN file, does not count.
    ///
    /// For *setting* one: fails with [`LockError::TooShort`] below [`SECRET_CHARS`] and
    /// [`LockError::TooLong`] above [`SECRET_BYTES`].
    pub fn from_text(text: &str) -> Result<Self, LockError> {
        let text = SecretText::new(text.trim().to_owned());
        if text.expose_secret().len() > SECRET_BYTES {
            return Err(LockError::TooLong);
        }
        let normal = text.nfkc();
        if normal.chars().count() < SECRET_CHARS {
            return Err(LockError::TooShort);
        }
        Ok(if normal.chars().all(|c| c.is_ascii_digit()) {
            Self::Pin(text)
        } else {
            Self::Passphrase(text)
        })
    }

    /// Whether tries are counted and waits apply: a PIN or passphrase can be guessed, a key file
    /// cannot.
    pub fn is_guessable(&self) -> bool {
        !matches!(self, Self::KeyFile(_))
    }
}

/// Why a lock did not open, or was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// A PIN or passphrase of fewer than [`SECRET_CHARS`]. A usage error.
    #[error("a PIN has at least 4 digits")]
    TooShort,
    /// A PIN or passphrase of more than [`SECRET_BYTES`]. A usage error.
    #[error("the PIN or passphrase is too long")]
    TooLong,
    /// A key file outside [`KEY_FILE_BYTES`]. A usage error.
    #[error("a key file has 32 to 4096 bytes")]
    KeyFileSize,
    /// Between 1 and [`SLOTS`] ways in are possible.
    #[error("a lock takes one to four ways in")]
    Slots,
    /// No slot opens: the PIN, the key file or the device secret is another one.
    #[error("wrong PIN, passphrase or key file")]
    Wrong,
    /// The file is no lock of a version we know, or asks for Argon2 parameters out of bounds.
    /// An integrity error.
    #[error("the lock file is damaged")]
    Damaged,
    /// Argon2 found no memory.
    #[error("not enough memory for the PIN's key stretching")]
    Memory,
}

/// The content of `lock.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    params: Argon2Params,
    salt: [u8; SALT_BYTES],
    slots: [[u8; SLOT_BYTES]; SLOTS],
    tries: u64,
}

/// As JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    argon2id: Argon2Params,
    salt: String,
    slots: Vec<String>,
    tries: u64,
}

impl Lock {
    /// A new lock around a new data key, which each of `ways` opens.
    pub fn create(
        params: Argon2Params,
        ways: &[Unlock],
        device: &DeviceSecret,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, DataKey), LockError> {
        let key = DataKey::generate(rng);
        let lock = Self::around(&key, params, ways, device, rng)?;
        Ok((lock, key))
    }

    /// A lock around the same data key with a new salt, opened by `ways` and nothing else. Give a
    /// new device secret too (`pin change` does), so that an old copy of the home's lock with an
    /// old PIN is of no use beside the new device secret.
    ///
    /// All ways are made anew: nobody can tell from outside which slots are in use, so none can
    /// be kept or replaced alone. The counter of tries goes on where it was.
    pub fn change(
        &self,
        key: &DataKey,
        params: Argon2Params,
        ways: &[Unlock],
        device: &DeviceSecret,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, LockError> {
        let mut lock = Self::around(key, params, ways, device, rng)?;
        lock.tries = self.tries;
        Ok(lock)
    }

    fn around(
        key: &DataKey,
        params: Argon2Params,
        ways: &[Unlock],
        device: &DeviceSecret,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, LockError> {
        if ways.is_empty() || ways.len() > SLOTS {
            return Err(LockError::Slots);
        }
        if !params.are_allowed() {
            return Err(LockError::Damaged);
        }
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        let mut slots = [[0; SLOT_BYTES]; SLOTS];
        for slot in &mut slots {
            rng.fill_bytes(slot);
        }
        let mut lock = Self {
            params,
            salt,
            slots,
            tries: 0,
        };
        let mut order: [u8; SLOTS] = [0, 1, 2, 3];
        order.shuffle(rng);
        for (way, number) in ways.iter().zip(order) {
            let slot_key = lock.slot_key(way, device)?;
            let aad = lock.associated_data(number);
            let mut nonce = [0; NONCE_BYTES];
            rng.fill_bytes(&mut nonce);
            let payload = Payload {
                msg: key.0.as_slice(),
                aad: &aad,
            };
            let sealed = XChaCha20Poly1305::new(slot_key.as_ref().into())
                .encrypt(XNonce::from_slice(&nonce), payload)
                .map_err(|_| LockError::Memory)?;
            if let Some(slot) = lock.slots.get_mut(usize::from(number)) {
                let (head, tail) = slot.split_at_mut(NONCE_BYTES);
                head.copy_from_slice(&nonce);
                tail.copy_from_slice(&sealed);
            }
        }
        Ok(lock)
    }

    /// Opens the lock. Every slot is tried, so the time does not tell which one fitted.
    ///
    /// With a PIN or passphrase the try must have been counted durably before
    /// ([`crate::Tries::begin`]).
    pub fn open(&self, way: &Unlock, device: &DeviceSecret) -> Result<DataKey, LockError> {
        if !self.params.are_allowed() {
            return Err(LockError::Damaged);
        }
        let slot_key = self.slot_key(way, device)?;
        let cipher = XChaCha20Poly1305::new(slot_key.as_ref().into());
        let mut found = None;
        for (slot, number) in self.slots.iter().zip(0_u8..) {
            let (nonce, sealed) = slot.split_at(NONCE_BYTES);
            let aad = self.associated_data(number);
            let payload = Payload {
                msg: sealed,
                aad: &aad,
            };
            if let Ok(opened) = cipher.decrypt(XNonce::from_slice(nonce), payload) {
                let opened = Zeroizing::new(opened);
                let mut key = Zeroizing::new([0; 32]);
                if opened.len() == key.len() {
                    key.copy_from_slice(&opened);
                    found = Some(DataKey(key));
                }
            }
        }
        found.ok_or(LockError::Wrong)
    }

    /// Reads `lock.json`. Parameters out of bounds are [`LockError::Damaged`] here already.
    pub fn decode(json: &[u8]) -> Result<Self, LockError> {
        if json.len() > LOCK_FILE_BYTES {
            return Err(LockError::Damaged);
        }
        let file: File = serde_json::from_slice(json).map_err(|_| LockError::Damaged)?;
        if file.version != VERSION || !file.argon2id.are_allowed() || file.slots.len() != SLOTS {
            return Err(LockError::Damaged);
        }
        let mut lock = Self {
            params: file.argon2id,
            salt: [0; SALT_BYTES],
            slots: [[0; SLOT_BYTES]; SLOTS],
            tries: file.tries,
        };
        hex::decode_to_slice(&file.salt, &mut lock.salt).map_err(|_| LockError::Damaged)?;
        for (text, slot) in file.slots.iter().zip(&mut lock.slots) {
            hex::decode_to_slice(text, slot).map_err(|_| LockError::Damaged)?;
        }
        Ok(lock)
    }

    /// As `lock.json`, with a line end.
    pub fn to_json(&self) -> String {
        let file = File {
            version: VERSION,
            argon2id: self.params,
            salt: hex::encode(self.salt),
            slots: self.slots.iter().map(hex::encode).collect(),
            tries: self.tries,
        };
        let mut json = serde_json::to_string_pretty(&file).unwrap_or_default();
        json.push('\n');
        json
    }

    /// The work that a PIN costs here.
    pub fn params(&self) -> Argon2Params {
        self.params
    }

    /// The twin of the counter in `tries`: a `tries` file that is behind it is an old copy.
    pub fn tries(&self) -> u64 {
        self.tries
    }

    /// The same lock with the counter's twin moved on; never back.
    pub fn with_tries(mut self, counter: u64) -> Self {
        self.tries = self.tries.max(counter);
        self
    }

    /// P = Argon2id(NFKC(PIN), salt); slot key = HKDF(P ‖ device secret, `kek/pin`). With a key
    /// file HKDF(SHA-256(`sotto/1/keyfile` ‖ bytes) ‖ device secret, `kek/keyfile`).
    fn slot_key(
        &self,
        way: &Unlock,
        device: &DeviceSecret,
    ) -> Result<Zeroizing<[u8; 32]>, LockError> {
        let mut joined = Zeroizing::new([0; 64]);
        let (left, right) = joined.split_at_mut(32);
        right.copy_from_slice(device.0.as_slice());
        let label: &[u8] = match way {
            Unlock::Pin(text) | Unlock::Passphrase(text) => {
                if text.expose_secret().len() > SECRET_BYTES {
                    return Err(LockError::TooLong);
                }
                self.stretch(text.nfkc().as_bytes(), left)?;
                b"kek/pin"
            }
            Unlock::KeyFile(file) => {
                let mut hash = Sha256::new();
                hash.update(b"sotto/1/keyfile");
                hash.update(file.expose_secret_bytes());
                left.copy_from_slice(&hash.finalize());
                b"kek/keyfile"
            }
        };
        Ok(hkdf(joined.as_slice(), &[label]))
    }

    fn stretch(&self, secret: &[u8], out: &mut [u8]) -> Result<(), LockError> {
        let Argon2Params { m, t, p } = self.params;
        let params = argon2::Params::new(m, t, p, Some(32)).map_err(|_| LockError::Damaged)?;
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into(secret, &self.salt, out)
            .map_err(|_| LockError::Memory)
    }

    /// Binds a slot to its place and to the parameters it was made with: version, m, t, p
    /// (u32be each), salt, and the slot's number as one byte.
    fn associated_data(&self, slot: u8) -> Vec<u8> {
        let Argon2Params { m, t, p } = self.params;
        let mut aad = Vec::with_capacity(16 + SALT_BYTES + 1);
        for number in [VERSION, m, t, p] {
            aad.extend_from_slice(&number.to_be_bytes());
        }
        aad.extend_from_slice(&self.salt);
        aad.push(slot);
        aad
    }
}
