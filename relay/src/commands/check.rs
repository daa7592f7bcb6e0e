//! `check URL`: what a running relay does, seen from outside, with keys made for the purpose.
//!
//! Everything it publishes is addressed to such keys, expires, and is deleted by the check.

mod peer;
mod probes;
mod remedy;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use wire::{InviteCode, NamedRelay, OkMessage, Reason, kinds};

use self::peer::{Key, NO_CHALLENGE, Peer};
use self::probes::{Deleter, Found};
use self::remedy::{remedy, shown};
use self::target::{Target, Trouble, UNREACHABLE};
use super::{Failure, Say, Word};

/// Runs every check; 0 all well, 3 unreachable, 5 something failed.
///
/// With a code in the URL the recipient of what is tried joins with it first, and leaves at the
/// end: so a relay that takes wraps for its members alone can be checked.
pub fn check(
    say: &Say,
    url: &str,
    timeout: Duration,
    authorities: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    let NamedRelay { url, code } =
        NamedRelay::parse(url).map_err(|error| Failure::new(Word::Usage, error))?;
    let mut target = Target::new(url, timeout, authorities.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(Report::of(&mut target, code))?;
    let ok = report.0.iter().all(|check| check.ok);
    let checks: Vec<Value> = report
        .0
        .iter()
        .map(|check| {
            let Check {
                name,
                ok,
                detail,
                fix,
            } = check;
            json!({"name": name, "ok": ok, "detail": detail, "fix": fix})
        })
        .collect();
    let object = json!({
        "schema": "sotto.relay/1",
        "url": target.url.as_str(),
        "ok": ok,
        "checks": checks,
    });
    let lines: Vec<String> = report
        .0
        .iter()
        .map(|check| {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            let fix = match check.fix {
                "" => String::new(),
                fix => format!("\n     fix: {fix}"),
            };
            format!("{mark} {}: {}{fix}", check.name, check.detail)
        })
        .collect();
    say.out(&object, &lines.join("\n"));
    match report.0.iter().filter(|check| !check.ok).count() {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::new(
            Word::PartlyDone,
            format!("{failed} of {} checks failed", report.0.len()),
        )),
    }
}

struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// What the operator can do; empty where all is well.
    fix: &'static str,
}

struct Report(Vec<Check>);

impl Report {
    async fn of(target: &mut Target, code: Option<InviteCode>) -> Result<Self, Failure> {
        let mut report = Self(Vec::new());
        let unreachable = |trouble: Trouble| {
            Failure::new(Word::Unreachable, trouble.detail)
                .with_hint(trouble.fix.unwrap_or(UNREACHABLE))
        };
        let first = Peer::connect(target).await.map_err(unreachable)?;
        report.add("reachable", Ok("a WebSocket opens".to_owned()));
        report.add("tls", probes::tls(target).await);
        let stated = probes::document(target).await;
        report.add("information", probes::information(&stated));
        report.add(
            "challenge",
            match first.challenge {
                Some(_) => Ok("a challenge is sent on connecting".to_owned()),
                None => Err("no AUTH challenge on connecting".into()),
            },
        );
        drop(first);
        match stated.as_ref().map_or(0, |stated| stated.work()) {
            0 => {}
            bits => report.add("work", target.do_work(bits)),
        }
        if let Some(code) = code {
            report.add("join", join(target, &code).await);
        }
        report.add("auth_wall", probes::auth_wall(target).await);
        report.add("delivery", probes::delivery(target).await);
        report.add("limits", probes::limits(target, &stated).await);
        report.add("window", probes::window(target).await);
        report.add("expiry", probes::expiry(target).await);
        for (name, by) in [
            ("deletion_by_sender", Deleter::Sender),
            ("deletion_by_recipient", Deleter::Recipient),
        ] {
            report.add(name, probes::deletion(target, by).await);
        }
        if target.member.is_some() {
            report.add("leave", leave(target).await);
        }
        Ok(report)
    }

    fn add(&mut self, name: &'static str, found: Found) {
        let check = match found {
            Ok(detail) => Check {
                name,
                ok: true,
                detail,
                fix: "",
            },
            Err(trouble) => Check {
                name,
                ok: false,
                detail: trouble.detail,
                fix: trouble.fix.unwrap_or_else(|| fix(name)),
            },
        };
        self.0.push(check);
    }
}

/// The recipient of what follows becomes a member.
async fn join(target: &mut Target, code: &InviteCode) -> Found {
    let member = Key::fresh()?;
    let mut peer = Peer::connect_as(target, &member).await?;
    let wish = member.wish(kinds::JOIN, Some(code.expose()));
    match peer.publish(&wish).await? {
        Ok(()) => {
            target.member = Some(member);
            Ok("an invite makes its bearer a member".to_owned())
        }
        Err(message) => Err(wish_refused("the invite", &message)),
    }
}

/// And is none any more.
async fn leave(target: &mut Target) -> Found {
    let member = target.member.take().ok_or("nobody has joined")?;
    let mut peer = Peer::connect_as(target, &member).await?;
    match peer.publish(&member.wish(kinds::LEAVE, None)).await? {
        Ok(()) => Ok("a member may leave".to_owned()),
        Err(message) => Err(wish_refused("leaving", &message)),
    }
}

/// What the invite itself can be blamed for has the fix of its check.
fn wish_refused(what: &str, message: &OkMessage) -> Trouble {
    let fix = match message.reason {
        Reason::RateLimited | Reason::Error => remedy(message),
        _ => None,
    };
    Trouble {
        fix,
        ..format!("{what} is refused: {}", shown(message)).into()
    }
}

/// What to do where a check fails and the failure itself tells nothing better: first for this
/// relay, then for others.
fn fix(name: &str) -> &'static str {
    match name {
        "tls" => {
            "set [tls] certificate and key, or [acme] domains, or put a proxy with a fresh certificate in front; after a renewal send SIGHUP"
        }
        "information" => {
            "let the proxy pass the Accept header on, and run a relay that lists its NIPs (NIP-11)"
        }
        "challenge" => NO_CHALLENGE,
        "join" => "make a new invite: `sotto-relay user invite --expires 1h`",
        "auth_wall" => {
            "guard kinds 4, 1059 and 21059: close subscriptions to them with auth-required until AUTH"
        }
        "delivery" => "take wraps from strangers, and serve a wrap to its p key alone",
        "limits" => "state in NIP-11 what is enforced, and enforce what is stated",
        "window" => {
            "set policy.wrap_past_s to 173700 and policy.future_s to 900, and the machine's clock by NTP"
        }
        "expiry" => {
            "follow NIP-40: refuse what has expired and hide it from its second on; set the clock by NTP"
        }
        "deletion_by_sender" => {
            "follow NIP-09 for kind 1059, from one-time keys too, and keep what was deleted away"
        }
        "deletion_by_recipient" => {
            "follow NIP-59: let the p key of a wrap delete it, and keep it away"
        }
        "leave" => "take it out by hand: `sotto-relay user list`, `sotto-relay user remove`",
        _ => "",
    }
}
