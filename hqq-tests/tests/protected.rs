// unsafe: a mapping of the peer's payload is written to, to see that the kernel forbids it.
//! Protected links: they behave like others, and the payload of one end is read-only for the other.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use hqq::{Error, Listener, Options, RingMode, Role, StandardLink, UntrustedLink};
use hqq_tests::mock::Memory;
use hqq_tests::patience::SOON;
use hqq_tests::pattern::{bytes, digest};
use hqq_tests::test;

const SMALL: &str = "slots=8 buffers=8 size=64 protected";

/// Set for the child that must be killed.
const VICTIM: &str = "HQQ_TEST_WRITES_TO_PEERS_PAYLOAD";

#[test]
fn messages_pass_in_every_length_and_mode() {
    let test = test!(untraced);
    for mode in [RingMode::Mpmc, RingMode::Spsc, RingMode::Mpsc, RingMode::Spmc] {
        let options = test.options().slots(8).buffers(8).buffer_size(64).ring_mode(mode).protected(true);
        let (primary, secondary) = StandardLink::pair_with(options).unwrap();
        assert!(primary.is_protected() && secondary.is_protected());
        for (from, to) in [(&primary, &secondary), (&secondary, &primary)] {
            for len in [0, 1, 48, 49, 64, 65, 200, 512] {
                let mut loan = from.loan(len).unwrap();
                loan.copy_from_slice(&bytes(len, 7));
                loan.send().unwrap();
                let message = to.recv().unwrap();
                assert_eq!(*message, bytes(len, 7), "{len}");
                // From another memory than it was written to.
                assert!(len < 49 || message.as_ptr() as usize % 64 == 0);
            }
        }
    }
}

#[test]
fn two_processes_stream_and_use_connections() {
    let test = test!(untraced);
    for role in [Role::Primary, Role::Secondary] {
        let (link, mut peer) = test.link(role, SMALL);
        assert!(link.is_protected());
        peer.send_command("conn-accept");
        let connection = link.open_connection().unwrap();
        let id = peer.expect_ok();
        for len in [10, 64, 600, 100_000] {
            thread::scope(|scope| {
                let sender = scope.spawn(|| connection.send(&bytes(len, 3)));
                assert_eq!(peer.ask(format!("conn-recv {id}")), digest(&bytes(len, 3)), "{len}");
                sender.join().unwrap().unwrap();
            });
        }
        drop(connection);
        peer.kill();
        assert!(matches!(link.recv(), Err(Error::PeerDead)));
    }
}

/// The memfds of this process with this in their name.
fn memfds(part: &str) -> Vec<String> {
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let target = fs::read_link(&path).ok()?;
        target.to_str()?.contains(part).then(|| path.to_str().map(str::to_owned))?
    });
    open.collect()
}

#[test]
fn the_region_holds_no_payload_and_its_memory_is_not_reserved() {
    let test = test!(untraced);
    let (primary, secondary) =
        StandardLink::pair_with(test.options().buffers(64).buffer_size(1 << 20).protected(true)).unwrap();
    let region = File::from(primary.memory().try_clone_to_owned().unwrap());
    let reserved = std::os::unix::fs::MetadataExt::blocks(&region.metadata().unwrap()) * 512;
    assert!(reserved < 1 << 20, "{reserved}");
    primary.send(&[0xAB; 100_000]).unwrap();
    assert_eq!(*secondary.recv().unwrap(), [0xAB; 100_000]);
    let mut found = vec![0; 100_000];
    region.read_exact_at(&mut found, Memory::of(&primary).layout().directions[0].buffers).unwrap();
    assert!(found.iter().all(|byte| *byte == 0));
    // A program that brings memory of its own cannot join: it would look for payload where there is none.
    let other = StandardLink::pair_with(test.options()).unwrap();
    assert!(!other.0.is_protected());
}

#[test]
fn nobody_writes_what_another_has_sent() {
    let _test = test!(untraced);
    let listener = Listener::bind_with("protected-kernel", Options::new().protected(true)).unwrap();
    let far = thread::spawn(|| StandardLink::connect_timeout("protected-kernel", SOON).unwrap());
    let link = listener.accept_timeout(SOON).unwrap();
    let far = far.join().unwrap();
    // What the other end got over the socket is closed once it is mapped; but a hostile one would keep it. Both payloads
    // are open here, as their writers keep them for successors.
    let payloads = memfds("hqq-payload");
    assert!(payloads.len() >= 2, "{payloads:?}");
    for path in payloads {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(1), "EPERM");
        assert!(file.set_len(0).is_err());
        let shared = hqq_sys::mem::Mapping::map(std::os::fd::AsFd::as_fd(&file), 4096);
        assert_eq!(shared.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        assert!(file.as_raw_fd() > 2);
    }
    link.send(&bytes(1000, 1)).unwrap();
    assert_eq!(*far.recv().unwrap(), bytes(1000, 1));
}

/// In a process of its own, which must not survive it.
#[test]
fn a_store_into_the_peers_payload_is_deadly() {
    if std::env::var_os(VICTIM).is_some() {
        let (primary, secondary) = StandardLink::pair_with(Options::new().protected(true)).unwrap();
        primary.send(&[1; 100]).unwrap();
        let message = secondary.recv().unwrap();
        // SAFETY: none; the kernel forbids it, which is what is tested.
        unsafe { message.as_ptr().cast_mut().write_volatile(2) };
        std::process::exit(0);
    }
    let _test = test!(untraced);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_store_into_the_peers_payload_is_deadly"]).env(VICTIM, "1");
    let output = child.output().unwrap();
    assert_eq!(output.status.signal(), Some(11), "{output:?}");
}

#[test]
fn strangers_lend_plain_slices() {
    let test = test!(untraced);
    for protected in [false, true] {
        let name = test.link_name();
        let listener = Listener::bind_with(&name, Options::new().protected(protected)).unwrap();
        let far = thread::spawn(move || UntrustedLink::connect_timeout(&name, SOON).unwrap());
        let link = listener.accept_untrusted_timeout(SOON).unwrap();
        let far = far.join().unwrap();
        for (from, to) in [(&link, &far), (&far, &link)] {
            assert_eq!(from.is_protected(), protected);
            for len in [10, 1000, 100_000] {
                let mut loan = from.loan(len).unwrap();
                match loan.bytes_mut() {
                    Some(slice) => {
                        assert!(protected || len <= 48, "a peer could write to it");
                        slice.copy_from_slice(&bytes(len, 5));
                    }
                    None => {
                        assert!(!protected && len > 48);
                        assert_eq!(loan.write_at(0, &bytes(len, 5)), len);
                    }
                }
                loan.send().unwrap();
                assert_eq!(to.recv().unwrap().to_vec(), bytes(len, 5));
            }
        }
    }
}
