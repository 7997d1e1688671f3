//! report: what was recorded of recent builds; and the files that `build --report` and `--trace` ask for.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::output::{ago, chain, print, seconds, table, to_file, write_report};
use crate::progress::Display;
use crate::progress::state::End;
use crate::report::history::History;
use crate::report::record::{ImageRecord, Record};
use crate::report::{page, trace};
use crate::session::Session;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReportArgs {
    /// The build: the first digits of its ID, or "last"
    #[arg(value_name = "ID", default_value = "last")]
    pub id: String,
    /// The file for the page [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value_t = Form::Html)]
    pub format: Form,
    #[command(subcommand)]
    pub command: Option<ReportCommand>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A page for a browser
    Html,
    /// The record itself
    Json,
    /// Chrome's trace events, for Perfetto
    Trace,
}

#[derive(Subcommand)]
pub enum ReportCommand {
    /// List the recorded builds, the newest first
    #[command(visible_alias = "list")]
    Ls {
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
}

pub fn report(session: &Session, args: ReportArgs) -> Result<u8> {
    let history = History::of(session.root());
    if let Some(ReportCommand::Ls { json }) = args.command {
        list(&history.all()?, json);
        return Ok(0);
    }
    let record = history.find(&args.id)?;
    let text = match args.format {
        Form::Html => page(&record),
        Form::Json => format!("{}\n", serde_json::to_string_pretty(&record)?),
        Form::Trace => format!("{}\n", trace(&record)),
    };
    to_file(args.output.as_deref(), |out| Ok(out.write_all(text.as_bytes())?))?;
    Ok(0)
}

fn list(records: &[Record], json: bool) {
    if json {
        for record in records {
            let object = serde_json::json!({
                "id": record.id, "began": record.began, "seconds": record.milliseconds / 1e3,
                "title": record.title, "outcome": record.outcome(), "platforms": record.platforms,
                "executed": record.count(End::Executed), "cached": record.count(End::Cached),
            });
            print(&object.to_string());
        }
        return;
    }
    let head = ["ID", "BEGAN", "DURATION", "OUTCOME", "EXECUTED", "CACHED", "PLATFORMS", "BUILD"];
    let mut rows = vec![head.map(str::to_string).to_vec()];
    rows.extend(records.iter().map(|record| {
        vec![
            record.id.chars().take(12).collect(),
            seconds(&record.began).map(ago).unwrap_or_default(),
            format!("{:.1}s", record.milliseconds / 1e3),
            record.outcome().to_string(),
            record.count(End::Executed).to_string(),
            record.count(End::Cached).to_string(),
            record.platforms.join(","),
            record.title.escape_debug().to_string(),
        ]
    }));
    table(&rows);
}

/// Records one build, whichever way it ends.
#[derive(Clone)]
pub struct Recorder {
    pub display: Display,
    /// The directory of the store.
    pub root: PathBuf,
    /// What the build is called.
    pub title: String,
    pub platforms: Vec<String>,
    /// `--report`.
    pub page: Option<PathBuf>,
    /// `--trace`.
    pub trace: Option<PathBuf>,
}

impl Recorder {
    /// Adds the build to the recent ones of the store and writes the files that the user asked for. A store
    /// that takes no record is a warning, since the build itself is done.
    ///
    /// # Errors
    ///
    /// A file of `--report` or `--trace` cannot be written.
    pub fn finish(&self, result: Result<Vec<ImageRecord>, String>) -> Result<()> {
        let display = &self.display;
        let result = result.map_err(|error| display.redact(&error));
        let (title, platforms) = (display.redact(&self.title), self.platforms.clone());
        let record =
            display.with_state(|state, elapsed| Record::new((state, elapsed), title, platforms, result));
        // Nothing to report: an error in the options or the Dockerfile.
        if record.steps.is_empty() && record.error.is_some() {
            return Ok(());
        }
        if let Err(error) = History::of(&self.root).add(&record) {
            display.say(&format!("warning: {}", chain(&error)));
        }
        if let Some(path) = &self.page {
            write_report(path, page(&record).as_bytes()).context("--report")?;
        }
        if let Some(path) = &self.trace {
            write_report(path, trace(&record).to_string().as_bytes()).context("--trace")?;
        }
        Ok(())
    }
}
