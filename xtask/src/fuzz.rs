//! `cargo xtask fuzz`: throws mutated bytes at every decoder, for so many seconds of processor
//! time for each target, and keeps what reached new code. Small decoders that read the same sort
//! of bytes share a target.
//!
//! It needs nothing but the toolchain that builds everything else: the coverage that libFuzzer
//! steers by is a pass of the stable compiler ([`build`]). One target runs on each core, at the
//! lowest priority; time counts only while a target has the processor ([`hunt`]), so a busy
//! machine, or one that was stopped in between, shortens nothing. As soon as a target has had its
//! time, its inputs are minimised ([`corpus`]) and its line of the table is printed.
//!
//! ```text
//! fuzz/corpus/TARGET        committed: seeds by hand, and the least that reaches every edge found
//! fuzz/dictionaries/TARGET  words that the decoder knows, where they help
//! target/fuzz/corpus        everything that is worth beginning from next time
//! target/fuzz/findings      inputs that broke a property
//! target/fuzz/logs          what libFuzzer said
//! target/fuzz/run           which targets of the last run have had their time
//! ```

mod build;
mod corpus;
mod coverage;
mod finished;
mod hunt;
mod progress;
mod targets;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::tools;
use finished::{Finished, Row};
use hunt::Outcome;
use targets::Target;

pub use build::check as compile;
pub use targets::check;

/// What each target gets where nobody says otherwise: a quarter of an hour.
pub const SECONDS: u64 = 900;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    seconds: u64,
    /// Nothing is fuzzed; what there is is run once, and the lines that it reaches are counted.
    coverage: bool,
    /// Those that had their time in the last run are left out.
    go_on: bool,
    /// None: all.
    targets: Vec<String>,
}

/// Where things lie.
#[derive(Debug)]
struct Folders {
    /// `fuzz/`.
    source: PathBuf,
    /// `target/fuzz/`.
    work: PathBuf,
}

impl Folders {
    fn committed(&self, target: &str) -> PathBuf {
        self.source.join("corpus").join(target)
    }

    fn dictionary(&self, target: &str) -> Option<PathBuf> {
        let file = self.source.join("dictionaries").join(target);
        file.is_file().then_some(file)
    }

    fn kept(&self, target: &str) -> PathBuf {
        self.work.join("corpus").join(target)
    }

    fn findings(&self, target: &str) -> PathBuf {
        self.work.join("findings").join(target)
    }

    fn log(&self, target: &str) -> PathBuf {
        self.work.join("logs").join(format!("{target}.log"))
    }
}

/// Fuzzes the targets that `arguments` name, or all. Fails where an input broke a property.
pub fn run(top: &Path, arguments: &[String]) -> Result<()> {
    let wish = Wish::read(arguments)?;
    let folders = Folders {
        source: top.join("fuzz"),
        work: tools::target_dir(top)?.join("fuzz"),
    };
    let known = targets::list(&folders.source)?;
    let chosen = wish.choose(known)?;
    if wish.coverage {
        return coverage::report(top, &folders, &chosen);
    }
    let finished = Finished::in_file(folders.work.join("run"));
    let earlier: Vec<Row> = match wish.go_on {
        true => {
            let is_chosen = |row: &Row| chosen.iter().any(|target| target.name == row.name);
            let is_enough = |row: &Row| row.seconds >= wish.seconds && is_chosen(row);
            finished.rows()?.into_iter().filter(is_enough).collect()
        }
        false => {
            finished.forget()?;
            Vec::new()
        }
    };
    let left: Vec<Target> = chosen
        .into_iter()
        .filter(|target| earlier.iter().all(|row| row.name != target.name))
        .collect();
    let programs = build::all(&folders, &left)?;
    let budget = Duration::from_secs(wish.seconds);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\n{} targets, {} s of processor time each, {cores} at a time\n\n{}",
        left.len(),
        wish.seconds,
        progress::HEADER
    );
    for row in &earlier {
        println!("{}", row.line);
    }
    let waiting = Mutex::new(left.iter());
    let worker = || -> Result<Vec<(String, Outcome)>> {
        let mut done = Vec::new();
        loop {
            let next = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next();
            let Some(target) = next else {
                return Ok(done);
            };
            let name = &target.name;
            let outcome = one(&folders, &programs, target, budget)
                .with_context(|| format!("fuzzing {name} failed"))?;
            let line = outcome.line(name);
            println!("{line}");
            if outcome.finding.is_none() {
                finished.add(&Row {
                    seconds: wish.seconds,
                    name: name.clone(),
                    line,
                })?;
            }
            done.push((name.clone(), outcome));
        }
    };
    let done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let mut done = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(outcomes) => done.extend(outcomes?),
                Err(_) => bail!("a worker failed"),
            }
        }
        Ok(done)
    })?;
    report(&done)
}

