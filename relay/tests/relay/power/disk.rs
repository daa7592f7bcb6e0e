//! A disk that has lost power: what files and folders may hold, by the promises of `fsync` alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::trace::What;

const SECTOR: u64 = 512;

type Sector = [u8; SECTOR as usize];
/// A file or folder over its whole life; the file system's own numbers are used again.
type Node = usize;

/// What was there at some moment. Sectors that are absent are zeros.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    len: u64,
    sectors: BTreeMap<u64, Sector>,
}

#[derive(Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Resize { len: u64 },
}

#[derive(Debug, Default)]
struct File {
    durable: Content,
    /// With the numbers of their calls.
    pending: Vec<(u64, Change)>,
}

/// One call that changed names: a rename changes two, together or not at all.
#[derive(Debug, Clone)]
struct NameChange {
    call: u64,
    names: Vec<(Node, OsString, Option<Node>)>,
}

type Names = HashMap<Node, BTreeMap<OsString, Node>>;

/// The disk and everything that waits to be written to it.
#[derive(Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    /// The number that the file system uses for a node now.
    numbers: HashMap<u64, Node>,
    folders: HashSet<Node>,
    live: Names,
    durable: Names,
    pending: Vec<NameChange>,
    /// Syncs that have begun, and at which call: what came before it they make durable.
    syncs: HashMap<u64, (Node, u64)>,
    calls: u64,
}

/// How much of what was not synced gets onto the disk.
#[derive(Debug, Clone, Copy)]
pub struct Luck {
    /// For a sector or a length: how likely it is the newest.
    pub contents: f64,
    /// For a change of names: how likely it was made.
    pub names: f64,
}

impl Luck {
    /// The kernel goes on and writes everything.
    pub fn of_a_kill() -> Self {
        Self {
            contents: 1.0,
            names: 1.0,
        }
    }

    /// Whether nothing is lost that was written: then the kernel may have gone on.
    pub fn is_of_a_kill(self) -> bool {
        self.contents == 1.0 && self.names == 1.0
    }

    pub fn random(random: &mut StdRng) -> Self {
        let chances = [0.0, 0.1, 0.5, 0.9, 1.0];
        let mut chance = || chances[random.random_range(0..chances.len())];
        Self {
            contents: chance(),
            names: chance(),
        }
    }
}

const ROOT: Node = 0;

impl Disk {
    /// An empty folder with this inode number.
    pub fn new(root: u64) -> Self {
        let mut disk = Self::default();
        disk.folder(root);
        disk
    }

    fn node(&mut self, number: u64) -> Node {
        self.files.push(File::default());
        let node = self.files.len() - 1;
        self.numbers.insert(number, node);
        node
    }

    fn folder(&mut self, number: u64) -> Node {
        let node = self.node(number);
        self.folders.insert(node);
        self.live.insert(node, BTreeMap::new());
        self.durable.insert(node, BTreeMap::new());
        node
    }

    /// The folder that a path below the root lies in, and the name in it.
    fn parent(&self, root: &Path, path: &Path) -> (Node, OsString) {
        let path = path.strip_prefix(root).unwrap();
        let mut folder = ROOT;
        for name in path.parent().unwrap().iter() {
            folder = self.live[&folder][name];
        }
        (folder, path.file_name().unwrap().to_owned())
    }

    fn rename(&mut self, names: Vec<(Node, OsString, Option<Node>)>) {
        let change = NameChange {
            call: self.calls,
            names,
        };
        change.make(&mut self.live);
        self.pending.push(change);
    }

