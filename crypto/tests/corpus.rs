//! Replays what fuzzing found, and seeds by hand, through the properties that the fuzz targets
//! check; then throws random bytes at them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;

#[path = "../../fuzz/src/crypto_properties.rs"]
mod properties;
#[path = "../../fuzz/src/replay.rs"]
mod replaying;

use replaying::replay;

#[test]
fn nip44_payloads() {
    replay("messages", properties::nip44_payload);
}

#[test]
fn wrap_chains() {
    replay("wrap_chain", properties::wrap_chain);
}

#[test]
fn file_ciphers() {
    replay("binary", properties::file_cipher);
}

#[test]
fn files_of_a_home() {
    replay("own_files", properties::home_files);
}

#[test]
fn circle_definitions() {
    replay("signed_bodies", properties::circles);
}

#[test]
fn typed_secrets() {
    replay("typed", properties::typed_secret);
}

#[test]
fn sizes_at_the_limits_are_refused_or_opened_quietly() {
    for length in [0, 40_960, 61_000, 65_535, 65_536, 81_920, 81_921] {
        for first in [b'{', b'[', 0x01] {
            let data = vec![first; length];
            properties::nip44_payload(&data);
            properties::wrap_chain(&data);
            properties::file_cipher(&data);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes(data in prop::collection::vec(any::<u8>(), 0..2_000)) {
        properties::nip44_payload(&data);
        properties::wrap_chain(&data);
        properties::file_cipher(&data);
    }

    #[test]
    fn text_that_looks_like_json(text in "\\{[\"a-z0-9:,\\[\\]{} \\\\]{0,300}") {
        properties::wrap_chain(text.as_bytes());
    }

    #[test]
    fn nip44_padding_never_shrinks(
        plaintext in prop::collection::vec(any::<u8>(), 1..5_000),
    ) {
        use crypto::content_key::encrypt_payload;
        let payload = encrypt_payload(&[7; 32], &plaintext, [9; 32]).unwrap();
        let longer = [plaintext.as_slice(), b"x"].concat();
        let other = encrypt_payload(&[7; 32], &longer, [9; 32]).unwrap();
        prop_assert!(other.len() >= payload.len());
    }
}
