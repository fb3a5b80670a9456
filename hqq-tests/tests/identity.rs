//! Recognizes the peer and its death in spite of reused process ids, forks, namespaces and signals.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hqq::shm::words::{BufferWord, Holder, Lap, LeaseWord, Stamp};
use hqq::{Error, Listener, Options, Role, StandardLink, UntrustedLink};
use hqq_sys::peer::{self, uid};
use hqq_tests::mock::Memory;
use hqq_tests::patience::SOON;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test::{allow, asleep, healthy, link_by_hand, refuses, sleeps};
use hqq_tests::traced::Traced;
use hqq_tests::{Peer, Test, eventually, stress, test};
use rustix::process::{Pid, Signal, pidfd_send_signal, test_kill_process};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];
const SMALL: &str = "slots=4 buffers=4 size=64";
const NOBODY: u32 = 65534;

#[track_caller]
fn dead<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::PeerDead)), "{result:?}");
}

/// A process that is nobody's to wait for here; killed at the end.
struct Other(OwnedFd);

impl Other {
    fn open(pid: i32) -> Self {
        Self(peer::pidfd_open(pid).expect("it lives"))
    }

    fn lives(&self) -> bool {
        !peer::is_dead(self.0.as_fd())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// Lets the peer hold all that it can of the link.
fn exhaust(link: &StandardLink, peer: &mut Peer) {
    for seed in 0..4 {
        link.send(&bytes(64, seed)).unwrap();
        peer.ask("hold");
    }
    assert!(matches!(link.try_send(&[1; 64]), Err(Error::PoolExhausted { .. })));
}

fn maps_of(pid: i32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter(|line| line.contains("memfd:hqq:")).count()
}

/// How many of a process's descriptors are of this kind.
fn open_of(pid: i32, kind: &str) -> usize {
    let names = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = names.filter_map(|name| fs::read_link(name.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with(kind)).count()
}

// ---- forks --------------------------------------------------------------------------------------

/// The peer forks a child that lives on without exec.
fn forked(peer: &mut Peer) -> (Other, i32) {
    let answer = peer.ask("fork");
    let (pid, look) = answer.split_once(' ').unwrap();
    assert_eq!(look, "fault", "the child has the region's memory");
    let pid = pid.parse().unwrap();
    (Other::open(pid), pid)
}

#[test]
fn a_forked_child_owns_nothing_and_hides_no_death() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        exhaust(&link, &mut peer);
        let (child, pid) = forked(&mut peer);
        assert!(maps_of(peer.pid()) > 0);
        assert_eq!(maps_of(pid), 0, "not even the page that keeps the seat's lock");
        assert!(open_of(pid, "socket:") > 0, "it has the link's socket, so that nothing hangs up");
        let before = sleeps(&link);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| dead(link.recv()));
            asleep(&link, before);
            let began = Instant::now();
            peer.kill();
            waiting.join().unwrap();
            assert!(began.elapsed() < SOON);
        });
        assert!(child.lives());
        dead(link.send(b"x"));
        healthy(&link);
        assert!(child.lives());
    }
}

#[test]
fn a_forked_child_keeps_no_link_open() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        peer.ask("send 60 7");
        let (child, pid) = forked(&mut peer);
        let before = sleeps(&link);
        thread::scope(|scope| {
            assert_eq!(*link.recv().unwrap(), bytes(60, 7));
            let waiting = scope.spawn(|| assert!(matches!(link.recv(), Err(Error::Closed))));
            asleep(&link, before);
            peer.ask("drop");
            waiting.join().unwrap();
        });
        assert!(child.lives() && open_of(pid, "socket:") > 0);
        assert!(matches!(link.send(b"x"), Err(Error::Closed)));
        // The end stays an orderly one.
        peer.kill();
        assert!(matches!(link.recv(), Err(Error::Closed)));
        assert!(child.lives());
    }
}

// ---- process ids --------------------------------------------------------------------------------

/// Set for the copy of this program that runs in a namespace made for it.
const INSIDE: &str = "HQQ_TEST_IN_OWN_PID_NAMESPACE";

