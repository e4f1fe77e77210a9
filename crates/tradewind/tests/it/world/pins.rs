//! Users who are pinned together, from a file to what they get.

use std::fmt::Write;

use anyhow::{Result, ensure};
use tradewind_testkit::{Caller, World, eventually_ok};

use super::{INFER, SOON, example, json, ok, options, refused, request, serving};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];
const MEMBERS: usize = 100_000;
/// Of the members and of the others.
const ASKED: usize = 200;

/// How many of these users get that revision from each gateway in turn.
async fn who_gets(world: &World, revision: &str, users: impl Iterator<Item = String>) -> Result<usize> {
    let (caller, body) = (Caller::new()?, request()?);
    let mut count = 0;
    for (user, region) in users.zip(REGIONS.into_iter().cycle()) {
        let url = format!("{}{INFER}", world.gateway(region)?);
        count += usize::from(caller.ask_as(&user, &url, &body).await?.revision == revision);
    }
    Ok(count)
}

/// From all over the file.
fn members() -> impl Iterator<Item = String> {
    (0..MEMBERS).step_by(MEMBERS / ASKED).map(|number| format!("member-{number}"))
}

fn others() -> impl Iterator<Item = String> {
    (0..ASKED).map(|number| format!("other-{number}"))
}

#[tokio::test]
async fn users_of_a_file_get_the_candidate_of_a_canary_that_few_others_get() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("members.txt");
    let keys = (0..MEMBERS).fold(String::new(), |mut keys, number| {
        writeln!(keys, "member-{number}").expect("a String takes everything");
        keys
    });
    std::fs::write(&file, keys)?;
    let file = file.display();
    ok(&world, &format!("deploy --max-parallel all --canary 1 --soak 10m --detach {}", example("v2"))).await?;
    eventually_ok("the canary soaks", SOON, || async {
        let view = json(&world, "rollout show digits").await?;
        ensure!(view["state"] == "soaking", "{}", view["state"]);
        Ok(())
    })
    .await?;
    assert!(who_gets(&world, "2", members()).await? <= 15, "one in a hundred");

    let pinned = ok(&world, &format!("route pin digits --file {file} --to candidate --lasts 2h")).await?.stdout;
    assert!(pinned.starts_with("digits: 100000 users are pinned to candidate, as table blake3:"), "{pinned}");
    assert!(pinned.ends_with("acknowledged by 2 of 2 gateways\n"), "{pinned}");
    assert_eq!(who_gets(&world, "2", members()).await?, ASKED);
    assert!(who_gets(&world, "2", others()).await? <= 15, "one in a hundred");
    let listed = json(&world, "route pins digits").await?;
    assert_eq!((&listed["tables"][0]["users"], &listed["tables"][0]["to"]), (&100_000.into(), &"candidate".into()));
    let shown = ok(&world, "route pins digits").await?.stdout;
    assert!(shown.lines().any(|line| line.contains("blake3:") && line.contains("100000")), "{shown}");

    for pid in world.kill("gateway", None)? {
        eventually_ok("the gateway has a successor", SOON, || async {
            let gateways = world.processes("gateway", None)?;
            ensure!(
                gateways.len() == REGIONS.len() && gateways.iter().all(|gateway| gateway.pid != pid),
                "{gateways:?}"
            );
            Ok(())
        })
        .await?;
    }
    assert_eq!(who_gets(&world, "2", members()).await?, ASKED, "from disk");

    let unpinned = ok(&world, &format!("route unpin digits --file {file}")).await?.stdout;
    assert!(unpinned.contains("are not pinned any more"), "{unpinned}");
    assert!(who_gets(&world, "2", members()).await? <= 15, "one in a hundred again");
    let gone = refused(&world, "route unpin digits --file blake3:00", 3).await?;
    assert!(gone.contains("is no file here, and no table of digits begins so"), "{gone}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_list_of_users_is_refused_by_its_line() -> Result<()> {
    let world = serving(options(&REGIONS[..1])).await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("users.txt");
    let long = format!("ada\n{}\n", "x".repeat(300));
    for (content, said) in [
        (&b""[..], "it has the key of one user a line"),
        (b"ada\n\xff\n", "see its line 2: it is not UTF-8"),
        (long.as_bytes(), "see its line 2: a user's key has at most 256 bytes"),
    ] {
        std::fs::write(&file, content)?;
        let text = refused(&world, &format!("route pin digits --file {} --to live", file.display()), 2).await?;
        assert!(text.contains(said), "{text}");
    }
    let absent = refused(&world, "route pin digits --file nobody.txt --to live", 3).await?;
    assert!(absent.contains("there is no file nobody.txt"), "{absent}");
    assert!(json(&world, "route pins digits").await?["tables"].as_array().is_some_and(Vec::is_empty));
    Ok(())
}
