//! Links with an agreement support everything that other links do: streams, batches, typed values, with messages that are
//! compressed or encrypted.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use hqq::advanced::AdvancedOptions;
use hqq::agreement::Capabilities;
use hqq::{AdvancedLink, Connection, Error, Options, RecvIntoError, Role, StandardLink};
use hqq_tests::agree::{message, wanted};
use hqq_tests::patience::SOON;
use hqq_tests::pattern::digest;
use hqq_tests::test;

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
/// Nothing that changes messages, each layer, and both.
const ALL: [&str; 4] = ["capabilities=8", "codecs=lz4,zstd", "key=7", "key=7 codecs=zstd"];

fn want(words: &str) -> AdvancedOptions {
    wanted(words.split_whitespace())
}

/// All of a region's memory.
fn memory(link: &AdvancedLink) -> Vec<u8> {
    let file = File::from(link.memory().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn contains(memory: &[u8], text: &[u8]) -> bool {
    let (first, text) = (text[0], &text[..16]);
    let mut places = memory.iter().enumerate().filter(|(_, byte)| **byte == first);
    places.any(|(at, _)| memory[at..].starts_with(text))
}

/// Two ends of one process that have agreed on what `words` say.
fn pair(words: &str, options: Options) -> (AdvancedLink, AdvancedLink) {
    let (one, other) = StandardLink::pair_with(options).unwrap();
    thread::scope(|scope| {
        let other = scope.spawn(|| AdvancedLink::wait_for_negotiation(other, &want(words), SOON).unwrap());
        let one = AdvancedLink::negotiate(one, &want(words), SOON).unwrap();
        (one, other.join().unwrap())
    })
}

#[test]
fn links_are_streams() {
    const TOTAL: usize = 1 << 20;
    let test = test!(untraced);
    for (words, role) in ALL.into_iter().zip(ROLES.into_iter().cycle()) {
        let (link, mut peer) = test.link(role, "slots=16 buffers=8 size=4096");
        peer.send_command(format!("bg agree wait 30000 {words}"));
        peer.expect_ok();
        let mut link = AdvancedLink::negotiate(link, &want(words), SOON).unwrap();
        peer.ask("join");
        peer.send_command("bg adv-read");
        peer.expect_ok();
        let sent = message("text", TOTAL, 7);
        let mut lies = Vec::new();
        // Pieces that fit no buffer evenly, and none at all.
        for (number, piece) in sent.chunks(10_007).enumerate() {
            link.write_all(piece).unwrap();
            assert_eq!(link.write(&[]).unwrap(), 0);
            if number % 40 == 0 {
                lies.push(memory(&link));
            }
        }
        link.flush().unwrap();
        link.shutdown(Shutdown::Write);
        assert_eq!(peer.ask("join"), digest(&sent), "{words}");
        // Both ways, and through reads of any size, across calls.
        peer.send_command(format!("bg adv-write text {TOTAL} 8"));
        peer.expect_ok();
        let (mut all, mut sizes) = (Vec::new(), [1, 7, 100, 3000, 4096, 9001].into_iter().cycle());
        while all.len() < TOTAL {
            let mut into = vec![0; sizes.next().unwrap()];
            let count = link.read(&mut into).unwrap();
            assert!((1..=into.len()).contains(&count));
            all.extend_from_slice(&into[..count]);
        }
        assert!(all == message("text", TOTAL, 8), "{words}");
        peer.ask("join");
        lies.push(memory(&link));
        for text in [&sent, &all] {
            // Whatever part of it lay there when somebody looked.
            let mut parts = text.chunks(1 << 14).map(|chunk| &chunk[1024..1040]);
            let shown = parts.any(|part| lies.iter().any(|memory| contains(memory, part)));
            // In the clear it is found.
            assert!(shown || words != ALL[0], "{words}");
            assert!(!shown || !words.contains("key"), "{words}");
        }
        peer.ask("adv-shutdown");
        assert_eq!(link.read(&mut [0; 10]).unwrap(), 0, "the end");
        assert_eq!(link.read(&mut [0; 10]).unwrap(), 0, "and it stays");
        assert_eq!(link.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

/// The control of the search: in the clear, what was written is found.
#[test]
fn a_stream_in_the_clear_is_found() {
    let (mut one, mut other) = pair("capabilities=8", Options::new().slots(16));
    let text = message("text", 3000, 7);
    one.write_all(&text).unwrap();
    assert!(contains(&memory(&one), &text[1024..1040]));
    let mut all = vec![0; text.len()];
    other.read_exact(&mut all).unwrap();
    assert_eq!(all, text);
}

#[test]
fn connections_are_streams() {
    const TOTAL: usize = 400_000;
    let test = test!(untraced);
    for (words, role) in ALL.into_iter().zip(ROLES.into_iter().cycle()) {
        let (link, mut peer) = test.link(role, "slots=32 buffers=64 size=4096");
        peer.send_command(format!("bg agree wait 30000 {words}"));
        peer.expect_ok();
        let link = AdvancedLink::negotiate(link, &want(words), SOON).unwrap();
        peer.ask("join");
        peer.send_command("bg adv-echo");
        peer.expect_ok();
        let connection = link.open_connection_timeout(SOON).unwrap();
        let sent = message("text", TOTAL, 3);
        let back = thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = &connection;
                sent.chunks(100_003).for_each(|piece| stream.write_all(piece).unwrap());
                assert_eq!(stream.write(&[]).unwrap(), 0);
                stream.flush().unwrap();
                connection.shutdown(Shutdown::Write);
            });
            let mut all = Vec::new();
            let mut stream = &connection;
            stream.read_to_end(&mut all).unwrap();
            all
        });
        assert!(back == sent, "{words}");
        assert_eq!(peer.ask("join"), TOTAL.to_string());
        assert!(!words.contains("key") || !contains(&memory(&link), &sent[1024..1040]), "{words}");
    }
}

/// What a read has left of a message, `recv` has.
#[test]
fn reads_and_messages_of_a_connection_share_what_comes() {
    for words in ALL {
        let (one, other) = pair(words, Options::new());
        let (near, far): (Connection, Connection) = thread::scope(|scope| {
            let far = scope.spawn(|| other.accept_connection_timeout(SOON).unwrap());
            (one.open_connection_timeout(SOON).unwrap(), far.join().unwrap())
        });
        let mut stream = &far;
        near.send(b"a message of some length").unwrap();
        near.send(b"another").unwrap();
        let mut head = [0; 10];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"a message ");
        let mut small = [0; 5];
        match far.recv_into(&mut small) {
            Err(Error::TooLarge { len: 14, limit: 5 }) => {}
            other => panic!("{words}: {other:?}"),
        }
        let mut rest = [0; 20];
        assert_eq!(far.recv_into(&mut rest).unwrap(), 14);
        assert_eq!(&rest[..14], b"of some length");
        assert_eq!(far.recv().unwrap(), b"another");
        near.send(b"one more").unwrap();
        stream.read_exact(&mut small).unwrap();
        assert_eq!(far.recv_timeout(SOON).unwrap(), b"ore");
        assert!(matches!(far.try_recv(), Err(Error::RingEmpty)));
    }
}

