//! An encrypted link: a process that can read its memory cannot read its messages.
//!
//! ```sh
//! cargo run --features encrypt --example encrypted
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use hqq::advanced::AdvancedOptions;
use hqq::features::encrypt::Key;
use hqq::{AdvancedLink, Error, StandardLink};

const SOON: Duration = Duration::from_secs(5);
const SECRET: &[u8] = b"the combination is 12345";

/// Whether the region contains the secret in plain text.
fn can_be_read(link: &AdvancedLink) -> Result<bool, Box<dyn std::error::Error>> {
    let file = File::from(link.memory().try_clone_to_owned()?);
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.windows(SECRET.len()).any(|window| window == SECRET))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In production both ends read the key from a file that only their user can read; see Key::parse.
    let key = [42; 32];
    let (primary, secondary) = StandardLink::pair()?;
    let peer = thread::spawn(move || {
        let wanted = AdvancedOptions::new().encryption(Key::shared(key));
        let link = AdvancedLink::wait_for_negotiation(secondary, &wanted, SOON)?;
        link.recv().map(|message| message.into_vec())
    });
    let link = AdvancedLink::negotiate(primary, &AdvancedOptions::new().encryption(Key::shared(key)), SOON)?;
    link.send(SECRET)?;
    let seen = can_be_read(&link)?;
    println!("received: {}", String::from_utf8(peer.join().expect("it does not panic")?)?);
    println!("it {} in shared memory", if seen { "lies" } else { "is nowhere to be found" });

    // With different keys the negotiation fails.
    let (primary, secondary) = StandardLink::pair()?;
    let peer = thread::spawn(move || {
        let wanted = AdvancedOptions::new().encryption(Key::shared([1; 32]));
        AdvancedLink::wait_for_negotiation(secondary, &wanted, SOON).map(drop)
    });
    match AdvancedLink::negotiate(primary, &AdvancedOptions::new().encryption(Key::shared(key)), SOON) {
        Err(error @ Error::NotAgreed { .. }) => println!("with another key: {error}"),
        other => println!("unexpected: {other:?}"),
    }
    println!("and at its end: {}", peer.join().expect("it does not panic").expect_err("its key is another"));
    Ok(())
}
