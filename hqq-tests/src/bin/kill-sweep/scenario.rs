//! The scenarios: the operation of the victim, the state of the region, and the other processes.

use std::fmt;

use hqq::Geometry;
use hqq::shm::layout::RingMode;
use hqq::shm::words::Role;

use crate::arena::Who;

/// Slots and buffers of each direction.
pub const COUNT: u32 = 4;
/// Bytes of a buffer.
pub const SIZE: u64 = 64;
/// Bytes of a message in the slot, in one buffer, and in three.
pub const INLINE: usize = 24;
pub const POOL: usize = 60;
pub const RUN: usize = 150;

/// The geometry of all scenarios here.
pub fn geometry() -> Geometry {
    Geometry::new(COUNT, COUNT, SIZE).expect("powers of two")
}

names! {
    /// What the victim does.
    Op {
        /// Takes a buffer.
        Loan "loan",
        /// Takes a buffer ahead of time, then for a loan.
        LoanAhead "loan-ahead",
        /// Gathers three.
        LoanRun "loan-run",
        /// Gathers three where an earlier message lies in the middle.
        LoanFragmented "loan-fragmented",
        /// Drops a loan.
        GiveLoan "give-loan",
        /// Drops a loan of three buffers.
        GiveRun "give-run",
        /// Sends a loan.
        Send "send",
        /// Sends a loan of three buffers.
        SendRun "send-run",
        /// Sends a loan of which nothing is used.
        SendEmpty "send-empty",
        /// Sends a message in the slot.
        SendInline "send-inline",
        /// Copies a message into the pool and sends it.
        SendBytes "send-bytes",
        /// Sends a packet without payload: a connection is created.
        SendPacket "conn-create",
        /// Sends a packet without payload: a connection is accepted.
        SendAccept "conn-accept",
        /// Sends a packet without payload: a connection is closed.
        SendClose "conn-close",
        /// Sends a chunk of a connection's copy.
        SendChunk "conn-copy",
        /// Sends three messages of both kinds and rings once.
        SendBatch "batch-send",
        /// Receives whatever comes.
        Receive "receive",
        /// Receives by the short way for small messages.
        ReceiveInline "receive-inline",
        /// Receives by the short way for messages in the pool.
        ReceivePool "receive-pool",
        /// Receives a message of three buffers.
        ReceiveRun "receive-run",
        /// Receives an empty message.
        ReceiveEmpty "receive-empty",
        /// Receives a chunk of a connection's copy.
        ReceiveChunk "conn-receive",
        /// Receives behind a tombstone.
        ReceiveTombstone "receive-tombstone",
        /// Receives what recovery put back below its mark.
        ReceiveReturned "receive-returned",
        /// Refuses a message over its limit.
        ReceiveRefused "receive-refused",
        /// Receives what there is and gives it back.
        ReceiveBatch "batch-receive",
        /// Gives a message's buffer back.
        Release "release",
        /// Gives a message's three buffers back.
        ReleaseRun "release-run",
        /// Receives, answers, gives back.
        Echo "echo",
        /// Announces a sleep of both kinds, looks, and takes it back.
        Announce "announce",
        /// Strikes off sleepers.
        Wake "wake",
        /// Joins the region.
        Attach "attach",
        /// Gives its seat up.
        Leave "detach",
        /// Recovers a dead process of its own side.
        RecoverOwn "recover-own",
        /// Recovers a dead process of the other side.
        RecoverOther "recover-other",
    }
}

names! {
    /// Who else is in the middle of an operation when the victim dies.
    Company {
        /// Nobody.
        Nobody "idle",
        /// The ally has claimed a slot for a message in the pool.
        AllyClaims "ally-claims",
        /// The ally has taken a packet.
        AllyTakes "ally-takes",
        /// The ally has taken a packet and marked its buffers.
        AllyHolds "ally-holds",
        /// The ally gathers: it has the lease and a buffer.
        AllyGathers "ally-gathers",
        /// The ally has a loan.
        AllyLends "ally-lends",
        /// The ally reads a message.
        AllyReads "ally-reads",
        /// A second process of the victim's side, with nothing to do.
        SecondIdle "second-idle",
        /// The second has claimed a slot.
        SecondClaims "second-claims",
        /// The second has taken a packet.
        SecondTakes "second-takes",
        /// The second has taken a packet and marked its buffers.
        SecondHolds "second-holds",
        /// The second gathers.
        SecondGathers "second-gathers",
        /// The second has a loan.
        SecondLends "second-lends",
        /// The second reads a message.
        SecondReads "second-reads",
        /// Another thread of the victim has claimed one slot and taken another.
        Threads "threads",
    }
}

/// What somebody is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Middle {
    Nothing,
    Claims,
    Takes,
    Holds,
    Gathers,
    Lends,
    Reads,
}

