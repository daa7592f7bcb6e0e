//! Verbs that look at what is here. None of them uses the network.

use super::bound::Client;
use crate::error::Result;
use crate::view::{ConversationView, MessageView};

impl Client {
    /// One entry per conversation, the newest first.
    pub fn inbox(&mut self) -> Result<Vec<ConversationView>> {
        self.engine.conversations(&self.store, self.now())
    }

    /// The newest `limit` messages with somebody, oldest first; with `before`, those that stand
    /// before that message. They count as seen from then on.
    pub fn messages(
        &mut self,
        who: &str,
        limit: usize,
        before: Option<&str>,
    ) -> Result<Vec<MessageView>> {
        let who = self.resolve(who)?;
        let before = match before {
            Some(prefix) => Some(self.engine.message_id(&self.store, prefix)?),
            None => None,
        };
        self.engine
            .messages(&self.store, &who, limit, before, self.now())
    }

    /// One message by its id or 8 or more of its first characters.
    pub fn message(&mut self, id: &str) -> Result<MessageView> {
        let id = self.engine.message_id(&self.store, id)?;
        self.engine.message(&self.store, id, self.now())
    }
}
