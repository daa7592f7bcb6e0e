//! Several sorted lists as one: for a scan over all of them, and for a run that replaces some.

use std::sync::Arc;

use super::super::StoreError;
use super::list::Listed;
use super::{RowRef, memory, run};

/// Runs of one level before they become one of the next. Fewer runs are read faster, more are
/// written less often; with four, five million events lie in about eight runs.
const FAN_IN: usize = 4;

/// One of the lists.
pub enum Source {
    /// Rows in memory.
    Memory(memory::Cursor),
    /// Rows in a file.
    Run(run::Cursor),
}

impl Source {
    fn row(&self) -> Option<RowRef<'_>> {
        match self {
            Self::Memory(cursor) => cursor.row(),
            Self::Run(cursor) => cursor.row(),
        }
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Memory(cursor) => {
                cursor.advance();
                Ok(())
            }
            Self::Run(cursor) => cursor.advance(),
        }
    }
}

/// Goes through all sources in the order of keys. Of several rows for one key, the newest source's
/// is shown.
pub struct Merged {
    /// Newest first.
    sources: Vec<Source>,
    current: Option<usize>,
}

impl Merged {
    /// Newest source first.
    pub fn new(sources: Vec<Source>) -> Self {
        let mut merged = Self {
            sources,
            current: None,
        };
        merged.choose();
        merged
    }

    /// The row it stands at; a removed one has no value.
    pub fn row(&self) -> Option<RowRef<'_>> {
        self.sources.get(self.current?)?.row()
    }

    /// Goes to the next key.
    pub fn advance(&mut self) -> Result<(), StoreError> {
        let Some(current) = self.current else {
            return Ok(());
        };
        // Older rows for the same key first, while the key can still be looked at.
        let (newer, older) = self.sources.split_at_mut(current + 1);
        if let Some((key, _)) = newer.last().and_then(Source::row) {
            for source in older {
                if source.row().is_some_and(|(other, _)| other == key) {
                    source.advance()?;
                }
            }
        }
        if let Some(source) = newer.last_mut() {
            source.advance()?;
        }
        self.choose();
        Ok(())
    }

    fn choose(&mut self) {
        let mut first: Option<(usize, &[u8])> = None;
        for (number, source) in self.sources.iter().enumerate() {
            if let Some((key, _)) = source.row()
                && first.is_none_or(|(_, least)| key < least)
            {
                first = Some((number, key));
            }
        }
        self.current = first.map(|(number, _)| number);
    }
}

/// Which of `runs`, newest first, are to become one: the range, and the level of the result.
/// Levels ascend with age, so runs of a level are neighbours.
pub fn due(runs: &[Listed]) -> Option<(std::ops::Range<usize>, u32)> {
    let mut start = 0;
    for group in runs.chunk_by(|a, b| a.level == b.level) {
        let end = start + group.len();
        if group.len() >= FAN_IN {
            return Some((start..end, group.first()?.level.saturating_add(1)));
        }
        start = end;
    }
    None
}

/// Writes what `merged` shows into `writer`, with removals unless nothing older is left that they
/// could be about. False where `go_on` said no.
pub fn write(
    mut merged: Merged,
    writer: &mut run::Writer,
    is_oldest: bool,
    go_on: impl Fn() -> bool,
) -> Result<bool, StoreError> {
    let mut count = 0_u32;
    while let Some((key, value)) = merged.row() {
        if value.is_some() || !is_oldest {
            writer.push(key, value)?;
        }
        count = count.wrapping_add(1);
        if count.is_multiple_of(4_096) && !go_on() {
            return Ok(false);
        }
        merged.advance()?;
    }
    Ok(true)
}

/// The sources for merging whole runs.
pub fn sources(runs: &[Arc<run::Run>]) -> Result<Vec<Source>, StoreError> {
    runs.iter()
        .map(|run| Ok(Source::Run(run::Cursor::new(run.clone(), &[], None)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_a_level_are_merged_when_there_are_enough() {
        let listed = |levels: &[u32]| -> Vec<Listed> {
            let numbers = (1..).zip(levels);
            numbers
                .map(|(number, level)| Listed {
                    number,
                    level: *level,
                })
                .collect()
        };
        assert_eq!(due(&listed(&[])), None);
        assert_eq!(due(&listed(&[0, 0, 0, 1, 1, 1, 2])), None);
        assert_eq!(due(&listed(&[0, 1, 1, 1, 1, 3])), Some((1..5, 2)));
        assert_eq!(due(&listed(&[0, 0, 0, 0, 0, 1])), Some((0..5, 1)));
    }
}
