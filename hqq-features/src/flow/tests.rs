//! The rules one by one, then random schedules of two ends.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two ends that have sent and read so many chunks before.
fn ends(window: u64, before: u64) -> (CreditSender, CreditReceiver) {
    let (mut sender, mut receiver) =
        (CreditSender::new(window).unwrap(), CreditReceiver::new(window).unwrap());
    (sender.granted, sender.spent) = (before.wrapping_add(window), before);
    (receiver.announced, receiver.arrived, receiver.consumed) = (before.wrapping_add(window), before, before);
    (sender, receiver)
}

#[test]
fn a_window_has_its_bounds() {
    for window in [0, 1] {
        let error = FlowError::WindowTooSmall { window, least: MIN_WINDOW };
        assert_eq!(CreditSender::new(window).unwrap_err(), error);
        assert_eq!(CreditReceiver::new(window).unwrap_err(), error);
    }
    for window in [MAX_WINDOW + 1, u64::MAX] {
        let error = FlowError::WindowTooLarge { window, most: MAX_WINDOW };
        assert_eq!(CreditSender::new(window).unwrap_err(), error);
        assert_eq!(CreditReceiver::new(window).unwrap_err(), error);
    }
    for window in [MIN_WINDOW, MAX_WINDOW] {
        assert_eq!(CreditSender::new(window).unwrap().credit(), window);
        assert_eq!(CreditReceiver::new(window).unwrap().last_grant().total(), window);
    }
}

#[test]
fn errors_name_value_and_limit() {
    let text = |error: FlowError| error.to_string();
    for (error, parts) in [
        (FlowError::WindowTooSmall { window: 1, least: 2 }, ["1", "2"]),
        (FlowError::WindowTooLarge { window: 4_000_000_000, most: MAX_WINDOW }, ["4000000000", "2147483648"]),
        (FlowError::Blocked { wanted: 3, credit: 2 }, ["3", "2"]),
        (FlowError::BeyondWindow { wanted: 9, most: 4 }, ["9", "4"]),
        (FlowError::Overrun { window: 8, got: 11 }, ["8", "11"]),
        (FlowError::GrantShrinks { total: 7, before: 12 }, ["7", "12"]),
        (FlowError::GrantTooLarge { total: 99, most: 16 }, ["99", "16"]),
    ] {
        assert!(parts.iter().all(|part| text(error).contains(part)), "{error}");
    }
}

#[test]
fn more_than_half_a_window_at_once_is_refused() {
    let mut sender = CreditSender::new(9).unwrap();
    assert_eq!(sender.try_spend(5, at(0)), Err(FlowError::BeyondWindow { wanted: 5, most: 4 }));
    assert_eq!(sender.congestion(at(9)), Congestion { credit: 9, ..Congestion::default() });
    assert_eq!(sender.try_spend(4, at(0)), Ok(()));
    assert_eq!(sender.try_spend(0, at(0)), Ok(()));
    assert_eq!((sender.credit(), sender.outstanding()), (5, 4));
}

#[test]
fn a_hostile_grant_changes_nothing() {
    // Ahead of the wrap, across it, and behind it.
    for before in [0, u64::MAX - 3, u64::MAX - 20, 1 << 63] {
        let (mut sender, _) = ends(8, before);
        sender.try_spend(4, at(0)).unwrap();
        sender.try_spend(1, at(0)).unwrap();
        let total = |count: u64| before.wrapping_add(count);
        // Sent 5, granted 8: a grant of 8 to 13 is possible.
        let shrinks = |count: u64| FlowError::GrantShrinks { total: total(count), before: total(8) };
        let too_large = |count: u64| FlowError::GrantTooLarge { total: total(count), most: total(13) };
        let grants = [
            (7, shrinks(7)),
            (0, shrinks(0)),
            (0u64.wrapping_sub(1), shrinks(u64::MAX)),
            ((1 << 63) + 8, shrinks((1 << 63) + 8)),
            (14, too_large(14)),
            (17, too_large(17)),
            ((1 << 63) + 7, too_large((1 << 63) + 7)),
        ];
        for ((count, error), faults) in grants.into_iter().zip(1..) {
            assert_eq!(sender.granted(Grant::from_total(total(count)), at(1)), Err(error), "{count}");
            assert_eq!(sender.congestion(at(9)), Congestion { credit: 3, faults, ..Congestion::default() });
        }
        assert_eq!(sender.granted(Grant::from_total(total(8)), at(1)), Ok(false), "again");
        assert_eq!(sender.granted(Grant::from_total(total(13)), at(1)), Ok(true));
        assert_eq!(sender.credit(), 8);
    }
}

