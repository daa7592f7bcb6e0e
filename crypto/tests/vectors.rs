//! What others printed must come out of our code, and what we print must stay.
//!
//! The official files lie beside the repository, in `../shared/vectors`; where that folder is
//! absent the tests say so and pass. Our own vectors are those of `docs/protocol/`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may fail loudly"
)]

use std::path::PathBuf;

use bytes::Bytes;
use crypto::content_key::{PLAINTEXT_BYTES, decrypt_payload, encrypt_payload};
use crypto::{
    AccountKey, DeletionSecret, Envelope, KeyCache, Opened, PayloadError, SecretText, Seed,
    SeedError, backup, circles, open_envelope, open_seal,
};
use nostr::nips::nip06::FromMnemonic;
use nostr::nips::nip19::FromBech32;
use serde_json::Value;
use wire::relay_url::Origin;
use wire::{Event, EventId, PublicKey, Sha256, VerifiedEvent, limits};

/// A file of official vectors, or nothing (said aloud) where the folder is absent.
fn official(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/vectors")
        .join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not there", path.display());
    }
    text
}

fn array<const N: usize>(hex_text: &str) -> [u8; N] {
    hex::decode(hex_text).unwrap().try_into().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn account(hex_text: &str) -> AccountKey {
    AccountKey::from_secret_bytes(&array(hex_text)).unwrap()
}

fn seed(words: &str) -> Seed {
    Seed::from_words(&SecretText::new(words.to_owned())).unwrap()
}

#[test]
fn bip340_signatures_verify_as_the_vectors_say() {
    let Some(csv) = official("bip340.csv") else {
        return;
    };
    let mut count = 0;
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [_, secret, public, aux, message, signature, verdict, ..] = fields.as_slice() else {
            panic!("a line of bip340.csv has too few fields")
        };
        let message = hex::decode(message).unwrap();
        let signature_bytes = array::<64>(signature);
        let signature = secp256k1::schnorr::Signature::from_byte_array(signature_bytes);
        let public = secp256k1::XOnlyPublicKey::from_slice(&array::<32>(public));
        let verified = public.is_ok_and(|public| {
            secp256k1::SECP256K1
                .verify_schnorr(&signature, &message, &public)
                .is_ok()
        });
        assert_eq!(verified, *verdict == "TRUE", "{line}");
        if !secret.is_empty() {
            let pair =
                secp256k1::Keypair::from_seckey_slice(secp256k1::SECP256K1, &array::<32>(secret))
                    .unwrap();
            let made =
                secp256k1::SECP256K1.sign_schnorr_with_aux_rand(&message, &pair, &array(aux));
            assert_eq!(made.to_byte_array(), signature_bytes);
        }
        count += 1;
    }
    assert_eq!(count, 19);
}

#[test]
fn bip39_words_and_entropy_agree_with_the_vectors() {
    let Some(json) = official("bip39.json") else {
        return;
    };
    let vectors: Value = serde_json::from_str(&json).unwrap();
    let passphrase = text(&vectors["passphrase"]);
    for vector in vectors["english"].as_array().unwrap() {
        let (entropy, words) = (hex::decode(text(&vector[0])).unwrap(), text(&vector[1]));
        let secret = SecretText::new(words.to_owned());
        if entropy.len() == 24 {
            assert_eq!(Seed::from_words(&secret).unwrap_err(), SeedError::Count);
            continue;
        }
        let seed = Seed::from_words(&secret).unwrap();
        assert_eq!(seed.expose_secret_entropy(), entropy);
        let again = Seed::from_secret_entropy(&entropy).unwrap();
        assert_eq!(again.expose_secret_words().expose_secret(), words);
        // The stretching itself, with the vectors' passphrase, which ours is never.
        let mnemonic = bip39::Mnemonic::parse_in(bip39::Language::English, words).unwrap();
        assert_eq!(hex::encode(mnemonic.to_seed(passphrase)), text(&vector[2]));
    }
}

