//! Many callers at a time: honest ones, and silent ones that keep coming.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hqq::{Listener, Options, StandardLink, UntrustedLink};
use hqq_sys::poll;
use hqq_sys::sock::{self, Address};
use hqq_tests::patience::SOON;
use hqq_tests::{Test, eventually, test};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for as many links as the tests have at a time.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

fn small() -> Options {
    Options::new().slots(8).buffers(8).buffer_size(64)
}

/// Calls that have time are all served, and nobody is refused.
#[test]
fn honest_callers_are_all_served() {
    const CALLERS: usize = 400;
    allow_descriptors();
    let test = test!(untraced);
    let name = test.link_name();
    let listener = Listener::bind_with(&name, small()).unwrap();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| StandardLink::connect_with_timeout(&name, small(), 4 * SOON)?.recv().map(drop))
            })
            .collect();
        for _ in 0..CALLERS {
            listener.accept_timeout(SOON).unwrap().send(b"served").unwrap();
        }
        for caller in callers {
            caller.join().unwrap().unwrap();
        }
    });
    assert_eq!(listener.refused(), 0);
}

/// Calls, says nothing, and calls again when it is hung up on, until `over`.
fn keeps_silent(address: &Address, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(socket) = sock::connect(address) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let mut message = [0; 65];
        while !over.load(Ordering::Relaxed) {
            poll::many(&[socket.as_fd()], Some(Duration::from_millis(20))).unwrap();
            if let Ok(Some(received)) = sock::recv(socket.as_fd(), &mut message) {
                if received.len == 0 {
                    break;
                }
            }
        }
    }
}

/// Honest callers are served beside many more that only keep places busy.
fn silent_callers_keep_nobody_out(test: &mut Test, untrusted: bool) {
    const SILENT: usize = 600;
    const HONEST: usize = 20;
    allow_descriptors();
    let path = test.folder().join("link");
    let name = path.to_str().unwrap();
    let listener = Listener::bind_with(name, small()).unwrap();
    let address = Address::Path(path.clone());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..SILENT {
            scope.spawn(|| keeps_silent(&address, &over));
        }
        scope.spawn(|| {
            for _ in 0..HONEST {
                match untrusted {
                    false => listener.accept_timeout(2 * SOON).unwrap().send(b"served").unwrap(),
                    true => listener.accept_untrusted_timeout(2 * SOON).unwrap().send(b"served").unwrap(),
                }
            }
        });
        eventually("the silent ones fill all places", || listener.refused() > 0);
        for _ in 0..HONEST {
            match untrusted {
                false => {
                    StandardLink::connect_with_timeout(name, small(), SOON).unwrap().recv().map(drop).unwrap()
                }
                true => UntrustedLink::connect_with_timeout(name, small(), SOON)
                    .unwrap()
                    .recv()
                    .map(drop)
                    .unwrap(),
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn silent_callers_of_a_trusted_listener() {
    silent_callers_keep_nobody_out(&mut test!(untraced), false);
}

#[test]
fn silent_callers_of_an_untrusted_listener() {
    silent_callers_keep_nobody_out(&mut test!(untraced), true);
}
