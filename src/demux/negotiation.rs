//! What two ends agree on beyond the standard operations: a state machine without I/O.
//!
//! # The packets, in order
//!
//! 1. OpProtoNegotiate: version, features and capabilities that one end would like.
//! 2. OpProtoAck: the lower minor version, and of features and capabilities what both have.
//! 3. Terms, from each end, unless nothing was agreed on: what the features need to know.
//! 4. Key, from the Primary and then from the Secondary, if messages are to be encrypted. How keys are made is another's
//!    matter: the machine only waits for it.
//! 5. Begin, from each end: all that it sends behind this follows what was agreed.
//!
//! Nothing else is sent in between, so it is never in doubt which form a message has. An end that has not sent its
//! Begin can still fall back to the standard operations by itself, and says so with an OpError. Behind its Begin it can
//! only follow the peer: that one may be using what was agreed already.
//!
//! # The table
//!
//! | state | start | Negotiate | Ack | Terms | Begin | OpError about it | other packets | time is up |
//! |---|---|---|---|---|---|---|---|---|
//! | plain: nobody here negotiates | - | Ack of nothing | refused | refused | refused | - | - | - |
//! | idle | proposed | agreed, or standard | refused | refused | refused | - | standard | standard |
//! | proposed | - | Primary: - ; Secondary: as idle | agreed, or standard | refused | refused | standard | standard | standard |
//! | agreed | - | refused | refused | begun, or keying | refused | standard | standard | standard |
//! | keying: begun once there is a key, standard if it is another | - | refused | refused | refused | refused | standard | standard | standard |
//! | begun | - | refused | refused | refused | settled, or failed | standard | failed | begun |
//! | settled, failed | - | refused | refused | refused | refused | - | - | - |
//! | standard | - | Ack of nothing | refused, unless it is of nothing | refused | refused | - | - | - |
//!
//! If both ends start at once, the Primary's proposal stands: it does not look at the Secondary's, which answers it and
//! forgets its own.

use std::fmt;

use crate::agreement::{Agreement, Capabilities, Fallback, Features, Terms, Version};
use crate::error::{ErrorCode, Result};
use crate::shm::packet::{Packet, op};
use crate::shm::words::Role;

/// What a Negotiate or an Ack says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) version: u64,
    pub(crate) features: u64,
    pub(crate) capabilities: u64,
}

/// What an end brings into a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) version: Version,
    pub(crate) features: Features,
    pub(crate) capabilities: Capabilities,
    /// Without these the link is of no use to the caller.
    pub(crate) required: Features,
    pub(crate) needed: Capabilities,
    /// Reliable delivery of fewer messages at a time counts as none.
    pub(crate) least_kept: u32,
    pub(crate) terms: Terms,
}

impl Offer {
    /// What the link cannot do without and does not have; `None` if it has all.
    fn lacks(&self, features: Features, capabilities: Capabilities) -> Option<Fallback> {
        if !features.contains(self.required) {
            return Some(Fallback::Missing(self.required - features));
        }
        let lacking = self.needed - capabilities;
        (!lacking.is_empty()).then_some(Fallback::Incapable(lacking))
    }
}

/// What happens to a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The caller starts it.
    Start,
    Negotiate(Proposal),
    Ack(Proposal),
    Terms(Terms),
    Begin {
        features: u64,
        capabilities: u64,
    },
    /// Both ends have the same key.
    Keyed,
    /// They have not.
    WrongKey,
    /// An OpError about one of its packets.
    Error {
        code: u64,
    },
    /// A packet that is none of its own, from the peer.
    Traffic,
    /// The caller waits no longer.
    Timeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain,
    Idle,
    Proposed,
    /// Of version, features and capabilities; the own Terms are sent.
    Agreed(Agreement),
    /// All but the key.
    Keying(Agreement),
    /// All parts are agreed; the own Begin is sent.
    Begun(Agreement),
    Settled(Agreement),
    Standard(Fallback),
    /// The peer broke the rules when there was no way back.
    Failed,
}

/// How far a negotiation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing has been decided.
    Open,
    /// It came to this.
    Done(Agreement),
    /// The link is of no use.
    Failed,
}

/// One end of a negotiation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Negotiation {
    role: Role,
    offer: Offer,
    state: State,
}

impl Negotiation {
    /// Of an end whose owner does not negotiate.
    pub(crate) const fn plain(role: Role) -> Self {
        let offer = Offer {
            version: Version::CURRENT,
            features: Features::empty(),
            capabilities: Capabilities::empty(),
            required: Features::empty(),
            needed: Capabilities::empty(),
            least_kept: 0,
            terms: Terms::NONE,
        };
        Self { role, offer, state: State::Plain }
    }