#[test]
fn nip44_agrees_with_the_vectors() {
    let Some(json) = official("nip44.vectors.json") else {
        return;
    };
    let vectors: Value = serde_json::from_str(&json).unwrap();
    let (valid, invalid) = (&vectors["v2"]["valid"], &vectors["v2"]["invalid"]);
    for vector in valid["get_conversation_key"].as_array().unwrap() {
        let peer = PublicKey::from_hex(text(&vector["pub2"])).unwrap();
        let conversation = account(text(&vector["sec1"]))
            .conversation_with(&peer)
            .unwrap();
        // Our conversation keys do not show themselves; one decrypts what the vector's encrypts.
        let key = array(text(&vector["conversation_key"]));
        let payload = encrypt_payload(&key, b"x", [1; 32]).unwrap();
        assert_eq!(conversation.decrypt(&payload).unwrap(), b"x");
    }
    for vector in valid["encrypt_decrypt"].as_array().unwrap() {
        let key = array(text(&vector["conversation_key"]));
        let plaintext = text(&vector["plaintext"]).as_bytes();
        let payload = text(&vector["payload"]);
        let made = encrypt_payload(&key, plaintext, array(text(&vector["nonce"]))).unwrap();
        assert_eq!(made, payload);
        assert_eq!(decrypt_payload(&key, payload).unwrap(), plaintext);

        let (one, two) = (
            account(text(&vector["sec1"])),
            account(text(&vector["sec2"])),
        );
        let from_one = one.conversation_with(&two.public_key()).unwrap();
        let from_two = two.conversation_with(&one.public_key()).unwrap();
        assert_eq!(from_one.decrypt(payload).unwrap(), plaintext);
        assert_eq!(from_two.decrypt(payload).unwrap(), plaintext);
    }
    for vector in valid["encrypt_decrypt_long_msg"].as_array().unwrap() {
        let key = array(text(&vector["conversation_key"]));
        let count = vector["repeat"].as_u64().unwrap() as usize;
        let plaintext = text(&vector["pattern"]).repeat(count);
        let nonce = array(text(&vector["nonce"]));
        let payload = encrypt_payload(&key, plaintext.as_bytes(), nonce).unwrap();
        let hash = Sha256::of(payload.as_bytes()).to_hex();
        assert_eq!(hash, text(&vector["payload_sha256"]));
        let opened = decrypt_payload(&key, &payload);
        if payload.len() > limits::EVENT_BYTES {
            // Ours is the stricter gate: no event can hold it.
            assert_eq!(opened.unwrap_err(), PayloadError::Size);
        } else {
            assert_eq!(opened.unwrap(), plaintext.as_bytes());
        }
    }
    for vector in invalid["decrypt"].as_array().unwrap() {
        let key = array(text(&vector["conversation_key"]));
        assert!(
            decrypt_payload(&key, text(&vector["payload"])).is_err(),
            "{}",
            vector["note"]
        );
    }
    for length in invalid["encrypt_msg_lengths"].as_array().unwrap() {
        let plaintext = vec![b'x'; length.as_u64().unwrap() as usize];
        let made = encrypt_payload(&[1; 32], &plaintext, [2; 32]);
        assert_eq!(made.unwrap_err(), PayloadError::Size);
    }
    for vector in invalid["get_conversation_key"].as_array().unwrap() {
        let peer = PublicKey::from_hex(text(&vector["pub2"])).unwrap();
        let key = AccountKey::from_secret_bytes(&array(text(&vector["sec1"])));
        assert!(
            key.and_then(|key| key.conversation_with(&peer)).is_err(),
            "{}",
            vector["note"]
        );
    }
    const { assert!(PLAINTEXT_BYTES == 65_535) };
}

#[test]
fn nip06_keys_come_out() {
    let printed = [
        (
            "leader monkey parrot ring guide accident before fence cannon height naive bean",
            "7f7ff03d123792d6ac594bfa67bf6d0c0ab55b6b1fdb6249303fe861f1ccba9a",
            "17162c921dc4d2518f9a101db33695df1afb56ab82f5ff3e5da6eec3ca5cd917",
        ),
        (
            "what bleak badge arrange retreat wolf trade produce cricket blur garlic valid proud \
             rude strong choose busy staff weather area salt hollow arm fade",
            "c15d739894c81a2fcfd3a2df85a0d2c0dbc47a280d092799f144d73d7ae78add",
            "d41b22899549e1f3d335a31002cfd382174006e166d3e658e3a5eecdb6463573",
        ),
    ];
    for (words, secret, public) in printed {
        let key = seed(words).account_key(0).unwrap();
        assert_eq!(hex::encode(*key.expose_secret_bytes()), secret);
        assert_eq!(key.public_key().to_hex(), public);
    }
}