    /// What the next call of the program does.
    pub fn call(&mut self, root: &Path, what: &What<'_>) {
        self.calls += 1;
        match *what {
            What::Create { inode, path } | What::Folder { inode, path } => {
                let (folder, name) = self.parent(root, path);
                let node = match what {
                    What::Folder { .. } => self.folder(inode),
                    _ => self.node(inode),
                };
                self.rename(vec![(folder, name, Some(node))]);
            }
            What::Link { inode, path } => {
                let (folder, name) = self.parent(root, path);
                self.rename(vec![(folder, name, Some(self.numbers[&inode]))]);
            }
            What::Rename { from, to } => {
                let ((folder, name), (other, target)) =
                    (self.parent(root, from), self.parent(root, to));
                let node = self.live[&folder][&name];
                self.rename(vec![(folder, name, None), (other, target, Some(node))]);
            }
            What::Remove { path } => {
                let (folder, name) = self.parent(root, path);
                self.rename(vec![(folder, name, None)]);
            }
            What::Write {
                inode,
                offset,
                bytes,
            } => {
                let bytes = bytes.to_vec();
                let node = self.numbers[&inode];
                let change = Change::Write { offset, bytes };
                self.files[node].pending.push((self.calls, change));
            }
            What::Resize { inode, len } => {
                let node = self.numbers[&inode];
                let change = Change::Resize { len };
                self.files[node].pending.push((self.calls, change));
            }
            What::SyncBegins { inode, ticket } => {
                self.syncs
                    .insert(ticket, (self.numbers[&inode], self.calls));
            }
            What::SyncEnds { ticket } => self.sync(ticket),
            What::Start | What::Answer { .. } => {}
            What::Unknown(why) => panic!("the trace is not complete: {}", why.display()),
        }
    }

    fn sync(&mut self, ticket: u64) {
        let (node, began) = self.syncs.remove(&ticket).unwrap();
        if self.folders.contains(&node) {
            for change in std::mem::take(&mut self.pending) {
                let touches = change.names.iter().any(|(folder, ..)| *folder == node);
                match touches && change.call < began {
                    true => change.make(&mut self.durable),
                    false => self.pending.push(change),
                }
            }
        } else {
            let File { durable, pending } = &mut self.files[node];
            let count = pending.partition_point(|(call, _)| *call < began);
            for (_, change) in pending.drain(..count) {
                durable.change(&change, &mut |_, _| {});
            }
        }
    }

    /// Writes what the disk holds after a power loss now into `to`, which is an empty folder.
    pub fn lose_power(&self, luck: Luck, random: &mut StdRng, to: &Path) {
        let mut names = self.durable.clone();
        for change in &self.pending {
            if random.random_bool(luck.names) {
                change.make(&mut names);
            }
        }
        self.write_folder(ROOT, &names, to, &mut |file| file.survivor(luck, random));
    }

    fn write_folder(
        &self,
        folder: Node,
        names: &Names,
        to: &Path,
        content: &mut impl FnMut(&File) -> Content,
    ) {
        for (name, node) in &names[&folder] {
            let path = to.join(name);
            if self.folders.contains(node) {
                std::fs::create_dir(&path).unwrap();
                self.write_folder(*node, names, &path, content);
            } else {
                content(&self.files[*node]).write(&path);
            }
        }
    }

    /// Fails where a folder is not what the program did, call by call: then the trace misses some.
    pub fn assert_is(&self, folder: &Path) {
        self.assert_folder_is(ROOT, folder);
    }

    fn assert_folder_is(&self, node: Node, folder: &Path) {
        let mut names: Vec<OsString> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        let known: Vec<&OsStr> = self.live[&node].keys().map(OsString::as_os_str).collect();
        assert_eq!(names, known, "in {}", folder.display());
        for (name, node) in &self.live[&node] {
            let path = folder.join(name);
            if self.folders.contains(node) {
                self.assert_folder_is(*node, &path);
            } else {
                let mut content = self.files[*node].durable.clone();
                for (_, change) in &self.files[*node].pending {
                    content.change(change, &mut |_, _| {});
                }
                content.drop_zeros();
                assert!(content == Content::read(&path), "{}", path.display());
            }
        }
    }
}

impl NameChange {
    fn make(&self, names: &mut Names) {
        for (folder, name, node) in &self.names {
            let Some(folder) = names.get_mut(folder) else {
                continue;
            };
            match node {
                Some(node) => folder.insert(name.clone(), *node),
                None => folder.remove(name),
            };
        }
    }
}

