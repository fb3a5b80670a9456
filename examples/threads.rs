//! One link and many threads: workers share both ends of a link. A second link is split into halves for two threads.

mod common;

use common::{Outcome, PATIENCE};
use hqq::{Error, Listener, Options, RingMode, StandardLink};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

const THREADS: u64 = 4;
const TASKS: u64 = 100;

/// Sends tasks from several threads, and receives the results in another.
fn listen(name: &str) -> Outcome {
    let link = Listener::bind(name)?.accept_timeout(PATIENCE)?;
    let sum = thread::scope(|scope| {
        let senders: Vec<_> = (0..THREADS)
            .map(|thread| {
                let link = &link;
                scope.spawn(move || {
                    (0..TASKS).try_for_each(|task| link.send(&(thread * TASKS + task).to_le_bytes()))
                })
            })
            .collect();
        let gathering = scope.spawn(|| {
            let mut sum = 0;
            for _ in 0..THREADS * TASKS {
                sum += *link.recv()?.cast::<u64>()?;
            }
            Ok::<u64, Error>(sum)
        });
        for sender in senders {
            sender.join().expect("a sender does not panic")?;
        }
        gathering.join().expect("the gatherer does not panic")
    })?;
    link.shutdown(Shutdown::Write); // the workers receive Closed and end
    let tasks = THREADS * TASKS;
    println!("{tasks} tasks done, the squares add up to {sum}");
    assert_eq!(sum, (0..tasks).map(|task| task * task).sum());
    Ok(())
}

/// Each worker receives the next task.
fn connect(name: &str) -> Outcome {
    let link = StandardLink::connect_timeout(name, PATIENCE)?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| square(&link))).collect();
        for (number, worker) in workers.into_iter().enumerate() {
            println!("worker {number} did {}", worker.join().expect("a worker does not panic")?);
        }
        Ok::<(), Error>(())
    })?;
    halves()
}

fn square(link: &StandardLink) -> hqq::Result<u64> {
    let mut done = 0;
    loop {
        let task = match link.recv() {
            Ok(message) => *message.cast::<u64>()?,
            Err(Error::Closed) => return Ok(done),
            Err(error) => return Err(error),
        };
        thread::sleep(Duration::from_micros(200)); // stands for work
        link.send(&(task * task).to_le_bytes())?;
        done += 1;
    }
}

/// With one thread for each direction the single-producer, single-consumer ring needs no lock and no
/// read-modify-write. Both ends are in this process here, as in a test.
fn halves() -> Outcome {
    let (ours, theirs) = StandardLink::pair_with(Options::new().ring_mode(RingMode::Spsc))?;
    let echo = thread::spawn(move || {
        loop {
            match theirs.recv() {
                Ok(message) => theirs.send(&message)?,
                Err(Error::Closed) => return Ok::<(), Error>(()),
                Err(error) => return Err(error),
            }
        }
    });
    let (sender, receiver) = ours.split()?;
    let sending = thread::spawn(move || (0..1000_u64).try_for_each(|n| sender.send(&n.to_le_bytes())));
    // The end of the thread drops the sending half, which shuts that direction down: the echo ends.
    for n in 0..1000 {
        assert_eq!(*receiver.recv()?.cast::<u64>()?, n);
    }
    sending.join().expect("the sending half does not panic")?;
    echo.join().expect("the echo does not panic")?;
    println!("1000 messages echoed between the halves");
    Ok(())
}

fn main() -> Outcome {
    common::two_processes(listen, connect)
}
