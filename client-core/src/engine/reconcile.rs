//! An inbox is compared with what its relay served before (NIP-77), and what is missing fetched.
//!
//! Our side of the comparison is exactly what this relay has served for this key: not what came
//! from elsewhere, nor what we published. So a relay reads nothing off it that it did not write
//! down itself. Whatever goes wrong ends in reading the whole inbox by pages (`inbox`), with the
//! reason in the report; what goes wrong again and again is left alone for a day.

use rand::RngExt as _;
use wire::{OkMessage, Reason, RelayUrl};

use crate::engine::comparison::{Comparison, Next};
use crate::engine::inbox::Page;
use crate::engine::io::{DescribeOutcome, Effect, OpId, ReconcileAnswer, ReconcileStep, Role};
use crate::engine::machine::{Op, Turn};
use crate::error::Result;
use crate::store::Source;

/// The NIP that a relay's description must list.
const NIP: u16 = 77;
/// When a relay that cannot compare is asked again, and one that failed at it tried again, is
/// drawn from this range, seconds.
const REST_SECONDS: std::ops::RangeInclusive<u64> = 12 * 3_600..=36 * 3_600;
/// A connection that ends within a comparison may have ended by itself; twice in a row it did not.
const BREAKS: u32 = 2;

/// A comparison with one relay.
#[derive(Debug, Clone)]
pub(crate) struct Reconcile {
    relay: RelayUrl,
    comparison: Comparison,
    look: Look,
}

/// Between its answer and the fetching a wrap may expire or be deleted, so a relay that does not
/// give all that it named is asked a second time what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    First,
    Second,
}

