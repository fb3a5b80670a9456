//! Handshakes that violate the protocol: each returns its own error, the other side receives the reason, and no other client
//! is delayed.

use std::thread;
use std::time::Duration;

use hqq::{Error, Listener, StandardLink};
use hqq_tests::patience::SOON;
use hqq_tests::test::refuses;
use hqq_tests::{Peer, Test, eventually, test};

const MAGIC: &str = "0x1A4B4E494C515148";

/// Whether an error is the one that is meant.
type Meant<'a> = &'a dyn Fn(&Error) -> bool;

/// After all that, an honest caller still gets its link.
fn still_serves(test: &Test, listener: &Listener) {
    let mut peer = test.peer();
    peer.send_command(format!("connect {}", listener.name()));
    let link = listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    link.send(b"hello").unwrap();
    peer.ask("recv");
}

#[test]
fn callers_that_join_wrongly() {
    let mut test = test!();
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let options = test.options().slots(4).buffers(4).buffer_size(64);
    let listener = Listener::bind_with(&path, options).unwrap();
    let mut peer = test.peer();
    let failed_init = "00 0 4 21";
    let join = |magic: &str, format: u64, version: &str, limit: u64| {
        format!("sock-send 0x21 {magic} {format} {version} {limit}")
    };
    let cases = [
        ("sock-bytes 10 33".into(), failed_init, "short"),
        ("sock-bytes 100 33".into(), failed_init, "long"),
        ("sock-bytes 64 33".into(), failed_init, "bytes beside the opcode"),
        ("sock-bytes 1 33".into(), failed_init, "a doorbell token"),
        ("sock-send 0x20 0".into(), failed_init, "HELLO in place of JOIN"),
        ("sock-send 0x23 1 1".into(), failed_init, "READY in place of JOIN"),
        ("sock-send 0xff 1 0 8".into(), failed_init, "a message of the ring"),
        (join("0x1234", 1, "0x101", 1 << 30), failed_init, "another magic"),
        (join(MAGIC, 2, "0x101", 1 << 30), failed_init, "another format"),
        (join(MAGIC, 1, "0x201", 1 << 30), failed_init, "another major version"),
        (format!("sock-extra 0x21 {MAGIC} 1 0x101 0x40000000"), failed_init, "a descriptor"),
        // Its region is over this limit: InvalidSize, and how large it is.
        (join(MAGIC, 1, "0x101", 20_000), "00 0 2 21 5000", "a small limit"),
    ];
    for (number, (order, answer, what)) in (1..).zip(&cases) {
        peer.ask(format!("sock-connect {path}"));
        peer.ask(order);
        refuses(&listener, number);
        assert!(peer.ask("sock-recv").starts_with("20 1a4b4e494c515148 1 101"), "{what}: HELLO comes first");
        assert_eq!(peer.ask("sock-recv"), *answer, "{what}");
        assert_eq!(peer.ask("sock-recv"), "0 bytes", "{what}: then it hangs up");
    }
    let count = cases.len() as u64;
    // Those who say that they do not want to, or say nothing and go, get no answer.
    for (number, order) in (count + 1..).zip(["sock-send 0 0 4 0x20", "sock-drop"]) {
        peer.ask(format!("sock-connect {path}"));
        peer.ask(order);
        refuses(&listener, number);
    }
    still_serves(&test, &listener);
}

#[test]
fn callers_that_sit_down_wrongly() {
    let mut test = test!();
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let listener = Listener::bind_with(&path, test.options()).unwrap();
    let mut peer = test.peer();
    let joins = |peer: &mut Peer| {
        peer.ask(format!("sock-connect {path}"));
        peer.send_command("sock-join");
        thread::scope(|scope| {
            let joining = scope.spawn(|| peer.expect_ok());
            eventually("it is offered a seat", || {
                let accepted = listener.try_accept();
                assert!(matches!(accepted, Err(Error::NoneWaiting)), "{accepted:?}");
                joining.is_finished()
            });
        });
    };
    for (number, (order, answer)) in (1..).zip([
        ("sock-send 0x23 0 1", "00 0 4 23"),
        ("sock-send 0x23 8 1", "00 0 4 23"),
        ("sock-send 0x23 1 0", "00 0 4 23"),
        ("sock-send 0x23 1 32", "00 0 4 23"),
        ("sock-send 0x21 1 1", "00 0 4 23"),
        ("sock-bytes 63 0", "00 0 4 23"),
        ("sock-extra 0x23 1 1", "00 0 4 23"),
        // Nobody sits there: the region is corrupt, for which there is no code.
        ("sock-send 0x23 2 1", "0 bytes"),
        ("sock-send 0x23 1 2", "0 bytes"),
    ]) {
        joins(&mut peer);
        peer.ask(order);
        refuses(&listener, number);
        assert_eq!(peer.ask("sock-recv"), answer, "{order}");
    }
    joins(&mut peer);
    peer.kill();
    refuses(&listener, 10);
    still_serves(&test, &listener);
}

