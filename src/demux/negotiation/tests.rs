use super::*;

const OFFER: Offer = Offer {
    version: Version::CURRENT,
    features: Features::COMPRESSION.union(Features::QOS),
    capabilities: Capabilities::LOW_LATENCY,
    required: Features::empty(),
    needed: Capabilities::empty(),
    least_kept: 0,
    terms: Terms { codecs: 3, ciphers: 6, cipher: 2, window: 64, kept: 100 },
};

fn proposal(offer: &Offer) -> Proposal {
    let (version, features) = (offer.version.number(), offer.features.bits());
    Proposal { version, features, capabilities: offer.capabilities.bits() }
}

fn end(role: Role, offer: Offer) -> Negotiation {
    let mut end = Negotiation::plain(role);
    assert!(end.offer(offer));
    end
}

/// What the packet is to who receives it.
fn event(packet: &Packet) -> Event {
    let [version, features, capabilities, ..] = packet.operands;
    let said = Proposal { version, features, capabilities };
    match packet.op {
        op::PROTO_NEGOTIATE => Event::Negotiate(said),
        op::PROTO_ACK => Event::Ack(said),
        op::TERMS => Event::Terms(Terms::from_operands(packet.operands)),
        op::BEGIN => Event::Begin { features: version, capabilities: features },
        op::ERROR => Event::Error { code: features },
        other => panic!("{other}"),
    }
}

/// Two ends and what is under way between them.
struct Pair {
    ends: [Negotiation; 2],
    under_way: [Vec<Packet>; 2],
}

impl Pair {
    fn new(offers: [Offer; 2]) -> Self {
        let ends = [end(Role::Primary, offers[0]), end(Role::Secondary, offers[1])];
        Self { ends, under_way: [Vec::new(), Vec::new()] }
    }

    fn tell(&mut self, who: usize, event: Event) {
        let mut out = Vec::new();
        if let Err(code) = self.ends[who].on(event, &mut out) {
            // An answer to an OpError there is not.
            if !matches!(event, Event::Error { .. }) {
                out.push(Packet::error(0, code, op::PROTO_NEGOTIATE));
            }
        }
        self.under_way[who].extend(out);
    }

    /// Delivers the oldest packet of `who`. Whether there was one.
    fn deliver(&mut self, who: usize) -> bool {
        if self.under_way[who].is_empty() {
            return false;
        }
        let packet = self.under_way[who].remove(0);
        self.tell(1 - who, event(&packet));
        true
    }

    fn run(&mut self) -> [Progress; 2] {
        while self.deliver(0) | self.deliver(1) {}
        self.ends.each_ref().map(Negotiation::progress)
    }
}

fn agreed(features: Features, capabilities: Capabilities, terms: Terms) -> Progress {
    let version = Version::CURRENT;
    Progress::Done(Agreement { version, features, capabilities, terms, fallback: None })
}

fn standard(fallback: Fallback) -> Progress {
    Progress::Done(Agreement::standard(fallback))
}

#[test]
fn what_both_have_is_used() {
    let theirs = Offer {
        features: Features::COMPRESSION | Features::STATISTICS,
        capabilities: Capabilities::all(),
        terms: Terms { codecs: 2, ..Terms::NONE },
        ..OFFER
    };
    let want = agreed(Features::COMPRESSION, Capabilities::LOW_LATENCY, Terms { codecs: 2, ..Terms::NONE });
    for starts in [&[0][..], &[1], &[0, 1], &[1, 0]] {
        let mut pair = Pair::new([OFFER, theirs]);
        starts.iter().for_each(|&who| pair.tell(who, Event::Start));
        assert_eq!(pair.run(), [want, want], "{starts:?}");
    }
}

/// Simultaneous starts in every order of the packets come to one outcome.
#[test]
fn every_order_of_two_starts_comes_to_one_outcome() {
    fn explore(pair: &Pair, count: &mut usize) {
        let mut last = true;
        for who in 0..2 {
            let mut next = Pair { ends: pair.ends, under_way: pair.under_way.clone() };
            if next.deliver(who) {
                last = false;
                explore(&next, count);
            }
        }
        if last {
            let [one, other] = pair.ends.each_ref().map(Negotiation::progress);
            assert_eq!(one, other);
            assert_eq!(one, agreed(OFFER.features, OFFER.capabilities, OFFER.terms));
            *count += 1;
        }
    }
    let mut count = 0;
    let mut pair = Pair::new([OFFER, OFFER]);
    pair.tell(0, Event::Start);
    explore(&pair, &mut count);
    pair.tell(1, Event::Start);
    explore(&pair, &mut count);
    assert!(count > 10, "{count}");
}