#[test]
fn an_overrun_changes_nothing() {
    for before in [0, u64::MAX - 5] {
        let (_, mut receiver) = ends(8, before);
        receiver.arrived(6).unwrap();
        assert_eq!(receiver.consumed(2), None);
        // 6 are free, but only 2 of them are announced.
        assert_eq!(receiver.arrived(3), Err(FlowError::Overrun { window: 8, got: 7 }));
        let error = receiver.arrived(u64::MAX).unwrap_err();
        assert_eq!(error, FlowError::Overrun { window: 8, got: u64::MAX });
        assert_eq!((receiver.unread(), receiver.faults()), (4, 2));
        assert_eq!(receiver.arrived(2), Ok(()));
        assert_eq!(receiver.arrived(1), Err(FlowError::Overrun { window: 8, got: 7 }));
    }
}

#[test]
fn a_grant_comes_with_half_a_window() {
    for window in 2..20 {
        let (_, mut receiver) = ends(window, u64::MAX - window);
        let mut before = receiver.last_grant().total();
        let mut unannounced = 0;
        for _ in 0..100 {
            receiver.arrived(1).unwrap();
            unannounced += 1;
            let grant = receiver.consumed(1);
            assert_eq!(grant.is_some(), unannounced * 2 >= window);
            if let Some(grant) = grant {
                assert_eq!(grant, receiver.last_grant());
                assert_eq!(grant.total().wrapping_sub(before), unannounced);
                (before, unannounced) = (grant.total(), 0);
            }
        }
    }
    let (_, mut receiver) = ends(4, 0);
    assert_eq!(receiver.consumed(u64::MAX), None, "what did not come cannot be read");
    assert_eq!((receiver.unread(), receiver.last_grant().total()), (0, 4));
}

#[test]
fn blocked_time_is_the_time_without_credit() {
    let mut sender = CreditSender::new(4).unwrap();
    let mut receiver = CreditReceiver::new(4).unwrap();
    sender.enqueue(10);
    for _ in 0..2 {
        sender.try_spend(2, at(1)).unwrap();
        receiver.arrived(2).unwrap();
    }
    assert_eq!(sender.blocked_for(at(100)), None, "no credit, but nobody asked");
    for ms in 10..20 {
        assert_eq!(sender.try_spend(2, at(ms)), Err(FlowError::Blocked { wanted: 2, credit: 0 }));
    }
    let state = Congestion { queued: 6, blocked: at(20), stalls: 1, ..Congestion::default() };
    assert_eq!(sender.congestion(at(30)), state);
    assert_eq!(sender.blocked_for(at(30)), Some(at(20)));
    // Backwards and nowhere: nothing is lost, nothing overflows.
    assert_eq!(sender.blocked_for(at(0)), Some(at(0)));
    assert_eq!(sender.congestion(Duration::MAX).blocked, Duration::MAX - at(10));
    let grant = receiver.consumed(2).unwrap();
    sender.granted(grant, at(40)).unwrap();
    let state = Congestion { queued: 6, credit: 2, blocked: at(30), stalls: 1, faults: 0 };
    assert_eq!(sender.congestion(at(90)), state, "credit is there, whether it is used or not");
    sender.try_spend(2, at(95)).unwrap();
    assert!(sender.try_spend(1, at(100)).is_err());
    sender.withdraw(3, at(105));
    assert_eq!(sender.blocked_for(at(105)), Some(at(5)), "another one waits");
    sender.withdraw(1, at(110));
    let state = Congestion { blocked: at(40), stalls: 2, ..Congestion::default() };
    assert_eq!(sender.congestion(at(999)), state);
    // Two stalls of an age each.
    for _ in 0..2 {
        assert!(sender.try_spend(1, at(0)).is_err());
        sender.withdraw(0, Duration::MAX);
    }
    assert_eq!(sender.congestion(at(0)).blocked, Duration::MAX);
}

#[test]
fn what_was_not_sent_is_given_back() {
    let mut sender = CreditSender::new(4).unwrap();
    sender.enqueue(3);
    sender.try_spend(2, at(0)).unwrap();
    sender.refund(1);
    assert_eq!(sender.congestion(at(0)), Congestion { queued: 2, credit: 3, ..Congestion::default() });
    sender.refund(9);
    assert_eq!(sender.congestion(at(0)), Congestion { queued: 3, credit: 4, ..Congestion::default() });
}

