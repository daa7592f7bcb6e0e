//! `sotto file`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use client_core::client::{FileTarget, Outcome};

use crate::args::File;
use crate::context::{Context, Ended};

pub async fn run(context: &mut Context, command: File) -> Ended {
    let File::Get { id, output, force } = command;
    let is_stdout = output.as_deref() == Some(Path::new("-"));
    let target = target(output, force)?;
    let mut client = context.open().await?;
    let saved = client.fetch_file(&id, target).await?;
    if is_stdout {
        // The file itself is on stdout; an object beside it would spoil both.
        context.pass_on_warnings(&mut client);
        client.close().await;
        return Ok(());
    }
    context.end_list(client, Outcome::done(saved)).await
}

/// Where the file goes: a path that ends in `/` is a folder, in which it gets a safe name.
fn target(output: Option<PathBuf>, force: bool) -> io::Result<FileTarget> {
    Ok(match output {
        None => FileTarget::Folder(std::env::current_dir()?),
        Some(path) if path == Path::new("-") => {
            FileTarget::Writer(Box::new(QuietStdout { is_closed: false }))
        }
        Some(path) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            FileTarget::Folder(path)
        }
        Some(path) => FileTarget::Path { path, force },
    })
}

/// Stdout whose reader may leave without that being an error.
struct QuietStdout {
    is_closed: bool,
}

impl Write for QuietStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        match io::stdout().write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(bytes.len())
            }
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}