/// Whoever gives up, whenever, and once all that was sent has come: both are settled, or neither uses anything; nobody has
/// begun and waits in vain.
#[test]
fn giving_up_leaves_no_doubt() {
    fn explore(pair: &Pair, budget: usize, seen: &mut [usize; 2]) {
        let mut last = true;
        for who in 0..2 {
            let mut next = Pair { ends: pair.ends, under_way: pair.under_way.clone() };
            if next.deliver(who) {
                last = false;
                explore(&next, budget, seen);
            }
            if budget > 0 {
                let mut next = Pair { ends: pair.ends, under_way: pair.under_way.clone() };
                next.tell(who, Event::Timeout);
                explore(&next, budget - 1, seen);
            }
        }
        if last {
            let uses = |end: &Negotiation| match end.progress() {
                Progress::Done(agreement) => Some(!agreement.features.is_empty()),
                Progress::Open => {
                    assert!(!matches!(end.state, State::Begun(_)), "{end:?}");
                    None
                }
                Progress::Failed => panic!("nobody broke a rule"),
            };
            match pair.ends.each_ref().map(uses) {
                [Some(true), Some(true)] => seen[0] += 1,
                [Some(false), Some(false)] => seen[1] += 1,
                other => panic!("{other:?}: {pair:?}", pair = pair.ends),
            }
        }
    }
    let mut seen = [0; 2];
    for starts in [&[0][..], &[1], &[0, 1]] {
        let mut pair = Pair::new([OFFER, OFFER]);
        starts.iter().for_each(|&who| pair.tell(who, Event::Start));
        explore(&pair, 2, &mut seen);
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn every_state_knows_every_event() {
    let terms = Terms { codecs: 1, ..Terms::NONE };
    let settled = Agreement {
        version: Version::CURRENT,
        features: OFFER.features,
        capabilities: OFFER.capabilities,
        terms,
        fallback: None,
    };
    let (features, capabilities) = (OFFER.features.bits(), OFFER.capabilities.bits());
    let states = [
        State::Plain,
        State::Idle,
        State::Proposed,
        State::Agreed(settled),
        State::Keying(settled),
        State::Begun(settled),
        State::Settled(settled),
        State::Standard(Fallback::Silence),
        State::Failed,
    ];
    let events = [
        Event::Start,
        Event::Negotiate(proposal(&OFFER)),
        Event::Ack(proposal(&OFFER)),
        Event::Terms(terms),
        Event::Begin { features, capabilities },
        Event::Keyed,
        Event::WrongKey,
        Event::Error { code: 6 },
        Event::Traffic,
        Event::Timeout,
    ];
    // A letter for the state that follows: as in the table at the head of the file, `!` where the packet is refused.
    let letter = |state: &State| match state {
        State::Plain => 'p',
        State::Idle => 'i',
        State::Proposed => 'o',
        State::Agreed(_) => 'a',
        State::Keying(_) => 'k',
        State::Begun(_) => 'b',
        State::Settled(_) => 's',
        State::Standard(_) => 'd',
        State::Failed => 'f',
    };
    let walk = |role| {
        states.map(|state| {
            let step = |event| {
                let mut end = Negotiation { role, offer: OFFER, state };
                let mut out = Vec::new();
                let done = end.on(event, &mut out);
                assert!(out.len() <= 2);
                assert!(
                    done.is_ok() || !matches!(event, Event::Start | Event::Error { .. } | Event::Traffic)
                );
                format!("{}{}", letter(&end.state), if done.is_err() { "!" } else { "" })
            };
            events.map(step).join(" ")
        })
    };
    let table = [
        "p p p! p! p! p p p p p",
        "o a i! i! i! i i i d d",
        "o a a o! o! o o d d d",
        "a a! a! b a! a a d d d",
        "k k! k! k! k! b d d d d",
        "b b! b! b! s b b d f b",
        "s s! s! s! s! s s s s s",
        "d d d! d! d! d d d d d",
        "f f! f! f! f! f f f f f",
    ];
    assert_eq!(walk(Role::Secondary), table);
    // The Primary's own proposal stands.
    assert_eq!(walk(Role::Primary)[2], "o o a o! o! o o d d d");
    for (place, row) in walk(Role::Primary).iter().enumerate().filter(|(place, _)| *place != 2) {
        assert_eq!(row, table[place]);
    }
}

#[test]
fn versions() {
    let of = |major, minor| Offer { version: Version { major, minor }, ..OFFER };
    // The lower minor.
    let mut pair = Pair::new([OFFER, of(1, 0)]);
    pair.tell(0, Event::Start);
    for progress in pair.run() {
        let Progress::Done(agreement) = progress else { panic!("{progress:?}") };
        assert_eq!(agreement.version, Version { major: 1, minor: 0 });
        assert_eq!(agreement.features, OFFER.features);
    }
    // Another major.
    let mut pair = Pair::new([OFFER, of(2, 0)]);
    pair.tell(0, Event::Start);
    let refused = standard(Fallback::Refused { code: ErrorCode::InvalidOp.number() });
    assert_eq!(pair.run(), [refused, standard(Fallback::Version { theirs: Version::CURRENT })]);
    // None at all.
    let mut end = end(Role::Secondary, OFFER);
    let mut out = Vec::new();
    let nonsense = Proposal { version: 0x1_0101, ..proposal(&OFFER) };
    assert_eq!(end.on(Event::Negotiate(nonsense), &mut out), Err(ErrorCode::InvalidOp));
    assert_eq!((end.progress(), out.len()), (Progress::Open, 0));
}

#[test]
fn what_is_required_is_there_or_nothing_is_agreed() {
    let needs = Offer { required: Features::COMPRESSION, ..OFFER };
    let without = Offer { features: Features::QOS, ..OFFER };
    let missing = standard(Fallback::Missing(Features::COMPRESSION));
    for (starts, who) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let mut offers = [without; 2];
        offers[who] = needs;
        let mut pair = Pair::new(offers);
        pair.tell(starts, Event::Start);
        let progress = pair.run();
        assert_eq!(progress[who], missing, "{starts} {who}");
        assert!(matches!(progress[1 - who], Progress::Done(Agreement { fallback: Some(_), .. })));
    }
    // Terms that leave nothing of it are found out later.
    let deaf = Offer { terms: Terms { codecs: 4, ..OFFER.terms }, ..OFFER };
    let mut pair = Pair::new([needs, deaf]);
    pair.tell(0, Event::Start);
    let progress = pair.run();
    assert_eq!(progress[0], missing);
    assert!(matches!(progress[1], Progress::Done(Agreement { fallback: Some(_), .. })), "{progress:?}");
    // Who does not need it goes on without.
    let mut pair = Pair::new([OFFER, deaf]);
    pair.tell(0, Event::Start);
    let want = agreed(Features::QOS, Capabilities::LOW_LATENCY, Terms { codecs: 0, ..OFFER.terms });
    assert_eq!(pair.run(), [want, want]);
}

#[test]
fn more_than_was_asked_for_is_no_answer() {
    for (features, capabilities, version) in [
        (Features::all().bits(), 0, 0x0101),
        (1 << 40, 0, 0x0101),
        (2, 1 << 40, 0x0101),
        (2, 0, 0x0102),
        (2, 0, 0x0201),
        (2, 0, u64::MAX),
    ] {
        let mut end = end(Role::Primary, OFFER);
        let mut out = Vec::new();
        end.on(Event::Start, &mut out).unwrap();
        out.clear();
        let ack = Event::Ack(Proposal { version, features, capabilities });
        assert_eq!(end.on(ack, &mut out), Err(ErrorCode::InvalidOp));
        assert_eq!((end.progress(), out.len()), (standard(Fallback::Contradiction), 0));
    }
}

#[test]
fn bits_of_later_versions_are_passed_over() {
    let later = Proposal { version: 0x01FF, features: u64::MAX, capabilities: u64::MAX };
    let mut end = end(Role::Secondary, OFFER);
    let mut out = Vec::new();
    end.on(Event::Negotiate(later), &mut out).unwrap();
    assert_eq!(event(&out[0]), Event::Ack(proposal(&OFFER)));
    let operands = [u64::MAX; 7];
    end.on(Event::Terms(Terms::from_operands(operands)), &mut out).unwrap();
    assert_eq!(out.len(), 3);
    assert_eq!(Terms::from_operands(OFFER.terms.operands()), OFFER.terms);
}

#[test]
fn the_cipher_is_one_that_both_have() {
    let of = |ciphers, cipher| Terms { ciphers, cipher, ..Terms::NONE };
    for (primary, secondary, met) in [
        (of(6, 2), of(6, 1), of(6, 2)),
        (of(6, 1), of(6, 2), of(6, 1)),
        (of(6, 1), of(4, 2), of(4, 2)),
        (of(6, 0), of(6, 2), of(6, 1)),
        (of(6, 255), of(255, 7), of(6, 1)),
        (of(2, 1), of(4, 2), of(0, 0)),
    ] {
        assert_eq!(Terms::meet(primary, secondary), met, "{primary:?} {secondary:?}");
    }
}

#[test]
fn nothing_begins_without_the_key() {
    let secret = Offer { features: Features::ENCRYPTION, required: Features::ENCRYPTION, ..OFFER };
    let mut pair = Pair::new([secret, secret]);
    pair.tell(0, Event::Start);
    assert_eq!(pair.run(), [Progress::Open; 2]);
    assert!(pair.ends.iter().all(|end| end.keying().is_some()));
    // Another key at one end: it says so, and the other hears it.
    let mut wrong = Pair { ends: pair.ends, under_way: Default::default() };
    wrong.tell(1, Event::WrongKey);
    wrong.tell(0, Event::Error { code: ErrorCode::WrongKey.number() });
    assert_eq!(wrong.run(), [standard(Fallback::WrongKey); 2]);
    pair.tell(1, Event::Keyed);
    pair.tell(0, Event::Keyed);
    let want = agreed(Features::ENCRYPTION, OFFER.capabilities, OFFER.terms);
    assert_eq!(pair.run(), [want, want]);
    // Without a cipher that both have there is no encryption, and so nothing at all.
    let other = Offer { terms: Terms { ciphers: 8, ..OFFER.terms }, ..secret };
    let mut pair = Pair::new([secret, other]);
    pair.tell(1, Event::Start);
    assert!(
        pair.run()
            .iter()
            .all(|progress| matches!(progress, Progress::Done(Agreement { fallback: Some(_), .. })))
    );
}

#[test]
fn a_peer_that_begins_something_else_is_not_followed() {
    let mut pair = Pair::new([OFFER, OFFER]);
    pair.tell(0, Event::Start);
    pair.deliver(0);
    pair.deliver(1);
    pair.deliver(1);
    let last = pair.under_way[0].pop().unwrap();
    assert_eq!(last.op, op::BEGIN);
    pair.tell(0, Event::Begin { features: 2, capabilities: 0 });
    assert_eq!(pair.ends[0].progress(), Progress::Failed);
}

#[test]
fn names() {
    assert_eq!((Features::COMPRESSION | Features::FLOW_CONTROL).to_string(), "compression, flow control");
    assert_eq!(Capabilities::empty().to_string(), "none");
    assert_eq!(Version::CURRENT.to_string(), "1.1");
    let of = |fallback: Fallback| fallback.to_string();
    assert_eq!(
        of(Fallback::Refused { code: 6 }),
        "the peer does not negotiate, or requires what this end did not ask for (code 0x06)"
    );
    let missing = of(Fallback::Missing(Features::ENCRYPTION));
    assert_eq!(missing, "the peer does not have the required encryption");
    for fallback in [Fallback::NothingShared, Fallback::Traffic, Fallback::Contradiction, Fallback::Silence] {
        assert!(of(fallback).len() > 20);
    }
    let other = of(Fallback::Version { theirs: Version { major: 2, minor: 3 } });
    assert_eq!(other, "the peer has protocol version 2.3 and this end 1.1");
}