/// A part that has to be refused is a hole: nothing behind it is taken for what belongs there.
#[test]
fn a_stream_with_a_hole_ends_there() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("bg agree wait 30000 key=7");
    peer.expect_ok();
    let mut link = AdvancedLink::negotiate(link, &want("key=7"), SOON).unwrap();
    peer.ask("join");
    peer.ask("adv-write text 1000 1");
    peer.ask(format!("push 0x10 {} 1 2 3 4 5 6", 48_u64 << 56 | 1));
    peer.ask("adv-write text 1000 2");
    let mut all = vec![0; 1000];
    link.read_exact(&mut all).unwrap();
    assert_eq!(all, message("text", 1000, 1));
    for _ in 0..2 {
        assert_eq!(link.read(&mut all).unwrap_err().kind(), ErrorKind::InvalidData);
    }
    assert_eq!(*link.recv().unwrap(), message("text", 1000, 2));
}

#[test]
fn a_stream_cut_by_death_is_no_end() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("bg agree wait 30000 key=7");
    peer.expect_ok();
    let mut link = AdvancedLink::negotiate(link, &want("key=7"), SOON).unwrap();
    peer.ask("join");
    peer.ask("adv-write text 5000 1");
    peer.kill();
    let mut all = Vec::new();
    assert_eq!(link.read_to_end(&mut all).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(all, message("text", 5000, 1));
}

#[test]
fn batches() {
    for words in ALL {
        let (one, other) = pair(words, Options::new().slots(4).buffers(8).buffer_size(256));
        let texts: Vec<Vec<u8>> = (0..6).map(|seed| message("text", 20 * seed as usize, seed)).collect();
        let all: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        assert_eq!(one.send_batch(&[]).unwrap(), 0);
        // As many as there are slots.
        assert_eq!(one.send_batch(&all[..4]).unwrap(), 4, "{words}");
        assert!(matches!(one.try_send(all[4]), Err(Error::RingFull { .. })));
        let mut came = Vec::new();
        assert_eq!(other.recv_batch(&mut came, 3).unwrap(), 3);
        assert_eq!(other.recv_batch(&mut came, 0).unwrap(), 0);
        assert_eq!(other.recv_batch(&mut came, 9).unwrap(), 1);
        assert!(matches!(other.try_recv(), Err(Error::RingEmpty)));
        for (came, sent) in came.drain(..).zip(&all) {
            assert_eq!(&*came, *sent, "{words}");
        }
        // A batch that waits for room, and one that reads in place.
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(one.send_batch(&all).unwrap(), all.len()));
            let mut read = Vec::new();
            while read.len() < all.len() {
                let before = read.len();
                let count = other.recv_each(16, |message| read.push(message.to_vec())).unwrap();
                assert_eq!(read.len(), before + count);
            }
            assert_eq!(read, texts, "{words}");
        });
        other.shutdown(Shutdown::Both);
        assert!(matches!(one.send_batch(&all), Err(Error::Closed)));
    }
}