    /// The owner would like this. False if something has been settled already.
    pub(crate) fn offer(&mut self, offer: Offer) -> bool {
        let fresh = self.state == State::Plain;
        if fresh {
            self.offer = offer;
            self.state = State::Idle;
        }
        fresh
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        match self.state {
            State::Plain => Progress::Done(Agreement::standard(Fallback::NothingShared)),
            State::Idle | State::Proposed | State::Agreed(_) | State::Keying(_) | State::Begun(_) => {
                Progress::Open
            }
            State::Settled(agreement) => Progress::Done(agreement),
            State::Standard(fallback) => Progress::Done(Agreement::standard(fallback)),
            State::Failed => Progress::Failed,
        }
    }

    /// Whether this is agreed on, for good.
    pub(crate) fn has(&self, features: Features) -> bool {
        matches!(self.state, State::Settled(agreement) if agreement.features.contains(features))
    }

    /// What was agreed so far, if only the key is left.
    pub(crate) fn keying(&self) -> Option<Agreement> {
        match self.state {
            State::Keying(agreement) => Some(agreement),
            _ => None,
        }
    }

    /// Whether the packet is one of a negotiation.
    pub(crate) const fn is_about(op: u8) -> bool {
        matches!(op, op::PROTO_NEGOTIATE | op::PROTO_ACK | op::TERMS | op::KEY | op::BEGIN)
    }

    /// Whether such a packet is no sign of a peer that goes on without an agreement: it carries nothing for the caller.
    pub(crate) const fn may_come(op: u8) -> bool {
        !matches!(op, op::INLINE_COPY | op::STANDARD_LINK_COPY | op::CONN_CREATE..=op::CONN_COPY)
    }

    /// Goes on. Packets for the peer are appended to `out`.
    ///
    /// # Errors
    /// The code that a packet is refused with; it changed nothing, unless the peer has broken the rules by it.
    pub(crate) fn on(&mut self, event: Event, out: &mut Vec<Packet>) -> Result<(), ErrorCode> {
        use State::*;
        let refused = Err(ErrorCode::InvalidOp);
        match (self.state, event) {
            (Idle, Event::Start) => {
                let Offer { version, features, capabilities, .. } = self.offer;
                let operands = [version.number(), features.bits(), capabilities.bits()];
                out.push(Packet::new(op::PROTO_NEGOTIATE, operands));
                self.state = Proposed;
            }
            (_, Event::Start) => {}

            (Plain | Standard(_), Event::Negotiate(theirs)) => {
                let met =
                    Version::from_number(theirs.version).and_then(|theirs| self.offer.version.meet(theirs));
                let Some(version) = met else { return refused };
                out.push(Packet::new(op::PROTO_ACK, [version.number(), 0, 0]));
            }
            (Proposed, Event::Negotiate(_)) if self.role == Role::Primary => {}
            (Idle | Proposed, Event::Negotiate(theirs)) => return self.answer(theirs, out),
            (_, Event::Negotiate(_)) => return refused,

            (Proposed, Event::Ack(theirs)) => return self.accept(theirs, out),
            (Standard(_), Event::Ack(Proposal { features: 0, capabilities: 0, .. })) => {}
            // What came too late, and what was never asked for.
            (_, Event::Ack(_)) => return refused,

            (Agreed(agreement), Event::Terms(theirs)) => self.share(agreement, theirs, out),
            (_, Event::Terms(_)) => return refused,

            (Begun(agreement), Event::Begin { features, capabilities }) => {
                let same =
                    (features, capabilities) == (agreement.features.bits(), agreement.capabilities.bits());
                self.state = if same { Settled(agreement) } else { Failed };
                return if same { Ok(()) } else { refused };
            }
            (_, Event::Begin { .. }) => return refused,

            (Keying(agreement), Event::Keyed) => self.begin(agreement, out),
            (Keying(_), Event::WrongKey) => self.state = Standard(Fallback::WrongKey),
            (_, Event::Keyed | Event::WrongKey) => {}

            (Proposed | Agreed(_) | Keying(_) | Begun(_), Event::Error { code }) => {
                let wrong_key = code == ErrorCode::WrongKey.number();
                self.state =
                    Standard(if wrong_key { Fallback::WrongKey } else { Fallback::Refused { code } });
            }
            (_, Event::Error { .. }) => {}

            (Begun(_), Event::Traffic) => self.state = Failed,

            (Idle | Proposed, Event::Traffic) => self.state = Standard(Fallback::Traffic),
            (Agreed(_) | Keying(_), Event::Traffic) => self.withdraw(Fallback::Traffic, out),
            (_, Event::Traffic) => {}

            (Idle | Proposed, Event::Timeout) => self.state = Standard(Fallback::Silence),
            (Agreed(_) | Keying(_), Event::Timeout) => self.withdraw(Fallback::Silence, out),
            (_, Event::Timeout) => {}
        }
        Ok(())
    }

    /// Falls back where the peer thinks that something is agreed on.
    fn withdraw(&mut self, fallback: Fallback, out: &mut Vec<Packet>) {
        out.push(Packet::error(0, ErrorCode::InvalidOp, op::PROTO_ACK));
        self.state = State::Standard(fallback);
    }

