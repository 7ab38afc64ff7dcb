//! Devices from CSV (RFC 4180): a header names the columns, each further line is one device.
//!
//! Columns: `deviceId` (or `id`), `status`, `statusReason`, `primaryKey`, `secondaryKey`, `primaryThumbprint`,
//! `secondaryThumbprint`, `type`, and any `tags.<path>` or `desired.<path>`. An empty cell is as good as no column.
//!
//! Must not know: hubs, files.

use ostler_service_sdk::{Authentication, AuthenticationType, BulkEntry, ImportMode, Status, TwinSections};
use serde_json::Value;

use crate::input::{loose_value, object};

/// The devices of a CSV text, or the first mistake with its line.
pub fn parse(text: &str, mode: &ImportMode) -> Result<Vec<BulkEntry>, String> {
    let mut records = Records { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let (_, header) = records.next()?.ok_or("it is empty; the first line must name the columns")?;
    if !header.iter().any(|column| column == "deviceId" || column == "id") {
        return Err("line 1: there is no column `deviceId`".to_owned());
    }
    let mut entries = Vec::new();
    while let Some((line, cells)) = records.next()? {
        if cells.len() > header.len() {
            return Err(format!("line {line}: {} cells for {} columns", cells.len(), header.len()));
        }
        let entry = entry(&header, &cells, mode).map_err(|error| format!("line {line}: {error}"))?;
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(header: &[String], cells: &[String], mode: &ImportMode) -> Result<BulkEntry, String> {
    let mut entry = BulkEntry::new(mode.clone(), "");
    let mut kind = None;
    let mut keys = (None, None);
    let mut thumbprints = (None, None);
    let mut tags: Vec<(String, Value)> = Vec::new();
    let mut desired: Vec<(String, Value)> = Vec::new();
    for (column, cell) in header.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        match column.as_str() {
            "deviceId" | "id" => entry.id.clone_from(cell),
            "status" => entry.status = Some(Status::from(cell.as_str())),
            "statusReason" => entry.status_reason = Some(cell.clone()),
            "type" => kind = Some(AuthenticationType::from(cell.as_str())),
            "primaryKey" => keys.0 = Some(cell.clone()),
            "secondaryKey" => keys.1 = Some(cell.clone()),
            "primaryThumbprint" => thumbprints.0 = Some(cell.clone()),
            "secondaryThumbprint" => thumbprints.1 = Some(cell.clone()),
            other => match other.split_once('.') {
                Some(("tags", path)) => tags.push((path.to_owned(), loose_value(cell))),
                Some(("desired", path)) => desired.push((path.to_owned(), loose_value(cell))),
                _ => return Err(format!("unknown column `{other}`")),
            },
        }
    }
    if entry.id.is_empty() {
        return Err("no deviceId".to_owned());
    }
    entry.authentication = if thumbprints.0.is_some() || thumbprints.1.is_some() {
        Some(Authentication::self_signed(thumbprints.0, thumbprints.1))
    } else if keys.0.is_some() || keys.1.is_some() {
        Some(Authentication::symmetric(keys.0, keys.1))
    } else {
        match kind {
            Some(AuthenticationType::CertificateAuthority) => Some(Authentication::certificate_authority()),
            _ => None,
        }
    };
    let build =
        |pairs: &[(String, Value)]| object(pairs).map_err(|_| "columns contradict each other".to_owned());
    entry.tags = if tags.is_empty() { None } else { Some(build(&tags)?) };
    if !desired.is_empty() {
        entry.properties = Some(TwinSections { desired: Some(build(&desired)?), reported: None });
    }
    Ok(entry)
}

/// Cuts a text into records; quoted cells may hold commas, line ends and doubled quotes.
struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl Records<'_> {
    fn next(&mut self) -> Result<Option<(usize, Vec<String>)>, String> {
        while let Some(rest) = self.rest.strip_prefix('\n').or_else(|| self.rest.strip_prefix("\r\n")) {
            self.rest = rest;
            self.line += 1;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.line;
        let mut cells = Vec::new();
        loop {
            cells.push(self.cell()?);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            self.rest = self.rest.strip_prefix('\r').unwrap_or(self.rest);
            match self.rest.strip_prefix('\n') {
                Some(rest) => {
                    self.rest = rest;
                    self.line += 1;
                }
                None if self.rest.is_empty() => {}
                None => return Err(format!("line {}: text after a closing quote", self.line)),
            }
            return Ok(Some((start, cells)));
        }
    }

    fn cell(&mut self) -> Result<String, String> {
        let Some(mut quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (cell, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok(cell.trim().to_owned());
        };
        let mut cell = String::new();
        loop {
            let Some(end) = quoted.find('"') else {
                return Err(format!("line {}: a quote is not closed", self.line));
            };
            self.line += quoted[..end].matches('\n').count();
            cell.push_str(&quoted[..end]);
            quoted = &quoted[end + 1..];
            match quoted.strip_prefix('"') {
                Some(rest) => {
                    cell.push('"');
                    quoted = rest;
                }
                None => break,
            }
        }
        self.rest = quoted;
        Ok(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let entries = parse(text, &ImportMode::Create).unwrap();
        let written: Vec<_> = entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn reads_columns_by_name() {
        check(
            "deviceId,status,tags.site,desired.log.level,primaryKey\r\na,disabled,north,3,\r\nb,,,,AAE=\n",
            &[
                r#"{"id":"a","importMode":"create","status":"disabled","tags":{"site":"north"},"properties":{"desired":{"log":{"level":3}}}}"#,
                r#"{"id":"b","importMode":"create","authentication":{"type":"sas","symmetricKey":{"primaryKey":"AAE=","secondaryKey":null}}}"#,
            ],
        );
    }

    #[test]
    fn reads_quoted_cells() {
        check(
            "id,statusReason\n\"a,1\",\"said \"\"no\"\"\nand left\"\n",
            &[r#"{"id":"a,1","importMode":"create","statusReason":"said \"no\"\nand left"}"#],
        );
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, expected) in [
            ("", "it is empty"),
            ("name\nx\n", "line 1: there is no column `deviceId`"),
            ("id\na,b\n", "line 2: 2 cells for 1 columns"),
            ("id,what\na,b\n", "line 2: unknown column `what`"),
            ("id,status\n\n,enabled\n", "line 3: no deviceId"),
            ("id\n\"a\n", "line 2: a quote is not closed"),
            ("id\n\"a\"b\n", "line 2: text after a closing quote"),
        ] {
            let error = parse(text, &ImportMode::Create).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
