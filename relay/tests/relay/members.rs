//! Who may write, changed at run time: invites and the roster's file.

use std::path::Path;
use std::time::Instant;

use sotto_relay::policy::Writers;
use sotto_relay::roster::{Full, RosterError, RosterFile};
use sotto_relay::{Config, Relay};
use wire::{ClientFrame, Event, Filter, InviteCode, RelayFrame};

use crate::files::holding;
use crate::support::{Client, PATIENCE, Person, ids, now, person, start, subscription};
use crate::user::user;

pub fn members_only(folder: &Path, members: &[&Person]) -> Config {
    let mut config = Config::on_disk(folder);
    config.rules.writers = Writers::Members(members.iter().map(|member| member.key()).collect());
    config
}

/// Adds an invite as the command line does, beside a relay that may be running.
fn invite(folder: &Path, number: u8, uses: u32, expires_at: Option<u64>) -> InviteCode {
    let code = InviteCode::from_random(&[number; 16]).unwrap();
    let file = RosterFile::open(folder).unwrap();
    let add =
        |roster: &mut sotto_relay::roster::Roster| roster.invite(&code, uses, expires_at, now());
    file.change(add).unwrap().unwrap();
    code
}

pub fn join(who: &Person, code: &InviteCode) -> Event {
    who.sign(28934, now(), &[&["-"], &["claim", code.expose()]], "")
}

pub async fn refused(client: &mut Client, event: &Event, prefix: &str) {
    let (accepted, text) = client.publish(event).await;
    assert!(!accepted, "kind {} was accepted", event.kind());
    assert!(text.starts_with(prefix), "{text}");
}

#[tokio::test]
async fn r_join_1_a_request_counts_on_its_authors_connection_alone_and_is_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(members_only(folder.path(), &[])).await;
    let code = invite(folder.path(), 1, 5, None);
    let (alice, bob) = (person(1), person(2));
    let mut curious = Client::connect(&relay.url()).await;
    let kinds = Filter::default().with_kinds([28934, 28936, 1]);
    curious.ask(&subscription("joins"), &[kinds]).await.unwrap();

    let mut client = Client::connect(&relay.url()).await;
    let good = join(&alice, &code);
    refused(&mut client, &good, "auth-required:").await;
    assert!(client.auth(&bob).await.0);
    refused(&mut client, &good, "restricted:").await;
    assert!(client.auth(&alice).await.0);
    let claim: &[&str] = &["claim", code.expose()];
    let at = |time, tags: &[&[&str]]| alice.sign(28934, time, tags, "");
    for (event, prefix) in [
        (at(now() - 700, &[&["-"], claim]), "invalid:"),
        (at(now() + 700, &[&["-"], claim]), "invalid:"),
        (at(now(), &[claim]), "invalid:"),
        (at(now(), &[&["-"]]), "invalid:"),
        (at(now(), &[&["-"], claim, claim]), "invalid:"),
        (at(now(), &[&["-"], &["claim"]]), "restricted:"),
        (at(now(), &[&["-"], &["claim", "a b"]]), "restricted:"),
    ] {
        refused(&mut client, &event, prefix).await;
    }
    let forged = String::from_utf8(join(&alice, &code).json().to_vec()).unwrap();
    let forged = forged.replace("\"content\":\"\"", "\"content\":\"x\"");
    client.send(format!("[\"EVENT\",{forged}]")).await;
    let (accepted, text) = client.answer(join(&alice, &code).id()).await;
    assert!(!accepted && text.starts_with("invalid:"), "{text}");

    let (accepted, text) = client.publish(&good).await;
    assert!(accepted && text.starts_with("info:"), "{text}");
    // The next event of the same connection counts already.
    client.put(&alice.note("a member's")).await;
    match curious.receive().await {
        RelayFrame::Event(_, event) => assert_eq!(event.content(), "a member's"),
        other => panic!("{other:?}"),
    }
    assert!(curious.aside.is_empty());
    relay.stop().await.unwrap();
    // Nothing of the request is anywhere, and of the code only its hash.
    for needle in [
        good.id().to_hex(),
        good.sig().to_hex(),
        code.expose().to_owned(),
    ] {
        assert!(holding(folder.path(), needle.as_bytes()).is_empty());
    }
    let hash = code.hash().to_hex();
    assert_eq!(holding(folder.path(), hash.as_bytes()).len(), 1);
}

