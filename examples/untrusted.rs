//! A server for anybody: messages of an untrusted peer are copied out before they are judged.
//!
//! A peer that shares memory can change a message while it is being looked at. So an untrusted message gives out
//! copies only, and a decision and what follows from it see the same bytes.

mod common;

use common::{Outcome, PATIENCE};
use hqq::{Error, Listener, Options, UntrustedLink};

/// The longest request that this server looks at.
const LONGEST: usize = 200;

/// Repeats requests in capitals, and refuses what is no text or too long.
fn listen(name: &str) -> Outcome {
    // Small limits: a stranger costs this much memory and no more.
    let options = Options::new().slots(64).buffers(8).buffer_size(4096).max_message(4096);
    let link = Listener::bind_with(name, options)?.accept_untrusted_timeout(PATIENCE)?;
    let peer = link.peer();
    println!("serving process {:?} of user {}", peer.pid, peer.uid);
    let mut copy = [0; LONGEST];
    loop {
        let request = match link.recv_timeout(PATIENCE) {
            Ok(request) => request,
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The length was checked when the message came, and is kept where the peer cannot reach it.
        if request.len() > LONGEST {
            link.send(format!("refused: {} bytes, at most {LONGEST}", request.len()).as_bytes())?;
            continue;
        }
        let copied = request.copy_to(&mut copy);
        match std::str::from_utf8(&copy[..copied]) {
            Ok(text) => link.send(text.to_uppercase().as_bytes())?,
            Err(error) => link.send(format!("refused: {error}").as_bytes())?,
        }
    }
}

/// The stranger. It trusts the server as little.
fn connect(name: &str) -> Outcome {
    let link = UntrustedLink::connect(name, Options::new(), Some(PATIENCE))?;
    let ask = |request: &[u8]| -> hqq::Result<String> {
        let mut loan = link.loan(request.len())?;
        loan.write_at(0, request);
        loan.send()?;
        let answer = link.recv()?.to_vec();
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    for (request, expected) in
        [(&b"hello"[..], "HELLO"), (&[0xff; 4], "refused: invalid"), (&[b'x'; 3000], "refused: 3000")]
    {
        let answer = ask(request)?;
        println!("{} bytes: {answer}", request.len());
        assert!(answer.starts_with(expected), "{answer}");
    }
    Ok(())
}

fn main() -> Outcome {
    common::two_processes(listen, connect)
}