/// The peer plays a listener; the error of the call, and what the listener hears of it.
fn calls(test: &Test, peer: &mut Peer, path: &str, orders: &[&str]) -> (Error, String) {
    thread::scope(|scope| {
        let options = test.options().max_region(1 << 20);
        let calling = scope.spawn(move || StandardLink::connect_with(path, options));
        peer.ask("sock-accept");
        let mut heard = String::new();
        for order in orders {
            heard = peer.ask(order);
        }
        (calling.join().unwrap().unwrap_err(), heard)
    })
}

#[test]
fn listeners_that_greet_wrongly() {
    let mut test = test!();
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let mut peer = test.peer();
    peer.ask(format!("sock-listen {path}"));
    let hello =
        |magic: &str, format: u64, version: &str| format!("sock-send 0x20 {magic} {format} {version}");
    let handshake: Meant = &|error| matches!(error, Error::Handshake { .. });
    let cases: [(String, Meant, &str); 8] = [
        (hello("1", 1, "0x101"), &|e| matches!(e, Error::ForeignMagic { found: 1 }), "00 0 4 20"),
        (
            hello(MAGIC, 7, "0x101"),
            &|e| matches!(e, Error::FormatVersion { found: 7, supported: 1 }),
            "00 0 4 20",
        ),
        (
            hello(MAGIC, 1, "0x301"),
            &|e| matches!(e, Error::Handshake { found: Some(0x301), .. }),
            "00 0 4 20",
        ),
        ("sock-bytes 63 32".into(), handshake, ""),
        ("sock-bytes 65 32".into(), handshake, ""),
        ("sock-bytes 64 32".into(), handshake, ""),
        ("sock-send 0x22 1".into(), handshake, ""),
        (format!("sock-extra 0x20 {MAGIC} 1 0x101"), handshake, ""),
    ];
    for (order, is_it, answer) in &cases {
        let orders: &[&str] = if answer.is_empty() { &[order] } else { &[order, "sock-recv"] };
        let (error, heard) = calls(&test, &mut peer, &path, orders);
        assert!(is_it(&error), "{order}: {error:?}");
        assert_eq!(heard, *answer, "{order}");
    }
    // A refusal is told as such.
    for (order, code) in [("sock-send 0 0 0x41 0x21", "NotAdmitted"), ("sock-send 0 0 4 0x21", "FailedInit")]
    {
        let (error, _) = calls(&test, &mut peer, &path, &["sock-hello", order]);
        assert!(
            matches!(error, Error::Refused { code: found, .. } if format!("{found:?}") == code),
            "{error:?}"
        );
    }
    let orders = ["sock-hello", "sock-recv", "sock-send 0 0 2 0x21 0x200000"];
    let (error, _) = calls(&test, &mut peer, &path, &orders);
    assert!(matches!(error, Error::RegionTooLarge { need: 0x20_0000, limit: 0x10_0000 }), "{error:?}");
    // Silence ends with the time for a handshake.
    let options = test.options().handshake_timeout(Duration::from_millis(50));
    let silent = StandardLink::connect_with(&path, options);
    assert!(matches!(silent, Err(Error::Timeout { .. })), "{silent:?}");
}

/// It is called again, since it may have had too many callers; and if nothing comes of that, the caller learns that it hung up.
#[test]
fn listeners_that_hang_up() {
    for orders in [&["sock-drop"][..], &["sock-hello", "sock-drop"], &["sock-offer good", "sock-drop"]] {
        let mut test = test!(untraced);
        let path = test.folder().join("link").to_str().unwrap().to_owned();
        let mut peer = test.peer();
        peer.ask(format!("sock-listen {path}"));
        let time = Duration::from_millis(300);
        let options = test.options().max_region(1 << 20).handshake_timeout(time);
        let calling = thread::spawn(move || {
            let began = std::time::Instant::now();
            (StandardLink::connect_with(&path, options).unwrap_err(), began.elapsed())
        });
        for order in ["sock-accept"].iter().chain(orders) {
            peer.ask(order);
        }
        // The second call waits for a listener that says no more.
        let (error, took) = calling.join().unwrap();
        assert!(error.to_string().contains("hung up") && took >= time, "{orders:?}: {error} after {took:?}");
    }
}

