//! `user`: who may write here. The roster's file is changed directly; a running relay notices
//! within a second.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use sotto_relay::config::Config;
use sotto_relay::policy::Writers;
use sotto_relay::roster::{Entry, Full, Roster, RosterFile};
use wire::link::npub;
use wire::{InviteCode, Link, NamedRelay, PublicKey};

use super::{Failure, Say, Word, configuration, data, duration};
use crate::Place;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a key a member.
    Add {
        #[command(flatten)]
        place: Place,
        /// npub, nprofile or 64 hex digits.
        #[arg(value_parser = key)]
        key: PublicKey,
        /// For you, to remember who that is. Without one, that of before stays.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Make a key a member no more.
    Remove {
        #[command(flatten)]
        place: Place,
        /// npub, nprofile or 64 hex digits.
        #[arg(value_parser = key)]
        key: PublicKey,
    },
    /// List members, banned keys and open invites.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Refuse what a key writes, and its AUTH; it is disconnected.
    Ban {
        #[command(flatten)]
        place: Place,
        /// npub, nprofile or 64 hex digits.
        #[arg(value_parser = key)]
        key: PublicKey,
        /// Why, for you. Without one, that of before stays.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Lift a ban.
    Unban {
        #[command(flatten)]
        place: Place,
        /// npub, nprofile or 64 hex digits.
        #[arg(value_parser = key)]
        key: PublicKey,
    },
    /// Print a code with which somebody becomes a member by themselves. Only its hash is kept.
    #[command(
        after_help = "Whoever gets the line runs `sotto init --relay LINE`, or with an account that is there `sotto relay add LINE`."
    )]
    Invite {
        #[command(flatten)]
        place: Place,
        /// How many keys may join with it.
        #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
        /// How long it holds, such as 12h or 30d.
        #[arg(long, value_name = "D", default_value = "7d", value_parser = duration)]
        expires: Duration,
    },
    /// Make an invite code worthless.
    Revoke {
        #[command(flatten)]
        place: Place,
        /// The code, or the whole line that `invite` printed; without one, every open invite.
        #[arg(value_parser = code)]
        code: Option<InviteCode>,
    },
}