#[test]
fn further_accounts_are_those_of_another_implementation() {
    let words = "leader monkey parrot ring guide accident before fence cannon height naive bean";
    let seed = seed(words);
    for circle in [0, 1, 2, 7, 1_000, 0x7fff_ffff] {
        let ours = seed.account_key(circle).unwrap();
        let theirs =
            nostr::key::Keys::from_mnemonic_with_account(words, None, Some(circle)).unwrap();
        assert_eq!(
            ours.expose_secret_bytes().as_slice(),
            theirs.secret_key().as_secret_bytes()
        );
    }
    for circle in [1 << 31, u32::MAX] {
        assert_eq!(
            seed.account_key(circle).unwrap_err(),
            SeedError::CircleIndex
        );
        assert_eq!(seed.list_key(circle).unwrap_err(), SeedError::CircleIndex);
    }
}

#[test]
fn nip49_printed_export_is_read() {
    let export = "ncryptsec1qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0w57lspw8gsq6yphnm8623nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p";
    let key = backup::import(export, &SecretText::new("nostr".to_owned())).unwrap();
    assert_eq!(
        hex::encode(*key.expose_secret_bytes()),
        "3501454135014541350145413501453fefb02227e449e57cf4d3a3ce05378683"
    );
    let wrong = backup::import(export, &SecretText::new("nostR".to_owned()));
    assert_eq!(wrong.unwrap_err(), backup::BackupError::Wrong);
}

fn open(inbox: &AccountKey, event: &str) -> Opened {
    let event = Event::decode(Bytes::from(event.to_owned())).unwrap();
    let event = VerifiedEvent::verify(event).unwrap();
    match open_envelope(inbox, &event).unwrap() {
        Envelope::Seal(envelope) => open_seal(inbox, &envelope, &KeyCache::new(0)).unwrap(),
        Envelope::Session(_) => panic!("not a seal"),
    }
}

#[test]
fn nip59_printed_wrap_is_opened() {
    let recipient = account("e108399bd8424357a710b606ae0c13166d853d327e47a6e5e038197346bdbf45");
    let opened = open(&recipient, NIP59_WRAP);
    assert_eq!(
        opened.rumor().content(),
        "Are you going to the party tonight?"
    );
    assert_eq!(
        opened.author().to_hex(),
        "611df01bfcf85c26ae65453b772d8f1dfd25c264621c0277e1fc1518686faef9"
    );
    assert_eq!(
        opened.rumor().id().to_hex(),
        "9dd003c6d3b73b74a85a9ab099469ce251653a7af76f523671ab828acd2a0ef9"
    );
}

#[test]
fn nip17_printed_wraps_are_opened_by_receiver_and_sender() {
    let key = |nsec: &str| {
        let secret = nostr::key::SecretKey::from_bech32(nsec).unwrap();
        AccountKey::from_secret_bytes(secret.as_secret_bytes().try_into().unwrap()).unwrap()
    };
    let sender = key("nsec1w8udu59ydjvedgs3yv5qccshcj8k05fh3l60k9x57asjrqdpa00qkmr89m");
    let receiver = key("nsec12ywtkplvyq5t6twdqwwygavp5lm4fhuang89c943nf2z92eez43szvn4dt");
    let received = open(&receiver, NIP17_TO_RECEIVER);
    let copy = open(&sender, NIP17_TO_SENDER);
    for opened in [&received, &copy] {
        assert_eq!(opened.rumor().content(), "Hola, que tal?");
        assert_eq!(opened.author(), sender.public_key());
    }
    assert!(copy.is_self_copy() && !received.is_self_copy());
    assert_eq!(copy.rumor().id(), received.rumor().id());
}

