//! A link to a child process, which inherits its end and needs no name; and the error that the parent gets when a child is
//! killed.

use hqq::{Error, Offer, Options, StandardLink};
use std::env;
use std::process::{Child, Command};
use std::time::Duration;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Starts this program as a child with the other end of the link.
fn start() -> Result<(StandardLink, Child), Box<dyn std::error::Error>> {
    let offer = Offer::new(Options::new().slots(64).buffers(16))?;
    let mut command = Command::new(env::current_exe()?);
    command.arg("work");
    offer.pass_to(&mut command)?;
    let child = command.spawn()?;
    // An error at once if the child ends without taking the link.
    let link = offer.accept_timeout(Duration::from_secs(20))?;
    Ok((link, child))
}

/// The child: adds numbers until the parent closes the link.
fn work() -> Outcome {
    let link = StandardLink::inherited()?;
    loop {
        match link.recv() {
            Ok(numbers) => {
                let sum = numbers.iter().map(|&number| u64::from(number)).sum::<u64>();
                link.send(&sum.to_le_bytes())?;
            }
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The parent: one child finishes its work, another is killed.
fn parent() -> Outcome {
    let (link, mut child) = start()?;
    let numbers: Vec<u8> = (0..=255).collect();
    link.send(&numbers)?;
    let sum = *link.recv()?.cast::<u64>()?;
    println!("child {}: the numbers add up to {sum}", child.id());
    assert_eq!(sum, 32640);
    drop(link); // closes the link: the child's recv returns Closed
    let status = child.wait()?;
    println!("child {}: {status}", child.id());
    assert!(status.success());

    let (link, mut child) = start()?;
    link.send(&numbers)?;
    child.kill()?;
    // What the child had sent comes first, then PeerDead, which the kernel reports: no timeout is involved.
    let end = loop {
        match link.recv() {
            Ok(_) => continue,
            Err(end) => break end,
        }
    };
    println!("child {}: {end}", child.id());
    assert!(matches!(end, Error::PeerDead), "{end:?}");
    assert!(link.send(&numbers).is_err());
    child.wait()?;
    Ok(())
}

fn main() -> Outcome {
    if env::args().nth(1).as_deref() == Some("work") { work() } else { parent() }
}
