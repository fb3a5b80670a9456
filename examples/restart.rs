//! A worker that crashes and is started again on the same link: messages that were not received wait for the next worker.

use hqq::{Error, Listener, Options, StandardLink};
use std::collections::BTreeSet;
use std::env;
use std::process::{Child, Command};
use std::time::Duration;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const JOBS: u64 = 10;
/// The number that makes the first worker crash.
const DEADLY: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

fn start(name: &str, deadly: u64) -> std::io::Result<Child> {
    Command::new(env::current_exe()?).args(["work", name, &deadly.to_string()]).spawn()
}

/// The worker: squares numbers. It crashes at one of them.
fn work(name: &str, deadly: u64) -> Outcome {
    let link = StandardLink::connect_timeout(name, PATIENCE)?;
    loop {
        let job = match link.recv() {
            Ok(message) => *message.cast::<u64>()?,
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if job == deadly {
            std::process::abort();
        }
        link.send(bytemuck::bytes_of(&[job, job * job]))?;
    }
}

fn supervise() -> Outcome {
    let name = format!("restart-{}", std::process::id());
    let listener = Listener::bind_with(&name, Options::new().slots(64).buffers(16).reattachable(true))?;
    let mut worker = start(&name, DEADLY)?;
    let mut link = listener.accept_timeout(PATIENCE)?;
    let mut waiting: BTreeSet<u64> = (0..JOBS).collect();
    for job in &waiting {
        link.send(&job.to_le_bytes())?;
    }
    while !waiting.is_empty() {
        let answer = match link.recv_timeout(PATIENCE) {
            Ok(message) => Some(*message.cast::<[u64; 2]>()?),
            Err(Error::PeerDead) => None,
            Err(error) => return Err(error.into()),
        };
        let Some([job, square]) = answer else {
            println!("worker {}: dead; {} jobs to do", worker.id(), waiting.len());
            worker.wait()?;
            worker = start(&name, u64::MAX)?;
            listener.reattach_timeout(&mut link, PATIENCE)?;
            // The number that it had received is the first without an answer. The others are still in the ring.
            let lost = waiting.first().copied().expect("there are jobs to do");
            link.send(&lost.to_le_bytes())?;
            continue;
        };
        println!("worker {}: the square of {job} is {square}", worker.id());
        assert!(square == job * job && waiting.remove(&job), "each job is answered once");
    }
    drop(link);
    assert!(worker.wait()?.success());
    Ok(())
}

fn main() -> Outcome {
    match env::args().collect::<Vec<_>>().as_slice() {
        [_, role, name, deadly] if role == "work" => work(name, deadly.parse()?),
        _ => supervise(),
    }
}
