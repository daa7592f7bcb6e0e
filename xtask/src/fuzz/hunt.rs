//! One target at work, until it has had its processor time or found something.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Folders;
use super::corpus::Size;
use super::progress::{self, Figures};

/// How often the clock of a target is looked at.
const GLANCE: Duration = Duration::from_millis(100);
/// After so many seconds on the wall libFuzzer asks whether an input hangs. It may have been the
/// machine: [`hangs`] says.
const SUSPICIOUS_SECONDS: u64 = 60;
/// Processor time that no input may take.
const HANGING: Duration = Duration::from_secs(10);
/// For so long a target may sleep without using any time. An input that waits for ever is written
/// down by libFuzzer before ([`SUSPICIOUS_SECONDS`]); what sleeps longer is libFuzzer itself, whose
/// question comes in a signal and can find the memory's lock held by what it interrupted.
const ASLEEP: Duration = Duration::from_secs(2 * SUSPICIOUS_SECONDS);
/// How often a target that fell asleep is begun anew before that is a finding.
const SLEEPS: u32 = 3;
/// What no decoder may hold, with the fuzzer's own memory.
const MEMORY_MIB: u64 = 1_024;

/// What became of a target.
#[derive(Debug)]
pub struct Outcome {
    /// What it used.
    pub processor: Duration,
    /// Inputs that were run.
    pub executions: u64,
    /// Edges that some input passed.
    pub edges: u64,
    /// Edges, and how often each was passed.
    pub features: u64,
    /// The inputs afterwards: kept, and committed of them.
    pub corpus: Option<(Size, Size)>,
    /// The input that broke a property.
    pub finding: Option<PathBuf>,
}

