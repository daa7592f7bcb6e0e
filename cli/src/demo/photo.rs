//! A picture, encrypted, without the place where it was taken.

use std::time::Instant;

use client_core::Result;
use client_core::client::{FileContent, FileSource, FileTarget, SendRequest};

use super::stage::{Stage, full};
use super::transcript::{Transcript, took};
use super::{disk, jpeg};
use crate::internal;
use crate::render::size;

pub async fn play(stage: &mut Stage, show: &mut Transcript<'_>) -> Result<()> {
    show.act("A photo, without the place where it was taken");
    let taken = jpeg::with_place(jpeg::PHOTO, jpeg::PLACE)
        .ok_or_else(|| internal("the picture is no JPEG"))?;
    let path = stage.place("photo.jpg");
    std::fs::write(&path, &taken)?;
    let (north, east) = jpeg::PLACE;
    let place = format!(
        "{}° {}′ N, {}° {}′ E",
        north / 3_600,
        north / 60 % 60,
        east / 3_600,
        east / 60 % 60
    );
    show.step(
        "Alice's photo says where it was taken",
        jpeg::has_place(&taken),
        place,
    );

    let before = disk::blobs(&stage.files_data)?;
    let started = Instant::now();
    let request = SendRequest {
        text: None,
        files: vec![file(&path)],
        ..SendRequest::text("Bob", "")
    };
    let sent = full(stage.alice.client()?.send(request).await?)?;
    let plain = u64::try_from(taken.len()).unwrap_or(u64::MAX);
    let stored: Vec<_> = disk::blobs(&stage.files_data)?
        .difference(&before)
        .cloned()
        .collect();
    let is_one = matches!(stored.as_slice(), [_]);
    let cipher = stored.first().map_or(0, |blob| blob.size);
    let sizes = format!("{} became {} of ciphertext", size(plain), size(cipher));
    show.step("it is encrypted and uploaded", is_one, took(sizes, started));

    // Sixty-four bytes out of the middle of the pixels, which would betray a plain copy.
    let middle = taken.len() / 2;
    let sample = taken
        .get(middle..middle.saturating_add(64))
        .unwrap_or_default();
    let is_plain = sample.is_empty() || disk::holds(&stage.files_data, sample)?;
    show.step("the file server's disk holds none of it", !is_plain, "");

    let started = Instant::now();
    stage.bob.sync().await?;
    let folder = stage.place("bobs-downloads");
    std::fs::create_dir(&folder)?;
    let target = FileTarget::Folder(folder);
    let saved = stage.bob.client()?.fetch_file(&sent.id, target).await?;
    let saved = saved.first().ok_or_else(|| internal("no file came"))?;
    let arrived = std::fs::read(&saved.path)?;
    let name = std::path::Path::new(&saved.path)
        .file_name()
        .unwrap_or_default();
    let detail = format!("{}, {}", name.to_string_lossy(), size(saved.size));
    show.step(
        "Bob fetches, checks and decrypts it",
        true,
        took(detail, started),
    );

    let is_clean = !jpeg::has_place(&arrived) && !disk::contains(&arrived, jpeg::CAMERA.as_bytes());
    show.step("place and camera are gone", is_clean, "");
    let pixels = jpeg::pixels(&arrived);
    let is_same = pixels.is_some() && pixels == jpeg::pixels(&taken);
    show.step(
        "every pixel is the same",
        is_same,
        "all but the metadata, byte for byte",
    );
    Ok(())
}

/// A file as `--file` names it.
pub fn file(path: &std::path::Path) -> FileSource {
    FileSource {
        content: FileContent::Path(path.to_owned()),
        name: None,
    }
}
