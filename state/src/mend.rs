//! Bodies that a power cut took away, brought back from the caller's log.

use std::sync::Arc;

use cairn_types::Block;

use crate::batch::Batch;
use crate::commit::put_body;
use crate::error::StateError;
use crate::layout::number;
use crate::state::State;
use crate::storage::{Durability, StorageError, Table};

impl State {
    /// Writes the bodies of those of `logged` that are committed here and whose bodies cannot be read: after a power cut a block of
    /// [`State::commit_backed`] may be without. Gives how many they were; they are on disk when the call returns. Blocks that are
    /// not committed are passed over.
    ///
    /// # Errors
    /// When storage fails.
    pub fn mend_bodies(&self, logged: &[Arc<Block>]) -> Result<usize, StateError> {
        let _writer = self.writer.lock();
        self.check_running()?;
        let mut batch = Batch::new();
        for block in logged {
            if self.is_without_body(block)? {
                put_body(&mut batch, block);
            }
        }
        if !batch.is_empty() {
            self.store.write(&batch, Durability::Synced).map_err(|error| self.halt(error))?;
        }
        Ok(batch.len())
    }

    /// Looks for what is missing from storage as a whole; after [`State::mend_bodies`], if anything is to be mended.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn check_storage(&self) -> Result<(), StateError> {
        Ok(self.store.check()?)
    }

    fn is_without_body(&self, block: &Block) -> Result<bool, StateError> {
        let height = block.header().height;
        if height < self.kept().blocks_from
            || self.header(height)?.map(|header| header.id()) != Some(block.id())
        {
            return Ok(false);
        }
        match self.store.get(Table::Bodies, &number(height.get())) {
            Ok(body) => Ok(body.is_none()),
            Err(StorageError::Damaged { why, .. }) => {
                tracing::warn!(%height, %why, "the body of a block is lost; the safety journal has it");
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}
