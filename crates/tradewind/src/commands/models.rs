//! `tradewind models push/list/show/rm`

use std::path::PathBuf;

use tradewind_api::{
    Code,
    models::{ModelDetail, ModelList},
};
use tradewind_core::{
    ModelName, Timestamp, VersionNumber,
    bundle::{Lineage, ModelVersion},
};

use crate::{
    failure::Failure,
    session::{Session, parse_model},
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

mod download;
mod lineage;
pub(super) mod push;

/// The registry of models and their versions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind models push examples/digits/v1
  tradewind models show digits:1")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ModelsCommand {
    /// Publish a bundle directory or an .onnx file as a new version; the same content is the same version
    #[command(after_help = "\
Examples:
  tradewind models push examples/digits/v1
  tradewind models push https://models.example/resnet50.onnx --name resnet --lineage run.json")]
    Push {
        /// A bundle directory, an .onnx file, or the URL of an .onnx file
        #[arg(value_name = "PATH|URL")]
        source: String,
        /// The model's name [default: from the manifest, else from the path]
        #[arg(long)]
        name: Option<ModelName>,
        /// A file of JSON that says where the version comes from, to be kept and shown with it
        #[arg(long, value_name = "FILE")]
        lineage: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Every model with its newest version
    #[command(after_help = "\
Examples:
  tradewind models list
  tradewind models list -o json")]
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// The versions of a model, or one version in full
    #[command(after_help = "\
Examples:
  tradewind models show digits
  tradewind models show digits:2 -o json")]
    Show {
        /// The model, or MODEL:VERSION
        #[arg(value_name = "MODEL[:VERSION]", value_parser = parse_model)]
        model: (ModelName, Option<VersionNumber>),
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove a version that nothing needs
    #[command(after_help = "\
Examples:
  tradewind models rm digits:1
  tradewind models rm digits:1 --yes")]
    Rm {
        #[arg(value_name = "MODEL:VERSION", value_parser = parse_model)]
        model: (ModelName, Option<VersionNumber>),
        /// Do it without asking
        #[arg(short, long)]
        yes: bool,
    },
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            ModelsCommand::Push { output, .. }
            | ModelsCommand::List { output }
            | ModelsCommand::Show { output, .. } => output.format,
            ModelsCommand::Rm { .. } => Format::Table,
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    match args.command {
        ModelsCommand::Push { source, name, lineage, output } => {
            let lineage = lineage.as_deref().map(lineage::read).transpose()?;
            push(session, &source, name, lineage, output.format).await
        }
        ModelsCommand::List { output } => {
            let list = session.client.models().await?;
            match output.format {
                Format::Json => terminal::print_json(&list),
                Format::Table => terminal::print(&render_list(&list, paint)),
            }
        }
        ModelsCommand::Show { model: (name, None), output } => {
            let detail = session.client.model(&name).await?;
            match output.format {
                Format::Json => terminal::print_json(&detail),
                Format::Table => terminal::print(&render_versions(&detail, paint)),
            }
        }
        ModelsCommand::Show { model: (name, Some(version)), output } => {
            let version = session.client.version(&name, version).await?;
            match output.format {
                Format::Json => terminal::print_json(&with_schema_version(&version)),
                Format::Table => terminal::print(&render_version(&version, paint)),
            }
        }
        ModelsCommand::Rm { model: (name, Some(version)), yes } => remove(session, &name, version, yes).await,
        ModelsCommand::Rm { model: (name, None), .. } => Err(Failure::new(Code::Invalid, "which version?")
            .hint(format!("name one, as in {name}:1; see them with `tradewind models show {name}`"))),
    }
}

async fn push(
    session: &Session,
    source: &str,
    name: Option<ModelName>,
    lineage: Option<Lineage>,
    format: Format,
) -> Result<(), Failure> {
    let published = push::push(session, source, name, lineage.clone(), format).await?;
    if format == Format::Json {
        return terminal::print_json(&published);
    }
    terminal::print(&push::describe(&published.version))?;
    let version = &published.version;
    if !published.created {
        terminal::say(&format!(
            "  this content is version {} since {}",
            version.version,
            units::clock(version.pushed_at)
        ))?;
        if lineage.is_some() && lineage != version.lineage {
            terminal::say("  what is kept of where it comes from stays as it was")?;
        }
    }
    terminal::say(&format!("  next: tradewind deploy --regions A,B {}:{}", version.name, version.version))
}

async fn remove(session: &Session, name: &ModelName, version: VersionNumber, yes: bool) -> Result<(), Failure> {
    if !yes && !terminal::confirm(&format!("Remove {name}:{version} from the registry?"))? {
        return Err(Failure::failed(format!("{name}:{version} was left as it is")));
    }
    session.client.remove_version(name, version).await?;
    terminal::say(&format!("{name}:{version} is removed"))
}

fn with_schema_version(version: &ModelVersion) -> serde_json::Value {
    let mut document = serde_json::json!(version);
    document["schema_version"] = tradewind_api::SCHEMA_VERSION.into();
    document
}

fn render_list(list: &ModelList, paint: Paint) -> String {
    if list.models.is_empty() {
        return "no models yet. Next: tradewind models push PATH\n".to_owned();
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["MODEL", "LATEST", "VERSIONS", "SIZE", "DIGEST", "PUSHED"]);
    for model in &list.models {
        table.row([
            model.name.as_str().into(),
            model.latest.to_string().into(),
            model.versions.to_string().into(),
            units::bytes(model.bytes).into(),
            model.digest.short().into(),
            units::ago(model.pushed_at, now).into(),
        ]);
    }
    table.render(paint)
}

fn render_versions(detail: &ModelDetail, paint: Paint) -> String {
    let now = Timestamp::now();
    let mut table = Table::new(&["VERSION", "SIZE", "FILES", "GOLDEN CASES", "DIGEST", "PUSHED", "DESCRIPTION"]);
    for version in &detail.versions {
        table.row([
            format!("{}:{}", detail.name, version.version).into(),
            units::bytes(version.index.bytes()).into(),
            version.index.files.len().to_string().into(),
            version.cases.len().to_string().into(),
            version.digest.short().into(),
            units::ago(version.pushed_at, now).into(),
            version.manifest.description.as_deref().unwrap_or_default().into(),
        ]);
    }
    table.render(paint)
}

fn render_version(version: &ModelVersion, paint: Paint) -> String {
    let mut text = push::describe(version);
    let mut table = Table::bare();
    let heading = |text: &str| Cell::new(text, Tone::Heading);
    table.row([heading("digest"), version.digest.to_string().into()]);
    table.row([heading("pushed"), units::clock(version.pushed_at).into()]);
    if let Some(description) = &version.manifest.description {
        table.row([heading("about"), description.as_str().into()]);
    }
    if let Some(command) = version.manifest.server() {
        table.row([heading("ready"), format!("{} within {}", command.ready, command.startup).into()]);
        table.row([heading("directory"), format!("/{}", command.root()).into()]);
        for (name, value) in &command.env {
            table.row([heading("env"), format!("{name}={}", value.escape_debug()).into()]);
        }
    }
    table.row([heading("golden cases"), version.cases.len().to_string().into()]);
    if let Some(lineage) = &version.lineage {
        lineage::describe(lineage, &version.name, &mut table);
    }
    text += &table.render(paint);
    let mut files = Table::new(&["FILE", "SIZE", "DIGEST"]);
    for (path, file) in version.index.files.iter().filter(|(path, _)| !version.cases.contains(path)) {
        files.row([path.as_str().into(), units::bytes(file.size).into(), file.digest.short().into()]);
    }
    text + "\n" + &files.render(paint)
}
