//! What is wrong with a file: where, what was found, and what was expected.
//!
//! Owns the form of a line of complaint and the guess at a misspelt word. All problems of a file
//! are told at once, up to [`SHOWN`]. Refuses to decide what is a problem.

use std::fmt;

/// At most so many problems of one file are told.
pub const SHOWN: usize = 20;

/// A place in a file, counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; the whole file when `None`.
    pub place: Option<Place>,
    /// What was found and what was expected.
    pub what: String,
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    found: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Nothing wrong with `file` so far.
    pub fn of(file: impl Into<String>) -> Self {
        Self { file: file.into(), found: Vec::new(), more: 0 }
    }

    /// One more, at a place.
    pub fn at(&mut self, place: Place, what: impl Into<String>) {
        self.add(Problem { place: Some(place), what: what.into() });
    }

    /// One more, about the file as a whole.
    pub fn whole(&mut self, what: impl Into<String>) {
        self.add(Problem { place: None, what: what.into() });
    }

    fn add(&mut self, problem: Problem) {
        if self.found.len() < SHOWN {
            self.found.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Is the file right?
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The first ones, in the order they were found.
    pub fn found(&self) -> &[Problem] {
        &self.found
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.found.iter().enumerate() {
            if index > 0 {
                writeln!(to)?;
            }
            match problem.place {
                Some(Place { line, column }) => write!(to, "{}:{line}:{column}: {}", self.file, problem.what)?,
                None => write!(to, "{}: {}", self.file, problem.what)?,
            }
        }
        if self.more > 0 {
            write!(to, "\n{}: and {} more", self.file, self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// ` (did you mean ...?)` when one of the words is close to what was written, else nothing.
pub fn suggestion(written: &str, words: &[&str]) -> String {
    nearest(written, words).map_or_else(String::new, |word| format!(" (did you mean `{word}`?)"))
}

/// The word that is closest to what was written, when it is close enough to be meant.
pub fn nearest<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    words
        .iter()
        .map(|word| (distance(&written.to_lowercase(), &word.to_lowercase()), *word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Letters to add, drop, change or swap with their neighbour to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let changed = last[column] + usize::from(letter != other);
            let mut best = changed.min(last[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{Place, Problems, SHOWN, nearest};

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_does_not() {
        let words = ["jobs", "targets", "assign", "async", "name"];
        assert_eq!(nearest("job", &words), Some("jobs"));
        assert_eq!(nearest("tagrets", &words), Some("targets"));
        assert_eq!(nearest("asnyc", &words), Some("async"));
        assert_eq!(nearest("when", &words), None);
        assert_eq!(nearest("", &words), None);
    }

    #[test]
    fn at_most_twenty_problems_are_told_and_the_rest_is_counted() {
        let mut problems = Problems::of("f.yaml");
        for line in 1..=25 {
            problems.at(Place { line, column: 3 }, "wrong");
        }
        let text = problems.to_string();
        assert_eq!(text.lines().count(), SHOWN + 1);
        assert!(text.starts_with("f.yaml:1:3: wrong\n"));
        assert!(text.ends_with("f.yaml: and 5 more"));
    }
}
