//! A file on its way out: opened, cleaned of place and camera, encrypted into the spool.

use std::fs::File;
use std::io::{Cursor, Read, Seek as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crypto::FileKey;
use crypto::foreign_file::ForeignFileKey;
use rand::CryptoRng;
use wire::limits;

use super::request::{FileContent, FileSource, RngSource};
use crate::engine::{FileCipher, FileFormat, SpooledFile};
use crate::error::{Error, ErrorWord, Result};
use crate::media::{self, Kind};
use crate::runtime::spool::{Spool, Stop};

/// What `stdin` is called.
const STDIN: &str = "stdin";

/// How a file is to be prepared.
pub(super) struct Attach {
    pub spool: Spool,
    pub format: FileFormat,
    pub keep_metadata: bool,
    pub rng: RngSource,
}

/// A file in the spool, and what the user should know about it.
pub(super) struct Attached {
    pub file: SpooledFile,
    pub warning: Option<String>,
}

/// An open file whose length is known.
struct Opened {
    reader: Box<dyn Read + Send>,
    length: u64,
    kind: Kind,
}

impl Attach {
    /// Prepares one file on a thread of its own. Dropping the future stops the work at the next
    /// chunk.
    pub async fn run(self, source: FileSource) -> Result<Attached> {
        struct StopOnDrop(Stop);
        impl Drop for StopOnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stop: Stop = Arc::new(AtomicBool::new(false));
        let _guard = StopOnDrop(Arc::clone(&stop));
        tokio::task::spawn_blocking(move || self.attach(source, &stop))
            .await
            .map_err(|_| Error::new(ErrorWord::Internal, "preparing the file failed"))?
    }

    fn attach(self, source: FileSource, stop: &Stop) -> Result<Attached> {
        let mut rng = (self.rng)();
        let name = name_of(&source);
        let mut opened = self.open(source.content, &mut *rng, stop)?;
        let mut warning = None;
        if !self.keep_metadata {
            match opened.kind {
                Kind::Opaque(what) => {
                    warning = Some(format!(
                        "{what} files may tell place and camera, and Sotto cannot take that out"
                    ));
                }
                kind if kind.is_rewritten() => opened = without_metadata(opened)?,
                _ => {}
            }
        }
        let cipher = match self.format {
            FileFormat::Stream => FileCipher::Stream(FileKey::generate(&mut *rng)),
            FileFormat::Foreign => FileCipher::Foreign(ForeignFileKey::generate(&mut *rng)),
        };
        let spooled =
            self.spool
                .encrypt(&mut *opened.reader, opened.length, &cipher, &mut *rng, stop)?;
        let mime = mime_guess::from_path(&name).first_raw();
        Ok(Attached {
            file: SpooledFile {
                blob: spooled.blob,
                cipher_size: spooled.cipher_size,
                plain_size: spooled.plain_size,
                plain_hash: spooled.plain_hash,
                mime: mime.unwrap_or(mime_of(opened.kind)).to_owned(),
                name,
                cipher,
            },
            warning,
        })
    }

    fn open(&self, content: FileContent, rng: &mut dyn CryptoRng, stop: &Stop) -> Result<Opened> {
        match content {
            FileContent::Path(path) => {
                let file = File::open(&path).map_err(|error| file_error(&path, &error))?;
                let metadata = file.metadata()?;
                if metadata.is_dir() {
                    return Err(Error::new(
                        ErrorWord::Usage,
                        format!("{} is a folder", path.display()),
                    ));
                }
                if !metadata.is_file() {
                    // A pipe or device: its length shows at its end.
                    return self.open_stream(Box::new(file), rng, stop);
                }
                let mut file = file;
                let kind = Kind::of(&head_of(&mut file)?);
                file.rewind()?;
                Ok(Opened {
                    reader: Box::new(file),
                    length: metadata.len(),
                    kind,
                })
            }
            FileContent::Reader(reader) => self.open_stream(reader, rng, stop),
        }
    }

    fn open_stream(
        &self,
        mut reader: Box<dyn Read + Send>,
        rng: &mut dyn CryptoRng,
        stop: &Stop,
    ) -> Result<Opened> {
        let (length, mut reader) = self.spool.set_aside(&mut *reader, rng, stop)?;
        let head = head_of(&mut *reader)?;
        let kind = Kind::of(&head);
        Ok(Opened {
            reader: Box::new(Cursor::new(head).chain(reader)),
            length,
            kind,
        })
    }
}

/// Rewrites a picture in memory.
fn without_metadata(mut opened: Opened) -> Result<Opened> {
    const HINT: &str = "--keep-metadata sends it as it is, with place and camera";
    if opened.length > media::PICTURE_BYTES {
        return Err(Error::new(
            ErrorWord::Usage,
            "the picture is too large to take place and camera out of it",
        )
        .hint(HINT));
    }
    let mut picture = Vec::new();
    opened.reader.read_to_end(&mut picture)?;
    let picture = media::strip(opened.kind, picture)
        .map_err(|error| Error::new(ErrorWord::Usage, error.to_string()).hint(HINT))?;
    Ok(Opened {
        length: u64::try_from(picture.len()).unwrap_or_default(),
        kind: opened.kind,
        reader: Box::new(Cursor::new(picture)),
    })
}

fn head_of(reader: &mut dyn Read) -> Result<Vec<u8>> {
    let mut head = Vec::with_capacity(media::HEAD_BYTES);
    let cap = u64::try_from(media::HEAD_BYTES).unwrap_or_default();
    reader.take(cap).read_to_end(&mut head)?;
    Ok(head)
}

/// The last part of the path or of the wished name, cut to what a name may measure.
fn name_of(source: &FileSource) -> String {
    let from_path = match &source.content {
        FileContent::Path(path) => path.file_name().map(|name| name.to_string_lossy()),
        FileContent::Reader(_) => Some(STDIN.into()),
    };
    let wished = source.name.as_deref().map(Into::into);
    let name = wished.or(from_path).unwrap_or_else(|| STDIN.into());
    let base = name.rsplit('/').next().unwrap_or_default();
    let mut end = base.len().min(limits::FILE_NAME_BYTES);
    while !base.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    match base.get(..end).unwrap_or_default() {
        "" => "file".to_owned(),
        name => name.to_owned(),
    }
}

fn mime_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Jpeg => "image/jpeg",
        Kind::Png => "image/png",
        Kind::WebP => "image/webp",
        Kind::Opaque(_) | Kind::Other => "application/octet-stream",
    }
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    let word = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorWord::NotFound,
        _ => ErrorWord::Internal,
    };
    Error::new(word, format!("{}: {error}", path.display()))
}
