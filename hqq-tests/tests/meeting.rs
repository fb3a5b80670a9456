//! How two processes connect: names, orders of start, users, inheritance.

use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::thread;
use std::time::{Duration, Instant};

use hqq::{Error, Listener, Offer, Options, Role, StandardLink, UntrustedLink};
use hqq_sys::peer::{pid, uid};
use hqq_sys::sock::{self, Address};
use hqq_sys::spawn;
use hqq_tests::patience::SOON;
use hqq_tests::test::{allow, refuses};
use hqq_tests::{eventually, pattern, test};

/// Somebody who is not root: the usual number of `nobody`.
const NOBODY: u32 = 65534;

#[test]
fn listener_first() {
    let test = test!();
    for role in [Role::Primary, Role::Secondary] {
        let (link, mut peer) = test.link(role, "");
        assert_eq!(link.peer().uid, uid());
        link.send(b"over there").unwrap();
        assert_eq!(peer.ask("recv"), pattern::digest(b"over there"));
        peer.ask("send 20 1");
        assert_eq!(*link.recv().unwrap(), pattern::bytes(20, 1));
        drop(link);
        peer.quit();
    }
}

#[test]
fn caller_first() {
    let test = test!();
    for by_path in [false, true] {
        let mut test = test!();
        let name =
            if by_path { test.folder().join("late").to_str().unwrap().to_owned() } else { test.link_name() };
        let mut peer = test.peer();
        peer.send_command(format!("connect-wait {name} 30000"));
        assert_eq!(peer.try_read_reply(Duration::from_millis(50)), None, "nobody listens yet");
        let listener = Listener::bind_with(&name, test.options()).unwrap();
        let link = listener.accept_timeout(SOON).unwrap();
        assert_eq!(peer.expect_ok(), format!("{} {}", pid(), uid()), "the kernel tells who is there");
        link.send(b"at last").unwrap();
        assert_eq!(peer.ask("recv"), pattern::digest(b"at last"));
    }
    // The other way round: this process calls, the peer listens later.
    let name = test.link_name();
    let mut peer = test.peer();
    thread::scope(|scope| {
        let caller = scope.spawn(|| StandardLink::connect_timeout(&name, SOON));
        thread::sleep(Duration::from_millis(20));
        peer.ask(format!("listen {name}"));
        peer.ask("accept");
        assert_eq!(caller.join().unwrap().unwrap().peer().pid, Some(peer.pid()));
    });
}