impl Turn<'_> {
    /// Reads the inbox on one of our relays: compares, where the relay lists that it can; else
    /// pages. A relay that was never asked, or long ago, is asked first.
    pub fn read_inbox(&mut self, relay: &RelayUrl) -> Result<()> {
        let source = Source::of(self.tx, &self.own(), relay)?;
        // A clock that was ahead must not put it off for years.
        let latest = self.now.saturating_add(*REST_SECONDS.end());
        let rests =
            (self.now..=latest).contains(&source.rest_until) && source.rest_until > self.now;
        match source.lists {
            _ if rests => {
                self.ask_page(Page::first(relay.clone()));
                Ok(())
            }
            Some(true) => self.reconcile(relay, Look::First),
            _ => {
                let op = self.begin(Op::Describe {
                    relay: relay.clone(),
                });
                let relay = relay.clone();
                self.effects.push(Effect::Describe { op, relay });
                Ok(())
            }
        }
    }

    /// Whether the inbox on a relay is being read, in whichever way.
    pub fn is_reading(&self, relay: &RelayUrl) -> bool {
        self.run.ops.values().any(|op| match op {
            Op::Page(page) => page.relay() == relay,
            Op::Reconcile(reconcile) => reconcile.relay == *relay,
            Op::Fetch(fetch) => fetch.relay() == relay,
            Op::Describe { relay: asked } => asked == relay,
            _ => false,
        })
    }

    /// A relay has said what it can do, or has not.
    pub fn described(&mut self, relay: &RelayUrl, outcome: &DescribeOutcome) -> Result<()> {
        let lists = match outcome {
            DescribeOutcome::Knows(nips) => nips.contains(&NIP),
            DescribeOutcome::Nothing => false,
            // It may be the network; the inbox is asked for all the same.
            DescribeOutcome::Unreachable => {
                self.ask_page(Page::first(relay.clone()));
                return Ok(());
            }
        };
        let mut source = Source::of(self.tx, &self.own(), relay)?;
        source.lists = Some(lists);
        source.rest_until = if lists { 0 } else { self.rested() };
        source.breaks = 0;
        source.save(self.tx)?;
        self.read_inbox(relay)
    }

    /// Compares what the relay has with what it served before.
    pub fn reconcile(&mut self, relay: &RelayUrl, look: Look) -> Result<()> {
        let source = Source::of(self.tx, &self.own(), relay)?;
        let held = source.served(self.tx, self.now)?;
        let (comparison, message) = match Comparison::begin(held) {
            Ok(begun) => begun,
            Err(why) => return self.page_instead(relay, why),
        };
        let op = self.begin(Op::Reconcile(Reconcile {
            relay: relay.clone(),
            comparison,
            look,
        }));
        let filter = self.inbox_filter();
        self.say(op, relay, ReconcileStep::Open { filter, message });
        Ok(())
    }

    /// The relay has answered.
    pub fn reconciled(
        &mut self,
        op: OpId,
        mut reconcile: Reconcile,
        answer: ReconcileAnswer,
    ) -> Result<()> {
        let relay = reconcile.relay.clone();
        let message = match answer {
            ReconcileAnswer::Message(message) => message,
            other => return self.not_reconciled(&relay, other),
        };
        match reconcile.comparison.answer(&message) {
            Ok(Next::Say(message)) => {
                self.run.ops.insert(op, Op::Reconcile(reconcile));
                self.say(op, &relay, ReconcileStep::Next { message });
                Ok(())
            }
            Ok(Next::Done) => {
                self.say(op, &relay, ReconcileStep::Close);
                let mut source = Source::of(self.tx, &self.own(), &relay)?;
                source.forget(self.tx, &reconcile.comparison.gone())?;
                if source.breaks > 0 {
                    source.breaks = 0;
                    source.save(self.tx)?;
                }
                self.fetch(&relay, reconcile.comparison.missing(), reconcile.look)
            }
            Ok(Next::MostlyNew) => {
                self.say(op, &relay, ReconcileStep::Close);
                self.ask_page(Page::first(relay));
                Ok(())
            }
            Err(why) => {
                self.say(op, &relay, ReconcileStep::Close);
                self.give_up_comparing(&relay, why)
            }
        }
    }

    /// A comparison that ended without a result.
    fn not_reconciled(&mut self, relay: &RelayUrl, answer: ReconcileAnswer) -> Result<()> {
        match answer {
            ReconcileAnswer::Message(_) => Ok(()),
            ReconcileAnswer::Refused(message) if is_for_now(&message) => {
                self.page_instead(relay, &message.text)
            }
            ReconcileAnswer::Refused(message) => self.give_up_comparing(relay, &message.text),
            ReconcileAnswer::Silent => {
                self.give_up_comparing(relay, "it did not answer the comparison in time")
            }
            ReconcileAnswer::Broken(why) => {
                let mut source = Source::of(self.tx, &self.own(), relay)?;
                source.breaks = source.breaks.saturating_add(1);
                if source.breaks >= BREAKS {
                    source.breaks = 0;
                    source.rest_until = self.rested();
                }
                source.save(self.tx)?;
                if self.run.watches.contains_key(relay) {
                    // The live subscription went with the connection; it comes back and reads.
                    self.report(relay, false, why);
                    return self.reading_over(relay);
                }
                self.page_instead(relay, &why)
            }
            ReconcileAnswer::Unreachable(why) | ReconcileAnswer::Forbidden(why) => {
                self.report(relay, false, why);
                self.reading_over(relay)
            }
        }
    }

    /// The relay fails at comparing: the inbox is paged, today and for about a day.
    pub fn give_up_comparing(&mut self, relay: &RelayUrl, why: &str) -> Result<()> {
        let mut source = Source::of(self.tx, &self.own(), relay)?;
        source.rest_until = self.rested();
        source.save(self.tx)?;
        self.page_instead(relay, why)
    }

    /// The inbox is paged because of something that the report says.
    fn page_instead(&mut self, relay: &RelayUrl, why: &str) -> Result<()> {
        self.ask_page(Page::because(relay.clone(), why));
        Ok(())
    }

    /// When a relay that cannot compare is looked at again.
    fn rested(&mut self) -> u64 {
        let seconds = self.rng.random_range(REST_SECONDS);
        self.now.saturating_add(seconds)
    }

    fn say(&mut self, op: OpId, relay: &RelayUrl, step: ReconcileStep) {
        let socket = self.socket(Role::Inbox, self.own(), relay, true);
        self.effects.push(Effect::Reconcile { op, socket, step });
    }
}

/// Whether a refusal says nothing about the next time.
fn is_for_now(message: &OkMessage) -> bool {
    matches!(
        message.reason,
        Reason::RateLimited | Reason::Error | Reason::Closed
    )
}