#[test]
fn listeners_that_offer_wrong_memory() {
    let mut test = test!();
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let mut peer = test.peer();
    peer.ask(format!("sock-listen {path}"));
    let page = hqq_sys::mem::page_size() as u64;
    // What the caller finds, and the code that the listener hears: 1 MemoryAlign, 2 InvalidSize, 3 MemorySmall,
    // 4 FailedInit; none for what has no code.
    let cases: [(&str, Meant, u8); 19] = [
        ("file", &|e| matches!(e, Error::Handshake { .. }), 4),
        ("unsealed", &|e| matches!(e, Error::Handshake { .. }), 4),
        ("over", &|e| matches!(e, Error::RegionTooLarge { need: 0x20_0000, limit: 0x10_0000 }), 2),
        ("short", &|e| matches!(e, Error::TooSmallMemory { have, .. } if *have == page), 3),
        ("tiny", &|e| matches!(e, Error::TooSmallMemory { have: 512, .. }), 3),
        ("magic", &|e| matches!(e, Error::ForeignMagic { found: 0x1234 }), 4),
        ("format", &|e| matches!(e, Error::FormatVersion { found: 2, supported: 1 }), 4),
        ("unready", &|e| matches!(e, Error::NotReady), 4),
        (
            "page",
            &|e| matches!(e, Error::PageSize { found, ours } if *found == 16 * page && *ours == page),
            1,
        ),
        ("slots", &|e| matches!(e, Error::Geometry { value: 7, .. }), 2),
        ("buffers", &|e| matches!(e, Error::Geometry { value: 0x4000_0000, .. }), 2),
        ("size", &|e| matches!(e, Error::Geometry { value: 60, .. }), 2),
        ("huge", &|e| matches!(e, Error::TooSmallMemory { need, .. } if *need > 1 << 26), 3),
        ("modes", &|e| matches!(e, Error::Corrupt { .. }), 0),
        ("stride", &|e| matches!(e, Error::Corrupt { found: 72, .. }), 0),
        ("length", &|e| matches!(e, Error::Corrupt { .. }), 0),
        ("seat", &|e| matches!(e, Error::Corrupt { found: 0, .. }), 0),
        ("seats", &|e| matches!(e, Error::NoSeat { seats: 8 }), 4),
        ("stamp", &|e| matches!(e, Error::Corrupt { found: 0, .. }), 0),
    ];
    for (kind, is_it, code) in cases {
        let (error, heard) = calls(&test, &mut peer, &path, &[&format!("sock-offer {kind}")]);
        assert!(is_it(&error), "{kind}: {error:?}");
        assert!(!error.to_string().is_empty());
        let answer = if code == 0 { "0 bytes".into() } else { format!("00 0 {code} 22") };
        assert_eq!(heard, answer, "{kind}");
    }
    // Two descriptors, or none.
    for order in ["sock-send 0x22 4096 1", "sock-extra 0x21 4096 1"] {
        let (error, _) = calls(&test, &mut peer, &path, &["sock-hello", order]);
        assert!(matches!(error, Error::Handshake { .. }), "{order}: {error:?}");
    }
    // It sits, and is given up.
    for (order, part) in [("sock-send 0x22 0", "out of turn"), ("sock-bytes 1 0", "64 bytes")] {
        let (error, _) = calls(&test, &mut peer, &path, &["sock-offer good", order]);
        assert!(
            matches!(error, Error::Handshake { .. }) && error.to_string().contains(part),
            "{order}: {error}"
        );
    }
    // The Primary's seat is not to be had, though its word says that it is vacant: who took it would be its own peer.
    thread::scope(|scope| {
        let calling = scope.spawn(|| StandardLink::connect_with(&path, test.options()));
        peer.ask("sock-accept");
        assert_eq!(peer.ask("sock-offer deserted"), "23 1 1");
        peer.ask("sock-send 0x24 0");
        let link = calling.join().unwrap().unwrap();
        peer.kill();
        assert!(matches!(link.recv(), Err(Error::PeerDead | Error::Closed)));
    });
    let mut peer = test.peer();
    peer.ask(format!("sock-listen {path}"));
    // Nothing of all that stays mapped or open here; and good memory offered so is taken.
    thread::scope(|scope| {
        let calling = scope.spawn(|| StandardLink::connect_with(&path, test.options()));
        peer.ask("sock-accept");
        assert_eq!(peer.ask("sock-offer good"), "23 1 1");
        peer.ask("sock-send 0x24 0");
        let link = calling.join().unwrap().unwrap();
        assert_eq!(link.geometry().slots(), 8);
    });
}

