//! Sections of documents that commands write, between two markers.

use crate::command::root;
use std::fs;

/// A section of a document.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The file, relative to the workspace.
    pub document: &'static str,
    /// The marker before the section; it occurs once.
    pub begin: &'static str,
    /// The marker after the section; it occurs once.
    pub end: &'static str,
}

impl Section {
    /// Reads the section.
    pub fn read(&self) -> Result<String, String> {
        let document = self.whole()?;
        let (before, after) = self.around(&document).map_err(|e| format!("{}: {e}", self.document))?;
        Ok(document[before.len()..document.len() - after.len()].to_owned())
    }

    /// Replaces the section by `text`; with `check`, fails instead if it differs.
    pub fn put(&self, text: &str, check: bool) -> Result<(), String> {
        let old = self.whole()?;
        let new = self.splice(&old, text).map_err(|e| format!("{}: {e}", self.document))?;
        match first_difference(&old, &new) {
            None => println!("{} is up to date", self.document),
            Some(difference) if check => {
                return Err(format!("{} is not what was found\n{difference}", self.document));
            }
            Some(_) => {
                let path = root().join(self.document);
                fs::write(&path, new).map_err(|e| format!("{}: {e}", path.display()))?;
                println!("{} rewritten", self.document);
            }
        }
        Ok(())
    }

    fn whole(&self) -> Result<String, String> {
        fs::read_to_string(root().join(self.document)).map_err(|e| format!("{}: {e}", self.document))
    }

    /// `document` with `text` between the markers.
    pub fn splice(&self, document: &str, text: &str) -> Result<String, String> {
        let (before, after) = self.around(document)?;
        Ok(format!("{before}\n\n{text}\n{after}"))
    }

    /// The document up to the end of the first marker, and from the second marker on.
    fn around<'d>(&self, document: &'d str) -> Result<(&'d str, &'d str), String> {
        for marker in [self.begin, self.end] {
            let count = document.matches(marker).count();
            if count != 1 {
                return Err(format!("{marker} stands {count} times instead of once"));
            }
        }
        match (document.find(self.begin), document.find(self.end)) {
            (Some(begin), Some(end)) if begin < end => {
                Ok((&document[..begin + self.begin.len()], &document[end..]))
            }
            _ => Err(format!("{} stands ahead of {}", self.end, self.begin)),
        }
    }
}

/// The first line in which two texts differ, if any.
pub fn first_difference(old: &str, new: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let (mut old, mut new) = (old.lines(), new.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => return Some("they differ in line ends only".into()),
            (stands, comes) if stands != comes => {
                return Some(format!(
                    "stands: {}\nshould: {}",
                    stands.unwrap_or("(the end)"),
                    comes.unwrap_or("(the end)")
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splicing_keeps_the_rest_and_repeats_itself() {
        let section = Section { document: "none", begin: "<!-- begin -->", end: "<!-- end -->" };
        let (begin, end) = (section.begin, section.end);
        let document = format!("# Head\n{begin}\nold\n{end}\ntail\n");
        let new = section.splice(&document, "| x |\n").unwrap();
        assert!(new.starts_with("# Head\n") && new.ends_with("\ntail\n"));
        assert!(new.contains("| x |") && !new.contains("old"));
        assert_eq!(section.splice(&new, "| x |\n").unwrap(), new);
        assert!(first_difference(&document, &new).is_some());
        assert!(first_difference(&new, &new).is_none());
        for wrong in [String::new(), format!("{end}{begin}"), format!("{document}{begin}")] {
            assert!(section.splice(&wrong, "").is_err(), "{wrong:?}");
        }
    }
}
