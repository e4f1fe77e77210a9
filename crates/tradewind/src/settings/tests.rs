use std::{fs, path::Path};

use super::{Connection, Places, Settings, world};

/// A user with nothing but a home.
struct Home {
    root: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.root.path().join(below)
    }

    fn write(&self, below: &str, content: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn places(&self) -> Places {
        Places {
            config_home: Some(self.path("config")),
            state_home: Some(self.path("state")),
            working_directory: self.path("work"),
        }
    }

    /// What comes out, or the error.
    fn find(&self, url: Option<&str>, token: Option<&str>) -> Result<(String, Option<String>), String> {
        let connection = Connection { url: url.map(str::to_owned), token: token.map(str::to_owned) };
        Settings::find(&connection, &self.places())
            .map(|settings| (settings.url, settings.token))
            .map_err(|failure| format!("{failure}"))
    }

    fn world_here(&self, url: &str, token_file: &Path) {
        let world = serde_json::json!({ "control_url": url, "token_file": token_file, "processes": [] });
        self.write("work/tradewind-data/world.json", &world.to_string());
    }
}

fn settings(url: &str, token: Option<&str>) -> Result<(String, Option<String>), String> {
    Ok((url.to_owned(), token.map(str::to_owned)))
}

#[test]
fn without_anything_the_default_world_is_asked_without_a_token() {
    assert_eq!(Home::new().find(None, None), settings("http://127.0.0.1:7400", None));
}

#[test]
fn flags_come_before_the_config_file_and_that_before_a_world_here() {
    let home = Home::new();
    home.write("work/tradewind-data/token", "world-token\n");
    home.world_here("http://127.0.0.1:8400", &home.path("work/tradewind-data/token"));
    assert_eq!(home.find(None, None), settings("http://127.0.0.1:8400", Some("world-token")));

    home.write("config/tradewind/config.toml", "url = \"https://tw.example:443/\"\ntoken_file = \"secret\"\n");
    home.write("config/tradewind/secret", "file-token\n");
    assert_eq!(home.find(None, None), settings("https://tw.example:443", Some("file-token")));
    assert_eq!(home.find(None, Some("flag")), settings("https://tw.example:443", Some("flag")));
    assert_eq!(home.find(Some("http://10.0.0.9:7400"), Some("flag")), settings("http://10.0.0.9:7400", Some("flag")));
}

#[test]
fn a_token_goes_only_to_the_address_it_was_found_with() {
    let home = Home::new();
    home.write("config/tradewind/config.toml", "url = \"https://tw.example\"\ntoken = \"config-token\"\n");
    home.write("work/tradewind-data/token", "world-token");
    home.world_here("http://127.0.0.1:7400", &home.path("work/tradewind-data/token"));
    assert_eq!(home.find(Some("http://10.0.0.9:7400"), None), settings("http://10.0.0.9:7400", None));
    assert_eq!(home.find(Some("http://localhost:7400"), None), settings("http://localhost:7400", Some("world-token")));
}

#[test]
fn a_directory_from_elsewhere_cannot_send_a_token_away() {
    let home = Home::new();
    home.write("other/token", "precious");
    home.world_here("http://203.0.113.7:7400", &home.path("other/token"));
    assert_eq!(home.find(None, None), settings("http://127.0.0.1:7400", None));
}

#[test]
fn a_registered_world_is_found_from_any_directory_by_its_address() {
    let home = Home::new();
    home.write("data/token", "registered");
    world::write_note(&home.path("state"), "http://127.0.0.1:9400", &home.path("data/token")).unwrap();
    assert_eq!(home.find(None, None), settings("http://127.0.0.1:7400", None));
    assert_eq!(home.find(Some("http://127.0.0.1:9400"), None), settings("http://127.0.0.1:9400", Some("registered")));

    world::write_note(&home.path("state"), "http://127.0.0.1:7400", &home.path("data/token")).unwrap();
    assert_eq!(home.find(None, None), settings("http://127.0.0.1:7400", Some("registered")));
}

#[test]
fn what_is_written_wrongly_is_named() {
    let home = Home::new();
    for bad in ["127.0.0.1:7400", "ftp://x:1", "http://x/api", "http://u@x:1", "nonsense"] {
        assert!(home.find(Some(bad), None).unwrap_err().contains("is not the address of a control plane"), "{bad}");
    }
    home.write("config/tradewind/config.toml", "url = \"http://x:1\"\nurll = 1\n");
    let error = home.find(None, None).unwrap_err();
    assert!(error.contains("config.toml, line 2: unknown key `urll`"), "{error}");
}