/// Whether processes can be given numbers of our choice here. If not, `name` is run once more in a pid namespace of
/// its own, where they can.
fn chooses_numbers(test: &Test, name: &str) -> bool {
    let mut free = test.peer();
    free.kill();
    let refusal = match test.peer_isolated(&format!("as={}", free.pid())) {
        Ok(_) => return true,
        Err(refusal) => refusal,
    };
    assert!(std::env::var_os(INSIDE).is_none(), "not even in a namespace of our own: {refusal}");
    let again = Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(INSIDE, "1")
        .output();
    match again {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
            println!("{name}: ran in a pid namespace of its own, for here {refusal}");
        }
        // unshare itself fails with 1, a test with 101.
        Ok(output) if output.status.code() == Some(101) => panic!("{output:?}"),
        failed => eprintln!(
            "WARNING: {name} SHOWED NOTHING: numbers of processes cannot be chosen here ({refusal}), nor can a \
             namespace be made in which they can ({failed:?})"
        ),
    }
    false
}

#[test]
fn a_reused_process_id_hides_no_death() {
    let test = test!(untraced);
    if !chooses_numbers(&test, "a_reused_process_id_hides_no_death") {
        return;
    }
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        exhaust(&link, &mut peer);
        // Somebody else has the dead's sockets, so that nothing hangs up.
        let mut keeper = test.peer();
        let taken = keeper.ask(format!("copy-sockets {}", peer.pid()));
        assert_ne!(taken, "0");
        // Nothing here looks at the link between the death and the namesake's birth.
        let number = peer.pid();
        peer.kill();
        let mut namesake = test.peer_isolated(&format!("as={number}")).unwrap();
        assert_eq!((namesake.pid(), namesake.ask("sock-uid")), (number, uid().to_string()));
        // The namesake has those sockets too, and rings.
        assert_eq!(namesake.ask(format!("copy-sockets {}", keeper.pid())), taken);
        if role == Role::Primary {
            assert_eq!(namesake.ask("wake-sockets"), taken);
        }
        assert_eq!(link.peer().pid, Some(number));
        test_kill_process(Pid::from_raw(number).unwrap()).expect("the number lives");
        dead(link.recv());
        dead(link.send(b"x"));
        healthy(&link);
        assert!(!link.is_open());

        // It is another process: it can be a peer like any other, of another link.
        let (second, mut namesake) = test.link_with(namesake, role, SMALL);
        second.send(&bytes(60, 2)).unwrap();
        assert_eq!(namesake.ask("recv"), digest(&bytes(60, 2)));
        assert!(second.is_open() && !link.is_open());
        dead(link.recv());
        namesake.kill();
        dead(second.recv());
    }
}

// ---- namespaces ---------------------------------------------------------------------------------

/// A peer in namespaces of its own, unless they cannot be had here.
fn apart(test: &Test, wish: &str) -> Option<Peer> {
    match test.peer_isolated(wish) {
        Ok(peer) => Some(peer),
        Err(refusal) => {
            eprintln!("WARNING: {}: NOT TRIED: {wish}: {refusal}", test.name());
            None
        }
    }
}

#[test]
fn siblings_in_namespaces_of_their_own() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    for (one, two) in [
        ("new=user,pid,mnt,ipc", "new=user,pid,mnt,ipc"),
        // The number that a user has inside says nothing: the kernel translates.
        ("new=user,pid uid=1000", "new=user,pid uid=2000"),
        ("new=user,pid", "new=user,mnt"),
    ] {
        for role in ROLES {
            let (Some(mut listener), Some(mut caller)) = (apart(&test, one), apart(&test, two)) else {
                continue;
            };
            listener.ask(format!("listen {path} {SMALL}"));
            listener.send_command("accept");
            let by_caller = caller.ask(format!("connect {path}"));
            let by_listener = listener.expect_ok();
            // A process has no number in a namespace beside its own, and one in those above.
            let seen = |by: &str, other: &Peer| if by.contains("pid") { 0 } else { other.pid() };
            let expected = |by: &str, own: &mut Peer, other: &Peer| {
                format!("{} {}", seen(by, other), own.ask("sock-uid"))
            };
            assert_eq!(by_caller, expected(two, &mut caller, &listener), "{one} {two}");
            assert_eq!(by_listener, expected(one, &mut listener, &caller), "{one} {two}");
            caller.ask("send 60 1");
            listener.ask("send 250 2");
            let (mut survivor, mut victim, told) = match role {
                Role::Primary => (listener, caller, digest(&bytes(60, 1))),
                Role::Secondary => (caller, listener, digest(&bytes(250, 2))),
            };
            assert_eq!(survivor.ask("recv"), told);
            survivor.send_command("recv");
            victim.kill();
            assert_eq!(survivor.expect_error(), "PeerDead");
            assert_eq!(survivor.ask_error("send 1 1"), "PeerDead");
        }
    }
}