fn one(folders: &Folders, programs: &Path, target: &Target, budget: Duration) -> Result<Outcome> {
    let program = programs.join(&target.name);
    let mut outcome = hunt::run(folders, &program, &target.name, budget)?;
    if outcome.finding.is_none() {
        outcome.corpus = Some(corpus::gather(folders, &program, target)?);
    }
    Ok(outcome)
}

/// The findings, if there are any, and what to do with them.
fn report(done: &[(String, Outcome)]) -> Result<()> {
    let processor: Duration = done.iter().map(|(_, outcome)| outcome.processor).sum();
    let executions: u64 = done.iter().map(|(_, outcome)| outcome.executions).sum();
    println!(
        "\n{} targets, {} s of processor time, {executions} inputs",
        done.len(),
        processor.as_secs()
    );
    let mut findings = String::new();
    for (name, outcome) in done {
        if let Some(file) = &outcome.finding {
            findings.push_str(&format!("\n  {name}: {}", file.display()));
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "these inputs broke a property; copy each to fuzz/corpus/TARGET/ under a name that says \
         what it is, see its replaying test fail, and mend the code:{findings}"
    )
}

impl Wish {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut wish = Self {
            seconds: SECONDS,
            coverage: false,
            go_on: false,
            targets: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--seconds" {
                let seconds = rest.next().and_then(|text| text.parse().ok());
                wish.seconds = seconds.context("--seconds takes a whole number")?;
            } else if argument == "--coverage" {
                wish.coverage = true;
            } else if argument == "--go-on" {
                wish.go_on = true;
            } else if argument.starts_with('-') {
                bail!("fuzz has no option {argument}");
            } else {
                wish.targets.push(argument.clone());
            }
        }
        Ok(wish)
    }

    /// The targets that are asked for, in the order in which they were named.
    fn choose(&self, known: Vec<Target>) -> Result<Vec<Target>> {
        if self.targets.is_empty() {
            return Ok(known);
        }
        let named = |name: &String| {
            let found = known.iter().find(|target| target.name == *name);
            let names = || -> Vec<&str> { known.iter().map(|t| t.name.as_str()).collect() };
            found.cloned().with_context(|| {
                let names = names().join(", ");
                format!("no target is called {name}; there are: {names}")
            })
        };
        self.targets.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(arguments: &[&str]) -> Result<Wish> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        Wish::read(&arguments)
    }

    #[test]
    fn targets_and_time_are_chosen_or_all_get_a_quarter_of_an_hour() {
        let all = wish(&[]).unwrap();
        assert_eq!((all.seconds, all.targets.len()), (900, 0));
        assert!(!all.coverage && wish(&["--coverage", "events"]).unwrap().coverage);
        assert!(!all.go_on && wish(&["--go-on"]).unwrap().go_on);
        let some = wish(&["events", "--seconds", "5", "messages"]).unwrap();
        assert_eq!(some.seconds, 5);
        assert_eq!(some.targets, ["events", "messages"]);
        for bad in [&["--seconds"][..], &["--seconds", "x"], &["--fast"]] {
            assert!(wish(bad).is_err(), "{bad:?}");
        }
    }
}
