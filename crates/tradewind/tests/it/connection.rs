//! Finding control, and not finding it.

use std::net::TcpListener;

use tradewind_api::auth::{Authority, Scope};

use crate::{
    context::{Context, wait},
    control::{Control, Script, TOKEN},
};

/// A port where nothing listens.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_dead_control_plane() {
    snapshot!(Context::new().run(&format!("--url {} status", dead_url())));
}

#[test]
fn a_dead_control_plane_for_programs() {
    snapshot!(Context::new().run(&format!("--url {} status -o json", dead_url())));
}

#[test]
fn a_wrong_token() {
    let context = Context::with(Control::start(Script::default()));
    snapshot!(context.run("models list --token nonsense"));
}

#[test]
fn an_address_that_is_none() {
    snapshot!(Context::new().run("status --url localhost:7400"));
}

#[test]
fn the_world_in_this_directory_is_found_without_asking() {
    let context = Context::new();
    let control = Control::start(Script::default());
    let data = context.home.path().join("tradewind-data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("token"), TOKEN).unwrap();
    let world = serde_json::json!({ "control_url": control.url(), "token_file": data.join("token"), "processes": [] });
    std::fs::write(data.join("world.json"), world.to_string()).unwrap();
    assert_eq!(context.json("models list -o json")["models"][0]["name"], "digits");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let context = Context::with(Control::start(Script::default()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = wait(context.command("status").stdout(writer).spawn().unwrap());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn tokens_are_issued_offline() {
    let context = Context::new();
    let data = context.home.path().join("control");
    std::fs::create_dir(&data).unwrap();
    snapshot!(context.run("token issue --role admin --data-dir control"));

    let authority = Authority::open(&data).unwrap();
    for (line, scope) in [("--role admin", "admin"), ("--role agent --region us-east1", "agent/us-east1")] {
        let output = context.output(&format!("token issue {line} --data-dir control"));
        let token = String::from_utf8(output.stdout).unwrap();
        assert_eq!(authority.check(token.trim()), Some(scope.parse::<Scope>().unwrap()), "{token}");
    }
}
