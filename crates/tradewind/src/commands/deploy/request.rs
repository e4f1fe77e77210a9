//! What the flags and the deployment file ask for, as one request.

use std::path::Path;

use tradewind_api::deploy::{DeployRequest, ScaleChange};
use tradewind_core::{
    ModelName, VersionNumber,
    rollout::strategy::{MaxParallel, OnFailure, Switch},
};

use super::{Args, ScaleArgs, file::DeploymentFile};
use crate::{
    failure::Failure,
    session::{parse_model, requested_by},
};

/// MODEL, as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Model {
    Registered(ModelName),
    /// A path or URL.
    Pushed(String),
}

/// Everything that is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) model: Model,
    pub(super) request: DeployRequest,
}

/// Flags come before the file, and that before what the deployment has.
pub(super) fn assemble(args: &Args) -> Result<Wanted, Failure> {
    let file = args.file.as_deref().map(DeploymentFile::read).transpose()?.unwrap_or_default();
    let (model, version) = match (&args.model, &file.model) {
        // Another model than the file's comes with a version of its own.
        (Some(flag), _) => parse_target(flag)?,
        (None, Some(named)) => with_version(parse_target(&relative_to(named, args.file.as_deref()))?, file.version)?,
        (None, None) => return Err(Failure::usage("the deployment file names no model").hint("add `model = \"NAME\"`")),
    };
    if args.name.is_some() && matches!(model, Model::Registered(_)) {
        return Err(Failure::usage("--name is for models that are pushed").hint("give a path, such as ./model.onnx"));
    }
    let (flags, said) = (&args.strategy, file.request());
    // Another way to move users than the file's comes without the file's shares.
    let is_canary = flags.switch.is_none_or(|switch| switch == Switch::Canary);
    let (shares, allowed) = (said.canary.filter(|_| is_canary), said.allow.filter(|_| is_canary));
    let request = DeployRequest {
        version,
        regions: if args.regions.is_empty() { said.regions } else { Some(args.regions.clone()) },
        scale: scale(&args.scale, said.scale),
        stay_in: if args.stay_in.is_empty() { said.stay_in } else { Some(args.stay_in.clone()) },
        max_parallel: flags.max_parallel.or(said.max_parallel),
        first: if flags.first.is_empty() { said.first } else { Some(flags.first.clone()) },
        switch: flags.switch.or(said.switch),
        canary: if flags.canary.is_empty() { shares } else { Some(flags.canary.clone()) },
        allow: if flags.allow.is_empty() { allowed } else { Some(flags.allow.clone()) },
        retries: flags.retries.or(said.retries),
        progress_deadline: flags.progress_deadline.or(said.progress_deadline),
        on_failure: flags.on_failure.or(said.on_failure),
        min_regions: flags.min_regions.or(said.min_regions),
        soak: flags.soak.or(said.soak),
        standby: flags.standby.or(said.standby),
        prune: args.prune,
        replace: args.replace,
        allow_bad: args.allow_bad,
        dry_run: args.dry_run,
        requested_by: requested_by(),
        ..said
    };
    Ok(Wanted { model, request })
}

fn parse_target(text: &str) -> Result<(Model, Option<VersionNumber>), Failure> {
    if text.contains('/') || text.ends_with(".onnx") {
        return Ok((Model::Pushed(text.to_owned()), None));
    }
    let (name, version) = parse_model(text).map_err(|error| {
        Failure::usage(error).hint("a path is written with a `/`, as in ./digits, or ends in .onnx")
    })?;
    Ok((Model::Registered(name), version))
}

fn with_version(
    (model, named): (Model, Option<VersionNumber>),
    stated: Option<VersionNumber>,
) -> Result<(Model, Option<VersionNumber>), Failure> {
    let contradicts = match (&model, named) {
        (Model::Pushed(_), _) => stated.is_some(),
        (Model::Registered(_), named) => named.is_some() && stated.is_some() && named != stated,
    };
    if contradicts {
        return Err(
            Failure::usage("the deployment file names two versions").hint("keep `version`, or the one in `model`")
        );
    }
    Ok((model, named.or(stated)))
}

/// A relative path in the file is meant from where the file lies.
fn relative_to(model: &str, file: Option<&Path>) -> String {
    let is_path = !model.contains("://") && (model.contains('/') || model.ends_with(".onnx"));
    match file.and_then(Path::parent).filter(|directory| is_path && !directory.as_os_str().is_empty()) {
        Some(directory) => directory.join(model).to_string_lossy().into_owned(),
        None => model.to_owned(),
    }
}

