//! Several logical connections on one link. Each is a stream of its own, and can be half-closed as a socket can.

mod common;

use common::{Outcome, PATIENCE};
use hqq::{Connection, Listener, StandardLink};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;

const CONNECTIONS: usize = 4;

/// Reads to the end of the peer's half, then answers on the other half.
fn serve(mut connection: Connection) -> io::Result<()> {
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    let words = text.split_whitespace().count();
    write!(connection, "{words} words, {} bytes", text.len())
} // dropping the connection closes what is still open

/// Accepts the connections of one link and serves each on a thread.
fn listen(name: &str) -> Outcome {
    let link = Listener::bind(name)?.accept_timeout(PATIENCE)?;
    let mut threads = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = link.accept_connection_timeout(PATIENCE)?;
        threads.push(thread::spawn(move || serve(connection)));
    }
    for thread in threads {
        thread.join().map_err(|_| "a serving thread panicked")??;
    }
    // Messages on the link itself are independent of the connections.
    link.send(b"all served")?;
    Ok(())
}

/// Opens all connections, writes to them in turn, and reads the answers in reverse order.
fn connect(name: &str) -> Outcome {
    let link = StandardLink::connect_timeout(name, PATIENCE)?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(link.open_connection_timeout(PATIENCE)?);
    }
    for line in 0..1000 {
        for connection in &mut connections {
            // One write is one message; a BufWriter would join several.
            connection.write_all(format!("line {line} of connection {}\n", connection.id()).as_bytes())?;
        }
    }
    for mut connection in connections.into_iter().rev() {
        connection.shutdown(Shutdown::Write); // the peer reads to the end; its answer is still to come
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        println!("connection {}: {answer}", connection.id());
        assert!(answer.starts_with("5000 words"), "{answer}");
    }
    assert_eq!(&*link.recv()?, b"all served");
    Ok(())
}

fn main() -> Outcome {
    common::two_processes(listen, connect)
}