/// Two ends. What is under way comes late; grants are merged or wait; hostile grants come between. Checks after each
/// step that nobody may have more than the window, and at last that nobody waits in vain.
fn schedule(seed: u64) -> (u64, u64) {
    let mut random = Rng::with_seed(seed);
    let window = 2 + random.u64(..12);
    let before = 0u64.wrapping_sub(random.u64(..300));
    let (mut sender, mut receiver) = ends(window, before);
    let (mut wire, mut inbox) = (VecDeque::new(), VecDeque::new());
    let mut grants: VecDeque<Grant> = VecDeque::new();
    let mut now = 0;
    let (mut sent, mut read, mut faults) = (0, 0, 0);
    // The oracle of blocked time: since when somebody waits for so much.
    let mut waits: Option<(u64, u64)> = None;
    let (mut blocked, mut stalls) = (0, 0);
    let mut wanted = None;
    for step in 0..2_000 {
        // The second half only lets things come to an end.
        let ending = step >= 1_000;
        now += random.u64(..3) * random.u64(..3);
        match random.u64(..if ending { 4 } else { 6 }) {
            0 => {
                let n = wire.pop_front().unwrap_or(0);
                receiver.arrived(n).unwrap();
                inbox.extend((0..n).map(|_| ()));
            }
            1 => {
                let n = random.u64(..window).min(inbox.len() as u64);
                inbox.drain(..n as usize);
                read += n;
                if let Some(grant) = receiver.consumed(n) {
                    match random.u64(..3) {
                        // It takes the place of all that wait.
                        0 => grants.clear(),
                        // It waits, repeats, or comes twice.
                        1 => grants.push_back(grant),
                        _ => {}
                    }
                    grants.push_back(grant);
                }
            }
            2 => {
                if let Some(grant) = grants.pop_front() {
                    let had = sender.credit();
                    let more = sender.granted(grant, at(now)).unwrap();
                    assert_eq!(more, sender.credit() > had);
                    assert!(sender.credit() >= had, "a grant shrank");
                }
            }
            3 => {
                let n = wanted.take().unwrap_or_else(|| random.u64(..window / 2 + 1));
                match sender.try_spend(n, at(now)) {
                    Ok(()) => {
                        sent += n;
                        wire.push_back(n);
                    }
                    Err(FlowError::Blocked { wanted: n, credit }) => {
                        assert!(credit < n && credit == sender.credit());
                        if waits.is_none() {
                            waits = Some((now, n));
                            stalls += 1;
                        }
                        wanted = Some(n);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            4 => {
                // Beyond what the receiver can ever have said, on both sides.
                let far = random.u64(..1 << 62);
                let total = match random.u64(..3) {
                    0 => sender.spent.wrapping_add(window + 1 + far),
                    1 => sender.granted.wrapping_sub(1 + far),
                    _ => sender.spent.wrapping_add(window + 1),
                };
                let state = sender.congestion(at(now));
                assert!(sender.granted(Grant::from_total(total), at(now)).is_err());
                faults += 1;
                assert_eq!(sender.congestion(at(now)), Congestion { faults, ..state });
            }
            _ => {
                // An older grant, from before the last.
                let old = sender.granted.wrapping_sub(1 + random.u64(..window));
                assert!(sender.granted(Grant::from_total(old), at(now)).is_err());
                faults += 1;
            }
        }
        if let Some((since, n)) = waits {
            if sender.credit() >= n {
                blocked += now - since;
                waits = None;
            }
        }
        let under_way = wire.iter().sum::<u64>() + inbox.len() as u64;
        assert!(receiver.unread() == inbox.len() as u64 && under_way <= window);
        assert!(sender.credit() <= window && sender.outstanding() >= under_way);
        assert_eq!(sender.spent.wrapping_sub(before), sent);
        assert_eq!(receiver.consumed.wrapping_sub(before), read);
        let running = waits.map_or(0, |(since, _)| now - since);
        let state = sender.congestion(at(now));
        assert_eq!((state.blocked, state.stalls), (at(blocked + running), stalls), "seed {seed} step {step}");
    }
    // Everything arrives and is read; of the grants only the last must come.
    for n in wire {
        receiver.arrived(n).unwrap();
    }
    let rest = receiver.unread();
    let _ = receiver.consumed(rest);
    sender.granted(receiver.last_grant(), at(now)).unwrap();
    sender.try_spend(window / 2, at(now)).expect("all is read, so half a window must be there");
    (sent, stalls)
}

#[test]
fn random_schedules_stay_within_the_window() {
    let (mut sent, mut stalls) = (0, 0);
    for seed in 1..=400 {
        let (more_sent, more_stalls) = schedule(seed);
        sent += more_sent;
        stalls += more_stalls;
    }
    assert!(sent > 50_000 && stalls > 5_000, "{sent} chunks, {stalls} stalls: too little happened");
}
