//! Which control plane a verb talks to, and with which token: flags > environment > config file > a world on this
//! machine that is found without asking.
//!
//! A token goes only to the address that it was found with: a token of the config file or of a local world is not
//! sent to another `--url`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tradewind_api::problem::Code;

use crate::failure::Failure;

pub(crate) mod world;

pub(crate) use world::register_world;

/// Where `tradewind up` puts its control plane unless it is told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:7400";

/// How to reach a control plane, as flags and environment say.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Address of the control plane [env: TRADEWIND_URL] [default: the world on this machine]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Token for the control plane [env: TRADEWIND_TOKEN] [default: found with the world on this machine]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

impl Connection {
    /// What no flag says, the environment may. Not left to clap, which would show these as given in every usage line.
    fn or_environment(&self) -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            url: self.url.clone().or_else(|| variable("TRADEWIND_URL")),
            token: self.token.clone().or_else(|| variable("TRADEWIND_TOKEN")),
        }
    }
}

/// `$XDG_CONFIG_HOME/tradewind/config.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    url: Option<String>,
    token: Option<String>,
    /// A file that holds the token; relative to the config file.
    token_file: Option<PathBuf>,
}

/// Where things are looked for.
#[derive(Debug, Clone)]
struct Places {
    config_home: Option<PathBuf>,
    state_home: Option<PathBuf>,
    working_directory: PathBuf,
}

impl Places {
    fn of_this_user() -> Self {
        Self {
            config_home: home("XDG_CONFIG_HOME", ".config"),
            state_home: home("XDG_STATE_HOME", ".local/state"),
            working_directory: PathBuf::from("."),
        }
    }
}

/// A directory of this user's, as the XDG base directory specification says.
fn home(variable: &str, below: &str) -> Option<PathBuf> {
    let absolute = |value: std::ffi::OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    env::var_os(variable).and_then(absolute).or_else(|| Some(env::home_dir()?.join(below)))
}

/// Where this user keeps what can be made again.
pub(crate) fn cache_home() -> Option<PathBuf> {
    Some(home("XDG_CACHE_HOME", ".cache")?.join("tradewind"))
}

/// What all of it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `http://host:port`
    pub(crate) url: String,
    pub(crate) token: Option<String>,
}

impl Settings {
    pub(crate) fn of_this_user(connection: &Connection) -> Result<Self, Failure> {
        Self::find(&connection.or_environment(), &Places::of_this_user())
    }

    fn find(connection: &Connection, places: &Places) -> Result<Self, Failure> {
        let (config, config_path) = read_config(places)?;
        let config_url = config.url.as_deref().map(parse_url).transpose()?;
        let given = connection.url.as_deref().map(parse_url).transpose()?;
        let here = world::in_directory(&places.working_directory);
        let url = given
            .or_else(|| config_url.clone())
            .or_else(|| here.as_ref().map(|world| world.control_url.clone()))
            .unwrap_or_else(|| DEFAULT_URL.to_owned());

        if let Some(token) = &connection.token {
            return Ok(Self { url, token: Some(token.trim().to_owned()) });
        }
        if same_place(config_url.as_deref().unwrap_or(DEFAULT_URL), &url)
            && let Some(token) = config_token(config, &config_path)?
        {
            return Ok(Self { url, token: Some(token) });
        }
        let registered = places.state_home.as_deref().and_then(|home| world::registered(home, &url));
        let world = here.filter(|world| same_place(&world.control_url, &url)).or(registered);
        let token = world.map(|world| read_token(&world.token_file)).transpose()?;
        Ok(Self { url, token })
    }
}

fn read_config(places: &Places) -> Result<(ConfigFile, PathBuf), Failure> {
    let Some(home) = &places.config_home else { return Ok((ConfigFile::default(), PathBuf::new())) };
    let path = home.join("tradewind/config.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((ConfigFile::default(), path)),
        Err(error) => return Err(Failure::usage(format!("cannot read {}", path.display())).cause(error.to_string())),
    };
    Ok((parse_toml(&text, &path)?, path))
}

/// Reads TOML that people write; an error names the file, the line and the key.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(text: &str, path: &Path) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line = before.matches('\n').count() + 1;
        let message = error.message().replace("unknown field", "unknown key").replace('\n', " ");
        Failure::usage(format!("{}, line {line}: {}", path.display(), message.trim()))
    })
}

fn config_token(config: ConfigFile, path: &Path) -> Result<Option<String>, Failure> {
    match (config.token, config.token_file) {
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("{} has both `token` and `token_file`", path.display()))
                .hint("remove one of them"))
        }
        (Some(token), None) => Ok(Some(token)),
        (None, Some(file)) => read_token(&path.parent().unwrap_or(Path::new("")).join(file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let token = fs::read_to_string(path).map_err(|error| {
        Failure::new(Code::Unauthorized, format!("cannot read the token in {}", path.display()))
            .cause(error.to_string())
            .hint("run as the user who started the world, or give a token with --token")
    })?;
    Ok(token.trim().to_owned())
}

/// `http://host:port` and nothing more.
fn parse_url(text: &str) -> Result<String, Failure> {
    let refuse = || {
        Failure::usage(format!("`{text}` is not the address of a control plane"))
            .hint(format!("write it like {DEFAULT_URL}, without a path"))
    };
    let url = url::Url::parse(text).map_err(|_| refuse())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare {
        return Err(refuse());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Whether two addresses are one: `localhost` is `127.0.0.1`.
fn same_place(left: &str, right: &str) -> bool {
    let place = |text: &str| {
        let url = url::Url::parse(text).ok()?;
        let host = url.host_str()?.to_owned();
        let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
        Some((url.scheme().to_owned(), host, url.port_or_known_default()))
    };
    place(left).is_some() && place(left) == place(right)
}

#[cfg(test)]
mod tests;
