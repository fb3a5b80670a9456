//! What a process may lack: room for files, address space, descriptors, standard streams. Each lack is an error of the
//! process that has it, with its cause, and never a signal or the peer's fault.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hqq::{Error, Listener, StandardLink};
use hqq_tests::patience::SOON;
use hqq_tests::peer::options;
use hqq_tests::{Peer, Test, test};

/// `Debug` of the kernel's error for too few descriptors.
const TOO_MANY_FILES: &str = "source: Os { code: 24, kind: Uncategorized, message: \"Too many open files\" }";

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    let test = test!(untraced);
    let name = test.link_name();
    for options in ["", "protected"] {
        let mut peer = test.peer();
        peer.ask("limit file-size 1000000");
        let error = peer.ask_error(format!("pair {options}"));
        assert!(error.contains("kind: FileTooLarge"), "{error}");
        assert!(error.contains("limit on file sizes of 1000000 bytes"), "{error}");
        // An end that connects makes a payload of its own.
        peer.ask("limit file-size none");
        peer.ask(format!("pair {options}"));
        let listener = listener(&test, &name, options);
        peer.ask("limit file-size 1000000");
        peer.send_command(format!("connect {name}"));
        if options.is_empty() {
            listener.accept_timeout(SOON).unwrap();
            peer.expect_ok();
        } else {
            thread::scope(|scope| {
                let accepting = scope.spawn(|| listener.accept_timeout(Duration::from_millis(100)));
                let error = peer.expect_error();
                assert!(error.contains("limit on file sizes of 1000000 bytes"), "{error}");
                assert!(accepting.join().unwrap().is_err());
            });
        }
        peer.quit();
    }
}

/// Numbers of descriptors that are surely enough for one link.
const ENOUGH: u64 = 64;

fn listener(test: &Test, name: &str, words: &str) -> Listener {
    Listener::bind_with(name, options(test.options(), words.split_whitespace())).unwrap()
}

/// Lets the peer try with 4, 5, ... numbers of descriptors until it succeeds; each failure must say that they have run out.
/// Returns how many tries failed. `attempt` returns the peer's error, if it fails.
fn until_enough(peer: &mut Peer, mut attempt: impl FnMut(&mut Peer) -> Result<String, String>) -> u64 {
    for numbers in 4..ENOUGH {
        peer.ask(format!("limit files {numbers}"));
        let tried = attempt(peer);
        peer.ask("limit files none");
        match tried {
            Ok(_) => return numbers - 4,
            Err(error) => {
                assert!(
                    error.starts_with("Os { doing: ") && error.contains(TOO_MANY_FILES),
                    "{numbers}: {error}"
                );
            }
        }
    }
    panic!("{ENOUGH} descriptors are not enough");
}

/// Tells a thread to end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The reply to the command that is running: `Err` with the error's text.
fn reply(peer: &mut Peer) -> Result<String, String> {
    let reply = peer.read_reply();
    match reply.strip_prefix("error ") {
        Some(error) => Err(error.to_owned()),
        None => Ok(reply),
    }
}

#[test]
fn descriptors_that_run_out_in_a_pair() {
    let test = test!(untraced);
    for options in ["", "protected"] {
        let mut peer = test.peer();
        let failed = until_enough(&mut peer, |peer| {
            peer.send_command(format!("pair {options}"));
            reply(peer)
        });
        assert!(failed >= 6, "{failed}");
        peer.quit();
    }
}

#[test]
fn descriptors_that_run_out_where_a_link_is_accepted() {
    let test = test!(untraced);
    for words in ["", "protected"] {
        let mut peer = test.peer();
        let failed = until_enough(&mut peer, |peer| {
            let name = test.link_name();
            // A limit holds for new descriptors only, so it does not matter that it is set already.
            peer.send_command(format!("listen {name} {words}"));
            reply(peer)?;
            thread::scope(|scope| {
                let caller = scope.spawn(|| StandardLink::connect(&name));
                peer.send_command("accept");
                let accepted = reply(peer);
                // Ends the caller, whether the listener had its socket or not.
                peer.ask("unlisten");
                let called = caller.join().unwrap();
                match &accepted {
                    Ok(_) => drop(called.unwrap()),
                    // It says nothing about this end.
                    Err(_) => assert!(
                        matches!(
                            called,
                            Err(Error::Handshake { .. }
                                | Error::Refused { .. }
                                | Error::NoSuchName { .. }
                                | Error::Os { .. })
                        ),
                        "{called:?}"
                    ),
                }
                accepted
            })
        });
        assert!(failed >= 4, "{failed}");
        peer.quit();
    }
}

#[test]
fn descriptors_that_run_out_where_a_link_is_connected() {
    let test = test!(untraced);
    for words in ["", "protected"] {
        let name = test.link_name();
        let listener = listener(&test, &name, words);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                loop {
                    match listener.accept_timeout(Duration::from_millis(20)) {
                        Ok(link) => return link,
                        Err(Error::Timeout { .. }) if !over.load(Ordering::Relaxed) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
            // Also if this panics.
            let ends = Ends(&over);
            let mut peer = test.peer();
            let failed = until_enough(&mut peer, |peer| {
                peer.send_command(format!("connect {name}"));
                reply(peer)
            });
            drop(ends);
            assert!(failed >= 4, "{failed}");
            let link = accepting.join().unwrap();
            link.send(b"there").unwrap();
            peer.ask("recv");
            peer.quit();
        });
    }
}

#[test]
fn a_limit_on_address_space_is_named() {
    let test = test!(untraced);
    let mut peer = test.peer();
    // Room for the program and for what the allocator takes, and not for a link of 512 MiB.
    peer.ask("limit space 400000000");
    let error = peer.ask_error("pair buffers=256 size=1048576");
    assert!(error.contains("kind: OutOfMemory"), "{error}");
    assert!(error.contains("limit on address space is 400000000 bytes"), "{error}");
    peer.ask("limit space none");
    peer.ask("pair");
    peer.quit();
}

#[test]
fn no_descriptor_takes_the_place_of_a_standard_stream() {
    let mut test = test!(untraced);
    let path = test.folder().join("link").to_str().unwrap().to_owned();
    let mut peer = test.peer();
    for name in [test.link_name(), path] {
        assert_eq!(peer.ask(format!("streamless {name}")), "taken: []");
    }
    peer.quit();
}