/// A message that is refused in the middle of a batch is not passed over in silence.
#[test]
fn a_batch_ends_at_what_is_refused_and_the_next_begins_with_it() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, "");
    peer.send_command("bg agree wait 30000 codecs=lz4");
    peer.expect_ok();
    let link = AdvancedLink::negotiate(link, &want("codecs=lz4"), SOON).unwrap();
    peer.ask("join");
    peer.ask("adv-send text 100 1");
    peer.ask(format!("push 0x10 {} 3 2 3 4 5 6", 48_u64 << 56 | 1));
    peer.ask("adv-send text 100 2");
    let mut came = Vec::new();
    assert_eq!(link.recv_batch(&mut came, 16).unwrap(), 1);
    assert!(matches!(link.recv_each(16, |_| ()), Err(Error::Frame { .. })));
    assert_eq!(link.recv_batch(&mut came, 16).unwrap(), 1);
    assert_eq!((&*came[0], &*came[1]), (&*message("text", 100, 1), &*message("text", 100, 2)));
}

/// How both wait follows from what was agreed on, unless an end was told otherwise.
#[test]
fn capabilities_say_how_to_wait() {
    let sleeps = |words: &str, options: Options, time: Duration| {
        let (one, _other) = pair(words, options);
        let sleeps = || one.stats().side(one.role()).sleeps;
        let before = sleeps();
        assert!(matches!(one.recv_timeout(time), Err(Error::Timeout { .. })));
        sleeps() > before
    };
    let (short, long) = (Duration::from_millis(5), Duration::from_millis(300));
    // On one processor, who spins keeps the peer from working: there nobody does.
    let alone = hqq_sys::cpu::online() == 1;
    assert_eq!(sleeps("capabilities=8", Options::new(), short), alone);
    assert!(sleeps("capabilities=8", Options::new(), long));
    assert!(sleeps("capabilities=2", Options::new(), long));
    assert!(sleeps("capabilities=8", Options::new().spin(Duration::ZERO), short));
    assert_eq!(sleeps("capabilities=2", Options::for_capabilities(Capabilities::LOW_LATENCY), short), alone);
    let instantly = Duration::from_micros(300);
    assert_eq!(sleeps("capabilities=4", Options::new(), instantly), alone);
}

#[test]
fn values_and_slices() {
    for words in ALL {
        let (one, other) = pair(words, Options::new().buffer_size(4096).buffers(4));
        assert!(!one.is_protected());
        let mut place = one.loan_as::<[u64; 8]>().unwrap();
        assert_eq!(*place, [0; 8]);
        place[7] = 7;
        place.send().unwrap();
        let value = other.recv().unwrap();
        // Its place depends on what was made of it; its bytes do not.
        match value.cast::<[u64; 8]>() {
            Ok(value) => assert_eq!(value[7], 7),
            Err(error) => assert!(matches!(error, Error::TypeAlign { .. }), "{words}: {error}"),
        }
        assert!(matches!(value.cast::<[u64; 7]>(), Err(Error::TypeSize { want: 56, found: 64 })));
        assert_eq!(value.into_vec()[56..], 7_u64.to_ne_bytes());
        one.send(b"seven 7").unwrap();
        let mut into = [0; 7];
        match other.recv_into(&mut into[..3]) {
            Err(RecvIntoError::TooSmall { message, capacity: 3 }) => assert_eq!(&*message, b"seven 7"),
            other => panic!("{words}: {other:?}"),
        }
        one.send(b"seven 7").unwrap();
        assert_eq!(other.recv_into(&mut into).unwrap(), 7);
        assert_eq!(&into, b"seven 7");
        let mut loan = one.loan_timeout(100, SOON).unwrap();
        loan.fill(1);
        loan.send().unwrap();
        assert_eq!(*other.recv().unwrap(), [1; 100]);
        if words == ALL[0] {
            // In shared memory, it may take time; private memory is there at once.
            let _held: Vec<_> = (0..4).map(|_| one.loan(4096).unwrap()).collect();
            let failed = one.loan_timeout(4096, Duration::from_millis(20));
            assert!(matches!(failed, Err(Error::Timeout { .. })), "{failed:?}");
        }
    }
}