/// Runs a target for `budget`, beginning from all inputs that there are.
pub fn run(folders: &Folders, program: &Path, name: &str, budget: Duration) -> Result<Outcome> {
    let kept = folders.kept(name);
    let findings = folders.findings(name);
    let log = folders.log(name);
    for folder in [&kept, &findings] {
        fs::create_dir_all(folder)?;
    }
    fs::create_dir_all(folders.work.join("logs"))?;
    let mut outcome = Outcome {
        processor: Duration::ZERO,
        executions: 0,
        edges: 0,
        features: 0,
        corpus: None,
        finding: None,
    };
    let mut sleeps = 0;
    while outcome.processor < budget {
        let before = names(&findings)?;
        let scratch = Scratch::new(name)?;
        let mut command = command(program, &scratch);
        command
            .arg(&kept)
            .arg(folders.committed(name))
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .arg(format!("-timeout={SUSPICIOUS_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .args(["-report_slow_units=1000000", "-print_final_stats=1"])
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        if let Some(dictionary) = folders.dictionary(name) {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        let left = budget.saturating_sub(outcome.processor);
        let Ended { used, end } = attend(&mut command, left, ASLEEP)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let figures = Figures::read(&text);
        outcome.processor = outcome.processor.saturating_add(used);
        outcome.executions = outcome.executions.saturating_add(figures.executions);
        (outcome.edges, outcome.features) = (figures.edges, figures.features);
        let new: Vec<String> = names(&findings)?.difference(&before).cloned().collect();
        match new.first() {
            // A pause of the whole machine looks like an input that hangs.
            Some(file) if file.starts_with("timeout-") => {
                let file = findings.join(file);
                if hangs(program, name, &file, HANGING)? {
                    outcome.finding = Some(file);
                    break;
                }
                fs::remove_file(file)?;
            }
            Some(file) => {
                outcome.finding = Some(findings.join(file));
                break;
            }
            None if end == End::Spent => break,
            None if end == End::Asleep && sleeps < SLEEPS => sleeps += 1,
            // It ended by itself and left nothing but its last words.
            None => {
                outcome.finding = Some(log);
                break;
            }
        }
    }
    Ok(outcome)
}

/// Whether an input takes more than `limit` by the processor's clock, sleeps for that long, or
/// breaks a property besides.
fn hangs(program: &Path, name: &str, input: &Path, limit: Duration) -> Result<bool> {
    let scratch = Scratch::new(name)?;
    let mut command = command(program, &scratch);
    command
        .arg(input)
        .arg("-timeout=600")
        // libFuzzer does not begin without a folder.
        .arg(format!("-artifact_prefix={}/", scratch.0.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let ended = attend(&mut command, limit, limit)?;
    Ok(ended.end != End::ByItself { is_success: true })
}

/// The program at the lowest priority, with a folder in memory for what it writes.
fn command(program: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new("nice");
    command
        .args(["-n", "19"])
        .arg(program)
        .env("TMPDIR", &scratch.0);
    command
}

/// A program that ended.
struct Ended {
    used: Duration,
    end: End,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    ByItself {
        is_success: bool,
    },
    /// It was told to: that was all that it may use.
    Spent,
    /// It was killed: it used no time any more, and was not kept from it either.
    Asleep,
}

/// Waits until the program ends, has used `budget` and was told to end, or has slept for `asleep`.
fn attend(command: &mut Command, budget: Duration, asleep: Duration) -> Result<Ended> {
    let mut child = Guarded(command.spawn().context("cannot start a fuzz target")?);
    let per_second = rustix::param::clock_ticks_per_second();
    let stat = format!("/proc/{}/stat", child.0.id());
    let mut used = Duration::ZERO;
    let mut slept = Duration::ZERO;
    let mut told = None;
    loop {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        let before = used;
        if let Some(ticks) = progress::ticks(&stat) {
            used = used.max(progress::time(ticks, per_second));
        }
        if let Some(status) = child.0.try_wait()? {
            let is_success = status.success();
            let end = told.unwrap_or(End::ByItself { is_success });
            return Ok(Ended { used, end });
        }
        // Glances are counted and not the clock: the machine, or this program, may have been away.
        slept = match used == before && progress::is_asleep(&stat) {
            true => slept.saturating_add(GLANCE),
            false => Duration::ZERO,
        };
        if used >= budget && told.is_none() {
            told = Some(End::Spent);
            // It ends between two inputs.
            signal(&child.0, rustix::process::Signal::USR1);
        }
        if slept >= asleep {
            told = Some(End::Asleep);
            child.0.kill()?;
        }
        if used >= budget.saturating_add(HANGING) {
            child.0.kill()?;
        }
        std::thread::sleep(GLANCE);
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = i32::try_from(child.id()).ok();
    if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
        // It may have ended in this moment.
        let _ = rustix::process::kill_process(id, signal);
    }
}

/// A child that does not outlive an error here.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// A folder for the files that a target makes, in memory where the system has such a place: a
/// target that ends does not tidy up.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let place = match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        let folder = place.join(format!("sotto-fuzz-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_stopped_by_what_it_used_and_not_by_the_clock_on_the_wall() {
        let busy = "trap 'exit 0' USR1; while :; do :; done";
        let budget = Duration::from_millis(200);
        let ended = attend(Command::new("sh").args(["-c", busy]), budget, ASLEEP).unwrap();
        assert!(ended.end == End::Spent && ended.used >= budget);
        let ended = attend(Command::new("sleep").arg("0.5"), budget, ASLEEP).unwrap();
        assert_eq!(ended.end, End::ByItself { is_success: true });
        assert!(ended.used < budget);
    }

    #[test]
    fn a_program_that_sleeps_is_ended_and_one_that_was_stopped_is_not() {
        let (budget, asleep) = (Duration::from_secs(60), Duration::from_millis(600));
        let ended = attend(Command::new("sleep").arg("100"), budget, asleep).unwrap();
        assert_eq!(ended.end, End::Asleep);
        let stopped = "(sleep 2; kill -CONT $$) & kill -STOP $$; exit 0";
        let ended = attend(Command::new("sh").args(["-c", stopped]), budget, asleep).unwrap();
        assert_eq!(ended.end, End::ByItself { is_success: true });
    }

    /// What [`hangs`] relies on in a libFuzzer program: it begins with a folder, and ends when told.
    const LIKE_LIBFUZZER: &str = r#"
for argument; do
    case $argument in
        -artifact_prefix=*) [ -d "${argument#*=}" ] || exit 1 ;;
    esac
done
trap 'exit 0' USR1
"#;

    #[test]
    fn an_input_hangs_by_what_it_uses_and_not_by_how_long_the_machine_was_away() {
        let folder = Scratch::new("of-a-test").unwrap();
        // The shell is the program, and what it reads the input.
        let hangs = |script: &str| {
            let input = folder.0.join("input");
            fs::write(&input, [LIKE_LIBFUZZER, script].concat()).unwrap();
            let limit = Duration::from_millis(200);
            hangs(Path::new("sh"), "hangs", &input, limit).unwrap()
        };
        assert!(hangs("while :; do :; done"));
        assert!(hangs("exit 77"));
        assert!(hangs("sleep 100"));
        assert!(!hangs("exit 0"));
        // Away for longer than it may use.
        assert!(!hangs("(sleep 0.5; kill -CONT $$) & kill -STOP $$; exit 0"));
    }
}