/// The vectors of `docs/protocol/keys.md`, from the words of NIP-06's first vector.
#[test]
fn own_derivations_stay() {
    let seed =
        seed("leader monkey parrot ring guide accident before fence cannon height naive bean");
    let mut made = vec![
        (
            "account key of circle 1",
            hex::encode(*seed.account_key(1).unwrap().expose_secret_bytes()),
        ),
        (
            "list key of circle 0",
            hex::encode(*seed.list_key(0).unwrap().expose_secret_bytes()),
        ),
        (
            "list key of circle 1",
            hex::encode(*seed.list_key(1).unwrap().expose_secret_bytes()),
        ),
        (
            "key of the circle definitions",
            hex::encode(seed.circles_key().expose_secret_bytes()),
        ),
        (
            "d tag of the circle definitions",
            circles::tag_value(&seed.account_key(0).unwrap()),
        ),
    ];
    let secret = DeletionSecret::from_secret_bytes([0x11; 32]);
    let rumor = EventId::from_bytes([0x22; 32]);
    let inbox = seed.account_key(0).unwrap().public_key();
    let blob = Sha256::from_bytes([0x33; 32]);
    let server = Origin::parse("https://Files.Example/").unwrap();
    for (name, key) in [
        ("wrap key, attempt 0", secret.wrap_key(&rumor, &inbox, 0)),
        ("wrap key, attempt 1", secret.wrap_key(&rumor, &inbox, 1)),
        ("upload key", secret.upload_key(&blob, &server)),
    ] {
        made.push((name, hex::encode(*key.expose_secret_bytes())));
    }
    let document = include_str!("../../docs/protocol/keys.md");
    for (name, value) in made {
        let row = format!("| {name} | `{value}` |");
        assert!(document.contains(&row), "docs/protocol/keys.md lacks {row}");
    }
}

/// The gift wrap printed in NIP-59.
const NIP59_WRAP: &str = "\
    {\"content\":\"AhC3Qj/QsKJFWuf6xroiYip+2yK95qPwJjVvFujhzSguJWb/6TlPpBW0CGFwfufCs2Zyb0JeuLmZh\
    NlnqecAAalC4ZCugB+I9ViA5pxLyFfQjs1lcE6KdX3euCHBLAnE9GL/+IzdV9vZnfJH6atVjvBkNPNzxU+OLCHO/DAPm\
    zmMVx0SR63frRTCz6Cuth40D+VzluKu1/Fg2Q1LSst65DE7o2efTtZ4Z9j15rQAOZfE9jwMCQZt27rBBK3yVwqVEriFp\
    g2mHXc1DDwHhDADO8eiyOTWF1ghDds/DxhMcjkIi/o+FS3gG1dG7gJHu3KkGK5UXpmgyFKt+421m5o++RMD/BylS3iaz\
    S1S93IzTLeGfMCk+7IKxuSCO06k1+DaasJJe8RE4/rmismUvwrHu/HDutZWkvOAhd4z4khZo7bJLtiCzZCZ74lZcjOB4\
    CYtuAX2ZGpc4I1iOKkvwTuQy9BWYpkzGg3ZoSWRD6ty7U+KN+fTTmIS4CelhBTT15QVqD02JxfLF7nA6sg3UlYgtiGw6\
    1oH68lSbx16P3vwSeQQpEB5JbhofW7t9TLZIbIW/ODnI4hpwj8didtk7IMBI3Ra3uUP7ya6vptkd9TwQkd/7cOFaSJmU\
    +BIsLpOXbirJACMn+URoDXhuEtiO6xirNtrPN8jYqpwvMUm5lMMVzGT3kMMVNBqgbj8Ln8VmqouK0DR+gRyNb8fHT0BF\
    PwsHxDskFk5yhe5c/2VUUoKCGe0kfCcX/EsHbJLUUtlHXmTqaOJpmQnW1tZ/siPwKRl6oEsIJWTUYxPQmrM2fUpYZCuA\
    o/29lTLHiHMlTbarFOd6J/ybIbICy2gRRH/LFSryty3Cnf6aae+A9uizFBUdCwTwffc3vCBae802+R92OL78bbqHKPbS\
    ZOXNC+6ybqziezwG+OPWHx1Qk39RYaF0aFsM4uZWrFic97WwVrH5i+/Nsf/OtwWiuH0gV/SqvN1hnkxCTF/+XNn/laWK\
    mS3e7wFzBsG8+qwqwmO9aVbDVMhOmeUXRMkxcj4QreQkHxLkCx97euZpC7xhvYnCHarHTDeD6nVK+xzbPNtzeGzNpYoi\
    MqxZ9bBJwMaHnEoI944Vxoodf51cMIIwpTmmRvAzI1QgrfnOLOUS7uUjQ/IZ1Qa3lY08Nqm9MAGxZ2Ou6R0/Z5z30ha/\
    Q71q6meAs3uHQcpSuRaQeV29IASmye2A2Nif+lmbhV7w8hjFYoaLCRsdchiVyNjOEM4VmxUhX4VEvw6KoCAZ/XvO2eBF\
    /SyNU3Of4SO\",\"created_at\":1703021488,\"id\":\"5c005f3ccf01950aa8d131203248544fb1e41a0d698\
    e846bd419cec3890903ac\",\"kind\":1059,\"pubkey\":\"18b1a75918f1f2c90c23da616bce317d36e348bcf\
    5f7ba55e75949319210c87c\",\"sig\":\"35fabdae4634eb630880a1896a886e40fd6ea8a60958e30b89b33a93\
    e6235df750097b04f9e13053764251b8bc5dd7e8e0794a3426a90b6bcc7e5ff660f54259\",\"tags\":[[\"p\",\
    \"166bf3765ebd1fc55decfe395beff2ea3b2a4e0a8946e7eb578512b555737c99\"]]}";