#[test]
fn nobody_listens() {
    let mut test = test!(untraced);
    let path = test.folder().join("nothing").to_str().unwrap().to_owned();
    for name in [test.link_name(), path] {
        match StandardLink::connect(&name) {
            Err(Error::NoSuchName { name: named }) => assert_eq!(named, name),
            other => panic!("{other:?}"),
        }
        let began = Instant::now();
        let waited = StandardLink::connect_timeout(&name, Duration::from_millis(50));
        assert!(matches!(waited, Err(Error::NoSuchName { .. })), "{waited:?}");
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
    // The name goes with its process.
    let name = test.link_name();
    let mut peer = test.peer();
    peer.ask(format!("listen {name}"));
    peer.kill();
    assert!(matches!(StandardLink::connect(&name), Err(Error::NoSuchName { .. })));
}

#[test]
fn a_listener_that_never_accepts() {
    let test = test!(untraced);
    let name = test.link_name();
    let mut peer = test.peer();
    peer.ask(format!("listen {name}"));
    let began = Instant::now();
    let link = StandardLink::connect_timeout(&name, Duration::from_millis(100));
    assert!(matches!(link, Err(Error::Timeout { .. })), "{link:?}");
    assert!(began.elapsed() >= Duration::from_millis(100));
    // Its backlog then holds a caller that has gone, which must not harm the next.
    peer.send_command("accept");
    StandardLink::connect_timeout(&name, SOON).unwrap();
    peer.expect_ok();
}

#[test]
fn a_name_in_use() {
    let mut test = test!();
    let path = test.folder().join("taken").to_str().unwrap().to_owned();
    for name in [test.link_name(), path] {
        let mut peer = test.peer();
        peer.ask(format!("listen {name}"));
        match Listener::bind(&name) {
            Err(Error::NameInUse { name: named }) => assert_eq!(named, name),
            other => panic!("{other:?}"),
        }
        // The owner is not disturbed by the attempt.
        peer.send_command("accept");
        StandardLink::connect(&name).unwrap();
        peer.expect_ok();
        peer.quit();
        Listener::bind(&name).unwrap();
    }
}

#[test]
fn bad_names() {
    let test = test!(untraced);
    let mut peer = test.peer();
    let long = "n".repeat(65);
    let path = format!("/{}", "p".repeat(107));
    for name in ["", "a b", "a:b", "\u{e4}", &long, &path] {
        for error in [Listener::bind(name).unwrap_err(), StandardLink::connect(name).unwrap_err()] {
            match error {
                Error::BadName { name: named, rule } => assert!(named == name && !rule.is_empty()),
                other => panic!("{name:?}: {other:?}"),
            }
        }
    }
    let whole = format!("{:n<64}", test.link_name());
    peer.ask(format!("listen {whole}"));
    peer.send_command("accept");
    StandardLink::connect(&whole).unwrap();
    // A folder that is not there.
    let error = Listener::bind("/no/such/folder/at/all").unwrap_err();
    assert!(matches!(&error, Error::Os { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
}

#[test]
fn bad_geometry_is_refused_at_once() {
    let test = test!(untraced);
    for (options, what) in [
        (Options::new().slots(3), "slots"),
        (Options::new().slots(1), "slots"),
        (Options::new().buffers(0), "buffers"),
        (Options::new().buffer_size(12), "size"),
        (Options::new().buffer_size(0), "size"),
    ] {
        for error in [
            Listener::bind_with(&test.link_name(), options.clone()).unwrap_err(),
            StandardLink::pair_with(options.clone()).unwrap_err(),
            Offer::new(options.clone()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Geometry { .. }), "{what}: {error:?}");
            assert_eq!(error.code(), Some(hqq::ErrorCode::InvalidSize));
        }
    }
    let error = Listener::bind_with(&test.link_name(), Options::new().max_region(1 << 20)).unwrap_err();
    assert!(matches!(error, Error::RegionTooLarge { need, limit } if need > limit && limit == 1 << 20));
}

#[test]
fn a_socket_file_is_removed_with_its_listener() {
    let mut test = test!();
    let path = test.folder().join("link");
    let name = path.to_str().unwrap();
    let mut peer = test.peer();
    peer.ask(format!("listen {name}"));
    assert!(path.symlink_metadata().unwrap().file_type().is_socket());
    peer.send_command("accept");
    let link = StandardLink::connect_with_timeout(name, test.options(), SOON).unwrap();
    peer.expect_ok();
    peer.ask("unlisten");
    assert!(!path.exists());
    link.send(b"the link outlives its name").unwrap();
    peer.ask("recv");
}

#[test]
fn a_socket_file_of_the_dead_is_taken_over() {
    let mut test = test!(untraced);
    let path = test.folder().join("link");
    let name = path.to_str().unwrap();
    let mut peer = test.peer();
    peer.ask(format!("listen {name}"));
    peer.kill();
    assert!(path.exists(), "nobody was left to remove it");
    assert!(matches!(StandardLink::connect(name), Err(Error::NoSuchName { .. })));
    let listener = Listener::bind(name).unwrap();
    let mut peer = test.peer();
    peer.send_command(format!("connect {name}"));
    listener.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    drop(listener);
    assert!(!path.exists());
    // What is no socket is never removed.
    std::fs::write(&path, "a letter").unwrap();
    lies_there(Listener::bind(name), "a file");
    lies_there(StandardLink::connect(name), "a file");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a letter");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    lies_there(Listener::bind(name), "a directory");
    lies_there(StandardLink::connect_timeout(name, Duration::from_millis(20)), "a directory");
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    lies_there(Listener::bind(name), "a symbolic link");
    lies_there(StandardLink::connect(name), "a symbolic link that leads nowhere");
}

/// The error says what lies at a path in place of a socket, and what to do.
#[track_caller]
fn lies_there<T: std::fmt::Debug>(result: hqq::Result<T>, what: &str) {
    let error = result.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::Os { .. }), "{error:?}");
    assert!(said.contains(&format!("failed: {what} lies at ")) && said.contains("remove it"), "{said}");
}

#[test]
fn a_forked_child_removes_no_socket_file() {
    let mut test = test!(untraced);
    let path = test.folder().join("link");
    let name = path.to_str().unwrap();
    let mut peer = test.peer();
    peer.ask(format!("listen {name}"));
    peer.ask("fork-unlisten");
    assert!(path.exists());
    peer.send_command("accept");
    StandardLink::connect_with_timeout(name, test.options(), SOON).unwrap();
    peer.expect_ok();
    peer.ask("unlisten");
    assert!(!path.exists(), "the process that bound it removes it");
}

#[test]
fn a_socket_file_is_removed_after_a_change_of_the_working_directory() {
    let mut test = test!(untraced);
    let folder = test.folder().to_owned();
    let mut peer = test.peer_with(|command| {
        command.current_dir(&folder);
    });
    peer.ask("listen ./link");
    assert!(folder.join("link").exists());
    peer.ask("chdir /");
    peer.ask("unlisten");
    assert!(!folder.join("link").exists());
}

#[test]
fn a_locked_folder_keeps_nobody_from_listening() {
    let mut test = test!(untraced);
    let folder = test.folder().to_owned();
    let locked = std::fs::File::open(&folder).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let path = folder.join("link");
    let listener = Listener::bind(path.to_str().unwrap()).unwrap();
    assert!(path.exists());
    drop(listener);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
}

#[test]
fn many_links_of_one_listener() {
    let test = test!(untraced);
    let name = test.link_name();
    let listener = Listener::bind_with(&name, test.options().slots(4).buffers(4).buffer_size(64)).unwrap();
    let mut links = Vec::new();
    for _ in 0..8 {
        let mut peer = test.peer();
        peer.send_command(format!("connect {name}"));
        let link = listener.accept_timeout(SOON).unwrap();
        peer.expect_ok();
        links.push((link, peer));
    }
    // One of them dies; the others have regions of their own.
    links[3].1.kill();
    for (number, (link, peer)) in links.iter_mut().enumerate() {
        if number != 3 {
            link.send(&pattern::bytes(100, number as u64)).unwrap();
            assert_eq!(peer.ask("recv"), pattern::digest(&pattern::bytes(100, number as u64)));
        }
    }
    assert!(matches!(links[3].0.recv(), Err(Error::PeerDead)));
    assert!(matches!(listener.try_accept(), Err(Error::NoneWaiting)));
    assert!(matches!(listener.accept_timeout(Duration::from_millis(10)), Err(Error::Timeout { .. })));
    assert!(matches!(listener.try_accept_untrusted(), Err(Error::NoneWaiting)));
}

#[test]
fn untrusted_ends_in_each_form_of_the_calls() {
    let test = test!(untraced);
    let listener = Listener::bind_with(&test.link_name(), test.options()).unwrap();
    let connects: [fn(&str) -> hqq::Result<UntrustedLink>; 4] = [
        UntrustedLink::connect,
        |name| UntrustedLink::connect_timeout(name, SOON),
        |name| UntrustedLink::connect_with(name, Options::new()),
        |name| UntrustedLink::connect_with_timeout(name, Options::new(), SOON),
    ];
    for connect in connects {
        thread::scope(|scope| {
            let far = scope.spawn(|| connect(listener.name()).unwrap());
            let mut accepted = None;
            eventually("a peer is accepted", || {
                accepted = match listener.try_accept_untrusted() {
                    Ok(link) => Some(link),
                    Err(Error::NoneWaiting) => None,
                    Err(error) => panic!("{error}"),
                };
                accepted.is_some()
            });
            accepted.unwrap().send(b"hello").unwrap();
            assert_eq!(far.join().unwrap().recv().unwrap().to_vec(), b"hello");
        });
    }
}

#[test]
fn a_child_inherits_its_end() {
    let test = test!(untraced);
    let offer = Offer::new(test.options()).unwrap();
    let mut peer = test.peer_with(|command| offer.pass_to(command).unwrap());
    peer.send_command("inherit");
    let link = offer.accept_timeout(SOON).unwrap();
    peer.expect_ok();
    assert_eq!((link.role(), link.peer().pid), (Role::Primary, Some(peer.pid())));
    link.send(&pattern::bytes(20_000, 1)).unwrap();
    assert_eq!(peer.ask("recv"), pattern::digest(&pattern::bytes(20_000, 1)));
    assert!(peer.ask_error("inherit").contains("HQQ_LINK_FD"), "it can be taken once");
    // A death is seen as that of the child, though this process made the sockets.
    peer.kill();
    assert!(matches!(link.recv(), Err(Error::PeerDead)));
}

#[test]
fn a_child_that_does_not_take_its_end() {
    let test = test!(untraced);
    let offer = Offer::new(test.options()).unwrap();
    let peer = test.peer_with(|command| offer.pass_to(command).unwrap());
    let timeout = offer.accept_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(timeout, Error::Timeout { .. }), "{timeout:?}");
    let offer = Offer::new(test.options()).unwrap();
    let other = test.peer_with(|command| offer.pass_to(command).unwrap());
    drop((peer, other));
    let gone = offer.accept().unwrap_err();
    assert!(matches!(gone, Error::Handshake { .. }), "{gone:?}");
    assert!(test.peer().ask_error("inherit").contains("HQQ_LINK_FD"));
}

