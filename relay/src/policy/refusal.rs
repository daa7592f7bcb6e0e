//! Why something was refused: a typed reason, and the one place where it becomes words.

use wire::{OkMessage, Reason};

/// Why an event, a subscription or an authentication was refused. The text goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// R-SIZE-1
    #[error("the event is larger than this relay takes")]
    TooLarge,
    /// R-KIND-1: seals, and rumors that somebody signed.
    #[error("this kind belongs inside a gift wrap, never on a relay")]
    InnerKind,
    /// R-KIND-2: an AUTH event sent as EVENT.
    #[error("kind 22242 goes into an AUTH message")]
    AuthAsEvent,
    /// R-WRAP-1: not exactly one valid `p`.
    #[error("a gift wrap names exactly one recipient in a p tag")]
    WrapRecipient,
    /// R-WRAP-2: older than the window.
    #[error("the gift wrap is older than this relay accepts")]
    WrapTooOld,
    /// R-TIME-1: dated ahead.
    #[error("the event is dated too far in the future")]
    FromTheFuture,
    /// R-EXP-1: expired on arrival.
    #[error("the event has expired")]
    Expired,
    /// R-PROT-1 without AUTH.
    #[error("this event may only be published by its author")]
    ProtectedNeedsAuth,
    /// R-PROT-1 with another key.
    #[error("this event may only be published by its author")]
    ProtectedFromOther,
    /// R-PROT-2
    #[error("a repost must not carry an event that only its author may publish")]
    ProtectedRepost,
    /// R-KIND-4
    #[error("this relay does not take this kind")]
    KindNotTaken,
    /// R-POW-1
    #[error("difficulty {has} is less than {needs}")]
    TooLittleWork {
        /// Leading zero bits of the id.
        has: u32,
        /// Those that are asked for.
        needs: u32,
    },
    /// R-POW-1: the nonce tag aims at less.
    #[error("the nonce tag must commit to a difficulty of at least {needs} (NIP-13)")]
    UncommittedWork {
        /// The difficulty that is asked for.
        needs: u32,
    },
    /// R-BAN-1: the author, or a key that its sender has proved.
    #[error("this key is banned here")]
    Banned,
    /// R-BAN-1: the key that was to be proved. In NIP-42's words, since it is about AUTH.
    #[error("this key is banned here")]
    AuthBanned,
    /// R-BAN-1: nobody could read it.
    #[error("this relay takes nothing for that key")]
    BannedRecipient,
    /// R-BAN-2
    #[error("this event is not taken here")]
    BannedEvent,
    /// R-JOIN-1: a request to join or leave that came by another way than its author's connection.
    #[error("a request to join or to leave is for the relay alone")]
    WishNotPassedOn,
    /// R-JOIN-1 without AUTH.
    #[error("first prove the key that wishes to join or to leave")]
    WishNeedsAuth,
    /// R-JOIN-1 with another key.
    #[error("only the key itself may ask to join or to leave")]
    WishFromOther,
    /// R-JOIN-1
    #[error("a request to join has one claim tag with a code, and a \"-\" tag (NIP-43)")]
    WishMalformed,
    /// R-JOIN-1: too old or too new.
    #[error("the request is dated more than 10 minutes from now")]
    WishTime,
    /// R-JOIN-2
    #[error("that invite code is not known here")]
    UnknownInvite,
    /// R-JOIN-2
    #[error("that invite code has expired; ask for a new one")]
    ExpiredInvite,
    /// R-JOIN-2
    #[error("that invite code was used up; ask for a new one")]
    UsedInvite,
    /// R-JOIN-3
    #[error("too many wrong invite codes; try again later")]
    JoinTries,
    /// R-RATE-1
    #[error("too many events from this address; try again in {wait} s")]
    EventRate {
        /// Seconds.
        wait: u64,
    },
    /// R-RATE-2
    #[error("too many bytes from this address; try again in {wait} s")]
    ByteRate {
        /// Seconds.
        wait: u64,
    },
    /// R-RATE-3
    #[error("too many proofs of keys from this address; try again in {wait} s")]
    AuthRate {
        /// Seconds.
        wait: u64,
    },
    /// R-JOIN-2: as many members as there can be.
    #[error("this relay has no room for more members")]
    RosterFull,
    /// R-JOIN-4: listed in the configuration.
    #[error("the relay's configuration lists this key; ask its operator")]
    ConfiguredMember,
    /// R-MEMB-1 without AUTH.
    #[error("only members may write here")]
    MembersNeedAuth,
    /// R-MEMB-1 with a key that is not listed.
    #[error("only members may write here")]
    NotAMember,
    /// R-AUTH-6: said with the OK that accepts a proof.
    #[error("you are no member here: what waits for you may be read, and nothing new is taken")]
    NoMailbox,
    /// R-RCPT-1
    #[error("this relay takes messages for its own users only")]
    UnlistedRecipient,
    /// R-RCPT-1
    #[error("this relay takes events of its own users only")]
    UnlistedAuthor,
    /// R-VAN-1: a vanish request for other relays.
    #[error("the request to vanish does not name this relay")]
    VanishElsewhere,
    /// R-DEL-1: a deletion that names nothing.
    #[error("the deletion names no event")]
    DeletesNothing,
    /// R-DEL-6: a deletion of what others wrote.
    #[error("the deletion names only what others wrote")]
    NotTheirs,
    /// R-DEL-2: the event was deleted before.
    #[error("the event was deleted")]
    Deleted,
    /// R-VAN-2: its author vanished after writing it.
    #[error("its author asked to vanish")]
    Vanished,
    /// R-QUOTA-1
    #[error("the recipient's mailbox is full")]
    MailboxFull,
    /// R-AUTH-2: guarded kinds asked for without AUTH.
    #[error("this subscription could match messages that only their recipient may read")]
    ReadNeedsAuth,
    /// R-AUTH-3: wrong kind.
    #[error("an AUTH event has kind 22242")]
    AuthKind,
    /// R-AUTH-3: another challenge.
    #[error("the challenge is not the one of this connection")]
    AuthChallenge,
    /// R-AUTH-3: another relay's URL.
    #[error("the relay tag names another relay")]
    AuthRelay,
    /// R-AUTH-3: too old or too new.
    #[error("the AUTH event is dated more than 10 minutes from now")]
    AuthTime,
    /// R-AUTH-4
    #[error("too many AUTH attempts on this connection")]
    AuthTries,
}