#[test]
fn a_peer_in_a_namespace_beneath() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let options = || hqq_tests::peer::options(Options::new(), SMALL.split_whitespace());
    for role in ROLES {
        let Some(mut peer) = apart(&test, "new=user,pid,mnt,ipc uid=77") else { continue };
        let link = match role {
            Role::Primary => {
                let listener = Listener::bind_with(&path, options()).unwrap();
                peer.send_command(format!("connect {path}"));
                let link = listener.accept_timeout(SOON).unwrap();
                assert_eq!(peer.expect_ok(), "0 77", "it cannot see us");
                link
            }
            Role::Secondary => {
                peer.ask(format!("listen {path} {SMALL}"));
                peer.send_command("accept");
                let link = StandardLink::connect_with_timeout(&path, options(), SOON).unwrap();
                assert_eq!(peer.expect_ok(), "0 77", "it cannot see us");
                link
            }
        };
        assert_eq!((link.peer().pid, link.peer().uid), (Some(peer.pid()), uid()), "and we can see it");
        exhaust(&link, &mut peer);
        let before = sleeps(&link);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| dead(link.recv()));
            asleep(&link, before);
            peer.kill();
            waiting.join().unwrap();
        });
        healthy(&link);
    }
}

#[test]
fn root_of_a_user_namespace_is_the_user_that_it_was() {
    let mut test = test!(untraced);
    if uid() != 0 {
        println!("not root: nobody here can play another user; skipped");
        return;
    }
    // It believes that it is root, and so takes the very name that root would.
    let mut squatter = match test.peer_isolated_as(NOBODY, "new=user,pid") {
        Ok(squatter) => squatter,
        Err(refusal) => {
            eprintln!("WARNING: {}: NOT TRIED: {refusal}", test.name());
            return;
        }
    };
    assert_eq!(squatter.ask("sock-uid"), "0");
    let name = test.link_name();
    squatter.ask(format!("listen {name}"));
    let ours = |error: Error| match error {
        Error::OtherUser { uid: NOBODY, expected: 0 } => {
            assert!(error.to_string().contains("65534"), "{error}");
        }
        other => panic!("{other:?}"),
    };
    ours(StandardLink::connect(&name).unwrap_err());
    ours(StandardLink::connect_timeout(&name, SOON).unwrap_err());
    ours(Listener::bind(&name).unwrap_err());
    // And it takes no root but its own, though root were to trust it.
    squatter.send_command("accept");
    let refused = UntrustedLink::connect_with(&name, Options::new()).unwrap_err();
    let said = refused.to_string();
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
    assert!(said.contains("NotAdmitted"), "{said}");
    // As a caller it is refused likewise, and counted.
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let listener = Listener::bind(&path).unwrap();
    allow(path.as_ref(), 0o666);
    let mut caller = test.peer_isolated_as(NOBODY, "new=user,pid").unwrap();
    caller.send_command(format!("untrusted {path}"));
    refuses(&listener, 1);
    assert_eq!(caller.expect_error(), "Refused { what: \"the handshake\", code: NotAdmitted }");
}

#[test]
fn in_a_namespace_without_a_map_nobody_is_taken_for_the_same_user() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let Some(mut peer) = apart(&test, "new=user uid=none") else { return };
    assert_eq!(peer.ask("sock-uid"), NOBODY.to_string(), "it has the overflow id, and so have we for it");
    let refuses_itself = format!("OtherUser {{ uid: {NOBODY}, expected: {NOBODY} }}");
    // It accepts, with and without a list; what it binds is the same user's for us.
    for list in ["", "uid=65534", "gid=65534"] {
        peer.ask(format!("listen {path} {list}"));
        peer.send_command("bg accept");
        peer.expect_ok();
        let refused = StandardLink::connect(&path).unwrap_err();
        assert!(matches!(refused, Error::Refused { code: hqq::ErrorCode::NotAdmitted, .. }), "{refused:?}");
        std::fs::remove_file(&path).unwrap();
        peer = apart(&test, "new=user uid=none").unwrap();
    }
    // It connects.
    let listener = Listener::bind(&path).unwrap();
    for list in ["", "uid=65534", "gid=65534"] {
        assert_eq!(peer.ask_error(format!("connect {path} {list}")), refuses_itself);
    }
    // Within itself, and with those whom it does not trust, it has links.
    peer.ask("pair");
    peer.send_command(format!("untrusted {path}"));
    eventually("it is accepted", || listener.accept_timeout(std::time::Duration::from_millis(10)).is_ok());
    peer.expect_ok();
}