impl File {
    /// Every sector and the length as they were at the last sync, or at any moment since.
    fn survivor(&self, luck: Luck, random: &mut StdRng) -> Content {
        let mut newest = self.durable.clone();
        let mut versions: BTreeMap<u64, Vec<Sector>> = BTreeMap::new();
        let mut lens = vec![newest.len];
        for (_, change) in &self.pending {
            let before = newest.clone_sectors_of(change);
            newest.change(change, &mut |index, sector| {
                versions
                    .entry(index)
                    .or_insert_with(|| vec![before.get(&index).copied().unwrap_or([0; 512])])
                    .push(*sector);
            });
            lens.push(newest.len);
        }
        let mut content = self.durable.clone();
        content.len = choose(&lens, luck, random);
        for (index, versions) in &versions {
            content
                .sectors
                .insert(*index, choose(versions, luck, random));
        }
        content.cut();
        content
    }
}

/// The newest by luck, else the oldest or any between.
fn choose<T: Copy>(versions: &[T], luck: Luck, random: &mut StdRng) -> T {
    let last = versions.len() - 1;
    match random.random_bool(luck.contents) {
        true => versions[last],
        false if random.random_bool(0.8) => versions[0],
        false => versions[random.random_range(0..=last)],
    }
}

impl Content {
    fn clone_sectors_of(&self, change: &Change) -> BTreeMap<u64, Sector> {
        match change {
            Change::Write { offset, bytes } => {
                let range = offset / SECTOR..=(offset + bytes.len() as u64) / SECTOR;
                self.sectors
                    .range(range)
                    .map(|(index, sector)| (*index, *sector))
                    .collect()
            }
            Change::Resize { len } => {
                let range = len / SECTOR..;
                self.sectors
                    .range(range)
                    .map(|(index, sector)| (*index, *sector))
                    .collect()
            }
        }
    }

    /// Makes a change; `touched` sees every sector that it changed.
    fn change(&mut self, change: &Change, touched: &mut impl FnMut(u64, &Sector)) {
        match change {
            Change::Write { offset, bytes } => {
                let mut at = *offset;
                let mut bytes = bytes.as_slice();
                while !bytes.is_empty() {
                    let (index, within) = (at / SECTOR, (at % SECTOR) as usize);
                    let sector = self.sectors.entry(index).or_insert([0; 512]);
                    let count = bytes.len().min(sector.len() - within);
                    sector[within..within + count].copy_from_slice(&bytes[..count]);
                    touched(index, sector);
                    at += count as u64;
                    bytes = &bytes[count..];
                }
                self.len = self.len.max(at);
            }
            Change::Resize { len } => {
                let shorter = *len < self.len;
                self.len = *len;
                if shorter {
                    let from = len / SECTOR;
                    let behind: Vec<u64> = self.sectors.range(from..).map(|(i, _)| *i).collect();
                    self.cut();
                    for index in behind {
                        let sector = self.sectors.get(&index).copied().unwrap_or([0; 512]);
                        touched(index, &sector);
                    }
                }
            }
        }
    }

    /// Nothing lies behind the end.
    fn cut(&mut self) {
        let (whole, rest) = (self.len / SECTOR, (self.len % SECTOR) as usize);
        let kept = whole + u64::from(rest > 0);
        self.sectors.split_off(&kept);
        if rest > 0
            && let Some(last) = self.sectors.get_mut(&whole)
        {
            last[rest..].fill(0);
        }
    }

    fn drop_zeros(&mut self) {
        self.sectors
            .retain(|_, sector| sector.iter().any(|byte| *byte != 0));
    }

    fn write(&self, path: &Path) {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .unwrap();
        file.set_len(self.len).unwrap();
        for (index, sector) in &self.sectors {
            let count = SECTOR.min(self.len - index * SECTOR) as usize;
            file.write_all_at(&sector[..count], index * SECTOR).unwrap();
        }
    }

    fn read(path: &Path) -> Self {
        let mut content = Self {
            len: std::fs::metadata(path).unwrap().len(),
            ..Self::default()
        };
        for (start, bytes) in crate::files::extents(path) {
            let write = Change::Write {
                offset: start,
                bytes,
            };
            content.change(&write, &mut |_, _| {});
        }
        content.drop_zeros();
        content
    }
}
