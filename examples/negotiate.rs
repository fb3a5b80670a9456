//! Two ends that agree on compression, or go on without it.
//!
//! ```sh
//! cargo run --features compress --example negotiate
//! ```

use std::thread;
use std::time::Duration;

use hqq::advanced::AdvancedOptions;
use hqq::features::compress::Codec;
use hqq::{AdvancedLink, StandardLink};

const SOON: Duration = Duration::from_secs(5);

fn main() -> hqq::Result<()> {
    let text = "All work and no play makes Jack a dull boy.\n".repeat(2000);

    // Each end lists the codecs that it supports, the preferred one first.
    let (primary, secondary) = StandardLink::pair()?;
    let peer = thread::spawn(move || -> hqq::Result<usize> {
        let wanted = AdvancedOptions::new().compression(&[Codec::Lz4, Codec::Zstd]);
        let link = AdvancedLink::wait_for_negotiation(secondary, &wanted, SOON)?;
        Ok(link.recv()?.len())
    });
    let wanted = AdvancedOptions::new().compression(&[Codec::Zstd]);
    let link = AdvancedLink::negotiate(primary, &wanted, SOON)?;
    println!("agreed on: {}", link.agreement().features);
    link.send(text.as_bytes())?;
    let received = peer.join().expect("it does not panic")?;
    let travelled = link.stats().sent_by(link.role()).bytes_sent;
    println!("{received} bytes arrived, {travelled} travelled");

    // With a peer that does not negotiate, the link works without features.
    let (primary, secondary) = StandardLink::pair()?;
    let peer = thread::spawn(move || secondary.recv().map(|message| message.len()));
    let link = AdvancedLink::negotiate(primary, &wanted, SOON)?;
    if let Some(why) = link.agreement().fallback {
        println!("with the other peer: {why}");
    }
    link.send(text.as_bytes())?;
    println!("{} bytes arrived as they are", peer.join().expect("it does not panic")?);
    Ok(())
}
