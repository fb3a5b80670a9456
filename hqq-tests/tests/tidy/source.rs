//! What the rules read: the files of the tree, and their code apart from their comments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fails with all violations of all files at once.
pub fn judge(violations: impl IntoIterator<Item = String>) {
    let all: Vec<String> = violations.into_iter().collect();
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
}

pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// The tracked files, and the new ones too if wanted; all but build products where git cannot tell.
pub fn files(new_ones: bool) -> Vec<PathBuf> {
    let new_ones: &[&str] = if new_ones { &["--others", "--exclude-standard"] } else { &[] };
    let git =
        Command::new("git").args(["ls-files", "-z", "--cached"]).args(new_ones).current_dir(root()).output();
    let mut found: Vec<PathBuf> = match git {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .collect(),
        _ => Vec::new(),
    };
    if found.is_empty() {
        walk(&root(), &mut found);
    }
    found.retain(|name| root().join(name).is_file());
    found.sort();
    assert!(found.len() > 10, "only {} files found", found.len());
    found
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the tree is readable") {
        let path = entry.expect("the tree is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && name != ".git" {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path.strip_prefix(root()).unwrap_or(&path).to_path_buf());
        }
    }
}

/// Name (relative, with `/`) and text of the files under `folder`, Rust only.
pub fn sources(folder: &str) -> Vec<(String, String)> {
    files(true)
        .into_iter()
        .filter(|name| name.starts_with(folder) && name.extension().is_some_and(|e| e == "rs"))
        .map(|name| (name.to_string_lossy().into_owned(), text(&name)))
        .collect()
}

pub fn text(name: &Path) -> String {
    let bytes = fs::read(root().join(name)).unwrap_or_else(|e| panic!("{}: {e}", name.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A source parted into code and comments: each has the lines and columns of the original, with
/// blanks for what belongs to the other, and for the insides of strings.
pub struct Parted {
    pub code: String,
    pub comments: String,
}

impl Parted {
    pub fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (mut code, mut comments) = (String::new(), String::new());
        let mut push = |c: char, in_code: bool, in_comment: bool| {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if in_code { c } else { blank });
            comments.push(if in_comment { c } else { blank });
        };
        let mut i = 0;
        while i < chars.len() {
            let end = if at(i) == '/' && at(i + 1) == '/' {
                let end = (i..chars.len()).find(|&j| at(j) == '\n');
                let end = end.unwrap_or(chars.len());
                (i..end).for_each(|j| push(at(j), false, true));
                end
            } else if at(i) == '/' && at(i + 1) == '*' {
                let (mut end, mut depth) = (i + 2, 1);
                while end < chars.len() && depth > 0 {
                    match (at(end), at(end + 1)) {
                        ('/', '*') => (depth, end) = (depth + 1, end + 2),
                        ('*', '/') => (depth, end) = (depth - 1, end + 2),
                        _ => end += 1,
                    }
                }
                (i..end).for_each(|j| push(at(j), false, true));
                end
            } else if at(i) == '"' {
                let mut end = i + 1;
                while end < chars.len() && at(end) != '"' {
                    end += if at(end) == '\\' { 2 } else { 1 };
                }
                let end = (end + 1).min(chars.len());
                (i..end).for_each(|j| push(at(j), at(j) == '"' && j == i, false));
                end
            } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
                // A character; a lifetime has no second quote there.
                let from = if at(i + 1) == '\\' { i + 3 } else { i + 2 };
                let end = (from..chars.len()).find(|&j| at(j) == '\'');
                let end = end.map_or(chars.len(), |j| j + 1);
                (i..end).for_each(|j| push(at(j), j == i, false));
                end
            } else if is_word(at(i)) {
                let end = (i..chars.len()).find(|&j| !is_word(at(j)));
                let end = end.unwrap_or(chars.len());
                (i..end).for_each(|j| push(at(j), true, false));
                let word: String = chars[i..end].iter().collect();
                let hashes = (end..chars.len()).take_while(|&j| at(j) == '#').count();
                let is_raw = ["r", "br", "cr"].contains(&word.as_str());
                if is_raw && at(end + hashes) == '"' {
                    let close: Vec<char> = format!("\"{}", "#".repeat(hashes)).chars().collect();
                    let from = end + hashes + 1;
                    let close_at = (from..chars.len()).find(|&j| chars[j..].starts_with(&close));
                    let close_at = close_at.map_or(chars.len(), |j| j + close.len());
                    (end..close_at).for_each(|j| push(at(j), j == end, false));
                    close_at
                } else {
                    end
                }
            } else {
                push(at(i), true, false);
                i + 1
            };
            i = end;
        }
        Self { code, comments }
    }
}

/// Where `word` stands as a word of its own.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).filter_map(move |(at, _)| {
        let alone = !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word);
        alone.then_some(at)
    })
}

pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[test]
fn comments_and_strings_are_told_from_code() {
    let text = "a 'b' \"c // d\" // e\n/* f /* g */ h */ r#\"i\" j\"# k<'l> b'\\'' \"\\\"m\" n";
    let parted = Parted::new(text);
    let letters = |text: &str| {
        let one = |word: &&str| word.len() == 1;
        text.split(|c: char| !c.is_alphanumeric()).filter(one).collect::<String>()
    };
    assert_eq!(letters(&parted.code), "arklbn");
    assert_eq!(letters(&parted.comments), "efgh");
    assert_eq!(parted.code.lines().count(), 2);
    assert_eq!(parted.code.len(), text.len());
}