// ---- pauses -------------------------------------------------------------------------------------

/// Lets the threads that wait on a link end, so that a test that fails can say so.
struct EndsIfThisPanics<'l>(&'l StandardLink);

impl Drop for EndsIfThisPanics<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Both sides send and receive at full speed while `pause` stops the peer and lets it go on, a few times.
fn pauses(test: &Test, pause: impl Fn(&Peer)) {
    const COUNT: u64 = 25_000;
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=8 buffers=8 size=256");
        peer.ask(format!("bg produce 1 2 {COUNT}"));
        peer.ask(format!("bg consume 2 9 2 {COUNT}"));
        let received = || link.stats().directions.map(|direction| direction.packets_received);
        thread::scope(|scope| {
            let _ends = EndsIfThisPanics(&link);
            let consumer = scope.spawn(|| stress::consume(&link, 2, 1, 2, COUNT));
            let producer = scope.spawn(|| stress::produce(&link, 9, 2, COUNT));
            for _ in 0..3 {
                let began = received();
                eventually(&format!("after {began:?} both ways are at work"), || {
                    let now = received();
                    assert!(
                        now.iter().all(|&count| count < 2 * COUNT),
                        "all was over before it was paused: {now:?}"
                    );
                    (0..2).all(|way| now[way] > began[way] + 200)
                });
                pause(&peer);
            }
            producer.join().unwrap().unwrap();
            assert_eq!(peer.ask("join"), "", "it has sent all");
            peer.ask("shutdown write");
            assert_eq!(consumer.join().unwrap(), Ok(()));
            link.shutdown(std::net::Shutdown::Write);
            assert_eq!(peer.ask("join"), "", "it has received all");
        });
    }
}

/// Looks at a peer that stands still: it is there all the while.
fn stands_still(pid: i32) {
    let pause = Instant::now();
    while pause.elapsed() < Duration::from_millis(400) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = stat.rsplit_once(") ").unwrap().1;
        assert!(state.starts_with(['T', 't']), "{stat}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_paused_peer_loses_nothing() {
    pauses(&test!(untraced), |peer| {
        peer.stop();
        stands_still(peer.pid());
        peer.resume();
    });
}

#[test]
fn a_peer_in_a_debugger_loses_nothing() {
    pauses(&test!(untraced), |peer| {
        let traced = Traced::stop(peer.pid()).unwrap();
        stands_still(peer.pid());
        drop(traced);
    });
}

#[test]
fn a_peer_in_a_debugger_can_be_killed() {
    let test = test!(untraced);
    let (link, mut peer) = test.link(Role::Primary, SMALL);
    exhaust(&link, &mut peer);
    let traced = Traced::stop(peer.pid()).unwrap();
    let late = link.recv_timeout(Duration::from_millis(300));
    assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
    assert!(link.is_open());
    // Its threads stay until the debugger has looked at them, and the process is not dead before.
    let process = Other::open(peer.pid());
    pidfd_send_signal(&process.0, Signal::KILL).unwrap();
    drop(traced);
    peer.kill();
    dead(link.recv());
    healthy(&link);
}

// ---- a hang-up is no death ----------------------------------------------------------------------

#[test]
fn a_peer_that_hangs_up_and_lives_keeps_what_it_holds() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let options = test.options().slots(4).buffers(4).buffer_size(64);
    let listener = Listener::bind_with(&path, options).unwrap();
    let mut peer = test.peer();
    let link = link_by_hand(&listener, &mut peer);
    // It claims a slot, has a buffer and the lease of its own direction, and reads one of ours.
    let memory = Memory::of(&link);
    let (it, [ours, its]) = (Holder::new(1, 1), memory.layout().directions);
    let held = [
        (memory.slot(1, 0), Stamp::claimed(Lap::new(0), it).word()),
        (its.pool, BufferWord::owned(it).word()),
        (its.lease, LeaseWord::leased(it).word()),
        (ours.pool, BufferWord::held(it).word()),
    ];
    for (at, word) in held {
        memory.write(at, word);
    }
    let before = sleeps(&link);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| assert!(matches!(link.recv(), Err(Error::PeerGone))));
        asleep(&link, before);
        peer.ask("sock-drop");
        waiting.join().unwrap();
    });
    for _ in 0..3 {
        assert!(!link.is_open());
        assert!(matches!(link.send(&[1; 64]), Err(Error::PeerGone)));
        for (at, word) in held {
            assert_eq!(memory.read(at), word, "taken from one who may still write");
        }
    }
    assert_eq!(peer.ask("sock-uid"), uid().to_string(), "it lives");
    // Once it is dead, that is another matter.
    peer.kill();
    eventually("what it held is free", || {
        assert!(!link.is_open());
        held.iter().all(|&(at, word)| memory.read(at) != word)
    });
    // What it had claimed is a tombstone now, which is received as nothing.
    assert!(link.recv().is_err());
    healthy(&link);
}

