//! Runs the steps of a task one after the other and says how long each took.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The steps of one run: headers, times, and the tests they counted.
#[derive(Debug)]
pub struct Steps {
    started: Instant,
    done: Vec<(String, Duration)>,
    tests: Counts,
}

/// How many tests ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Steps {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            done: Vec::new(),
            tests: Counts::default(),
        }
    }

    /// Runs `work` under a header. An error ends the run and names the step.
    pub fn run(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.timed(name, |_| work())
    }

    /// Runs a program under a header; anything but success ends the run and names the step.
    pub fn command(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.timed(name, |_| succeed(command))
    }

    /// Like [`Steps::command`], and adds up the tests that the program's standard output counts.
    /// The output is passed on line by line as it comes.
    pub fn tests(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.timed(name, |tests| {
            let before = *tests;
            let outcome = count_tests(command, tests);
            if outcome.is_ok() && before == *tests {
                bail!("it ran no test");
            }
            outcome
        })
    }

    /// Says where the time went. The last line is the total of all test runners.
    pub fn finish(self) {
        println!("\n== all {} steps passed", self.done.len());
        for (name, took) in &self.done {
            println!("   {:>6}  {name}", clock(*took));
        }
        println!("   {:>6}  in all", clock(self.started.elapsed()));
        let Counts {
            passed,
            failed,
            skipped,
        } = self.tests;
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    }

    fn timed(&mut self, name: &str, work: impl FnOnce(&mut Counts) -> Result<()>) -> Result<()> {
        println!("\n== [{}] {name}", clock(self.started.elapsed()));
        // Cargo writes to stderr unbuffered; the header must come first in a log of both.
        std::io::stdout().flush()?;
        let begun = Instant::now();
        work(&mut self.tests).with_context(|| format!("step failed: {name}"))?;
        self.done.push((name.to_owned(), begun.elapsed()));
        Ok(())
    }
}

/// Runs a program; an error unless it succeeds.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", program(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", program(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", program(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", program(command)))
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn count_tests(command: &mut Command, tests: &mut Counts) -> Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program(command)))?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut passed_on = std::io::stdout();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        passed_on.write_all(&line)?;
        passed_on.write_all(b"\n")?;
        tests.add_line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} ended with {status}", program(command));
    }
    Ok(())
}

impl Counts {
    /// Adds what a closing line of cargo's or node's test runner says; other lines say nothing.
    fn add_line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            // "ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.0s"
            let words: Vec<&str> = result.split_whitespace().collect();
            for pair in words.windows(2) {
                let [number, what] = pair else { continue };
                let Ok(number) = number.parse::<u64>() else {
                    continue;
                };
                match *what {
                    "passed;" => self.passed += number,
                    "failed;" => self.failed += number,
                    "ignored;" => self.skipped += number,
                    _ => {}
                }
            }
        } else if let Some(result) = line.strip_prefix("# ") {
            // TAP's summary, as node writes it: "# pass 3"
            let (what, number) = result.split_once(' ').unwrap_or_default();
            let Ok(number) = number.parse::<u64>() else {
                return;
            };
            match what {
                "pass" => self.passed += number,
                "fail" | "cancelled" => self.failed += number,
                "skipped" | "todo" => self.skipped += number,
                _ => {}
            }
        }
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners_are_added_up() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s",
            "# tests 5",
            "# pass 4",
            "# fail 0",
            "# skipped 1",
        ] {
            counts.add_line(line);
        }
        let expected = Counts {
            passed: 9,
            failed: 1,
            skipped: 2,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_failing_program_names_its_step() {
        let mut steps = Steps::new();
        let error = steps
            .command("the step", &mut Command::new("false"))
            .unwrap_err();
        assert!(format!("{error:#}").starts_with("step failed: the step"));
    }

    #[test]
    fn a_runner_that_runs_nothing_fails() {
        let mut steps = Steps::new();
        assert!(steps.tests("empty", &mut Command::new("true")).is_err());
    }
}
