//! `check URL` against relays that keep every rule but one, and against certificates that no
//! client should trust.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use sotto_relay::Config;
use sotto_relay::policy::{Work, WorkOf, Writers};

use crate::crash::binary;
use crate::faulty::{Fault, Faulty};
use crate::support::{now, start};
use crate::tls::Authority;

async fn check(arguments: &[&str]) -> Output {
    let mut command = binary();
    command.args(["--json", "check"]).args(arguments);
    let run = move || command.output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> Value {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// The names of what failed; every failure has a fix, and nothing else has.
fn failed(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        let is_fine = check["ok"].as_bool().unwrap();
        let fix = check["fix"].as_str().unwrap();
        assert_eq!(is_fine, fix.is_empty(), "{check}");
    }
    let bad = checks.iter().filter(|check| check["ok"] == false);
    bad.map(|check| check["name"].as_str().unwrap()).collect()
}

fn fix_of<'r>(report: &'r Value, name: &str) -> &'r str {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap()["fix"].as_str().unwrap()
}

#[tokio::test]
async fn r_prog_8_a_relay_that_talks_and_never_answers_is_not_heard_for_ever() {
    let url = Faulty::start(Fault::NeverEnds).await;
    let report = report(&check(&[&url]).await);
    let checks = report["checks"].as_array().unwrap();
    let delivery = checks.iter().find(|check| check["name"] == "delivery");
    let detail = delivery.unwrap()["detail"].as_str().unwrap();
    assert_eq!(detail, "the relay sends much else and does not answer");
}