    /// Answers a proposal.
    fn answer(&mut self, theirs: Proposal, out: &mut Vec<Packet>) -> Result<(), ErrorCode> {
        let Some(number) = Version::from_number(theirs.version) else { return Err(ErrorCode::InvalidOp) };
        let Some(version) = self.offer.version.meet(number) else {
            self.state = State::Standard(Fallback::Version { theirs: number });
            return Err(ErrorCode::InvalidOp);
        };
        let features = self.offer.features & Features::from_bits_truncate(theirs.features);
        let capabilities = self.offer.capabilities & Capabilities::from_bits_truncate(theirs.capabilities);
        if let Some(missing) = self.offer.lacks(features, capabilities) {
            self.state = State::Standard(missing);
            return Err(ErrorCode::InvalidOp);
        }
        out.push(Packet::new(op::PROTO_ACK, [version.number(), features.bits(), capabilities.bits()]));
        self.agree(version, features, capabilities, out);
        Ok(())
    }

    /// Takes the peer's answer to a proposal.
    fn accept(&mut self, theirs: Proposal, out: &mut Vec<Packet>) -> Result<(), ErrorCode> {
        let features = Features::from_bits_retain(theirs.features);
        let capabilities = Capabilities::from_bits_retain(theirs.capabilities);
        let version = Version::from_number(theirs.version);
        // No more than was asked for, and no later version.
        let version = version.filter(|&version| self.offer.version.meet(version) == Some(version));
        let Some(version) = version.filter(|_| {
            self.offer.features.contains(features) && self.offer.capabilities.contains(capabilities)
        }) else {
            self.state = State::Standard(Fallback::Contradiction);
            return Err(ErrorCode::InvalidOp);
        };
        if let Some(missing) = self.offer.lacks(features, capabilities) {
            self.state = State::Standard(missing);
            // A peer that agreed on nothing has nothing to be told.
            let nothing = features.is_empty() && capabilities.is_empty();
            return if nothing { Ok(()) } else { Err(ErrorCode::InvalidOp) };
        }
        self.agree(version, features, capabilities, out);
        Ok(())
    }

    fn agree(
        &mut self,
        version: Version,
        features: Features,
        capabilities: Capabilities,
        out: &mut Vec<Packet>,
    ) {
        if features.is_empty() && capabilities.is_empty() {
            self.state = State::Standard(Fallback::NothingShared);
            return;
        }
        out.push(Packet { op: op::TERMS, operands: self.offer.terms.operands() });
        let terms = self.offer.terms;
        self.state = State::Agreed(Agreement { version, features, capabilities, terms, fallback: None });
    }

    /// Both ends' Terms are known: what is left of what was agreed.
    fn share(&mut self, mut agreement: Agreement, theirs: Terms, out: &mut Vec<Packet>) {
        agreement.terms = match self.role {
            Role::Primary => Terms::meet(self.offer.terms, theirs),
            Role::Secondary => Terms::meet(theirs, self.offer.terms),
        };
        if agreement.terms.codecs == 0 {
            agreement.features -= Features::COMPRESSION;
        }
        if agreement.terms.ciphers == 0 {
            agreement.features -= Features::ENCRYPTION;
        }
        if agreement.terms.window < LEAST_WINDOW {
            agreement.features -= Features::FLOW_CONTROL;
        }
        if agreement.terms.kept < self.offer.least_kept.max(1) {
            agreement.capabilities -= Capabilities::RELIABLE_DELIVERY;
        }
        if let Some(missing) = self.offer.lacks(agreement.features, agreement.capabilities) {
            return self.withdraw(missing, out);
        }
        if agreement.features.is_empty() && agreement.capabilities.is_empty() {
            agreement.fallback = Some(Fallback::NothingShared);
        }
        if agreement.features.contains(Features::ENCRYPTION) {
            self.state = State::Keying(agreement);
        } else {
            self.begin(agreement, out);
        }
    }

    fn begin(&mut self, agreement: Agreement, out: &mut Vec<Packet>) {
        out.push(Packet::new(op::BEGIN, [agreement.features.bits(), agreement.capabilities.bits()]));
        self.state = State::Begun(agreement);
    }
}

/// The smallest window: one half is under way while the other is announced.
const LEAST_WINDOW: u32 = 2;

/// Who makes keys: two messages, the Primary's and then the Secondary's.
pub(crate) trait Keying: Send + fmt::Debug {
    /// Begins, with the cipher of this number, for two ends that have agreed on this.
    fn begin(&mut self, initiator: bool, cipher: u8, agreed: &[u8]) -> bool;
    /// The message of this end; `None` if there is none to be had.
    fn write(&mut self) -> Option<[u8; KEY_LEN]>;
    /// Takes the other's message. False if its key is another.
    fn read(&mut self, message: &[u8; KEY_LEN]) -> bool;
}

/// Bytes of each of the two messages that keys are made by.
pub(crate) const KEY_LEN: usize = 48;

#[cfg(test)]
mod tests;