/// Anybody may send them again and again: they do not keep who has something to write.
#[tokio::test]
async fn r_join_1_a_request_that_changes_nothing_waits_for_no_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, bob) = (person(1), person(2));
    let relay = start(members_only(folder.path(), &[])).await;
    let code = invite(folder.path(), 1, 5, None);
    let leave = |who: &Person| who.sign(28936, now(), &[&["-"]], "");
    let mut member = Client::connect_as(&relay.url(), &alice).await;
    member.put(&join(&alice, &code)).await;
    let mut other = Client::connect_as(&relay.url(), &bob).await;

    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let file = RosterFile::open(folder.path()).unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        file.change(|_| {
            begun.send(()).unwrap();
            ends.recv().unwrap();
            Ok::<_, Full>(())
        })
    });
    has_begun.await.unwrap();
    let (accepted, text) = member.publish(&join(&alice, &code)).await;
    assert!(accepted && text.starts_with("duplicate:"), "{text}");
    let (accepted, text) = other.publish(&leave(&bob)).await;
    assert!(accepted && text.starts_with("duplicate:"), "{text}");
    // Whoever does change something waits.
    let last = leave(&alice);
    member.send(ClientFrame::event(last.json())).await;
    end.send(()).unwrap();
    writer.await.unwrap().unwrap().unwrap();
    let (accepted, text) = member.answer(last.id()).await;
    assert!(accepted && text.starts_with("info:"), "{text}");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_join_2_an_invite_makes_so_many_members_and_they_stay_members() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(members_only(folder.path(), &[])).await;
    let code = invite(folder.path(), 1, 2, Some(now() + 1_000));
    let expired = invite(folder.path(), 2, 1, Some(now() - 1));
    for (number, prefix) in [
        (1, "info:"),
        (1, "duplicate:"),
        (2, "info:"),
        (1, "duplicate:"),
    ] {
        let who = person(number);
        let mut client = Client::connect_as(&relay.url(), &who).await;
        let (accepted, text) = client.publish(&join(&who, &code)).await;
        assert!(accepted && text.starts_with(prefix), "{text}");
        client.put(&who.note(prefix)).await;
    }
    let late = person(3);
    let mut client = Client::connect_as(&relay.url(), &late).await;
    for (code, why) in [
        (&code, "used up"),
        (&expired, "expired"),
        (&InviteCode::parse("guess").unwrap(), "not known"),
    ] {
        let (accepted, text) = client.publish(&join(&late, code)).await;
        assert!(!accepted && text.starts_with("restricted:"), "{text}");
        assert!(text.contains(why), "{text}");
        refused(&mut client, &late.note("x"), "restricted:").await;
    }
    relay.stop().await.unwrap();

    let relay = start(members_only(folder.path(), &[])).await;
    for number in [1, 2] {
        let who = person(number);
        let mut client = Client::connect_as(&relay.url(), &who).await;
        client.put(&who.note("still a member")).await;
        // Strangers may write to them, without AUTH.
        let mut stranger = Client::connect(&relay.url()).await;
        stranger.put(&person(9).wrap(&who, "hello")).await;
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_join_2_two_who_come_at_once_do_not_both_get_in() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(members_only(folder.path(), &[])).await;
    for round in 0..10_u32 {
        let code = invite(folder.path(), u8::try_from(round).unwrap(), 1, None);
        let mut clients = Vec::new();
        for number in 0..4 {
            let who = person(100 + 10 * round + number);
            let client = Client::connect_as(&relay.url(), &who).await;
            let request = join(&who, &code);
            clients.push((client, who, request));
        }
        // All are sent before any answer is read.
        for (client, _, request) in &mut clients {
            client.send(ClientFrame::event(request.json())).await;
        }
        let mut joined = 0;
        for (client, who, request) in &mut clients {
            let (accepted, text) = client.answer(request.id()).await;
            joined += usize::from(accepted);
            assert_eq!(client.publish(&who.note("x")).await.0, accepted, "{text}");
        }
        assert_eq!(joined, 1);
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_join_3_wrong_codes_are_limited_per_connection() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(members_only(folder.path(), &[])).await;
    let code = invite(folder.path(), 1, 1, None);
    let who = person(1);
    let mut client = Client::connect_as(&relay.url(), &who).await;
    for guess in 0..5 {
        let guess = InviteCode::parse(&format!("guess-{guess}")).unwrap();
        refused(&mut client, &join(&who, &guess), "restricted:").await;
    }
    // Not even the right one now.
    refused(&mut client, &join(&who, &code), "rate-limited:").await;
    let mut other = Client::connect_as(&relay.url(), &who).await;
    other.put(&join(&who, &code)).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_join_4_a_member_may_leave_and_one_of_the_configuration_is_told_whom_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, listed) = (person(1), person(2));
    let relay = start(members_only(folder.path(), &[&listed])).await;
    let code = invite(folder.path(), 1, 1, None);
    let leave = |who: &Person| who.sign(28936, now(), &[&["-"]], "");
    let mut client = Client::connect(&relay.url()).await;
    refused(&mut client, &leave(&alice), "auth-required:").await;
    assert!(client.auth(&alice).await.0);
    client.put(&join(&alice, &code)).await;
    client.put(&alice.note("in")).await;
    refused(&mut client, &alice.sign(28936, now(), &[], ""), "invalid:").await;
    client.put(&leave(&alice)).await;
    refused(&mut client, &alice.note("out"), "restricted:").await;
    // She is in no byte of the roster any more.
    let roster = folder.path().join("roster.json");
    let text = std::fs::read_to_string(roster).unwrap();
    assert!(!text.contains(&alice.key().to_hex()));

    let mut client = Client::connect_as(&relay.url(), &listed).await;
    refused(&mut client, &leave(&listed), "restricted:").await;
    client.put(&listed.note("still in")).await;
    relay.stop().await.unwrap();
}

