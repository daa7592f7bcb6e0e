//! What `shim.c` wrote down.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use wire::EventId;

/// One call, and where in the trace its record ends.
#[derive(Debug)]
pub struct Call<'t> {
    pub end: u64,
    pub what: What<'t>,
}

/// Paths are as the program gave them; an inode is the number that the file system gave it then.
#[derive(Debug)]
pub enum What<'t> {
    /// The program was started.
    Start,
    /// A file that was not there before.
    Create {
        inode: u64,
        path: &'t Path,
    },
    Folder {
        inode: u64,
        path: &'t Path,
    },
    /// Another name of a file.
    Link {
        inode: u64,
        path: &'t Path,
    },
    Rename {
        from: &'t Path,
        to: &'t Path,
    },
    Remove {
        path: &'t Path,
    },
    Write {
        inode: u64,
        offset: u64,
        bytes: &'t [u8],
    },
    Resize {
        inode: u64,
        len: u64,
    },
    /// A sync of a file or folder began.
    SyncBegins {
        inode: u64,
        ticket: u64,
    },
    /// It has succeeded.
    SyncEnds {
        ticket: u64,
    },
    /// Bytes that went into a socket.
    Answer {
        socket: u64,
        bytes: &'t [u8],
    },
    /// Something that the shim cannot follow.
    Unknown(&'t Path),
}

const HEADER: usize = 40;

/// The calls of a trace, up to the first record that a kill cut off.
pub fn calls(trace: &[u8]) -> impl Iterator<Item = Call<'_>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut at = 0;
    std::iter::from_fn(move || {
        let head: &[u8; HEADER] = trace.get(at..)?.first_chunk()?;
        let small = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().unwrap()) as usize;
        let large = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().unwrap());
        let record = trace.get(at..at + small(0))?;
        let (inode, number) = (large(8), large(16));
        let (path, rest) = record[HEADER..].split_at(small(24));
        let (other, bytes) = rest.split_at(small(28));
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let other = Path::new(std::ffi::OsStr::from_bytes(other));
        at += record.len();
        let what = match small(4) as u8 {
            b'P' => What::Start,
            b'C' => What::Create { inode, path },
            b'D' => What::Folder { inode, path },
            b'L' => What::Link { inode, path },
            b'R' => What::Rename {
                from: path,
                to: other,
            },
            b'U' => What::Remove { path },
            b'W' => What::Write {
                inode,
                offset: number,
                bytes,
            },
            b'T' => What::Resize { inode, len: number },
            b'B' => What::SyncBegins {
                inode,
                ticket: number,
            },
            b'S' => What::SyncEnds { ticket: number },
            b'A' => What::Answer {
                socket: inode,
                bytes,
            },
            _ => What::Unknown(path),
        };
        Some(Call {
            end: at as u64,
            what,
        })
    })
}

/// When each event was first acknowledged: the end of the record of the call that sent the last
/// byte of its `OK` true.
pub fn acknowledged(trace: &[u8]) -> HashMap<EventId, u64> {
    const BEGIN: &[u8] = b"[\"OK\",\"";
    const TRUE: &[u8] = b"\",true";
    let len = BEGIN.len() + 64 + TRUE.len();
    let mut found = HashMap::new();
    let mut sent: HashMap<u64, Vec<u8>> = HashMap::new();
    for call in calls(trace) {
        let What::Answer { socket, bytes } = call.what else {
            continue;
        };
        let stream = sent.entry(socket).or_default();
        // A frame may be cut anywhere between two calls.
        let from = stream.len().saturating_sub(len - 1);
        stream.extend(bytes);
        for part in stream[from..].windows(len) {
            if part.starts_with(BEGIN) && part.ends_with(TRUE) {
                let id = std::str::from_utf8(&part[BEGIN.len()..][..64]).unwrap();
                let id = EventId::from_hex(id).unwrap();
                found.entry(id).or_insert(call.end);
            }
        }
        stream.drain(..stream.len().saturating_sub(len - 1));
    }
    found
}

/// The shim, compiled into `folder`.
pub fn shim(folder: &Path) -> PathBuf {
    let library = folder.join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/relay/power/shim.c");
    let status = std::process::Command::new("cc")
        .args([
            "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
        ])
        .arg(&library)
        .arg(source)
        .status()
        .expect("a C compiler, as for the build");
    assert!(status.success());
    library
}