#[test]
fn payloads_that_a_listener_should_not_offer() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let mut peer = test.peer();
    peer.ask(format!("sock-listen {path}"));
    for (offer, what) in [
        ("protected", "a wrong number of descriptors"),
        ("good good", "a wrong number of descriptors"),
        ("protected file", "not a memfd"),
        ("protected unsealed", "not sealed"),
        ("protected long", "a wrong length"),
    ] {
        let (error, heard) = calls(&test, &mut peer, &path, &[&format!("sock-offer {offer}")]);
        assert!(
            matches!(error, Error::Handshake { .. }) && error.to_string().contains(what),
            "{offer}: {error}"
        );
        assert_eq!(heard, "00 0 4 22", "{offer}");
    }
    thread::scope(|scope| {
        let calling = scope.spawn(|| StandardLink::connect_with(&path, test.options()));
        peer.ask("sock-accept");
        // It brings its own.
        assert_eq!(peer.ask("sock-offer protected good"), "23 1 1 +1");
        peer.ask("sock-send 0x24 0");
        assert!(calling.join().unwrap().unwrap().is_protected());
    });
}

#[test]
fn payloads_that_a_caller_should_not_bring() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    for (extra, payload, what) in [
        ("", "good", "a wrong number of descriptors"),
        ("protected", "", "a wrong number of descriptors"),
        ("protected", "file", "not a memfd"),
        ("protected", "unsealed", "not sealed"),
        ("protected", "long", "a wrong length"),
        ("protected", "good", ""),
    ] {
        let options = format!("slots=8 buffers=8 size=64 {extra}");
        let options = hqq_tests::peer::options(test.options(), options.split_whitespace());
        let listener = Listener::bind_with(&path, options).unwrap();
        let mut peer = test.peer();
        peer.ask(format!("sock-connect {path}"));
        peer.send_command("sock-join");
        thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                let mut accepted = None;
                eventually("it is accepted or refused", || {
                    accepted = listener.try_accept().ok();
                    accepted.is_some() || listener.refused() > 0
                });
                accepted
            });
            peer.expect_ok();
            peer.ask(format!("sock-ready {payload}"));
            if what.is_empty() {
                assert!(accepting.join().unwrap().unwrap().is_protected());
            } else {
                assert_eq!(peer.ask("sock-recv"), "00 0 4 23", "{extra} {payload}: {what}");
                assert!(accepting.join().unwrap().is_none());
                assert_eq!(listener.refused(), 1);
            }
        });
    }
}

#[test]
fn a_listener_that_dies_in_the_handshake() {
    let mut test = test!();
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let mut peer = test.peer();
    peer.ask(format!("sock-listen {path}"));
    thread::scope(|scope| {
        let calling = scope.spawn(|| StandardLink::connect_with(&path, test.options()));
        peer.ask("sock-accept");
        peer.ask("sock-hello");
        peer.kill();
        let error = calling.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Handshake { .. }), "{error:?}");
    });
}

/// Who waits for a listener is served by the next one, whichever step of the handshake the first has left.
#[test]
fn another_listener_takes_over_in_the_handshake() {
    for orders in [&[][..], &["sock-hello"], &["sock-offer good"]] {
        let mut test = test!(untraced);
        let path = test.folder().join("link").to_str().unwrap().to_owned();
        let mut peer = test.peer();
        peer.ask(format!("sock-listen {path}"));
        thread::scope(|scope| {
            let calling = scope.spawn(|| StandardLink::connect_timeout(&path, SOON));
            for order in ["sock-accept"].iter().chain(orders) {
                peer.ask(order);
            }
            peer.kill();
            let listener = Listener::bind_with(&path, test.options()).unwrap();
            let served = listener.accept_timeout(SOON).unwrap();
            let link = calling.join().unwrap().unwrap();
            link.send(b"served").unwrap();
            assert_eq!(&*served.recv().unwrap(), b"served");
        });
    }
}