impl Company {
    /// Who it is, and in the middle of what.
    pub fn of(self) -> (Who, Middle) {
        match self {
            Self::Nobody => (Who::Ally, Middle::Nothing),
            Self::AllyClaims => (Who::Ally, Middle::Claims),
            Self::AllyTakes => (Who::Ally, Middle::Takes),
            Self::AllyHolds => (Who::Ally, Middle::Holds),
            Self::AllyGathers => (Who::Ally, Middle::Gathers),
            Self::AllyLends => (Who::Ally, Middle::Lends),
            Self::AllyReads => (Who::Ally, Middle::Reads),
            Self::SecondIdle => (Who::Second, Middle::Nothing),
            Self::SecondClaims => (Who::Second, Middle::Claims),
            Self::SecondTakes => (Who::Second, Middle::Takes),
            Self::SecondHolds => (Who::Second, Middle::Holds),
            Self::SecondGathers => (Who::Second, Middle::Gathers),
            Self::SecondLends => (Who::Second, Middle::Lends),
            Self::SecondReads => (Who::Second, Middle::Reads),
            Self::Threads => (Who::Victim, Middle::Nothing),
        }
    }
}

impl Op {
    /// Whether it needs more than two processes, or threads, on one ring.
    fn needs_many(self) -> bool {
        matches!(self, Self::ReceiveReturned | Self::RecoverOwn | Self::RecoverOther)
    }

    /// Messages that lie in the ring before, by their length, repeated as often as the fill level says: the
    /// direction that the victim sends in, and the other.
    pub fn before(self) -> (&'static [usize], &'static [usize]) {
        const NONE: &[usize] = &[];
        match self {
            Self::Loan | Self::LoanAhead | Self::LoanRun | Self::SendBytes => (&[POOL], NONE),
            Self::LoanFragmented => (NONE, NONE),
            Self::Send | Self::SendRun | Self::SendEmpty | Self::GiveLoan | Self::GiveRun => {
                (&[INLINE], NONE)
            }
            Self::SendInline | Self::SendPacket | Self::SendAccept | Self::SendClose => {
                (&[POOL, INLINE], NONE)
            }
            Self::SendChunk => (&[INLINE], NONE),
            Self::SendBatch => (&[INLINE], NONE),
            Self::Receive => (NONE, &[POOL, INLINE, 0]),
            Self::ReceiveInline => (NONE, &[INLINE, POOL]),
            Self::ReceivePool | Self::ReceiveRefused | Self::ReceiveReturned => (NONE, &[POOL]),
            Self::ReceiveRun => (NONE, &[RUN, INLINE]),
            Self::ReceiveEmpty => (NONE, &[0, INLINE]),
            Self::ReceiveChunk | Self::ReceiveTombstone => (NONE, &[INLINE, POOL]),
            Self::ReceiveBatch => (NONE, &[POOL, INLINE]),
            Self::Release | Self::ReleaseRun => (NONE, &[INLINE]),
            Self::Echo => (&[INLINE], &[POOL]),
            Self::Announce | Self::Wake | Self::Leave | Self::RecoverOwn | Self::RecoverOther => {
                (&[POOL, INLINE], &[INLINE, POOL])
            }
            Self::Attach => (NONE, &[POOL, INLINE]),
        }
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scenario {
    pub op: Op,
    pub ring: RingMode,
    pub fill: u32,
    pub role: Role,
    pub company: Company,
}

/// A ring mode's name.
pub fn ring_name(ring: RingMode) -> &'static str {
    match ring {
        RingMode::Mpmc => "mpmc",
        RingMode::Spsc => "spsc",
        RingMode::Mpsc => "mpsc",
        RingMode::Spmc => "spmc",
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, ring, company) = (self.op.name(), ring_name(self.ring), self.company.name());
        write!(f, "{op}/{ring}/{}/{}/{company}", self.fill, self.role)
    }
}

impl Scenario {
    /// All that make sense.
    pub fn all() -> Vec<Self> {
        let rings = [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc];
        let mut all = Vec::new();
        for &op in Op::ALL {
            for ring in rings {
                for fill in 0..=COUNT {
                    for role in [Role::Primary, Role::Secondary] {
                        for &company in Company::ALL {
                            let scenario = Self { op, ring, fill, role, company };
                            if scenario.makes_sense() {
                                all.push(scenario);
                            }
                        }
                    }
                }
            }
        }
        all
    }

    fn makes_sense(&self) -> bool {
        let many = self.ring == RingMode::Mpmc;
        let company = match self.company.of().0 {
            Who::Ally => true,
            // Who is not attached, or leaves in order, has no threads at work.
            Who::Victim => many && !matches!(self.op, Op::Attach | Op::Leave),
            _ => many && !self.op.needs_many(),
        };
        let room = !matches!(self.op, Op::ReceiveReturned | Op::ReceiveTombstone | Op::ReceiveChunk)
            || self.fill < COUNT;
        company && room && (many || !self.op.needs_many())
    }
}