impl Refusal {
    /// The standard prefix for it (NIP-01, NIP-42).
    pub fn reason(self) -> Reason {
        match self {
            Self::ProtectedNeedsAuth
            | Self::MembersNeedAuth
            | Self::ReadNeedsAuth
            | Self::WishNeedsAuth => Reason::AuthRequired,
            Self::WishFromOther
            | Self::UnknownInvite
            | Self::ExpiredInvite
            | Self::UsedInvite
            | Self::RosterFull
            | Self::AuthBanned
            | Self::ConfiguredMember
            | Self::ProtectedFromOther
            | Self::NotAMember
            | Self::NoMailbox
            | Self::AuthKind
            | Self::AuthChallenge
            | Self::AuthRelay
            | Self::AuthTime => Reason::Restricted,
            Self::AuthTries
            | Self::JoinTries
            | Self::EventRate { .. }
            | Self::ByteRate { .. }
            | Self::AuthRate { .. } => Reason::RateLimited,
            Self::TooLittleWork { .. } | Self::UncommittedWork { .. } => Reason::Pow,
            Self::Banned
            | Self::BannedRecipient
            | Self::BannedEvent
            | Self::Deleted
            | Self::Vanished
            | Self::MailboxFull
            | Self::KindNotTaken
            | Self::UnlistedRecipient
            | Self::UnlistedAuthor => Reason::Blocked,
            _ => Reason::Invalid,
        }
    }

    /// As OK and CLOSED carry it.
    pub fn message(self) -> OkMessage {
        OkMessage::new(self.reason(), &self.to_string())
    }
}