fn scale(flags: &ScaleArgs, table: Option<ScaleChange>) -> Option<ScaleChange> {
    let table = table.unwrap_or_default();
    let flags = ScaleChange {
        replicas: flags.replicas,
        threads: flags.threads,
        instances: flags.instances,
        cpu: flags.cpu,
        memory: flags.memory,
        max_batch_rows: flags.max_batch_rows,
        concurrency: flags.concurrency,
        min: flags.min_replicas,
        max: flags.max_replicas,
        target: flags.target_in_flight,
        scale_down_after: flags.scale_down_after,
        schedule: None,
    };
    // Another kind of number than the file's comes without what the file says of its own.
    let table = match (flags.replicas, flags.follows_demand()) {
        (Some(_), _) => table.without_number(),
        (None, true) => ScaleChange { replicas: None, ..table },
        (None, false) => table,
    };
    let scale = ScaleChange {
        replicas: flags.replicas.or(table.replicas),
        threads: flags.threads.or(table.threads),
        instances: flags.instances.or(table.instances),
        cpu: flags.cpu.or(table.cpu),
        memory: flags.memory.or(table.memory),
        max_batch_rows: flags.max_batch_rows.or(table.max_batch_rows),
        concurrency: flags.concurrency.or(table.concurrency),
        min: flags.min.or(table.min),
        max: flags.max.or(table.max),
        target: flags.target.or(table.target),
        scale_down_after: flags.scale_down_after.or(table.scale_down_after),
        schedule: table.schedule,
    };
    (scale != ScaleChange::default()).then_some(scale)
}

pub(super) fn parse_max_parallel(text: &str) -> Result<MaxParallel, String> {
    match text.parse() {
        Ok(0) => Err("at least one region must be worked on: write a positive number, or all".to_owned()),
        Ok(count) => Ok(MaxParallel::Count(count)),
        Err(_) if text == "all" => Ok(MaxParallel::All),
        Err(_) => Err("write a positive number, or all".to_owned()),
    }
}

pub(super) fn parse_on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "stop" => Ok(OnFailure::Stop),
        "continue" => Ok(OnFailure::Continue),
        "pause" => Ok(OnFailure::Pause),
        _ => Err("write stop, continue or pause".to_owned()),
    }
}

