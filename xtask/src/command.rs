//! Runs other programs: with their output on ours, with the output kept, or with a time limit.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The folder of the workspace.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder that cargo builds into.
pub fn target_dir() -> PathBuf {
    let dir = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(dir)
}

/// A cargo command in the workspace's folder; `args` is split at blanks.
pub fn cargo(args: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args.split_whitespace()).current_dir(root());
    command
}

/// The command as typed in a shell, with the environment variables set for it.
pub fn by_hand(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), quoted(value)));
        }
    }
    let program = Path::new(command.get_program());
    words.push(quoted(program.file_name().unwrap_or(program.as_os_str())));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs the command with its output on ours.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|e| cannot_start(command, &e))?;
    if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
}

/// Runs the command, shows its standard output line by line and returns it.
pub fn run_and_keep(command: &mut Command) -> Result<String, String> {
    let (kept, ended) = keep(command.stdout(Stdio::piped()), |child| child.stdout.take())?;
    ended.map(|()| kept)
}

/// Runs the command, shows its standard error line by line and returns it.
pub fn run_and_keep_errors(command: &mut Command) -> Result<String, String> {
    let (kept, ended) = keep(command.stderr(Stdio::piped()), |child| child.stderr.take())?;
    ended.map(|()| kept)
}

fn keep<R: Read>(
    command: &mut Command,
    pipe: impl FnOnce(&mut Child) -> Option<R>,
) -> Result<(String, Result<(), String>), String> {
    let mut child = command.spawn().map_err(|e| cannot_start(command, &e))?;
    let mut kept = String::new();
    if let Some(pipe) = pipe(&mut child) {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).map_err(|e| e.to_string())? > 0 {
            let text = String::from_utf8_lossy(&line).into_owned();
            print!("{text}");
            kept.push_str(&text);
            line.clear();
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    let ended = if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) };
    Ok((kept, ended))
}

/// Runs the command with nothing on its standard input and returns its standard output. When the
/// time is up, or when it leaves a process behind that holds its output, its process group is
/// killed and that is an error.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<String, String> {
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| cannot_start(command, &e))?;
    let (sender, output) = mpsc::channel();
    if let Some(mut pipe) = child.stdout.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = pipe.read_to_end(&mut bytes).map(|_| bytes);
            let _ = sender.send(read);
        });
    }
    let status = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                kill_group(&child);
                let _ = child.wait();
                return Err(format!("it still ran after {} s", limit.as_secs_f64()));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    // Half a second more for the last bytes, even if the process ended just in time.
    let rest = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(500);
    let Ok(read) = output.recv_timeout(rest) else {
        kill_group(&child);
        return Err("it left a process behind that holds its output".into());
    };
    let text = String::from_utf8_lossy(&read.map_err(|e| e.to_string())?).into_owned();
    if status.success() { Ok(text) } else { Err(format!("it ended with {status}; its output:\n{text}")) }
}

/// `child` leads its own process group, so the group contains only what it started.
fn kill_group(child: &Child) {
    let kill = format!("kill -s KILL -- -{}", child.id());
    let _ = Command::new("sh").args(["-c", &kill]).status();
}

/// The artifacts that cargo reports for a build.
pub fn build(command: &mut Command) -> Result<Vec<Value>, String> {
    command.arg("--message-format=json-render-diagnostics");
    command.stdout(Stdio::piped());
    let child = command.spawn().map_err(|e| cannot_start(command, &e))?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(format!("the build ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(messages.filter(|message: &Value| message["reason"] == "compiler-artifact").collect())
}

fn cannot_start(command: &Command, why: &std::io::Error) -> String {
    format!("cannot start {}: {why}", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn by_hand_quotes_what_a_shell_would_split() {
        let mut command = cargo("test -p loom-tests");
        command.env("RUSTFLAGS", "--cfg a").arg("it's");
        let typed = by_hand(&command);
        assert_eq!(typed, r"RUSTFLAGS='--cfg a' cargo test -p loom-tests 'it'\''s'");
    }

    #[test]
    fn a_failing_command_is_an_error_and_a_passing_one_is_kept() {
        assert!(run(&mut sh("exit 3")).is_err());
        assert!(run(&mut sh("exit 0")).is_ok());
        assert_eq!(run_and_keep(&mut sh("echo said")).unwrap(), "said\n");
        assert!(run_and_keep(&mut sh("echo said; exit 1")).is_err());
        assert_eq!(run_and_keep_errors(&mut sh("echo no >&2")).unwrap(), "no\n");
        assert!(run(&mut Command::new("no such program")).is_err());
    }

    #[test]
    fn the_limit_ends_what_runs_too_long() {
        let started = Instant::now();
        let ended = run_within(&mut sh("sleep 30; true"), Duration::from_millis(200));
        assert!(ended.unwrap_err().contains("still ran"));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_process_left_behind_is_an_error() {
        let ended = run_within(&mut sh("sleep 30 & exit 0"), Duration::from_millis(300));
        assert!(ended.unwrap_err().contains("left a process behind"));
    }

    #[test]
    fn within_the_limit_the_output_is_returned() {
        let limit = Duration::from_secs(20);
        assert_eq!(run_within(&mut sh("echo yes"), limit).unwrap(), "yes\n");
        let failed = run_within(&mut sh("echo why; exit 2"), limit).unwrap_err();
        assert!(failed.contains("why"), "{failed}");
    }
}