/// Changes the roster beside the relay, and waits until the relay has noticed.
pub async fn change<T>(
    relay: &Relay,
    folder: &Path,
    change: impl FnOnce(&mut sotto_relay::roster::Roster) -> T,
) -> T {
    let file = RosterFile::open(folder).unwrap();
    let mut changed = None;
    let work = |roster: &mut sotto_relay::roster::Roster| {
        changed = Some(change(roster));
        Ok::<_, Full>(())
    };
    file.change(work).unwrap().unwrap();
    let until = Instant::now() + PATIENCE;
    while *relay.roster() != *file.get() {
        assert!(Instant::now() < until, "the relay did not notice");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    changed.unwrap()
}

#[tokio::test]
async fn r_auth_6_who_is_no_member_may_read_and_is_told() {
    let (alice, bob) = (person(1), person(2));
    let listed = || [alice.key()].into();
    for writers in [Writers::Members(listed()), Writers::Recipients(listed())] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::on_disk(folder.path());
        config.rules.writers = writers;
        let relay = start(config).await;
        let proof = async |who: &Person| Client::connect(&relay.url()).await.auth(who).await;
        assert_eq!(proof(&alice).await, (true, String::new()));
        assert!(
            proof(&bob)
                .await
                .1
                .starts_with("restricted: you are no member")
        );

        change(&relay, folder.path(), |roster| {
            roster.allow(bob.key(), "", now())
        })
        .await
        .unwrap();
        assert_eq!(proof(&bob).await, (true, String::new()));
        let wrap = person(9).wrap(&bob, "waits");
        Client::connect(&relay.url()).await.put(&wrap).await;
        change(&relay, folder.path(), |roster| roster.unallow(&bob.key())).await;
        let mut client = Client::connect(&relay.url()).await;
        let (accepted, text) = client.auth(&bob).await;
        assert!(accepted && text.starts_with("restricted:"), "{text}");
        assert_eq!(ids(&client.mailbox(&bob).await), [wrap.id()]);
        let late = person(8).wrap(&bob, "late");
        assert!(!client.publish(&late).await.0);
        relay.stop().await.unwrap();
    }
    // Where everybody may write there is nothing to tell.
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    assert_eq!(client.auth(&bob).await, (true, String::new()));
    relay.stop().await.unwrap();
}