#[test]
fn a_region_over_the_callers_limit() {
    let test = test!();
    let name = test.link_name();
    let listener = Listener::bind(&name).unwrap();
    let mut peer = test.peer();
    peer.send_command(format!("connect {name} max-region=1000000"));
    refuses(&listener, 1);
    let error = peer.expect_error();
    assert!(error.starts_with("RegionTooLarge { need: ") && error.ends_with("limit: 1000000 }"), "{error}");
    assert_eq!(listener.refused(), 1);
}

/// Whether peers can be started as another user.
fn can_be_somebody_else() -> bool {
    if uid() != 0 {
        println!("not root: nobody here can play another user; skipped");
    }
    uid() == 0
}

#[test]
fn another_user_is_refused_by_both_sides() {
    let mut test = test!(untraced);
    if !can_be_somebody_else() {
        return;
    }
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let listener = Listener::bind(&path).unwrap();
    allow(path.as_ref(), 0o666);
    let mut peer = test.peer_of(NOBODY);
    // It refuses us.
    peer.send_command(format!("connect {path}"));
    refuses(&listener, 1);
    assert_eq!(peer.expect_error(), format!("OtherUser {{ uid: 0, expected: {NOBODY} }}"));
    // We refuse one who does not mind.
    peer.send_command(format!("untrusted {path}"));
    thread::scope(|scope| {
        scope.spawn(|| refuses(&listener, 2));
        assert_eq!(peer.expect_error(), "Refused { what: \"the handshake\", code: NotAdmitted }");
    });
    // Before anything else is said.
    peer.ask(format!("sock-connect {path}"));
    refuses(&listener, 3);
    assert_eq!(peer.ask("sock-recv"), "00 0 41 20");
    assert_eq!(peer.ask("sock-recv"), "0 bytes");
    // One who was handed a socket that we had connected ourselves is refused when it speaks, before it is handed
    // a region.
    let socket = sock::connect(&Address::Path(path.clone().into())).unwrap();
    let mut heir = test.peer_of_with(NOBODY, |command| {
        spawn::inherit_fd(command, socket.as_fd(), "HQQ_LINK_FD").unwrap();
    });
    heir.ask("sock-inherit");
    heir.send_command("sock-join");
    refuses(&listener, 4);
    assert_eq!(heir.expect_ok(), "00 0 41 21");
    // Its own bare names are others than ours.
    let name = test.link_name();
    peer.ask(format!("listen {name}"));
    assert!(matches!(StandardLink::connect(&name), Err(Error::NoSuchName { .. })));
}

