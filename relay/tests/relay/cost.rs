//! What a running program takes, as the kernel counts it.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use crate::files;
use crate::support::PATIENCE;

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of memory that are resident.
    pub resident: u64,
    /// The most that were at any moment.
    pub peak: u64,
    pub threads: u64,
    /// Open descriptors that are sockets, and all others.
    pub sockets: u64,
    pub others: u64,
}

impl Cost {
    /// Of a program that runs.
    pub fn of(child: &Child) -> Self {
        let folder = format!("/proc/{}", child.id());
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let value = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.unwrap().parse().unwrap()
        };
        let (mut sockets, mut others) = (0, 0);
        for entry in std::fs::read_dir(format!("{folder}/fd")).unwrap() {
            // One that was closed meanwhile leads nowhere.
            let Ok(target) = std::fs::read_link(entry.unwrap().path()) else {
                continue;
            };
            match target.to_string_lossy().starts_with("socket:") {
                true => sockets += 1,
                false => others += 1,
            }
        }
        Self {
            resident: value("VmRSS:") * 1024,
            peak: value("VmHWM:") * 1024,
            threads: value("Threads:"),
            sockets,
            others,
        }
    }

    /// Waits for a look that is as wanted.
    pub async fn until(child: &Child, what: &str, wanted: impl Fn(&Self) -> bool) -> Self {
        let poll = async {
            loop {
                let cost = Self::of(child);
                if wanted(&cost) {
                    return cost;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, poll).await;
        waited.unwrap_or_else(|_| panic!("not {what}: {:?}", Self::of(child)))
    }
}

/// Bytes that the files of a folder take on the disk, and how many files there are.
pub fn on_disk(folder: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let files = files::files(folder);
    let blocks = files
        .iter()
        // A running relay removes some.
        .filter_map(|path| Some(std::fs::metadata(path).ok()?.blocks()))
        .sum::<u64>();
    (blocks * 512, files.len() as u64)
}
