//! `tradewind infer MODEL -d JSON`: one request, the way a user's program would send it.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::value::RawValue;
use tradewind_api::{Code, SCHEMA_VERSION, client::http_client, gateway, http::TRACE_HEADER};
use tradewind_core::{ModelName, RegionName, VersionNumber, trace::TraceParent};

use crate::{
    failure::Failure,
    session::{Session, parse_model},
    terminal::{self, Format, OutputArgs, units},
};

mod refusal;

use refusal::Refusal;

/// The largest request that is read.
const BODY_LIMIT: u64 = 256 << 20;
/// An inference is answered within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Send one inference request through a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind infer digits -d @examples/digits/request.json
  tradewind infer digits -d @examples/digits/request.json --from europe-west1 -o json")]
pub(crate) struct Args {
    /// The model, or MODEL:VERSION
    #[arg(value_parser = parse_model)]
    model: (ModelName, Option<VersionNumber>),
    /// The request in the Open Inference Protocol's JSON, or @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    data: String,
    /// Enter through this region's gateway [default: the first region's]
    #[arg(long, value_name = "REGION")]
    from: Option<RegionName>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which region answered, with what.
#[derive(Debug, Serialize)]
struct Answer {
    schema_version: u32,
    entered: RegionName,
    region: Option<String>,
    slot: Option<String>,
    revision: Option<u64>,
    epoch: Option<u64>,
    request_id: Option<String>,
    took_ms: f64,
    /// As the replica wrote it.
    response: Box<RawValue>,
}

#[derive(Debug)]
enum Outcome {
    Answered(Answer),
    Refused(Refusal),
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let body = read_data(&args.data)?;
    let (base, entered) = session.gateway(args.from.as_ref()).await?;
    let (model, version) = &args.model;
    let version = version.map(|version| format!("/versions/{version}")).unwrap_or_default();
    let answer =
        match send(&format!("{base}/v2/models/{model}{version}/infer"), body, session.client.trace(), entered).await? {
            Outcome::Answered(answer) => answer,
            Outcome::Refused(refusal) => return Err(refusal.explain(session, model, args.model.1).await),
        };
    if args.output.format == Format::Json {
        return terminal::print_json(&answer);
    }
    terminal::say(answer.response.get())?;
    let part = |name: &str, value: Option<String>| value.map(|value| format!(", {name}{value}")).unwrap_or_default();
    terminal::complain(&format!(
        "answered by {}{}{}{} in {:.1} ms\n",
        answer.region.as_deref().unwrap_or("an unnamed region"),
        part("", answer.slot.clone()),
        part("revision ", answer.revision.map(|number| number.to_string())),
        part("epoch ", answer.epoch.map(|number| number.to_string())),
        answer.took_ms
    ));
    Ok(())
}

fn read_data(data: &str) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let (name, read) = match data.strip_prefix('@') {
        Some(path) => {
            (path, std::fs::File::open(path).and_then(|file| file.take(BODY_LIMIT + 1).read_to_end(&mut body)))
        }
        None if data == "-" => ("standard input", std::io::stdin().lock().take(BODY_LIMIT + 1).read_to_end(&mut body)),
        None => {
            body.extend_from_slice(data.as_bytes());
            ("the request", Ok(body.len()))
        }
    };
    read.map_err(|error| Failure::usage(format!("cannot read {name}")).cause(error.to_string()))?;
    if body.len() as u64 > BODY_LIMIT {
        return Err(Failure::new(Code::TooLarge, format!("{name} is longer than {}", units::bytes(BODY_LIMIT))));
    }
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        return Err(Failure::usage(format!("{name} is not JSON")).cause(error.to_string()).hint(
            r#"a request looks like {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.2]}]}; a file is given as @FILE"#,
        ));
    }
    Ok(body)
}

async fn send(url: &str, body: Vec<u8>, trace: Option<TraceParent>, entered: RegionName) -> Result<Outcome, Failure> {
    let http = http_client().timeout(ANSWER_TIMEOUT).build().expect("the client's settings are constant");
    let unreachable = |error: reqwest::Error| {
        let reason = if error.is_timeout() { "it took too long" } else { "nothing answers there" };
        Failure::new(Code::Unreachable, format!("no answer from the gateway of {entered}"))
            .cause(format!("{url}: {reason}"))
            .hint("see which gateways are alive with `tradewind regions list`, or enter elsewhere with --from")
    };
    let started = Instant::now();
    let mut request = http.post(url).header("content-type", "application/json").body(body);
    if let Some(trace) = trace {
        request = request.header(TRACE_HEADER, trace.to_string());
    }
    let response = request.send().await.map_err(&unreachable)?;
    let status = response.status();
    let headers = response.headers().clone();
    let text = response.bytes().await.map_err(&unreachable)?;
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if !status.is_success() {
        let region = header(gateway::REGION_HEADER);
        return Ok(Outcome::Refused(Refusal::new(status.as_u16(), &text, region, &entered)));
    }
    let number = |name: &str| header(name).and_then(|value| value.parse().ok());
    Ok(Outcome::Answered(Answer {
        schema_version: SCHEMA_VERSION,
        region: header(gateway::REGION_HEADER),
        slot: header(gateway::SLOT_HEADER),
        revision: number(gateway::REVISION_HEADER),
        epoch: number(gateway::EPOCH_HEADER),
        request_id: header(gateway::REQUEST_ID_HEADER),
        took_ms,
        response: serde_json::from_slice(&text)
            .map_err(|_| Failure::failed(format!("the gateway of {entered} did not answer with JSON")))?,
        entered,
    }))
}
