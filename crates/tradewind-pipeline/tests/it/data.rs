//! Data becomes batches.

mod column;
mod fetch;
mod rows;

use std::{fs, path::PathBuf, sync::Mutex};

use arrow_array::RecordBatch;
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
use tempfile::TempDir;
use tradewind_core::pipeline::file::{Cut, Data, Format};
use tradewind_pipeline::data::{Batch, Error, Portion, Prepared, Progress, Survey, prepare};

/// A directory with a pipeline's data.
struct World {
    base: TempDir,
    /// How far the last preparation said it was.
    told: Mutex<Vec<Progress>>,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let world = Self { base: TempDir::new().expect("a directory"), told: Mutex::default() };
        for (name, text) in files {
            world.write(name, text);
        }
        world
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below the base")).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_parquet(&self, name: &str, rows: &RecordBatch) {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        self.write(name, bytes);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path(".tradewind/pipelines/test")
    }

    async fn prepared(&self, source: &str, portion: Portion) -> Result<Prepared, Error> {
        self.prepared_as(source, None, portion).await
    }

    async fn prepared_as(&self, source: &str, format: Option<Format>, portion: Portion) -> Result<Prepared, Error> {
        self.told.lock().unwrap().clear();
        let said = |progress| self.told.lock().unwrap().push(progress);
        prepare(&data(&[source], format), &portion, self.base.path(), &self.home(), &said).await
    }

    async fn survey(&self, source: &str) -> Survey {
        Survey::of(&data(&[source], None), self.base.path(), &self.home(), &|_| ()).await.unwrap()
    }

    async fn problem(&self, source: &str, portion: Portion) -> String {
        self.prepared(source, portion).await.expect_err("there is a problem").to_string()
    }

    fn directories(&self, name: &str) -> usize {
        fs::read_dir(self.home().join(name)).unwrap().count()
    }
}

fn data(source: &[&str], format: Option<Format>) -> Data {
    let source = source.iter().map(|source| (*source).to_owned()).collect();
    Data { source, format, batch: Cut::default(), holdout: 0.0 }
}

fn names(batches: &[Batch]) -> Vec<&str> {
    batches.iter().map(|batch| batch.name.as_str()).collect()
}

/// The rows of a batch that was cut.
fn rows(batch: &Batch) -> Vec<RecordBatch> {
    let file = fs::File::open(&batch.files[0]).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let rows: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(Some(count as u64), batch.rows, "{}", batch.name);
    rows
}

/// The values of a column of a batch, as text.
fn column(batch: &Batch, name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for rows in rows(batch) {
        let column = arrow_cast::cast(rows.column_by_name(name).unwrap(), &arrow_schema::DataType::Utf8).unwrap();
        let column: &arrow_array::StringArray = arrow_array::cast::AsArray::as_string(&column);
        values.extend(column.iter().map(|value| value.unwrap_or("-").to_owned()));
    }
    values
}

#[tokio::test]
async fn each_file_is_a_batch_as_it_is() {
    let world = World::new(&[("data/b.csv", "x,y\n1,z\n\n3,\"4\n5\"\n"), ("data/a.csv", "x,y\n1,a")]);
    let prepared = world.prepared("data/*.csv", Portion::File).await.unwrap();
    assert_eq!(names(&prepared.batches), ["data/a.csv", "data/b.csv"]);
    let [a, b] = &prepared.batches[..] else { panic!("two batches") };
    assert_eq!((a.rows, a.bytes, a.format), (Some(1), 7, Format::Csv));
    assert_eq!((b.rows, b.files.as_slice()), (Some(2), &[world.path("data/b.csv").canonicalize().unwrap()][..]));
    assert_eq!(a.digest.as_bytes(), blake3::hash(b"x,y\n1,a").as_bytes());
    assert_eq!((prepared.sources.files, prepared.sources.bytes, prepared.sources.rows), (2, 24, Some(3)));
    assert_eq!((prepared.keys().count(), world.directories("batches")), (0, 0), "nothing is copied");
}

#[tokio::test]
async fn what_is_known_is_not_read_again() {
    // Files that were not written a moment ago: those are read again, as they may be written again.
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let world = World::new(&[]);
    let read = async || {
        let told = Mutex::new(Vec::new());
        let said = |progress| told.lock().unwrap().push(progress);
        let data = data(&["src/**/*.rs"], None);
        let prepared = prepare(&data, &Portion::File, &base, &world.home(), &said).await.unwrap();
        let told = told.into_inner().unwrap();
        (prepared.sources, told.into_iter().any(|progress| matches!(progress, Progress::Reading { .. })))
    };
    let (first, was_read) = read().await;
    assert!(was_read && first.files > 10);
    assert_eq!(read().await, (first, false));

    for torn in ["", "{\"version\":1,\"files\"", "{\"version\":2,\"schemas\":[],\"files\":{}}", "[]"] {
        fs::write(world.home().join("sources.json"), torn).unwrap();
        assert_eq!(read().await, (first, true), "{torn}");
    }
    assert_eq!(read().await, (first, false));
}

#[tokio::test]
async fn a_file_that_was_written_a_moment_ago_is_read_again() {
    let world = World::new(&[("a.txt", "one")]);
    let before = world.prepared("a.txt", Portion::File).await.unwrap();
    let stamp = fs::metadata(world.path("a.txt")).unwrap().modified().unwrap();
    world.write("a.txt", "two");
    fs::File::options().write(true).open(world.path("a.txt")).unwrap().set_modified(stamp).unwrap();
    let after = world.prepared("a.txt", Portion::File).await.unwrap();
    assert_ne!(before.batches[0].digest, after.batches[0].digest);
}