#[test]
fn a_name_squatted_by_another_user() {
    let mut test = test!(untraced);
    if !can_be_somebody_else() {
        return;
    }
    let name = test.link_name();
    let mut peer = test.peer_of(NOBODY);
    peer.ask(format!("sock-listen @hqq.0.{name}"));
    let squatted = |error: Error| match error {
        Error::OtherUser { uid: NOBODY, expected: 0 } => {}
        other => panic!("{other:?}"),
    };
    squatted(Listener::bind(&name).unwrap_err());
    squatted(StandardLink::connect(&name).unwrap_err());
    squatted(StandardLink::connect_timeout(&name, SOON).unwrap_err());
}

#[test]
fn a_list_says_who_else_may_attach() {
    let mut test = test!(untraced);
    if !can_be_somebody_else() {
        return;
    }
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let mut peer = test.peer_of(NOBODY);
    for (options, list, admitted) in [
        (test.options().allow_uid(NOBODY), "uid=0", true),
        (test.options().allow_gid(NOBODY), "gid=0", true),
        (test.options().allow_uid(1).allow_gid(2), "uid=0", false),
        (test.options(), "uid=0", false),
        (test.options().allow_uid(NOBODY), "uid=1 gid=1", false),
    ] {
        let listener = Listener::bind_with(&path, options).unwrap();
        allow(path.as_ref(), 0o666);
        peer.send_command(format!("connect {path} {list}"));
        if admitted {
            let link = listener.accept_timeout(SOON).unwrap();
            peer.expect_ok();
            link.send(b"welcome").unwrap();
            assert_eq!(peer.ask("recv"), pattern::digest(b"welcome"));
            assert_eq!((link.peer().uid, link.peer().gid), (NOBODY, NOBODY));
            peer.ask("drop");
        } else {
            refuses(&listener, 1);
            // The one says that it is not admitted, the other that it does not know whom it called.
            let error = peer.expect_error();
            let known = ["NotAdmitted", "OtherUser { uid: 0, expected: 65534 }"];
            assert!(known.iter().any(|known| error.contains(known)), "{error}");
        }
        assert_eq!(listener.refused(), u64::from(!admitted));
    }
    // With a list, strangers are those who are on it.
    let listener = Listener::bind_with(&path, test.options().allow_uid(1)).unwrap();
    allow(path.as_ref(), 0o666);
    peer.send_command(format!("untrusted {path}"));
    eventually("it is refused", || {
        assert!(listener.accept_untrusted_timeout(Duration::from_millis(10)).is_err());
        listener.refused() == 1
    });
    assert!(peer.expect_error().contains("NotAdmitted"));
}