/// The wrap for the receiver, printed in NIP-17.
const NIP17_TO_RECEIVER: &str = "\
    {\"id\":\"2886780f7349afc1344047524540ee716f7bdc1b64191699855662330bf235d8\",\"pubkey\":\"8f\
    8a7ec43b77d25799281207e1a47f7a654755055788f7482653f9c9661c6d51\",\"created_at\":1703128320,\"\
    kind\":1059,\"tags\":[[\"p\",\"918e2da906df4ccd12c8ac672d8335add131a4cf9d27ce42b3bb3625755f0\
    788\"]],\"content\":\"AsqzdlMsG304G8h08bE67dhAR1gFTzTckUUyuvndZ8LrGCvwI4pgC3d6hyAK0Wo9gtkLqS\
    r2rT2RyHlE5wRqbCOlQ8WvJEKwqwIJwT5PO3l2RxvGCHDbd1b1o40ZgIVwwLCfOWJ86I5upXe8K5AgpxYTOM1BD+SbgI\
    5jOMA8tgpRoitJedVSvBZsmwAxXM7o7sbOON4MXHzOqOZpALpS2zgBDXSAaYAsTdEM4qqFeik+zTk3+L6NYuftGidqVl\
    uicwSGS2viYWr5OiJ1zrj1ERhYSGLpQnPKrqDaDi7R1KrHGFGyLgkJveY/45y0rv9aVIw9IWF11u53cf2CP7akACel2W\
    vZdl1htEwFu/v9cFXD06fNVZjfx3OssKM/uHPE9XvZttQboAvP5UoK6lv9o3d+0GM4/3zP+yO3C0NExz1ZgFmbGFz703\
    YJzM+zpKCOXaZyzPjADXp8qBBeVc5lmJqiCL4solZpxA1865yPigPAZcc9acSUlg23J1dptFK4n3Tl5HfSHP+oZ/QS/S\
    HWbVFCtq7ZMQSRxLgEitfglTNz9P1CnpMwmW/Y4Gm5zdkv0JrdUVrn2UO9ARdHlPsW5ARgDmzaxnJypkfoHXNfxGGXWR\
    k0sKLbz/ipnaQP/eFJv/ibNuSfqL6E4BnN/tHJSHYEaTQ/PdrA2i9laG3vJti3kAl5Ih87ct0w/tzYfp4SRPhEF1zzue\
    9G/16eJEMzwmhQ5Ec7jJVcVGa4RltqnuF8unUu3iSRTQ+/MNNUkK6Mk+YuaJJs6Fjw6tRHuWi57SdKKv7GGkr0zlBUU2\
    Dyo1MwpAqzsCcCTeQSv+8qt4wLf4uhU9Br7F/L0ZY9bFgh6iLDCdB+4iABXyZwT7Ufn762195hrSHcU4Okt0Zns9EeiB\
    OFxnmpXEslYkYBpXw70GmymQfJlFOfoEp93QKCMS2DAEVeI51dJV1e+6t3pCSsQN69Vg6jUCsm1TMxSs2VX4BRbq562+\
    VffchvW2BB4gMjsvHVUSRl8i5/ZSDlfzSPXcSGALLHBRzy+gn0oXXJ/447VHYZJDL3Ig8+QW5oFMgnWYhuwI5QSLEyfl\
    UrfSz+Pdwn/5eyjybXKJftePBD9Q+8NQ8zulU5sqvsMeIx/bBUx0fmOXsS3vjqCXW5IjkmSUV7q54GewZqTQBlcx+90x\
    h/LSUxXex7UwZwRnifvyCbZ+zwNTHNb12chYeNjMV7kAIr3cGQv8vlOMM8ajyaZ5KVy7HpSXQjz4PGT2/nXbL5jKt8Lx\
    0erGXsSsazkdoYDG3U\",\"sig\":\"a3c6ce632b145c0869423c1afaff4a6d764a9b64dedaf15f170b944ead672\
    27518a72e455567ca1c2a0d187832cecbde7ed478395ec4c95dd3e71749ed66c480\"}";