#[tokio::test]
async fn what_has_nothing_in_it_is_left_out_and_said() {
    let world = World::new(&[("a.csv", "x\n1\n"), ("b.csv", ""), ("c.csv", "x\n"), ("d/e.csv", "\n\n")]);
    let prepared = world.prepared("*.csv", Portion::File).await.unwrap();
    assert_eq!(names(&prepared.batches), ["a.csv"]);
    assert_eq!(prepared.warnings, ["2 files have nothing in them and are left out: b.csv .."]);
    assert_eq!(
        world.problem("d", Portion::Rows(5)).await,
        "there is no data: d/e.csv has nothing in it and is left out"
    );
}

#[tokio::test]
async fn formats_are_not_mixed() {
    let world = World::new(&[("data/a.csv", "x\n1\n"), ("data/b.jsonl", "{\"x\":1}\n"), ("data/notes.txt", "x")]);
    assert_eq!(
        world.problem("data", Portion::File).await,
        "`data/a.csv` is CSV, `data/b.jsonl` is JSON lines: name files of one format in `source`, or say `format`"
    );
    let prepared = world.prepared_as("data", Some(Format::Files), Portion::File).await.unwrap();
    assert_eq!(prepared.batches.len(), 3);
    assert_eq!(
        world.problem("data/*.txt", Portion::Rows(1)).await,
        "`rows` needs tables, and `data/notes.txt` is none: cut files by \"file\" or bytes"
    );
}

#[tokio::test]
async fn neighbouring_files_are_put_together_and_few_groups_change() {
    let world = World::new(&[]);
    for number in 0..400 {
        world.write(&format!("images/{number:03}.png"), vec![b'x'; 100 + number % 7]);
    }
    let before = world.prepared("images", Portion::Bytes(2000)).await.unwrap().batches;
    let together: Vec<&PathBuf> = before.iter().flat_map(|batch| &batch.files).collect();
    assert_eq!(together.len(), 400);
    assert!(together.is_sorted(), "each file once, in order");
    assert!(before.iter().all(|batch| batch.bytes <= 2000));
    assert!(before.len() < 50, "{} groups", before.len());
    assert!(before[0].name.starts_with("images/000.png..0"), "{}", before[0].name);

    world.write("images/1000.png", "new");
    let after = world.prepared("images", Portion::Bytes(2000)).await.unwrap().batches;
    let changed = after.iter().filter(|batch| !before.contains(batch)).count();
    assert!((1..8).contains(&changed), "{changed} of {} groups changed", after.len());

    let threes = world.prepared("images", Portion::Files(3)).await.unwrap().batches;
    assert!(threes.iter().all(|batch| batch.files.len() <= 3));
    assert!(names(&threes).is_sorted());
    let all = world.prepared("images", Portion::Bytes(1)).await.unwrap().batches;
    assert_eq!((all.len(), all[1].name.as_str()), (401, "images/001.png"), "a file is the least");
}

#[tokio::test]
async fn a_sample_is_the_beginning_of_the_data() {
    let world = World::new(&[
        ("data/a.csv", "x\n1\n2\n3\n"),
        ("data/b.csv", "x\n4\n5\n"),
        ("more/a.txt", "a"),
        ("more/b.txt", "b"),
    ]);
    let survey = world.survey("data").await;
    assert_eq!(survey.sources().rows, Some(5));
    for (amount, name, expected) in [
        (2, "sample[0..2]", &["1", "2"][..]),
        (4, "sample[0..4]", &["1", "2", "3", "4"]),
        (9, "sample[0..5]", &["1", "2", "3", "4", "5"]),
    ] {
        let sample = survey.sample(amount, &|_| ()).await.unwrap();
        assert_eq!(sample.name, name);
        assert_eq!(column(&sample, "x"), expected);
    }
    let files = world.survey("more").await.sample(1, &|_| ()).await.unwrap();
    assert_eq!((files.name.as_str(), files.files.len(), files.rows), ("sample[0..1]", 1, None));
}

#[tokio::test]
async fn work_that_was_cut_off_is_not_taken_for_done() {
    let world = World::new(&[("a.csv", "x\n1\n2\n3\n")]);
    let first = world.prepared("a.csv", Portion::Rows(2)).await.unwrap();
    let key = first.keys().next().unwrap();
    let directory = world.home().join("batches").join(&key);

    fs::remove_file(directory.join("0000001.parquet")).unwrap();
    world.write(".tradewind/pipelines/test/work/cut-abc/0000000.parquet", "half");
    let again = world.prepared("a.csv", Portion::Rows(2)).await.unwrap();
    assert_eq!(again.batches, first.batches);
    assert_eq!(rows(&again.batches[1]).len(), 1);

    fs::write(directory.join("index.json"), "{\"version\":1,\"par").unwrap();
    assert_eq!(world.prepared("a.csv", Portion::Rows(2)).await.unwrap().batches, first.batches);

    let modified = || fs::metadata(directory.join("0000000.parquet")).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(world.prepared("a.csv", Portion::Rows(2)).await.unwrap().batches, first.batches);
    assert_eq!(modified(), before, "what is whole is not cut again");
    assert_eq!(world.directories("work"), 1, "nothing of its own is left");
}