#[tokio::test]
async fn r_prog_8_every_check_fails_where_its_rule_is_broken_and_tells_a_fix() {
    const KEYED: [&str; 4] = [
        "delivery",
        "expiry",
        "deletion_by_sender",
        "deletion_by_recipient",
    ];
    let cases: [(Fault, &[&str]); 17] = [
        (Fault::None, &[]),
        (Fault::NoDocument, &["information", "limits"]),
        (Fault::NoNips, &["information"]),
        (
            Fault::NoChallenge,
            &[&["challenge"], &KEYED[..]].concat().leak()[..],
        ),
        (Fault::RefusesProofs, &KEYED),
        (Fault::NoWall, &["auth_wall"]),
        (Fault::Loses, &["delivery"]),
        (Fault::ShowsToOthers, &["delivery"]),
        (Fault::TakesTooLarge, &["limits"]),
        (Fault::TakesOld, &["window"]),
        (Fault::TakesFromTheFuture, &["window"]),
        (Fault::RefusesTwoDaysOld, &["window"]),
        (Fault::TakesExpired, &["expiry"]),
        (Fault::ShowsExpired, &["expiry"]),
        (Fault::IgnoresSender, &["deletion_by_sender"]),
        (Fault::IgnoresRecipient, &["deletion_by_recipient"]),
        (
            Fault::TakesDeletedAgain,
            &["deletion_by_sender", "deletion_by_recipient"],
        ),
    ];
    let mut running = tokio::task::JoinSet::new();
    for (fault, wanted) in cases {
        running.spawn(async move {
            let url = Faulty::start(fault).await;
            // A challenge that does not come is waited for on every connection.
            let timeout = match fault {
                Fault::NoChallenge => "300ms",
                _ => "30s",
            };
            let output = check(&[&url, "--timeout", timeout]).await;
            let report = report(&output);
            assert_eq!(failed(&report), wanted, "{fault:?}: {report:#}");
            let code = if wanted.is_empty() { 0 } else { 5 };
            assert_eq!(output.status.code(), Some(code), "{fault:?}");
            if fault == Fault::RefusesProofs {
                assert!(fix_of(&report, "delivery").contains("server.public_urls"));
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn r_check_1_what_to_do_follows_from_the_failure_and_not_from_the_check() {
    const TAKEN: [&str; 5] = [
        "delivery",
        "window",
        "expiry",
        "deletion_by_sender",
        "deletion_by_recipient",
    ];
    // The fault, what each of the checks above tells to do, and what `limits` does; none: it
    // passes.
    let cases = [
        (
            Fault::DiskIsFull,
            "free some space",
            Some("free some space"),
        ),
        (Fault::TakesNoWraps, "policy.kinds", Some("policy.kinds")),
        (Fault::HasRates, "wait as long as it says", Some("wait")),
        (Fault::HidesItsWork, "min_pow_difficulty", None),
        (Fault::AsksTooMuchWork, "pow_bits", None),
        (Fault::NeverAnswers, "--timeout", Some("--timeout")),
        (Fault::HangsUp, "restarted", Some("NIP-11")),
    ];
    let mut running = tokio::task::JoinSet::new();
    for (fault, fix, of_limits) in cases {
        running.spawn(async move {
            let url = Faulty::start(fault).await;
            let timeout = match fault {
                Fault::NeverAnswers => "300ms",
                _ => "30s",
            };
            let output = check(&[&url, "--timeout", timeout]).await;
            let report = report(&output);
            let failed = failed(&report);
            for name in TAKEN {
                assert!(failed.contains(&name), "{fault:?}: {report:#}");
                let found = fix_of(&report, name);
                assert!(found.contains(fix), "{fault:?} {name}: {found}");
            }
            let found = fix_of(&report, "limits");
            match of_limits {
                Some(fix) => assert!(found.contains(fix), "{fault:?}: {found}"),
                None => assert_eq!(found, "", "{fault:?}"),
            }
            let is_too_much = fault == Fault::AsksTooMuchWork;
            assert_eq!(failed.contains(&"work"), is_too_much, "{report:#}");
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn r_check_2_the_work_that_the_document_asks_for_is_done() {
    let url = Faulty::start(Fault::AsksWork).await;
    let asked = report(&check(&[&url]).await);
    assert_eq!(failed(&asked), [""; 0], "{asked:#}");
    let has_work = |report: &Value| report.to_string().contains("6 bits of work");
    assert!(has_work(&asked), "{asked:#}");
    for of in [WorkOf::AnonymousWraps, WorkOf::Everything] {
        let mut config = Config::in_memory();
        config.rules.work = Some(Work { bits: 6, of });
        let relay = start(config).await;
        let output = check(&[&relay.url()]).await;
        let report = report(&output);
        assert_eq!(failed(&report), [""; 0], "{report:#}");
        assert!(has_work(&report), "{report:#}");
        assert_eq!(output.status.code(), Some(0));
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn r_check_3_a_limit_is_kept_only_where_the_refusal_is_about_the_size() {
    for (fault, wanted) in [
        (Fault::SaysNothingOfSize, &["limits"][..]),
        (Fault::HangsUpOnLarge, &[]),
        (Fault::ComplainsOfSizeAloud, &[]),
    ] {
        let url = Faulty::start(fault).await;
        let timeout = match fault {
            Fault::ComplainsOfSizeAloud => "500ms",
            _ => "30s",
        };
        let report = report(&check(&[&url, "--timeout", timeout]).await);
        assert_eq!(failed(&report), wanted, "{fault:?}: {report:#}");
    }
}

#[tokio::test]
async fn r_check_4_what_is_no_relay_is_told_in_words() {
    let authority = Authority::new();
    authority.issue();
    let relay = start(with_files(&authority)).await;
    let output = check(&[&format!("ws://localhost:{}", relay.port())]).await;
    let found = error(&output);
    assert_eq!(output.status.code(), Some(3), "{found}");
    assert!(
        found["hint"].as_str().unwrap().contains("wss://"),
        "{found}"
    );
    assert!(!found["detail"].to_string().contains("httparse"), "{found}");
    relay.stop().await.unwrap();
    let relay = start(Config::in_memory()).await;
    let output = check(&[&format!("{}/elsewhere", relay.url())]).await;
    let found = error(&output);
    assert!(found["detail"].as_str().unwrap().contains("404"), "{found}");
    assert!(found["hint"].as_str().unwrap().contains("path"), "{found}");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_prog_9_a_certificate_that_clients_do_not_trust_is_unreachable_and_tells_a_fix() {
    let authority = Authority::new();
    let root = authority.path("root.pem");
    let root = root.to_str().unwrap();
    let day = Duration::from_secs(86_400);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let today = epoch + Duration::from_secs(now());
    type Change = Box<dyn Fn(&mut rcgen::CertificateParams)>;
    let cases: [(&str, Change, &str, &str); 3] = [
        (
            "localhost",
            Box::new(move |params| params.not_after = today - day),
            "has expired",
            "renew",
        ),
        (
            "localhost",
            Box::new(move |params| params.not_before = today + day),
            "not valid yet",
            "NTP",
        ),
        (
            "relay.example",
            Box::new(|_| {}),
            "for another name",
            "issued for the name",
        ),
    ];
    for (name, change, why, fix) in cases {
        authority.issue_for(&[name], change);
        let relay = start(with_files(&authority)).await;
        let url = format!("wss://localhost:{}", relay.port());
        let output = check(&[&url, "--ca-file", root]).await;
        let error = error(&output);
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert_eq!(error["error"], "unreachable");
        assert!(error["detail"].as_str().unwrap().contains(why), "{error}");
        assert!(error["hint"].as_str().unwrap().contains(fix), "{error}");
        relay.stop().await.unwrap();
    }

    // Nobody that clients know has signed it: neither an authority of our own, nor itself.
    for signs_itself in [false, true] {
        match signs_itself {
            true => authority.sign_itself("localhost"),
            false => authority.issue(),
        };
        let relay = start(with_files(&authority)).await;
        let url = format!("wss://localhost:{}", relay.port());
        let output = check(&[&url]).await;
        let error = error(&output);
        assert_eq!(output.status.code(), Some(3), "{error}");
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.contains("nobody whom clients trust"), "{error}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("--ca-file") && hint.contains("[acme]"));
        relay.stop().await.unwrap();
    }
    // As tools make one by default: an authority's own.
    authority.show_root("localhost");
    let relay = start(with_files(&authority)).await;
    let output = check(&[&format!("wss://localhost:{}", relay.port())]).await;
    assert_eq!(output.status.code(), Some(3));
    let detail = error(&output)["detail"].to_string();
    assert!(detail.contains("signed by itself"), "{detail}");
    relay.stop().await.unwrap();
    // What does not speak TLS at all, and nobody.
    let relay = start(Config::in_memory()).await;
    let output = check(&[&format!("wss://localhost:{}", relay.port())]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(error(&output)["detail"].as_str().unwrap().contains("TLS"));
    relay.stop().await.unwrap();
    let output = check(&["ws://127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(!error(&output)["hint"].as_str().unwrap().is_empty());
}

fn with_files(authority: &Authority) -> Config {
    let mut config = Config::in_memory();
    config.tls = authority.files();
    config
}

#[tokio::test]
async fn r_prog_9_an_authority_of_ones_own_is_named_by_its_file() {
    let authority = Authority::new();
    let root = authority.path("root.pem");
    let root = root.to_str().unwrap();
    authority.issue();
    let relay = start(with_files(&authority)).await;
    let url = format!("wss://localhost:{}", relay.port());
    let output = check(&[&url, "--ca-file", root]).await;
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(failed(&report), [""; 0]);
    // A file that is not there, and one in which there is none.
    let missing = check(&[&url, "--ca-file", "/nowhere/root.pem"]).await;
    assert_eq!(missing.status.code(), Some(7));
    std::fs::write(authority.path("empty.pem"), "nothing").unwrap();
    let empty = authority.path("empty.pem");
    let empty = check(&[&url, "--ca-file", empty.to_str().unwrap()]).await;
    assert_eq!(empty.status.code(), Some(2));
    assert_eq!(error(&empty)["error"], "usage");
    relay.stop().await.unwrap();

    // One that is good for a day more is told before it is too late.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let tomorrow = epoch + Duration::from_secs(now() + 86_400);
    authority.issue_for(&["localhost"], move |params| params.not_after = tomorrow);
    let relay = start(with_files(&authority)).await;
    let url = format!("wss://localhost:{}", relay.port());
    let output = check(&[&url, "--ca-file", root]).await;
    assert_eq!(failed(&self::report(&output)), ["tls"]);
    assert_eq!(output.status.code(), Some(5));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_prog_10_a_relay_of_members_is_checked_with_an_invite() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::on_disk(folder.path());
    config.rules.writers = Writers::Members(BTreeSet::new());
    let relay = start(config).await;
    let url = relay.url();
    let output = check(&[&url]).await;
    let without = report(&output);
    let wanted = [
        "delivery",
        "window",
        "expiry",
        "deletion_by_sender",
        "deletion_by_recipient",
    ];
    assert_eq!(failed(&without), wanted, "{without:#}");
    for name in wanted {
        assert!(fix_of(&without, name).contains("URL#CODE"), "{without:#}");
    }

    let made = user(folder.path(), &["invite"]);
    let invited = format!("{url}#{}", made[0]["code"].as_str().unwrap());
    let output = check(&[&invited]).await;
    let report = report(&output);
    assert_eq!(failed(&report), [""; 0], "{report:#}");
    assert_eq!(output.status.code(), Some(0));
    assert!(!report.to_string().contains('#'), "{report}");
    // Nobody is left behind.
    assert!(user(folder.path(), &["list"]).is_empty());
    // The code was good for one check.
    let output = check(&[&invited]).await;
    let again = self::report(&output);
    assert_eq!(failed(&again)[0], "join", "{again:#}");
    relay.stop().await.unwrap();
}

fn user(data: &Path, verb: &[&str]) -> Vec<Value> {
    let mut command = binary();
    command.args(["--json", "user"]).args(verb);
    let output = command.arg("--data").arg(data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}