/// The wrap for the sender, printed in NIP-17.
const NIP17_TO_SENDER: &str = "\
    {\"id\":\"162b0611a1911cfcb30f8a5502792b346e535a45658b3a31ae5c178465509721\",\"pubkey\":\"62\
    6be2af274b29ea4816ad672ee452b7cf96bbb4836815a55699ae402183f512\",\"created_at\":1702711587,\"\
    kind\":1059,\"tags\":[[\"p\",\"44900586091b284416a0c001f677f9c49f7639a55c3f1e2ec130a8e1a7998\
    e1b\"]],\"content\":\"AsTClTzr0gzXXji7uye5UB6LYrx3HDjWGdkNaBS6BAX9CpHa+Vvtt5oI2xJrmWLen+Fo2N\
    BOFazvl285Gb3HSM82gVycrzx1HUAaQDUG6HI7XBEGqBhQMUNwNMiN2dnilBMFC3Yc8ehCJT/gkbiNKOpwd2rFibMFRM\
    DKai2mq2lBtPJF18oszKOjA+XlOJV8JRbmcAanTbEK5nA/GnG3eGUiUzhiYBoHomj3vztYYxc0QYHOx0WxiHY8dsC6jP\
    sXC7f6k4P+Hv5ZiyTfzvjkSJOckel1lZuE5SfeZ0nduqTlxREGeBJ8amOykgEIKdH2VZBZB+qtOMc7ez9dz4wffGwBDA\
    7912NFS2dPBr6txHNxBUkDZKFbuD5wijvonZDvfWq43tZspO4NutSokZB99uEiRH8NAUdGTiNb25m9JcDhVfdmABqTg5\
    fIwwTwlem5aXIy8b66lmqqz2LBzJtnJDu36bDwkILph3kmvaKPD8qJXmPQ4yGpxIbYSTCohgt2/I0TKJNmqNvSN+IVoU\
    uC7ZOfUV9lOV8Ri0AMfSr2YsdZ9ofV5o82ClZWlWiSWZwy6ypa7CuT1PEGHzywB4CZ5ucpO60Z7hnBQxHLiAQIO/QhiB\
    p1rmrdQZFN6PUEjFDloykoeHe345Yqy9Ke95HIKUCS9yJurD+nZjjgOxZjoFCsB1hQAwINTIS3FbYOibZnQwv8PXvcSO\
    qVZxC9U0+WuagK7IwxzhGZY3vLRrX01oujiRrevB4xbW7Oxi/Agp7CQGlJXCgmRE8Rhm+Vj2s+wc/4VLNZRHDcwtfejo\
    gjrjdi8p6nfUyqoQRRPARzRGUnnCbh+LqhigT6gQf3sVilnydMRScEc0/YYNLWnaw9nbyBa7wFBAiGbJwO40k39wj+xT\
    6HTSbSUgFZzopxroO3f/o4+ubx2+IL3fkev22mEN38+dFmYF3zE+hpE7jVxrJpC3EP9PLoFgFPKCuctMnjXmeHoiGs75\
    6N5r1Mm1ffZu4H19MSuALJlxQR7VXE/LzxRXDuaB2u9days/6muP6gbGX1ASxbJd/ou8+viHmSC/ioHzNjItVCPaJjDy\
    c6bv+gs1NPCt0qZ69G+JmgHW/PsMMeL4n5bh74g0fJSHqiI9ewEmOG/8bedSREv2XXtKV39STxPweceIOh0k23s3N6+w\
    vuSUAJE7u1LkDo14cobtZ/MCw/QhimYPd1u5HnEJvRhPxz0nVPz0QqL/YQeOkAYk7uzgeb2yPzJ6DBtnTnGDkglekhVz\
    QBFRJdk740LEj6swkJ\",\"sig\":\"c94e74533b482aa8eeeb54ae72a5303e0b21f62909ca43c8ef06b0357412d\
    6f8a92f96e1a205102753777fd25321a58fba3fb384eee114bd53ce6c06a1c22bab\"}";
