//! `ostler query`: the query language at a terminal and in scripts.
//!
//! Must not know: the grammar. The hub parses; here a bare condition is completed, and a mistake shown where it is.
//!
//! Invariant: rows are printed in the hub's order, and an error after some rows never looks like the end of them.

mod csv;
pub mod mistake;
mod table;
mod watch;

use std::path::PathBuf;

use futures_util::{Stream, StreamExt, TryStreamExt};
use ostler_service_sdk::{Client, Error, ItemType, JsonObject, Query};

use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::{Format, Out};

/// Rows in a page, the service's limit: fewest requests.
const MAX_PAGE: u32 = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler query \"tags.site = 'Oslo'\"
  ostler query \"SELECT deviceId, properties.reported.temp AS t FROM devices ORDER BY t DESC\" --limit 10
  ostler query 'SELECT tags.site AS site, COUNT() AS n FROM devices GROUP BY tags.site' -o csv
  ostler query \"SELECT * FROM devices.jobs WHERE jobId = 'j1' AND status = 'failed'\" -o json --lines
  ostler query \"connectionState = 'Connected'\" --watch=5

A condition alone stands for SELECT * FROM devices WHERE …; docs/query.md has the language.")]
pub struct Args {
    /// A query, or only its condition
    #[arg(value_name = "QUERY", required_unless_present = "file")]
    text: Option<String>,
    /// A file with the query; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Stop after this many rows; all of them without it
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Ask for this many rows at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    page_size: Option<u32>,
    /// Show how the hub would answer, and what looks odd about the query, in place of rows
    #[arg(long, conflicts_with = "watch")]
    explain: bool,
    /// Ask again and again, every 2 seconds unless told: in place on a terminal, else only what changed
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,
    /// Watch for this long
    #[arg(long = "for", value_name = "SECONDS", requires = "watch")]
    duration: Option<u64>,
    /// With `-o json`: one row per line instead of one document
    #[arg(long)]
    lines: bool,
    #[command(flatten)]
    hub: HubOptions,
}

/// What is asked, ready to be asked once or again and again.
struct Ask {
    hub: Client,
    text: String,
    limit: usize,
    page_size: u32,
}

impl Ask {
    fn query(&self) -> Query {
        self.hub.query(&self.text).page_size(self.page_size)
    }

    /// All rows wanted, with the kind of the page each came on.
    fn rows(&self) -> impl Stream<Item = std::result::Result<(ItemType, JsonObject), Error>> {
        self.query()
            .pages()
            .and_then(|page| std::future::ready(kinds(&page)))
            .map_ok(|rows| futures_util::stream::iter(rows.into_iter().map(Ok)))
            .try_flatten()
            .take(self.limit)
    }

    /// All rows wanted, at once.
    async fn all(&self) -> Result<Rows> {
        self.try_all().await.map_err(|error| self.failure(error))
    }

    async fn try_all(&self) -> std::result::Result<Rows, Error> {
        let mut rows = Rows::default();
        let mut stream = std::pin::pin!(self.rows());
        while let Some((kind, row)) = stream.try_next().await? {
            rows.kind = Some(kind);
            rows.objects.push(row);
        }
        Ok(rows)
    }

    fn failure(&self, error: Error) -> Failure {
        mistake::failure(error, &self.text)
    }
}

fn kinds(page: &ostler_service_sdk::QueryPage) -> std::result::Result<Vec<(ItemType, JsonObject)>, Error> {
    let kind = page.item_type();
    Ok(page.rows()?.into_iter().map(|row| (kind.clone(), row)).collect())
}

/// The rows of one answer.
#[derive(Default)]
struct Rows {
    /// Unknown as long as there are none.
    kind: Option<ItemType>,
    objects: Vec<JsonObject>,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => input::text(path)?,
        (None, None) => return Err(Failure::usage("name a query, or --file")),
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("the query is empty").advise("`*` lists every device"));
    }
    let mut text = completed(text.trim());
    if args.explain && !starts_with_word(&text, "EXPLAIN") {
        text.insert_str(0, "EXPLAIN ");
    }
    let limit = args.limit.unwrap_or(usize::MAX);
    let page = u32::try_from(limit).map_or(MAX_PAGE, |limit| limit.clamp(1, MAX_PAGE));
    let ask = Ask { hub: args.hub.client()?, text, limit, page_size: args.page_size.unwrap_or(page) };
    let explains = starts_with_word(&ask.text, "EXPLAIN");
    let outcome = match args.watch {
        Some(secs) => watch::run(&ask, secs, args.duration, out).await,
        None if explains && out.format == Format::Human => table::explanation(&ask.all().await?, out),
        None => once(&ask, args.lines, out).await,
    };
    outcome.inspect_err(|failure| mistake::point(failure, &ask.text, out))
}

async fn once(ask: &Ask, lines: bool, out: &Out) -> Result {
    match out.format {
        Format::Human => table::print(&ask.all().await?, out),
        Format::Csv => csv::print(&ask.all().await?, out),
        Format::Json if lines => {
            let mut rows = std::pin::pin!(ask.rows());
            while let Some((_, row)) = rows.try_next().await.map_err(|error| ask.failure(error))? {
                out.json_line(&row)?;
            }
            Ok(())
        }
        Format::Json => array(ask, out).await,
    }
}

/// One JSON document, written as the rows come: there may be a million of them.
async fn array(ask: &Ask, out: &Out) -> Result {
    let mut rows = std::pin::pin!(ask.rows());
    let mut separator = "[\n  ";
    while let Some((_, row)) = rows.try_next().await.map_err(|error| ask.failure(error))? {
        let text = serde_json::to_string_pretty(&row)?;
        out.raw(&format!("{separator}{}", text.replace('\n', "\n  ")))?;
        separator = ",\n  ";
    }
    out.raw(if separator.starts_with('[') { "[]\n" } else { "\n]\n" })
}

/// A whole query from what was typed: a condition alone means the devices that meet it.
fn completed(text: &str) -> String {
    if starts_with_word(text, "SELECT") || starts_with_word(text, "EXPLAIN") {
        text.to_owned()
    } else if starts_with_word(text, "FROM") {
        format!("SELECT * {text}")
    } else if text == "*" {
        "SELECT * FROM devices".to_owned()
    } else {
        format!("SELECT * FROM devices WHERE {text}")
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    let head = text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    head && text[word.len()..].chars().next().is_none_or(|c| !(c.is_alphanumeric() || "_$.=!<>".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_alone_asks_for_devices() {
        for (text, query) in [
            ("tags.site = 'Oslo'", "SELECT * FROM devices WHERE tags.site = 'Oslo'"),
            ("select deviceId from devices", "select deviceId from devices"),
            ("SELECT", "SELECT"),
            ("explain select * from devices", "explain select * from devices"),
            ("from devices.modules", "SELECT * from devices.modules"),
            ("*", "SELECT * FROM devices"),
            ("NOT tags.on", "SELECT * FROM devices WHERE NOT tags.on"),
            ("selected = 1", "SELECT * FROM devices WHERE selected = 1"),
            ("from.x = 1", "SELECT * FROM devices WHERE from.x = 1"),
            ("é = 1", "SELECT * FROM devices WHERE é = 1"),
        ] {
            assert_eq!(completed(text), query);
        }
    }
}
