//! `--name value` and `--flag` options without a library.
//!
//! Invariant: an option that no task asked for is an error, never ignored.

use anyhow::{bail, Result};

/// The arguments of one task; each accessor takes what it finds out of the list.
pub struct Args(Vec<String>);

impl Args {
    /// Wraps the arguments after the task's name.
    pub fn new(argv: &[String]) -> Self {
        Self(argv.to_vec())
    }

    /// True when `--name` stands alone among the arguments.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|arg| arg != name);
        self.0.len() < before
    }

    /// The value of the first `--name value` or `--name=value`.
    pub fn value(&mut self, name: &str) -> Result<Option<String>> {
        for i in 0..self.0.len() {
            if let Some(value) = self.0[i].strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                let value = value.to_owned();
                self.0.remove(i);
                return Ok(Some(value));
            }
            if self.0[i] == name {
                if i + 1 == self.0.len() {
                    bail!("{name} needs a value");
                }
                self.0.remove(i);
                return Ok(Some(self.0.remove(i)));
            }
        }
        Ok(None)
    }

    /// Every value of an option that may be repeated or hold a comma list.
    pub fn values(&mut self, name: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        while let Some(value) = self.value(name)? {
            all.extend(value.split(',').filter(|part| !part.is_empty()).map(str::to_owned));
        }
        Ok(all)
    }

    /// A number, or `default` when the option is absent.
    pub fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        match self.value(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| anyhow::anyhow!("{name}: {text:?} is not a number")),
        }
    }

    /// What is left once every option has been taken: the positional arguments.
    pub fn rest(self) -> Result<Vec<String>> {
        match self.0.iter().find(|arg| arg.starts_with('-')) {
            Some(unknown) => bail!("no option {unknown}"),
            None => Ok(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_taken_and_the_rest_stays() {
        let mut args = args("--reps 5 one --only=a,b --list --only c two");
        assert_eq!(args.number("--reps", 3).unwrap(), 5);
        assert_eq!(args.number("--duration", 4.5).unwrap(), 4.5);
        assert_eq!(args.values("--only").unwrap(), ["a", "b", "c"]);
        assert!(args.flag("--list"));
        assert!(!args.flag("--list"));
        assert_eq!(args.rest().unwrap(), ["one", "two"]);
    }

    #[test]
    fn mistakes_are_told() {
        assert!(args("--reps").value("--reps").is_err());
        assert!(args("--reps x").number("--reps", 1).is_err());
        assert!(args("--unknown").rest().is_err());
    }
}