#[test]
fn r_rost_1_no_writer_loses_what_another_wrote() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                // Each as a process of its own would: no state is shared but the file.
                let file = RosterFile::open(folder).unwrap();
                for n in 0..25 {
                    let key = person(writer * 100 + n).key();
                    let add = file.change(|roster| roster.allow(key, "", 1));
                    add.unwrap().unwrap();
                }
            });
        }
    });
    let roster = RosterFile::open(folder.path()).unwrap().get();
    assert_eq!(roster.members().len(), 100);
}

#[test]
fn r_rost_2_a_crash_at_any_moment_leaves_the_old_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let file = RosterFile::open(folder.path()).unwrap();
    file.change(|roster| roster.allow(person(1).key(), "", 1))
        .unwrap()
        .unwrap();
    let old = std::fs::read(folder.path().join("roster.json")).unwrap();
    // Killed while it wrote the next one: any part of it lies aside.
    for len in [0, 1, old.len() / 2, old.len()] {
        std::fs::write(folder.path().join("roster.new"), &old[..len]).unwrap();
        let file = RosterFile::open(folder.path()).unwrap();
        assert!(file.get().is_member(&person(1).key()));
        let key = person(2).key();
        file.change(|roster| roster.allow(key, "", 2))
            .unwrap()
            .unwrap();
        file.change(|roster| Ok::<_, Full>(roster.unallow(&key)))
            .unwrap()
            .unwrap();
        assert!(!folder.path().join("roster.new").exists());
    }
    // Somebody who fails to change it changes nothing.
    let before = std::fs::read(folder.path().join("roster.json")).unwrap();
    let failed = file.change(|roster| {
        roster.unallow(&person(1).key());
        Err::<(), _>(Full)
    });
    assert!(failed.unwrap().is_err());
    assert_eq!(
        std::fs::read(folder.path().join("roster.json")).unwrap(),
        before
    );
}

#[tokio::test]
async fn r_rost_3_a_damaged_or_newer_roster_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roster.json");
    for (text, is_damaged) in [
        ("", true),
        ("{}", true),
        ("{\"version\":1,\"members\":{\"x\":{\"since\":1}}}", true),
        ("{\"version\":1,\"membrs\":{}}", true),
        ("\0\0\0\0", true),
        ("{\"version\":2,\"something\":\"new\"}", false),
    ] {
        std::fs::write(&path, text).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let Err(error) = Relay::start(listener, Config::on_disk(folder.path())).await else {
            panic!("{text} was taken");
        };
        assert_eq!(
            error.to_string().contains("damaged"),
            is_damaged,
            "{text}: {error}"
        );
        let output = user(folder.path(), &["add", &person(1).key().to_hex()]);
        assert_eq!(output.status.code(), Some(if is_damaged { 11 } else { 9 }));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    // A relay that runs keeps what was in force.
    std::fs::remove_file(&path).unwrap();
    let relay = start(members_only(folder.path(), &[])).await;
    let code = invite(folder.path(), 1, 1, None);
    let who = person(1);
    let mut client = Client::connect_as(&relay.url(), &who).await;
    client.put(&join(&who, &code)).await;
    std::fs::write(&path, "damaged").unwrap();
    refused(&mut client, &join(&person(1), &code), "error:").await;
    client.put(&who.note("still a member")).await;
    let broken = RosterFile::open(folder.path());
    assert!(matches!(broken, Err(RosterError::Damaged)));
    relay.stop().await.unwrap();
}
