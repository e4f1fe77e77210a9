//! Tables are cut into rows.

use std::sync::Arc;

use arrow_array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, TimeUnit};
use proptest::prelude::*;
use tradewind_pipeline::data::Portion;

use super::{World, column, names, rows};

#[tokio::test]
async fn rows_of_each_file_by_itself() {
    let world = World::new(&[
        ("data/a.csv", "id,name\n1,\"x, y\"\n2,\n3,\"two\nlines\"\n"),
        ("data/b.csv", "name,id\r\nz,4\r\n"),
    ]);
    let prepared = world.prepared("data", Portion::Rows(2)).await.unwrap();
    assert_eq!(names(&prepared.batches), ["data/a.csv[0..2]", "data/a.csv[2..3]", "data/b.csv[0..1]"]);
    let columns = |name| prepared.batches.iter().flat_map(|batch| column(batch, name)).collect::<Vec<_>>();
    assert_eq!(columns("id"), ["1", "2", "3", "4"]);
    assert_eq!(columns("name"), ["x, y", "-", "two\nlines", "z"], "by name, whatever the order of the columns");
    assert_eq!(prepared.keys().count(), 2);
    let elsewhere = World::new(&[("data/a.csv", "id,name\n1,\"x, y\"\n2,\n3,\"two\nlines\"\n")]);
    let same = elsewhere.prepared("data", Portion::Rows(2)).await.unwrap();
    assert_eq!(same.batches[0].digest, prepared.batches[0].digest, "the same rows are the same bytes");
}

#[tokio::test]
async fn files_of_one_content_are_cut_at_the_same_time() {
    let names: Vec<String> = (0..64).map(|number| format!("data/{number}.csv")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "id\n1\n2\n")).collect();
    for _ in 0..8 {
        let world = World::new(&files);
        let prepared = world.prepared("data", Portion::Rows(1)).await.unwrap();
        assert_eq!((prepared.batches.len(), prepared.keys().count()), (128, 1));
        assert!(prepared.batches.iter().all(|batch| batch.files[0].is_file()));
    }
}

#[tokio::test]
async fn types_are_those_of_all_files() {
    let world = World::new(&[
        ("a.csv", "n,day,at,flag,text,none\n1,2026-01-02,2026-01-02 03:04:05,true,1a,\n"),
        ("b.csv", "n,day,at,flag,text,none\n1.5,,2026-01-02T03:04:05.123,,,\n"),
    ]);
    let prepared = world.prepared("*.csv", Portion::Rows(9)).await.unwrap();
    let first = rows(&prepared.batches[0]);
    let types: Vec<DataType> = first[0].schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let at = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(types, [DataType::Float64, DataType::Date32, at, DataType::Boolean, DataType::Utf8, DataType::Utf8]);
    assert_eq!(column(&prepared.batches[1], "at"), ["2026-01-02T03:04:05.123"]);
}

#[tokio::test]
async fn lines_of_json() {
    let world = World::new(&[
        ("a.jsonl", "{\"id\":1,\"tags\":[\"a\"],\"at\":{\"x\":1}}\n\n{\"id\":2,\"more\":null}\n"),
        ("b.ndjson", "{\"id\":3.5,\"more\":\"text\"}"),
    ]);
    let prepared = world.prepared("*.*", Portion::Rows(1)).await.unwrap();
    assert_eq!(names(&prepared.batches), ["a.jsonl[0..1]", "a.jsonl[1..2]", "b.ndjson[0..1]"]);
    let columns = |name| prepared.batches.iter().flat_map(|batch| column(batch, name)).collect::<Vec<_>>();
    assert_eq!(
        (columns("id"), columns("more")),
        (vec!["1.0".into(), "2.0".into(), "3.5".into()], vec!["-".into(), "-".into(), "text".to_owned()])
    );
}

