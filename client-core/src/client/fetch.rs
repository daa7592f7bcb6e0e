//! `file get`: fetches the ciphertext into the spool, then hands it to `save`.

use std::fs::File;

use tokio::time::Instant;
use wire::limits;

use super::bound::Client;
use super::request::FileTarget;
use super::save::{check_path, save};
use crate::engine::{FileCipher, FilePlan};
use crate::error::{Error, ErrorWord, Result};
use crate::runtime::file_link::DownloadError;
use crate::view::SavedFileView;

impl Client {
    /// Fetches and decrypts the files of a message. A download that broke off goes on where it
    /// stopped at the next try.
    ///
    /// Fails with `not_found` where the servers do not have it any more, `integrity` where what
    /// they have is not what the message names, `conflict` where the target is taken.
    pub async fn fetch_file(
        &mut self,
        id: &str,
        mut target: FileTarget,
    ) -> Result<Vec<SavedFileView>> {
        let id = self.engine.message_id(&self.store, id)?;
        if let FileTarget::Path { path, force } = &target {
            check_path(path, *force)?;
        }
        let plans = self.engine.file_plan(&self.store, id, self.now())?;
        let mut saved = Vec::new();
        for plan in plans {
            let ciphertext = self.driver.spool().open_partial(&plan.blob)?;
            self.download(&plan, &ciphertext).await?;
            let mut rng = (self.settings.rng)();
            // On a thread of its own: a large file takes a while to decrypt.
            let (result, back) = tokio::task::spawn_blocking(move || {
                let result = save(&plan, ciphertext, &mut target, &mut *rng);
                (result.map(|view| (view, plan.blob)), (target, plan.blob))
            })
            .await
            .map_err(|_| Error::new(ErrorWord::Internal, "saving the file failed"))?;
            target = back.0;
            let is_useless = match &result {
                Ok(_) => true,
                Err(error) => error.word == ErrorWord::Integrity,
            };
            if is_useless {
                self.driver.spool().remove_partial(&back.1)?;
            }
            saved.push(result?.0);
        }
        Ok(saved)
    }

    async fn download(&self, plan: &FilePlan, place: &File) -> Result<()> {
        const TAG_BYTES: u64 = 16;
        let limit = match plan.cipher {
            // Padding and tags add less than an eighth.
            FileCipher::Stream(_) => limits::FILE_BYTES.saturating_add(limits::FILE_BYTES / 8),
            FileCipher::Foreign(_) => limits::FOREIGN_FILE_BYTES.saturating_add(TAG_BYTES),
        };
        let mut worst = None;
        let begun = Instant::now();
        for (url, is_own) in &plan.urls {
            let file = place.try_clone()?;
            let total = plan.cipher_size.unwrap_or_default();
            let progress = self.driver.progress(false, total);
            let fetched = self
                .driver
                .files()
                .download(url, *is_own, plan.cipher_size, limit, file, Some(progress))
                .await;
            match fetched {
                Ok(_) => return Ok(()),
                Err(DownloadError::Local(detail, is_full)) => {
                    let word = if is_full {
                        ErrorWord::DiskFull
                    } else {
                        ErrorWord::Internal
                    };
                    return Err(Error::new(word, detail));
                }
                Err(error) => {
                    let is_worse = worst
                        .as_ref()
                        .is_none_or(|old| weight(&error) > weight(old));
                    worst = if is_worse { Some(error) } else { worst };
                }
            }
        }
        let error = worst.unwrap_or(DownloadError::Absent);
        let word = match &error {
            DownloadError::Absent => ErrorWord::NotFound,
            DownloadError::Refused { .. } | DownloadError::Forbidden(_) => ErrorWord::Refused,
            DownloadError::Unreachable(_) if begun.elapsed() >= self.settings.timeout => {
                ErrorWord::Timeout
            }
            DownloadError::Unreachable(_) => ErrorWord::Unreachable,
            DownloadError::Integrity => ErrorWord::Integrity,
            DownloadError::Local(..) => ErrorWord::Internal,
        };
        Err(Error::new(word, error.to_string()))
    }
}

/// Which of several servers' failures says most: bytes that are wrong, then what may pass.
fn weight(error: &DownloadError) -> u8 {
    match error {
        DownloadError::Absent => 0,
        DownloadError::Forbidden(_) => 1,
        DownloadError::Refused { .. } => 2,
        DownloadError::Unreachable(_) => 3,
        DownloadError::Integrity | DownloadError::Local(..) => 4,
    }
}
