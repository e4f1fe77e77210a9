//! Worlds on this machine: `up` leaves `world.json` in its data directory, and a note for this user's other shells.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tradewind_api::auth;

use super::same_place;

/// Where `up` keeps its data unless it is told otherwise, relative to the working directory.
pub(crate) const DATA_DIRECTORY: &str = "tradewind-data";
/// What runs in a world; in its data directory.
pub(crate) const WORLD_FILE: &str = "world.json";

/// The part of `world.json` that a client needs; also the form of the note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct World {
    pub(crate) control_url: String,
    /// Absolute.
    pub(crate) token_file: PathBuf,
}

/// The world whose data lies in `./tradewind-data`.
pub(super) fn in_directory(working_directory: &Path) -> Option<World> {
    let data = working_directory.join(DATA_DIRECTORY);
    let world = read(&data.join(WORLD_FILE))?;
    // A directory may come from anywhere: its world.json must not send a token of elsewhere to an address it names.
    let inside = world.token_file.canonicalize().ok()?.starts_with(data.canonicalize().ok()?);
    inside.then_some(world)
}

/// The newest world of this user that has this address.
pub(super) fn registered(state_home: &Path, url: &str) -> Option<World> {
    let notes = fs::read_dir(notes_directory(state_home)).ok()?;
    let written = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    notes
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((written(&path)?, read(&path)?)))
        .filter(|(_, world)| same_place(&world.control_url, url) && world.token_file.is_file())
        .max_by_key(|(written, _)| *written)
        .map(|(_, world)| world)
}

/// Lets the verbs of this user find a world from any directory. `token_file` is absolute.
pub(crate) fn register_world(control_url: &str, token_file: &Path) -> io::Result<()> {
    match super::Places::of_this_user().state_home {
        Some(state_home) => write_note(&state_home, control_url, token_file),
        None => Ok(()),
    }
}

pub(super) fn write_note(state_home: &Path, control_url: &str, token_file: &Path) -> io::Result<()> {
    let port = url::Url::parse(control_url).ok().and_then(|url| url.port_or_known_default()).unwrap_or_default();
    let world = World { control_url: control_url.to_owned(), token_file: token_file.to_owned() };
    let note = serde_json::to_vec(&world).map_err(io::Error::other)?;
    auth::write_private(&notes_directory(state_home).join(format!("{port}.json")), &note)
}

fn notes_directory(state_home: &Path) -> PathBuf {
    state_home.join("tradewind/worlds")
}

fn read(path: &Path) -> Option<World> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
