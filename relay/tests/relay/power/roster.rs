//! The roster on a disk that loses power: what a command has said holds, and what lies there is
//! always one whole roster.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sotto_relay::roster::RosterFile;

use super::disk::{Disk, Luck};
use super::{number_of, seeds, trace};
use crate::crash::binary;
use crate::support::person;

const CHANGES: u32 = 8;

#[test]
fn r_rost_2_after_a_power_loss_the_roster_is_whole_and_what_was_said_holds() {
    let library = tempfile::tempdir().unwrap();
    let shim = trace::shim(library.path());
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("root");
    let trace_file = folder.path().join("trace");
    std::fs::create_dir(&root).unwrap();
    let user = |verb: &str, number: u32| {
        let output = binary()
            .args([
                "--json",
                "user",
                verb,
                &person(number).key().to_hex(),
                "--data",
            ])
            .arg(&root)
            .env("LD_PRELOAD", &shim)
            .env("POWER_ROOT", &root)
            .env("POWER_TRACE", &trace_file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        std::fs::metadata(&trace_file).unwrap().len()
    };
    // Where in the trace each change was told of; a removal and the addition after it are two.
    let mut told = Vec::new();
    let mut states = vec![Vec::new()];
    let mut members = Vec::new();
    for number in 0..CHANGES {
        told.push(user("add", number));
        members.push(number);
        states.push(members.clone());
        if number % 2 == 1 {
            told.push(user("remove", number - 1));
            members.retain(|member| *member != number - 1);
            states.push(members.clone());
        }
    }
    assert_eq!(members, [1, 3, 5, 7]);
    let bytes = std::fs::read(&trace_file).unwrap();
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let until = random.random_range(0..=bytes.len() as u64);
        let mut disk = Disk::new(number_of(&root));
        for call in trace::calls(&bytes).take_while(|call| call.end <= until) {
            disk.call(&root, &call.what);
        }
        let lost = tempfile::tempdir().unwrap();
        disk.lose_power(Luck::random(&mut random), &mut random, lost.path());
        let done = told.iter().filter(|end| **end <= until).count();
        let file = RosterFile::open(lost.path()).unwrap();
        let found: Vec<u32> = (0..CHANGES)
            .filter(|number| file.get().is_member(&person(*number).key()))
            .collect();
        // The change that was being made may have been made.
        let may_be = states.iter().skip(done).take(2);
        assert!(
            may_be.clone().any(|state| *state == found),
            "seed {seed}: {found:?} after {done} changes"
        );
    }
}