#[tokio::test]
async fn what_is_wrong_is_named_by_file_and_line() {
    let many: String = (0..20_000).map(|number| format!("{number},x\n")).collect();
    for (files, expected) in [
        (
            &[("a.csv", "n,t\n1,x\n"), ("b.csv", "n,t\nten,x\n")][..],
            "b.csv: column `n` is Utf8, in `a.csv` it is Int64",
        ),
        (&[("a.csv", "n,t\n1,x\n"), ("b.csv", "n\n1\n")], "b.csv has no column `t`, which `a.csv` has"),
        (&[("a.csv", "n\n1\n"), ("b.csv", "n,t\n1,x\n")], "a.csv has no column `t`, which `b.csv` has"),
        (&[("a.csv", "n,n\n1,2\n")], "a.csv: columns 1 and 2 are both called `n`"),
        (&[("a.csv", "n,t\n1,\"x\n2,y\n")], "a.csv:2: a quote is opened here and never closed"),
        (&[("a.csv", &format!("n,t\n{many}\"\n\",x\nten,y\n"))], "a.csv:20002: column `n`: `\n` is not Int64"),
        (
            &[("a.csv", &format!("n,t\n{many}\n1,x\n1,2,3\n"))],
            "a.csv:20004: it has more than 2 fields, and the header 2",
        ),
        (&[("a.csv", &format!("n,t\n{many}1\n"))], "a.csv:20002: it has 1 fields, and the header 2"),
        (
            &[("a.jsonl", "{\"n\":1}\n"), ("b.jsonl", "{\"n\":\"x\"}\n")],
            "b.jsonl: column `n` is Utf8, in `a.jsonl` it is Int64",
        ),
        (&[("a.jsonl", &format!("{}{{\"n\":true}}", "{\"n\":1}\n".repeat(10_100)))], "a.jsonl:10101: "),
        (&[("a.jsonl", &format!("{}{{\"m\":1}}", "{\"n\":1}\n".repeat(10_100)))], "a.jsonl:10101: "),
        (&[("a.jsonl", &format!("{}{{\"n\":1", "{\"n\":1}\n".repeat(10_100)))], "a.jsonl:10101: "),
        (
            &[("a.jsonl", &format!("{}{{\"n\":1}}{{\"n\":2}}\n", "{\"n\":1}\n".repeat(10_100)))],
            "a.jsonl:10101: it is not one object",
        ),
        (&[("a.jsonl", "{\"n\":1}\n[1]\n")], "a.jsonl: "),
        (&[("a.parquet", "no Parquet")], "a.parquet: "),
    ] {
        let world = World::new(files);
        let problem = world.problem("*.*", Portion::Rows(1000)).await;
        assert!(problem.starts_with(expected), "{problem}\nnot {expected}");
        assert_eq!((world.directories("work"), problem.len() < 400), (0, true), "{problem}");
    }
}

fn table(ids: std::ops::Range<i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.collect();
    let text: Vec<Option<String>> = ids.iter().map(|id| (id % 3 != 0).then(|| format!("row {id}"))).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as arrow_array::ArrayRef),
        ("text", Arc::new(StringArray::from(text))),
    ])
    .unwrap()
}

#[tokio::test]
async fn parquet_keeps_its_types() {
    let world = World::new(&[]);
    world.write_parquet("a.parquet", &table(0..20_000));
    world.write_parquet("b.parquet", &table(20_000..20_001));
    world.write_parquet("c.parquet", &table(0..0));
    let prepared = world.prepared("*.parquet", Portion::Rows(9000)).await.unwrap();
    let expected = ["a.parquet[0..9000]", "a.parquet[9000..18000]", "a.parquet[18000..20000]", "b.parquet[0..1]"];
    assert_eq!(names(&prepared.batches), expected);
    assert_eq!(prepared.warnings, ["c.parquet has nothing in it and is left out"]);
    let ids: Vec<String> = prepared.batches.iter().flat_map(|batch| column(batch, "id")).collect();
    assert_eq!(ids, (0..20_001).map(|id| id.to_string()).collect::<Vec<_>>());

    let halves = world.prepared("a.parquet", Portion::Bytes(prepared.sources.bytes / 2)).await.unwrap();
    assert!((2..4).contains(&halves.batches.len()), "{:?}", names(&halves.batches));

    let other: arrow_array::ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let text: arrow_array::ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    world.write_parquet("d.parquet", &RecordBatch::try_from_iter([("id", other), ("text", text)]).unwrap());
    assert_eq!(
        world.problem("*.parquet", Portion::Rows(10)).await,
        "d.parquet: column `id` is Float64, in `a.parquet` it is Int64"
    );
}

#[tokio::test]
async fn a_file_that_changes_changes_its_own_batches_alone() {
    let numbers =
        |range: std::ops::Range<u32>| range.fold("n\n".to_owned(), |text, number| text + &number.to_string() + "\n");
    let world = World::new(&[("a.csv", &numbers(0..25_000)), ("b.csv", &numbers(0..100))]);
    let before = world.prepared("*.csv", Portion::Rows(10_000)).await.unwrap();
    world.write("a.csv", numbers(0..26_000));
    let grown = world.prepared("*.csv", Portion::Rows(10_000)).await.unwrap();
    assert_eq!(
        grown.batches[..2],
        before.batches[..2]
            .iter()
            .map(|batch| {
                let place = batch.files[0].file_name().unwrap();
                let directory = grown.batches[0].files[0].parent().unwrap();
                tradewind_pipeline::data::Batch { files: vec![directory.join(place)], ..batch.clone() }
            })
            .collect::<Vec<_>>()[..],
        "what was there stays as it is when a file grows"
    );
    assert_eq!(grown.batches[2].name, "a.csv[20000..26000]");
    assert_eq!(grown.batches[3], before.batches[3]);
    let (kept, new): (Vec<_>, Vec<_>) = grown.keys().partition(|key| before.keys().any(|before| before == *key));
    assert_eq!((kept.len(), new.len()), (1, 1));
}

