//! The world of the demo, and its command line.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tradewind_testkit::{Caller, Fallen, Load, Options, Users, World, eventually, eventually_ok};

use super::{
    REGIONS, THINKING, USERS_PER_GATEWAY,
    screen::{Screen, Tone},
};
use crate::workspace::Workspace;

/// An agent or gateway that was started is ready long before this.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
pub(super) const INFER: &str = "/v2/models/digits/infer";

/// What of a command belongs into the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Film {
    Whole,
    /// The command itself, and its errors.
    Command,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) world: World,
    root: PathBuf,
    directory: TempDir,
    /// What was killed and started again, outside of `up`.
    revived: Vec<Child>,
    pub(super) request: String,
}

impl Stage {
    pub(super) async fn open(
        workspace: &Workspace,
        program: PathBuf,
        port_base: Option<u16>,
        screen: &mut Screen,
    ) -> Result<Self> {
        screen
            .line(Tone::Heading, "1  A world: one control plane, and an agent and a gateway in each of three regions");
        screen.line(Tone::Command, "  $ tradewind up --simulate-wan --restart never");
        let root = workspace.root().to_owned();
        let request = std::fs::read_to_string(root.join("examples/digits/request.json")).context("examples/digits")?;
        let directory = TempDir::with_prefix("tradewind-demo-")?;
        let mut options = Options::new(program).regions(&REGIONS).arg("--simulate-wan").arg("--restart").arg("never");
        options.data_dir = Some(directory.path().join("world"));
        options.port_base = port_base;
        let began = std::time::Instant::now();
        let world = World::start(options).await?;
        let took = began.elapsed();
        screen.text(&format!("{:<16} {}", "control", world.file()?.control_url));
        for (region, gateway) in world.gateways()? {
            screen.text(&format!("{region:<16} {gateway}"));
        }
        let ready = super::seconds(took);
        screen.line(
            Tone::Faint,
            &format!("  ready after {ready}; between regions a round trip takes as long as on Earth"),
        );
        Ok(Self { world, root, directory, revived: Vec::new(), request })
    }

    /// Runs the CLI as a person would, and shows it. Returns the exit code.
    pub(super) async fn tradewind(&self, screen: &mut Screen, film: Film, arguments: &[&str]) -> Result<i32> {
        let line = format!("  $ tradewind {}", arguments.join(" "));
        match film {
            Film::Nothing => screen.line(Tone::Command, &line),
            Film::Whole | Film::Command => screen.scene(Tone::Command, &line),
        }
        let mut command = self.command(arguments)?;
        if !screen.filming {
            if std::env::var_os("NO_COLOR").is_none() {
                command.env_remove("NO_COLOR");
            }
            return command.status().await?.code().context("the command was killed");
        }
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match film {
                Film::Whole => screen.scene(Tone::Plain, line),
                Film::Command | Film::Nothing => screen.line(Tone::Plain, line),
            }
        }
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let tone = if line.starts_with("error:") { Tone::Bad } else { Tone::Plain };
            screen.scene(tone, format!("  {line}").trim_end());
        }
        output.status.code().context("the command was killed")
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.world.command(arguments)?;
        command.current_dir(&self.root).kill_on_drop(true);
        Ok(command)
    }

    pub(super) fn url(&self, region: &str, path: &str) -> String {
        let place = REGIONS.iter().position(|known| *known == region).unwrap_or_default();
        let place = u16::try_from(place).expect("there are three");
        format!("http://127.0.0.1:{}{path}", self.world.port_base + 10 + place)
    }

    /// Users in every region who keep asking for digits. Each knows two addresses, as the users of a service with two
    /// entries in DNS do: their region's gateway, and the next one.
    pub(super) fn users(&self) -> Result<Load> {
        let next = |region: &str| if region == super::NEAREST { super::VICTIM } else { super::NEAREST };
        let group = |region: &str| {
            Ok(Users {
                region: region.parse()?,
                gateways: vec![self.url(region, ""), self.url(next(region), "")],
                count: USERS_PER_GATEWAY,
            })
        };
        let groups: Vec<Users> = REGIONS.into_iter().map(group).collect::<Result<_>>()?;
        Load::of(&groups, THINKING, INFER, &self.request)
    }

    /// Starts what was killed, with the same command lines.
    pub(super) async fn start_again(&mut self, region: &str, fallen: &[Fallen]) -> Result<()> {
        for process in fallen {
            self.revived.push(process.start_again()?);
        }
        let caller = Caller::new()?;
        let address = self.url(region, "");
        let ready = || async { caller.is_ready(&address).await.then_some(()) };
        eventually("the gateway is ready", START_LIMIT, ready).await
    }

    /// Whether `status` says that a region is unhealthy and its users go to another.
    pub(super) async fn users_went(&self, from: &str, to: &str) -> Option<()> {
        let output = self.command(&["status", "digits", "-o", "json"]).ok()?.output().await.ok()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let health = &status["health"][from];
        (health["healthy"] == false && health["users_go_to"] == to).then_some(())
    }

    /// Stops everything; an error says what is left.
    pub(super) async fn close(&mut self) -> Result<()> {
        for child in &mut self.revived {
            stop(child).await?;
        }
        self.world.stop().await.map(drop)
    }

    /// A world of its own that outlives this program, on the same data.
    pub(super) async fn leave_running(self, screen: &mut Screen) -> Result<()> {
        let Self { world, directory, .. } = self;
        let (options, port_base) = (world.options.clone(), world.port_base);
        let data_dir = world.data_dir.clone();
        drop(world);
        let kept = directory.keep();
        let log = std::fs::File::create(kept.join("up.log"))?;
        let mut command = Command::new(&options.program);
        command
            .args(["up", "--simulate-wan", "--data-dir"])
            .arg(&data_dir)
            .args(["--port-base", &port_base.to_string(), "--regions", &REGIONS.join(",")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C here is not meant for it.
            .process_group(0);
        let up = command.spawn().context("starting the world again")?;
        let pid = up.id().context("up has ended")?;
        let file: PathBuf = data_dir.join("world.json");
        eventually_ok("the world is ready", START_LIMIT, || async { Ok(std::fs::metadata(&file).map(drop)?) }).await?;
        screen.heading("It is yours: the same data, started again, serving what was deployed");
        announce(screen, &options.program, port_base, &kept, pid);
        Ok(())
    }
}

fn announce(screen: &mut Screen, program: &Path, port_base: u16, directory: &Path, pid: u32) {
    screen.text(&format!("control API  http://127.0.0.1:{port_base}"));
    for (port, region) in (port_base + 10..).zip(REGIONS) {
        screen.text(&format!("gateway      http://127.0.0.1:{port}  {region}"));
    }
    screen.text(&format!("try          {} --url http://127.0.0.1:{port_base} status digits", program.display()));
    screen.text(&format!("stop         kill {pid}; rm -r {}", directory.display()));
}

async fn stop(child: &mut Child) -> Result<()> {
    let Some(pid) = child.id() else { return Ok(()) };
    tradewind_testkit::terminate(pid)?;
    if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}