#[test]
fn an_untrusted_link_takes_any_user() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let listener = Listener::bind(&path).unwrap();
    allow(path.as_ref(), 0o666);
    let mut users = vec![uid()];
    if can_be_somebody_else() {
        users.push(NOBODY);
    }
    for user in users {
        let mut peer = if user == uid() { test.peer() } else { test.peer_of(user) };
        peer.send_command(format!("untrusted {path}"));
        let link = listener.accept_untrusted_timeout(SOON).unwrap();
        assert_eq!(peer.expect_ok(), uid().to_string());
        assert_eq!((link.peer().uid, link.peer().pid), (user, Some(peer.pid())));
        for len in [0, 1, 48, 49, 16_384, 100_000] {
            let bytes = pattern::bytes(len, len as u64);
            link.send(&bytes).unwrap();
            assert_eq!(peer.ask("untrusted-recv"), pattern::digest(&bytes));
            peer.ask(format!("untrusted-send {len} 5"));
            let message = link.recv().unwrap();
            assert_eq!(message.to_vec(), pattern::bytes(len, 5));
            let mut tail = [0; 3];
            let count = message.read_at(len.saturating_sub(2), &mut tail);
            assert_eq!(count, len.min(2));
            assert_eq!(tail[..count], message.to_vec()[len - count..]);
        }
        let mut loan = link.loan(100).unwrap();
        assert_eq!((loan.write_at(90, &[7; 20]), loan.write_at(0, &[1; 90])), (10, 90));
        loan.send().unwrap();
        peer.ask("untrusted-recv");
        peer.kill();
        assert!(matches!(link.recv(), Err(Error::PeerDead)));
    }
}

#[test]
fn a_silent_caller_delays_nobody_and_is_dropped() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let listener = Listener::bind_with(&path, test.options()).unwrap();
    let mut silent = test.peer();
    silent.ask(format!("sock-connect {path}"));
    let mut peer = test.peer();
    peer.send_command(format!("connect {path}"));
    listener.accept().unwrap();
    assert_eq!(listener.refused(), 0, "it waited for the silent one");
    peer.expect_ok();
    eventually("the silent one is dropped", || {
        assert!(matches!(listener.try_accept(), Err(Error::NoneWaiting)));
        listener.refused() == 1
    });
    assert!(silent.ask("sock-recv").starts_with("20"), "it was greeted");
    let last = silent.ask("sock-recv");
    assert_eq!(last, "0 bytes", "and hears the hang-up");
}