#[tokio::test]
async fn bytes_are_those_of_the_text() {
    let text: String = std::iter::once("n,t\n".to_owned()).chain((0..100).map(|n| format!("{n:03},xxxx\n"))).collect();
    let world = World::new(&[("a.csv", &text), ("long.csv", &format!("n,t\n1,{}\n2,y\n", "x".repeat(3000)))]);
    let prepared = world.prepared("a.csv", Portion::Bytes(95)).await.unwrap();
    assert_eq!(prepared.batches.len(), 10, "ten rows of nine bytes each");
    let prepared = world.prepared("long.csv", Portion::Bytes(1024)).await.unwrap();
    assert_eq!(names(&prepared.batches), ["long.csv[0..1]", "long.csv[1..2]"], "a row is the least");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A damaged file is an error that names it, or is read as something else, and ends nothing.
    #[test]
    fn damaged_parquet_is_an_error(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = World::new(&[]);
        world.write_parquet("a.parquet", &table(0..300));
        let mut bytes = std::fs::read(world.path("a.parquet")).unwrap();
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        world.write("a.parquet", bytes);
        if let Err(error) = runtime.block_on(world.prepared("a.parquet", Portion::Rows(100))) {
            prop_assert!(error.to_string().contains("a.parquet"), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Any text is cut into as many rows as were counted, or is an error that names the file.
    #[test]
    fn any_text_is_rows_or_an_error(text in "[ab,1\"\n\r{}:\\[\\] .é-]{0,40}", ending in "csv|jsonl") {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let name = format!("a.{ending}");
        let world = World::new(&[(&name, &text)]);
        match runtime.block_on(world.prepared(&name, Portion::Rows(2))) {
            Ok(prepared) => {
                let cut: u64 = prepared.batches.iter().filter_map(|batch| batch.rows).sum();
                prop_assert_eq!(Some(cut), prepared.sources.rows);
            }
            Err(error) => prop_assert!(error.to_string().contains(&name), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any table, cut in any way, has each row once and in order, and is cut into the same bytes every time.
    #[test]
    fn every_cut_keeps_every_row(
        texts in prop::collection::vec(("[a-c,\"\n\r ]{0,8}", 0_u8..4), 1..300), files in 1_usize..4,
        amount in 1_u64..120, how in 0_u8..4, json in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = World::new(&[]);
        let mut expected = Vec::new();
        for (file, texts) in texts.chunks(texts.len().div_ceil(files)).enumerate() {
            let mut lines = if json { String::new() } else { "id,text,group\n".to_owned() };
            for (text, group) in texts {
                let id = expected.len();
                let line = if json {
                    serde_json::json!({"id": id, "text": text, "group": format!("g{group}")}).to_string()
                } else {
                    format!("{id},\"{}\",g{group}", text.replace('"', "\"\""))
                };
                lines += &(line + if id % 3 == 0 && !json { "\r\n" } else { "\n" });
                expected.push((text.clone(), *group));
            }
            world.write(&format!("data/{file}.{}", if json { "jsonl" } else { "csv" }), lines);
        }
        let portion = match how {
            0 => Portion::Rows(amount),
            1 => Portion::Bytes(amount * 20),
            2 => Portion::Rows(u64::MAX),
            _ => Portion::Column("group".to_owned()),
        };
        let prepared = runtime.block_on(world.prepared("data", portion.clone())).unwrap();
        let mut seen = Vec::new();
        for batch in &prepared.batches {
            let ids: Vec<usize> = column(batch, "id").iter().map(|id| id.parse().unwrap()).collect();
            prop_assert!(ids.is_sorted());
            for (id, text) in ids.iter().zip(column(batch, "text")) {
                let (wanted, group) = &expected[*id];
                // An empty value of CSV is none.
                prop_assert!(text == *wanted || wanted.is_empty() && text == "-", "{text:?} {wanted:?}");
                let value = format!("group=g{group}");
                prop_assert!(how != 3 || batch.name == value);
            }
            prop_assert!(how != 0 || batch.rows <= Some(amount));
            seen.extend(ids);
        }
        prop_assert!(how == 3 || seen.is_sorted());
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..expected.len()).collect::<Vec<_>>());

        std::fs::remove_dir_all(world.home()).unwrap();
        let again = runtime.block_on(world.prepared("data", portion)).unwrap();
        prop_assert_eq!(again.batches, prepared.batches);
    }
}
