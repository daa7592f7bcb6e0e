//! The index engines by name: the one place that knows them all.

use std::panic::catch_unwind;
use std::path::Path;

use super::fjall::FjallIndex;
use super::memory::MemoryIndex;
use super::runs::RunsIndex;
use super::sled::SledIndex;
use super::{Index, StoreError};
use crate::config::IndexEngine;

/// Whose index lies in a folder; nothing where it is empty, or not to be told.
pub fn found(folder: &Path) -> Option<IndexEngine> {
    let marks = [
        (IndexEngine::Runs, "runs"),
        (IndexEngine::Fjall, "keyspaces"),
        (IndexEngine::Sled, "current"),
    ];
    let mark = marks.iter().find(|(_, name)| folder.join(name).exists());
    mark.map(|(engine, _)| *engine)
}

/// Opens or makes an engine's index in `folder`, which exists and which it alone uses.
///
/// What an engine does with files that a crash or a disk has mangled is not for it to decide: a
/// panic is an error like any other, after which the index can be built anew.
pub fn open(engine: IndexEngine, folder: &Path) -> Result<Box<dyn Index>, StoreError> {
    catch_unwind(|| -> Result<Box<dyn Index>, StoreError> {
        Ok(match engine {
            IndexEngine::Runs => Box::new(RunsIndex::open(folder)?),
            IndexEngine::Fjall => Box::new(FjallIndex::open(folder)?),
            IndexEngine::Sled => Box::new(SledIndex::open(folder)?),
            IndexEngine::Memory => Box::new(MemoryIndex::default()),
        })
    })
    .unwrap_or_else(|_| Err(StoreError::Index("the engine failed to open it".to_owned())))
}