/// Carries it out.
pub fn user(say: &Say, verb: Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Add { place, key, note } => {
            let (config, file) = open(place)?;
            let now = config.clock.now();
            written(file.change(|roster| roster.allow(key, note.as_deref(), now))?)?;
            warn_if_open(say, &config);
            tell(say, &key, "member");
        }
        Verb::Remove { place, key } => {
            let (config, file) = open(place)?;
            let was_member = took_away(&file, |roster| roster.unallow(&key))?;
            if config.rules.writers.lists(&key) {
                return Err(Failure::new(
                    Word::Conflict,
                    "the configuration lists this key: take it out of policy.members and reload",
                )
                .without_hint());
            }
            if !was_member {
                return Err(Failure::new(Word::NotFound, "this key is no member"));
            }
            tell(say, &key, "none");
        }
        Verb::List { place } => list(say, place)?,
        Verb::Ban { place, key, note } => {
            let (config, file) = open(place)?;
            let now = config.clock.now();
            written(file.change(|roster| roster.ban(key, note.as_deref(), now))?)?;
            tell(say, &key, "banned");
        }
        Verb::Unban { place, key } => {
            let (_, file) = open(place)?;
            if !took_away(&file, |roster| roster.unban(&key))? {
                return Err(Failure::new(Word::NotFound, "this key is not banned"));
            }
            tell(say, &key, "none");
        }
        Verb::Invite {
            place,
            uses,
            expires,
        } => invite(say, place, uses, expires)?,
        Verb::Revoke { place, code } => {
            let (_, file) = open(place)?;
            let revoke = |roster: &mut Roster| Ok::<_, Full>(roster.revoke(code.as_ref()));
            let count = written(file.change(revoke)?)?;
            if count == 0 {
                return Err(Failure::new(Word::NotFound, "there is no such open invite"));
            }
            let object = json!({"schema": "sotto.relay_revoked/1", "invites": count});
            say.out(&object, &format!("{count} invites revoked"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(say: &Say, place: Place) -> Result<(), Failure> {
    let (config, file) = open(place)?;
    let roster = file.get();
    for key in config.rules.writers.listed().into_iter().flatten() {
        line(say, key, "configured", None);
    }
    for (key, entry) in roster.members() {
        line(say, key, "member", Some(entry));
    }
    for (key, entry) in roster.banned() {
        line(say, key, "banned", Some(entry));
    }
    let now = config.clock.now();
    for invite in roster.open_invites(now) {
        let object = json!({
            "schema": "sotto.relay_invite/1",
            "made_at": invite.made_at,
            "uses": invite.uses_left,
            "expires_at": invite.expires_at,
        });
        let left = invite.expires_at.map(|at| at.saturating_sub(now));
        let end = left.map_or_else(String::new, |left| format!(", for {}", spell(left)));
        let keys = plural(invite.uses_left);
        say.out(&object, &format!("invite      {keys}{end}"));
    }
    Ok(())
}

fn line(say: &Say, key: &PublicKey, role: &str, entry: Option<&Entry>) {
    let note = entry.map(|entry| entry.note.as_str()).unwrap_or_default();
    let object = json!({
        "schema": "sotto.relay_user/1",
        "pubkey": key.to_hex(),
        "npub": npub(key),
        "role": role,
        "since": entry.map(|entry| entry.since),
        "note": note,
    });
    // A note may hold what a terminal would obey: members may name themselves some day.
    let shown: String = note.chars().filter(|c| !c.is_control()).collect();
    let text = format!("{role:<10}  {}  {shown}", npub(key));
    say.out(&object, text.trim_end());
}

fn invite(say: &Say, place: Place, uses: u32, expires: Duration) -> Result<(), Failure> {
    let (config, file) = open(place)?;
    let mut bytes = [0; 16];
    let failed = |_| Failure::new(Word::Internal, "the system gives no random bytes");
    SysRng.try_fill_bytes(&mut bytes).map_err(failed)?;
    let code =
        InviteCode::from_random(&bytes).map_err(|error| Failure::new(Word::Internal, error))?;
    let now = config.clock.now();
    let expires_at = now.saturating_add(expires.as_secs().max(1));
    written(file.change(|roster| roster.invite(&code, uses, Some(expires_at), now))?)?;
    let link = config.public_urls().into_iter().next().map(|url| {
        let code = Some(code.clone());
        NamedRelay { url, code }.expose()
    });
    let object = json!({
        "schema": "sotto.relay_invite/1",
        "code": code.expose(),
        "link": link,
        "made_at": now,
        "uses": uses,
        "expires_at": expires_at,
    });
    warn_if_open(say, &config);
    let (keys, end) = (plural(uses), spell(expires.as_secs()));
    let text = match &link {
        Some(link) => format!(
            "{link}\n\nFor {keys}, for {end}. Whoever gets it runs: sotto init --relay '{link}'"
        ),
        None => {
            say.warn("server.public_urls names no URL: write yours and a # before the code");
            let code = code.expose();
            format!(
                "{code}\n\nFor {keys}, for {end}. Give it away behind your relay's address and a #, \
                 as in wss://relay.example#CODE; whoever gets that line runs: sotto init --relay LINE"
            )
        }
    };
    say.out(&object, &text);
    Ok(())
}

fn warn_if_open(say: &Say, config: &Config) {
    if config.rules.writers == Writers::Anybody {
        say.warn("policy.write is \"open\": everybody may write, members or not");
    }
}

/// The configuration and the roster of its data folder, which is there.
fn open(place: Place) -> Result<(Config, RosterFile), Failure> {
    let config = configuration(place, None, Vec::new())?;
    let folder = data::of_relay(&config)?;
    let file = RosterFile::open(folder).map_err(|error| data::not_opened(&config, error))?;
    Ok((config, file))
}

fn took_away(file: &RosterFile, take: impl FnOnce(&mut Roster) -> bool) -> Result<bool, Failure> {
    written(file.change(|roster| Ok::<_, Full>(take(roster)))?)
}

fn written<T>(done: Result<T, Full>) -> Result<T, Failure> {
    done.map_err(|full| Failure::new(Word::Conflict, full).without_hint())
}

fn tell(say: &Say, key: &PublicKey, role: &str) {
    let object = json!({
        "schema": "sotto.relay_user/1",
        "pubkey": key.to_hex(),
        "npub": npub(key),
        "role": role,
    });
    let text = match role {
        "none" => npub(key),
        role => format!("{role}: {}", npub(key)),
    };
    say.out(&Value::clone(&object), &text);
}

fn key(text: &str) -> Result<PublicKey, String> {
    match Link::parse(text) {
        Ok(link) => Ok(link.pubkey),
        Err(error) => Err(error.to_string()),
    }
}

fn code(text: &str) -> Result<InviteCode, String> {
    let code = text.rsplit_once('#').map_or(text, |(_, code)| code);
    InviteCode::parse(code).map_err(|error| error.to_string())
}

fn plural(keys: u32) -> String {
    match keys {
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    }
}

/// To the nearest whole number: an invite of 7 days has not 6 a second later.
fn spell(seconds: u64) -> String {
    let whole = |unit: u64| seconds.saturating_add(unit / 2) / unit;
    match seconds {
        s if s >= 2 * 86_400 => format!("{} days", whole(86_400)),
        s if s >= 2 * 3_600 => format!("{} hours", whole(3_600)),
        s if s >= 120 => format!("{} minutes", whole(60)),
        s => format!("{s} seconds"),
    }
}
