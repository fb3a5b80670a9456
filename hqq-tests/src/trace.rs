//! Packet traces of the tests: `cargo xtask trace-table` makes the table in `docs/testing.md` of them.
//!
//! A line says that a test saw a packet, once for each process and kind of packet:
//!
//! ```text
//! TEST  primary|secondary  sent|received  OPCODE  ERROR-CODE|-
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, process};

use hqq::shm::packet::op;
use hqq::{Options, Role, TraceEvent};

/// The variable with the folder of the traces; without it nothing is traced.
pub const VARIABLE: &str = "HQQ_TRACE_DIR";
/// The variable that tells a peer whose test it plays in.
pub const TEST: &str = "HQQ_TEST";

/// `options`, with a hook that notes the packets of `test` if traces are wanted.
pub fn options(test: &str, options: Options) -> Options {
    if env::var_os(VARIABLE).is_none() {
        return options;
    }
    let test = test.to_owned();
    options.trace(move |event| note(&test, event))
}

fn note(test: &str, event: &TraceEvent) {
    static SEEN: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let line = line(test, event);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.get_or_insert_default().insert(line.clone()) {
        // One call for a line, so that a process that is killed leaves whole lines.
        file().write_all(line.as_bytes()).expect("a trace can be written");
    }
}

fn line(test: &str, event: &TraceEvent) -> String {
    let role = match event.role {
        Role::Primary => "primary",
        Role::Secondary => "secondary",
    };
    let way = if event.sent { "sent" } else { "received" };
    let code = match event.packet.op {
        op::ERROR => format!("{:02x}", event.packet.operands[1]),
        _ => "-".into(),
    };
    format!("{test}\t{role}\t{way}\t{:02x}\t{code}\n", event.packet.op)
}

/// This process's file.
fn file() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = env::var_os(VARIABLE).expect("looked at before");
        // Process ids come again within a run.
        let serial = (0..).map(|n| Path::new(&folder).join(format!("{}-{n}.trace", process::id())));
        let mut files = serial.map(File::create_new);
        let fresh = files
            .find(|file| !matches!(file, Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists));
        fresh.expect("numbers do not end").expect("a trace can be made")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hqq::ErrorCode;
    use hqq::shm::packet::Packet;

    #[test]
    fn a_line_has_five_fields() {
        let copy = Packet::new(op::CONN_COPY, [1]);
        let event = TraceEvent { role: Role::Secondary, sent: true, packet: copy };
        assert_eq!(line("a::b", &event), "a::b\tsecondary\tsent\t04\t-\n");
        let error = Packet::error(7, ErrorCode::ConnNotFound, op::CONN_COPY);
        let event = TraceEvent { role: Role::Primary, sent: false, packet: error };
        assert_eq!(line("a::b", &event), "a::b\tprimary\treceived\t00\t05\n");
    }
}
