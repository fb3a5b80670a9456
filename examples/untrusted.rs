//! A server for peers of any user: their messages are copied out of shared memory before they are checked.
//!
//! A peer can change a message in shared memory while it is being read. So an `UntrustedMessage` gives out copies only, and
//! the bytes that are checked are the bytes that are used.

mod common;

use common::{Outcome, PATIENCE};
use hqq::{Error, Listener, Options, UntrustedLink};

/// The longest request that this server reads, in bytes.
const LONGEST: usize = 200;

/// Answers requests in capitals, and refuses those that are not text or too long.
fn listen(name: &str) -> Outcome {
    // Small limits: an untrusted peer can make this process use this much memory and no more.
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
        // The length was checked when the message arrived, and is kept in private memory.
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

/// The client. It does not trust the server either.
fn connect(name: &str) -> Outcome {
    let link = UntrustedLink::connect_timeout(name, PATIENCE)?;
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