pub(super) fn parse_switch(text: &str) -> Result<Switch, String> {
    match text {
        "fleet" => Ok(Switch::Fleet),
        "wave" => Ok(Switch::Wave),
        "in-place" => Ok(Switch::InPlace),
        "canary" => Ok(Switch::Canary),
        _ => Err("write fleet, wave, in-place or canary".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tradewind_core::duration::Span;

    use super::*;
    use crate::cli::{self, Command};

    fn assembled(line: &str) -> Result<Wanted, String> {
        use clap::FromArgMatches;
        let words = std::iter::once("tradewind").chain(line.split(' '));
        let matches = cli::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
        let Command::Deploy(args) = cli::Cli::from_arg_matches(&matches).unwrap().command else { unreachable!() };
        assemble(&args).map_err(|failure| format!("{failure}"))
    }

    fn written(content: &str) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deployment.toml");
        std::fs::write(&path, content).unwrap();
        (directory, path.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_model_is_a_name_or_a_path() {
        let model = |line: &str| assembled(line).map(|wanted| (wanted.model, wanted.request.version));
        let registered = |name: &str| Model::Registered(name.parse().unwrap());
        assert_eq!(model("deploy digits"), Ok((registered("digits"), None)));
        assert_eq!(model("deploy digits:2"), Ok((registered("digits"), Some(VersionNumber(2)))));
        for path in ["./digits", "examples/digits/v1", "digits.onnx", "https://models.example/digits.onnx"] {
            assert_eq!(model(&format!("deploy {path}")), Ok((Model::Pushed(path.to_owned()), None)));
        }
        assert!(model("deploy digits:two").unwrap_err().contains("`two` is not a version"));
        assert!(model("deploy digits --name other").unwrap_err().contains("--name is for models that are pushed"));
    }

    #[test]
    fn flags_come_before_the_file() {
        let (_directory, path) = written(
            "model = \"digits\"\nversion = 3\nregions = [\"us-east1\"]\n\
             [strategy]\nmax_parallel = \"all\"\nsoak = \"5s\"\n[scale]\nreplicas = 2\nthreads = 4\n[health]\ninterval = \"2s\"\n\
             [region_health.us-east1]\nunhealthy_after = 5\n",
        );
        let wanted = assembled(&format!("deploy -f {path} --soak 9s --replicas 3")).unwrap();
        assert_eq!(wanted.request.version, Some(VersionNumber(3)));
        assert_eq!(wanted.request.max_parallel, Some(MaxParallel::All));
        assert_eq!(wanted.request.soak, Some(Span::from_secs(9)));
        assert_eq!(
            wanted.request.scale,
            Some(ScaleChange { replicas: Some(3), threads: Some(4), ..ScaleChange::default() })
        );
        assert_eq!(wanted.request.health.unwrap().interval, Some(Span::from_secs(2)));
        let us_east1 = "us-east1".parse().unwrap();
        assert_eq!(wanted.request.region_health.unwrap()[&us_east1].unhealthy_after, Some(5));
        assert_eq!(wanted.request.regions, Some(vec![us_east1]));
        let wanted = assembled(&format!("deploy -f {path} --regions a,b digits")).unwrap();
        assert_eq!((wanted.request.version, wanted.request.regions.map(|all| all.len())), (None, Some(2)));
    }

    #[test]
    fn shares_of_the_file_are_for_its_own_way_to_move_users() {
        let (_directory, path) = written("model = \"digits\"\n[strategy]\nswitch = \"canary\"\ncanary = [5, 50]\n");
        let canary = |line: &str| assembled(line).unwrap().request.canary.map(|shares| shares.len());
        assert_eq!(canary(&format!("deploy -f {path}")), Some(2));
        assert_eq!(canary(&format!("deploy -f {path} --switch fleet")), None);
        assert_eq!(canary(&format!("deploy -f {path} --canary 1,2,3")), Some(3));
        assert_eq!(canary("deploy digits --switch canary"), None);
        let refused = assembled("deploy digits --canary 1,500").unwrap_err();
        assert!(refused.contains("from 0 to 100"), "{refused}");
    }

    #[test]
    fn what_is_not_named_is_not_asked_for() {
        let (_directory, path) = written("model = \"digits\"\n[scale]\nthreads = 4\n");
        let scale = |line: &str| assembled(line).unwrap().request.scale;
        assert_eq!(scale("deploy digits"), None);
        let replicas = Some(ScaleChange { replicas: Some(3), ..ScaleChange::default() });
        assert_eq!(scale("deploy digits --replicas 3"), replicas);
        let threads = Some(ScaleChange { threads: Some(4), ..ScaleChange::default() });
        assert_eq!(scale(&format!("deploy -f {path}")), threads);
        let (_directory, path) = written("model = \"digits\"\n[scale]\ncpu = 2\nmemory = \"1GiB\"\nmax = 4\n");
        let scale = scale(&format!("deploy -f {path} --memory 512MiB --instances 2 --max-batch-rows 8 --replicas 3"));
        let expected = ScaleChange {
            replicas: Some(3),
            instances: Some(2),
            cpu: "2".parse().ok(),
            memory: "512MiB".parse().ok(),
            max_batch_rows: Some(8),
            ..ScaleChange::default()
        };
        assert_eq!(scale, Some(expected));
        let refused = assembled("deploy digits --memory 512").unwrap_err();
        assert!(refused.contains("is not an amount of memory"), "{refused}");
    }

    #[test]
    fn a_fixed_number_and_one_that_follows_demand_exclude_each_other() {
        let schedule = "[[scale.schedule]]\nfrom = \"08:00\"\nto = \"18:00\"\nmin = 4\ndays = [\"mon\"]\n";
        let (_directory, path) = written(&format!("model = \"digits\"\n[scale]\nmin = 0\nmax = 8\n{schedule}"));
        let scale = |line: &str| assembled(line).unwrap().request.scale.unwrap();
        let of_file = scale(&format!("deploy -f {path} --max-replicas 9"));
        assert_eq!((of_file.min, of_file.max, of_file.schedule.as_ref().map(Vec::len)), (Some(0), Some(9), Some(1)));
        let fixed = scale(&format!("deploy -f {path} --replicas 3"));
        assert_eq!(fixed, ScaleChange { replicas: Some(3), ..ScaleChange::default() });
        let (_directory, path) = written("model = \"digits\"\n[scale]\nreplicas = 3\n");
        assert_eq!(scale(&format!("deploy -f {path} --max-replicas 9")).replicas, None);
        let refused = assembled("deploy digits --replicas 3 --max-replicas 9").unwrap_err();
        assert!(refused.contains("cannot be used with"), "{refused}");
    }

    #[test]
    fn a_path_in_the_file_is_meant_from_where_the_file_lies() {
        let (directory, path) = written("model = \"./v1\"\n");
        let expected = directory.path().join("./v1").to_str().unwrap().to_owned();
        assert_eq!(assembled(&format!("deploy -f {path}")).unwrap().model, Model::Pushed(expected));
    }

    #[test]
    fn the_file_is_refused_with_its_line() {
        for (content, error) in [
            ("model = \"digits\"\nregion = [\"a\"]\n", "line 2: unknown key `region`"),
            ("model = \"digits\"\n[strategy]\nsoak = \"soon\"\n", "line 3: `soon` is not a duration"),
            ("model = \"digits:1\"\nversion = 2\n", "names two versions"),
            ("regions = [\"a\"]\n", "names no model"),
        ] {
            let (_directory, path) = written(content);
            let failure = assembled(&format!("deploy -f {path}")).unwrap_err();
            assert!(failure.contains(error), "{content}: {failure}");
        }
    }
}