// ---- memory -------------------------------------------------------------------------------------

#[test]
fn nobody_resizes_a_region() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, SMALL);
        let len = Memory::of(&link).layout().len;
        for how in [
            "truncate 0".to_owned(),
            format!("truncate {}", len - 4096),
            format!("truncate {}", len + 4096),
            format!("grow {}", 2 * len),
        ] {
            let error = peer.ask_error(format!("tamper {how}"));
            assert!(error.contains("PermissionDenied"), "{how}: {error}");
        }
        assert!(!peer.ask_error("tamper collapse 0 4096").is_empty());
        let sealed = peer.ask_error("tamper seal-writes");
        assert!(sealed.contains("PermissionDenied"), "{sealed}");
        link.send(&bytes(64, 1)).unwrap();
        assert_eq!(peer.ask("recv"), digest(&bytes(64, 1)));
    }
}

#[test]
fn a_punched_region_is_corrupt_and_kills_nobody() {
    let test = test!(untraced);
    for role in ROLES {
        for waits in [false, true] {
            let (link, mut peer) = test.link(role, SMALL);
            peer.ask("send 64 1");
            peer.ask("send 60 2");
            let held = link.recv().unwrap();
            assert_eq!(*held, bytes(64, 1));
            let mut loan = link.loan(64).unwrap();
            let len = Memory::of(&link).layout().len;
            let corrupt = |result: Result<(), Error>| {
                assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}")
            };
            if waits {
                assert_eq!(link.recv().unwrap().len(), 60);
                let before = sleeps(&link);
                thread::scope(|scope| {
                    let waiting = scope.spawn(|| link.recv().map(drop));
                    asleep(&link, before);
                    peer.ask(format!("tamper punch 0 {len}"));
                    // Nobody rings: it sleeps until something happens to the peer.
                    peer.kill();
                    corrupt(waiting.join().unwrap());
                });
            } else {
                peer.ask(format!("tamper punch 0 {len}"));
                corrupt(link.recv().map(drop));
            }
            corrupt(link.recv().map(drop));
            corrupt(link.send(b"x"));
            corrupt(link.send(&[1; 64]));
            corrupt(link.loan(64).map(drop));
            corrupt(link.open_connection().map(drop));
            assert!(!link.is_open());
            // Memory that was ours stays mapped, and reads as zeros.
            assert_eq!(*held, [0; 64]);
            loan.fill(3);
            corrupt(loan.send());
            drop(held);
            let _ = link.stats();
        }
    }
}

#[test]
fn a_hole_in_the_payload_is_zeros() {
    let test = test!(untraced);
    for role in ROLES {
        let (link, mut peer) = test.link(role, "slots=4 buffers=4 size=4096");
        peer.ask("send 4096 1");
        let inward = Memory::of(&link).layout().directions[role.other().direction()];
        let (at, len) = (inward.buffers, 4 * 4096);
        assert_eq!(at % 4096, 0, "whole pages of payload");
        let held = link.recv().unwrap();
        peer.ask(format!("tamper punch {at} {len}"));
        assert_eq!(*held, [0; 4096]);
        drop(held);
        // The link knows nothing of it.
        peer.ask("send 4096 2");
        assert_eq!(*link.recv().unwrap(), bytes(4096, 2));
        link.send(&bytes(4096, 3)).unwrap();
        assert_eq!(peer.ask("recv"), digest(&bytes(4096, 3)));
    }
}
