use super::*;
use crate::agreement::{Capabilities, Terms, Version};
use hqq_features::qos::QosError;

const SIZE: u64 = 1024;

fn agreement(features: Features, window: u32) -> Agreement {
    Agreement {
        version: Version::CURRENT,
        features,
        capabilities: Capabilities::empty(),
        terms: Terms { window, ..Terms::NONE },
        fallback: None,
    }
}

fn egress(features: Features, window: u32) -> EgressScheduler {
    let geometry = Geometry::new(64, 16, SIZE).unwrap();
    EgressScheduler::new(&agreement(features, window), geometry).expect("something was agreed on")
}

fn chunk(conn: u64, len: u64) -> ConnCopy {
    ConnCopy { conn, copy_id: 0, copy_size: len, transfer_size: len, transfer_offset: 0, run: None }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sends what is due while the ring has room for `room`, and lets everybody who could send submit another; whose it was.
fn run(egress: &mut EgressScheduler, now: Duration, room: usize) -> Vec<u64> {
    let mut went = Vec::new();
    while went.len() < room {
        let Some(id) = egress.next(now, |_| true) else { break };
        assert!(egress.take(id).is_some());
        let position = went.len() as u64;
        egress.sent(id, 7, position, now);
        assert_eq!(egress.outcome(id), Some(7));
        egress.submit(chunk(id, 100), now);
        went.push(id);
    }
    went
}

#[test]
fn nothing_agreed_is_nothing_to_do() {
    let geometry = Geometry::new(64, 16, SIZE).unwrap();
    for features in [Features::empty(), Features::COMPRESSION | Features::STATISTICS] {
        assert!(EgressScheduler::new(&agreement(features, 64), geometry).is_none());
    }
}

#[test]
fn a_chunk_starves_waits_and_is_sent() {
    let mut egress = egress(Features::FLOW_CONTROL, 2);
    egress.opened(1, at(0));
    for copy_id in 1..=2 {
        egress.submit(chunk(1, 10), at(0));
        assert!(egress.is_waiting());
        assert_eq!(egress.outcome(1), None);
        assert_eq!(egress.next(at(0), |_| true), Some(1));
        egress.sent(1, copy_id, copy_id, at(0));
        assert_eq!(egress.outcome(1), Some(copy_id));
    }
    egress.submit(chunk(1, 10), at(1));
    assert!(!egress.is_waiting(), "no credit");
    assert_eq!(egress.next(at(1), |_| true), None);
    assert_eq!(egress.credit(1, 3, at(5)), Ok(true));
    assert_eq!(egress.next(at(5), |_| true), Some(1));
    egress.keep(1, b"bytes");
    assert_eq!(egress.take(1), Some((chunk(1, 10), Some(b"bytes".to_vec()))));
    // The ring was full after all: it stays ahead of all others.
    egress.put_back(1, Some(b"bytes".to_vec()));
    egress.opened(3, at(5));
    egress.submit(chunk(3, 10), at(5));
    assert_eq!(egress.next(at(5), |_| true), Some(1));
    egress.sent(1, 9, 3, at(5));
    assert_eq!(egress.next(at(5), |_| true), Some(3));
    let congestion = egress.congestion(1, at(9)).unwrap();
    assert_eq!((congestion.blocked, congestion.stalls, congestion.credit), (at(4), 1, 0));
}

#[test]
fn what_is_taken_back_gives_back_its_credit() {
    for features in [Features::FLOW_CONTROL, Features::FLOW_CONTROL | Features::QOS] {
        let mut egress = egress(features, 2);
        egress.opened(1, at(0));
        for _ in 0..5 {
            egress.submit(chunk(1, 10), at(0));
            assert_eq!(egress.withdraw(1, at(0)), None);
            assert!(!egress.is_waiting());
            assert_eq!(egress.next(at(0), |_| true), None);
        }
        let congestion = egress.congestion(1, at(0)).unwrap();
        assert_eq!((congestion.credit, congestion.queued), (2, 0));
        // Also one whose turn had come.
        egress.submit(chunk(1, 10), at(0));
        assert_eq!(egress.next(at(0), |_| true), Some(1));
        egress.put_back(1, None);
        assert_eq!(egress.withdraw(1, at(0)), None);
        assert_eq!(egress.next(at(0), |_| true), None);
        assert_eq!(egress.congestion(1, at(0)).unwrap().credit, 2);
        // What was sent meanwhile stays sent.
        egress.submit(chunk(1, 10), at(0));
        assert_eq!(egress.next(at(0), |_| true), Some(1));
        egress.sent(1, 5, 0, at(0));
        assert_eq!(egress.withdraw(1, at(0)), Some(5));
        assert_eq!(egress.congestion(1, at(0)).unwrap().credit, 1);
        // And the starving.
        egress.submit(chunk(1, 10), at(0));
        assert_eq!(egress.next(at(0), |_| true), Some(1));
        egress.sent(1, 6, 0, at(0));
        assert_eq!(egress.outcome(1), Some(6));
        egress.submit(chunk(1, 10), at(0));
        assert_eq!(egress.withdraw(1, at(0)), None);
        assert_eq!(egress.congestion(1, at(0)).unwrap().queued, 0);
    }
}

#[test]
fn few_inboxes_keep_their_buffers() {
    let mut egress = egress(Features::FLOW_CONTROL, 8);
    (1..=6).for_each(|id| egress.opened(id, at(0)));
    let stays: Vec<bool> = (1..=6).map(|id| egress.arrived(id, 0, true)).collect();
    assert_eq!(stays, [true, true, true, true, false, false], "a quarter of 16");
    assert!(!egress.arrived(1, 1, true), "the second in an inbox");
    egress.consumed(1, false);
    assert!(!egress.arrived(6, 0, true));
    egress.consumed(1, true);
    assert!(egress.arrived(6, 0, true));
    egress.consumed(6, true);
    // An empty chunk takes no buffer.
    for _ in 0..2 {
        assert!(egress.arrived(6, 0, false));
        egress.consumed(6, false);
    }
    assert!(egress.arrived(6, 0, true));
    assert!(egress.has_room(6, 1) && !egress.has_room(6, 2), "a credit is for one buffer");
}

#[test]
fn grants_are_told_once_and_of_several_the_last() {
    let mut egress = egress(Features::FLOW_CONTROL, 4);
    egress.opened(1, at(0));
    for _ in 0..4 {
        assert!(egress.has_room(1, 1));
        egress.arrived(1, 0, false);
    }
    assert!(!egress.has_room(1, 1));
    for read in 1..=4 {
        egress.consumed(1, false);
        assert_eq!(egress.has_updates(), read >= 2);
    }
    assert_eq!(egress.next_update(), Some(Packet::new(op::CREDIT, [1, 8])));
    egress.update_sent();
    assert!(!egress.has_updates());
    egress.arrived(1, 0, false);
    egress.arrived(1, 0, false);
    egress.consumed(1, false);
    egress.consumed(1, false);
    egress.closed(1, at(0));
    assert!(!egress.has_updates(), "nobody is told of what is gone");
    assert!(egress.has_room(1, 1));
    assert_eq!(egress.credit(1, 99, at(0)), Ok(false));
}

#[test]
fn all_have_their_turn_to_be_told() {
    let mut egress = egress(Features::FLOW_CONTROL, 2);
    let read = |egress: &mut EgressScheduler, id| {
        egress.arrived(id, 0, false);
        egress.consumed(id, false);
    };
    for id in [1, 3, 5] {
        egress.opened(id, at(0));
        read(&mut egress, id);
    }
    let mut told = Vec::new();
    for _ in 0..6 {
        let id = egress.next_update().unwrap().operands[0];
        told.push(id);
        egress.update_sent();
        read(&mut egress, id);
    }
    assert_eq!(told, [1, 3, 5, 1, 3, 5]);
}

#[test]
fn weights_and_classes_are_kept() {
    let mut egress = egress(Features::QOS, 0);
    let share = |class, weight| TrafficClass { class, weight, rate: None };
    for (id, weight) in [(1, 1), (3, 3)] {
        egress.opened(id, at(0));
        egress.set_traffic_class(id, share(Class::NORMAL, weight), at(0)).unwrap();
        egress.submit(chunk(id, 100), at(0));
    }
    let went = run(&mut egress, at(0), 400);
    let of = |id, went: &[u64]| went.iter().filter(|other| **other == id).count();
    assert!((99..=101).contains(&of(1, &went)), "{}", of(1, &went));
    // Who is more urgent goes first; the others get their guaranteed part.
    egress.opened(5, at(0));
    egress.set_traffic_class(5, share(Class::URGENT, 1), at(0)).unwrap();
    egress.submit(chunk(5, 100), at(0));
    let went = run(&mut egress, at(0), 640);
    assert_eq!(went[0], 5);
    assert!((610..=625).contains(&of(5, &went)), "{}", of(5, &went));
    assert!(of(3, &went) >= 2 * of(1, &went));
}

#[test]
fn while_somebody_is_urgent_the_others_fill_a_part_of_the_ring() {
    let mut egress = egress(Features::QOS, 0);
    for id in [1, 3] {
        egress.opened(id, at(0));
    }
    egress
        .set_traffic_class(3, TrafficClass { class: Class::URGENT, ..TrafficClass::default() }, at(0))
        .unwrap();
    egress.submit(chunk(1, 100), at(0));
    let mut went = 0;
    while let Some(id) = egress.next(at(0), |_| false) {
        assert_eq!(id, 1);
        egress.sent(id, 1, went, at(0));
        let _ = egress.outcome(1);
        egress.submit(chunk(1, 100), at(0));
        went += 1;
    }
    assert!((1..=4).contains(&went), "{went}");
    egress.submit(chunk(3, 100), at(0));
    assert_eq!(egress.next(at(0), |_| false), Some(3));
}

#[test]
fn a_rate_sets_an_alarm() {
    let mut egress = egress(Features::QOS, 0);
    egress.opened(1, at(0));
    let rate = Some(Rate { bytes_per_second: 108_800, burst: SIZE + SLOT });
    egress.set_traffic_class(1, TrafficClass { rate, ..TrafficClass::default() }, at(0)).unwrap();
    egress.submit(chunk(1, SIZE), at(0));
    assert_eq!(egress.next(at(0), |_| true), Some(1));
    egress.sent(1, 1, 0, at(0));
    let _ = egress.outcome(1);
    egress.submit(chunk(1, SIZE), at(0));
    assert_eq!(egress.next(at(0), |_| true), None);
    let alarm = egress.alarm().unwrap();
    assert!(alarm > at(9) && alarm < at(11), "{alarm:?}");
    assert_eq!(egress.next(alarm, |_| true), Some(1));
    assert_eq!(egress.alarm(), None);
}

#[test]
fn a_share_changes_while_a_chunk_waits() {
    let mut egress = egress(Features::QOS, 0);
    for id in [1, 3] {
        egress.opened(id, at(0));
        egress.submit(chunk(id, 100), at(0));
    }
    egress
        .set_traffic_class(3, TrafficClass { class: Class::URGENT, ..TrafficClass::default() }, at(0))
        .unwrap();
    assert_eq!(egress.next(at(0), |_| true), Some(3));
    let refused = egress.set_traffic_class(1, TrafficClass { weight: 0, ..TrafficClass::default() }, at(0));
    assert!(
        matches!(&refused, Err(Error::TrafficClass { reason }) if *reason == QosError::WeightZero.to_string())
    );
    assert_eq!(egress.next(at(0), |_| true), Some(1), "still there");
    // Neither the same share nor a refused one gives back what a rate has cost.
    let rate = Some(Rate { bytes_per_second: 1000, burst: SIZE + SLOT });
    let share = TrafficClass { rate, ..TrafficClass::default() };
    egress.set_traffic_class(3, share, at(0)).unwrap();
    egress.submit(chunk(3, SIZE), at(0));
    assert_eq!(egress.next(at(0), |_| true), Some(3));
    egress.sent(3, 1, 0, at(0));
    let _ = egress.outcome(3);
    for share in [share, TrafficClass { weight: 0, rate: None, ..share }, TrafficClass { weight: 9, ..share }]
    {
        let _ = egress.set_traffic_class(3, share, at(0));
        egress.submit(chunk(3, 1), at(0));
        assert_eq!(egress.next(at(0), |_| true), None);
        assert_eq!(egress.withdraw(3, at(0)), None);
    }
}

#[test]
fn the_peer_is_heard_until_the_owner_has_spoken() {
    let mut egress = egress(Features::QOS, 0);
    assert_eq!(egress.asked(2, 7, 3, at(0)), Ok(()));
    egress.opened(2, at(0));
    assert_eq!(egress.traffic_class(2), TrafficClass { class: Class::BULK, weight: 3, rate: None });
    egress.set_traffic_class(2, TrafficClass::default(), at(0)).unwrap();
    assert_eq!(egress.asked(2, 0, 9, at(0)), Ok(()));
    assert_eq!(egress.traffic_class(2), TrafficClass::default());
    for (class, weight) in [(8, 1), (u64::MAX, 1), (0, 0), (0, 1 << 32)] {
        assert_eq!(egress.asked(2, class, weight, at(0)), Err(ErrorCode::InvalidSize), "{class} {weight}");
    }
    let mut plain = self::egress(Features::FLOW_CONTROL, 2);
    assert_eq!(plain.asked(2, 1, 1, at(0)), Err(ErrorCode::InvalidOp));
}

/// What may let chunks go asks for a look at them, and each look answers it.
#[test]
fn each_change_asks_for_a_dispatch() {
    let mut egress = egress(Features::FLOW_CONTROL | Features::QOS, 2);
    let mut asks = |change: &dyn Fn(&mut EgressScheduler)| {
        let _ = egress.begin_dispatch();
        assert!(!egress.wants_dispatch());
        change(&mut egress);
        egress.wants_dispatch()
    };
    assert!(!asks(&|egress| egress.opened(1, at(0))));
    assert!(asks(&|egress| egress.submit(chunk(1, 10), at(0))), "a chunk");
    assert!(asks(&|egress| assert_eq!(egress.withdraw(1, at(0)), None)), "room that was given up");
    for copy_id in 1..=2 {
        assert!(asks(&|egress| egress.submit(chunk(1, 10), at(0))));
        assert!(!asks(&|egress| {
            assert_eq!(egress.next(at(0), |_| true), Some(1));
            egress.sent(1, copy_id, copy_id, at(0));
            assert_eq!(egress.outcome(1), Some(copy_id));
        }));
    }
    assert!(!asks(&|egress| egress.submit(chunk(1, 10), at(1))), "it has no credit");
    assert!(asks(&|egress| assert_eq!(egress.credit(1, 3, at(2)), Ok(true))), "credit");
    let urgent = TrafficClass { class: Class::URGENT, ..TrafficClass::default() };
    assert!(asks(&|egress| egress.set_traffic_class(1, urgent, at(2)).unwrap()), "a class");
    assert!(asks(&|egress| egress.closed(1, at(3))), "a connection that is gone");
    assert!(asks(&|egress| egress.dispatch_later()));
}
