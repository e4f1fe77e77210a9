//! What pipeline files may say, and what they may not.

use super::*;

const SMALLEST: &str = r#"
    name = "digits"
    [data]
    source = ["data/*.csv"]
    [[step]]
    name = "train"
    function = "steps:train"
    [aggregate]
    use = "average"
"#;

fn checked(text: &str) -> Result<Pipeline, String> {
    let pipeline: Pipeline = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    pipeline.check().map_err(|problem| problem.to_string())?;
    Ok(pipeline)
}

fn with(replaced: &str, by: &str) -> Result<Pipeline, String> {
    assert!(SMALLEST.contains(replaced), "{replaced}");
    checked(&SMALLEST.replace(replaced, by))
}

#[test]
fn the_least_that_a_pipeline_says() {
    let pipeline = checked(SMALLEST).unwrap();
    assert_eq!((pipeline.data.batch.clone(), pipeline.min_success_ratio), (Cut::File, 1.0));
    assert_eq!(pipeline.inputs(0), ["batch"]);
    assert_eq!((pipeline.steps[0].retries, pipeline.steps[0].timeout), (2, Span::from_secs(3600)));
}

#[test]
fn everything_that_a_pipeline_may_say() {
    let pipeline = checked(
        r#"
        name = "trips"
        min_success_ratio = 0.9
        [data]
        source = ["https://data.example/trips.parquet", "more/**/*.parquet"]
        format = "parquet"
        batch = { rows = 100000 }
        holdout = 0.1
        [parameters]
        seed = 7
        [python]
        requirements = ["scikit-learn==1.8.0"]
        [[step]]
        name = "clean"
        run = ["./clean", "--strict"]
        memory = "1GiB"
        cpu = 1
        [[step]]
        name = "train"
        function = "trips.steps:train"
        files = ["trips/*.py"]
        retries = 0
        timeout = "10m"
        [[step]]
        name = "evaluate-batch"
        function = "trips.steps:evaluate"
        inputs = ["train", "clean"]
        [aggregate]
        function = "trips.steps:merge"
        inputs = ["train"]
        [evaluate]
        function = "trips.steps:judge"
        [[gate]]
        metric = "accuracy"
        at_least = 0.9
        above_live = -0.001
        [publish]
        model = "trips"
        bundle = "model"
        [deploy]
        regions = ["us-east1", "europe-west1"]
        "#,
    )
    .unwrap();
    assert_eq!(pipeline.data.batch, Cut::Rows(100_000));
    assert_eq!((pipeline.inputs(1), pipeline.inputs(2)), (vec!["clean"], vec!["train", "clean"]));
    let again: Pipeline = toml::from_str(&toml::to_string(&pipeline).unwrap()).unwrap();
    assert_eq!(again, pipeline);
}

#[test]
fn batches_are_cut_in_every_way() {
    for (cut, expected) in [
        ("\"auto\"", Cut::Auto),
        ("\"file\"", Cut::File),
        ("{ bytes = \"64MiB\" }", Cut::Bytes(Memory::from_bytes(64 << 20))),
        ("{ column = \"day\" }", Cut::Column("day".to_owned())),
    ] {
        let source = "source = [\"data/*.csv\"]";
        let pipeline = with(source, &format!("{source}\nbatch = {cut}")).unwrap();
        assert_eq!(pipeline.data.batch, expected);
    }
    assert_eq!(Format::of("a.b/Day.CSV"), Format::Csv);
    assert_eq!(
        (Format::of("x.ndjson"), Format::of("image.png"), Format::of("none")),
        (Format::Jsonl, Format::Files, Format::Files)
    );
}

#[test]
fn what_cannot_be_is_named_by_its_key() {
    let step = "function = \"steps:train\"";
    for (replaced, by, expected) in [
        (step, "", "`step.train.run`: say either"),
        (step, "function = \"steps\"", "`step.train.function`: `steps` is not a function"),
        (step, "run = []", "`step.train.run`: it is a program"),
        (step, "run = [\"a\"]\nfunction = \"a:b\"", "`step.train.run`: say either"),
        (step, "function = \"a:b\"\ninputs = [\"later\"]", "`step.train.inputs`: `later` is neither"),
        (step, "function = \"a:b\"\ninputs = [\"batch\", \"batch\"]", "`step.train.inputs`: one is named twice"),
        (step, "function = \"a:b\"\ntimeout = \"0s\"", "`step.train.timeout`"),
        (step, "function = \"a:b\"\nretries = 101", "`step.train.retries`"),
        (step, "function = \"a:b\"\nmemory = \"0B\"", "`step.train.memory`: it is 8MiB at least"),
        (step, "function = \"a:b\"\ncpu = 0.0", "`step.train.cpu`: it is above 0"),
        (step, "function = \"a:b\"\nenv = { \"A=B\" = \"c\" }", "`step.train.env`: `A=B` is not"),
        ("\"average\"", "\"ensemble\"\nmetric = \"m\"", "`aggregate.metric`: an ensemble"),
        ("\"train\"", "\"batch\"", "`step.name`: `batch` is something else already"),
        ("\"train\"", "\"Train it\"", "`step.name`: `Train it` is not a name"),
        ("\"average\"", "\"best\"", "`aggregate.metric`: the best by which metric"),
        ("\"average\"", "\"average\"\nof = \"x\"", "`aggregate.of`: there is no step `x`"),
        ("[aggregate]", "[evaluate]\nfunction = \"a:b\"\n[aggregate]", "`evaluate`: there is nothing to evaluate on"),
        ("[aggregate]", "[[gate]]\nmetric = \"m\"\n[aggregate]", "`gate`: `m` has no bound"),
        ("[aggregate]", "[deploy]\nregions = [\"a\"]\n[aggregate]", "`deploy`: only what is published"),
        ("name = \"digits\"", "name = \"digits\"\nmin_success_ratio = 0.0", "`min_success_ratio`"),
        ("[\"data/*.csv\"]", "[]", "`data.source`: it names 1 to"),
        ("[\"data/*.csv\"]", "[\"a\"]\nholdout = 1.0", "`data.holdout`: it is a part"),
        ("[\"data/*.csv\"]", "[\"a\"]\nholdout = 0.1", "`data.holdout`: nothing is evaluated"),
        ("[\"data/*.csv\"]", "[\"a\"]\nbatch = { rows = 0 }", "`data.batch`: a batch has at least one row"),
        ("[\"data/*.csv\"]", "[\"a\"]\nformat = \"files\"\nbatch = { rows = 1 }", "`data.batch`: files have no rows"),
        (step, "function = \"a:b\"\nworker = true", "`step.train.worker`: a function"),
        (step, "function = \"a:b\"\nretry = 1", "unknown field `retry`"),
        ("use = \"average\"", "use = \"mean\"", "unknown variant `mean`"),
        ("use = \"average\"", "use = \"average\"\nfunction = \"a:b\"", "unknown field `function`"),
        ("use = \"average\"", "function = \"a:b\"\nname = \"a\"", "`aggregate.name`: only steps"),
        ("[data]", &format!("[parameters]\na = \"{}\"\n[data]", "x".repeat(40_000)), "`parameters`: they are more"),
        ("source", "sources", "unknown field `sources`"),
    ] {
        let problem = with(replaced, by).unwrap_err();
        assert!(problem.starts_with(expected), "{problem}, not {expected}");
    }
}
