//! Tables are cut by the values of a column.

use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, types::Int32Type};
use arrow_schema::DataType;
use tradewind_pipeline::data::Portion;

use super::{World, column, names};

fn by(column: &str) -> Portion {
    Portion::Column(column.to_owned())
}

#[tokio::test]
async fn rows_with_one_value_of_all_files_are_a_batch() {
    let world = World::new(&[
        ("a.csv", "day,n\n2026-01-02,1\n2026-01-01,2\n2026-01-02,3\n,4\n"),
        ("b.csv", "day,n\n2026-01-01,5\n2026-01-02,6\n"),
    ]);
    let before = world.prepared("*.csv", by("day")).await.unwrap();
    assert_eq!(names(&before.batches), ["day=2026-01-01", "day=2026-01-02", "day=null"]);
    let numbers = |place: usize| column(&before.batches[place], "n");
    assert_eq!([numbers(0), numbers(1), numbers(2)], [vec!["2", "5"], vec!["1", "3", "6"], vec!["4"]]);
    assert_eq!((before.keys().count(), world.directories("work")), (1, 0));

    world.write("b.csv", "day,n\n2026-01-01,5\n2026-01-02,6\n2026-01-03,7\n2026-01-01,8\n");
    let after = world.prepared("*.csv", by("day")).await.unwrap();
    let digest = |batches: &[tradewind_pipeline::data::Batch], name: &str| {
        batches.iter().find(|batch| batch.name == name).map(|batch| batch.digest)
    };
    assert_eq!(after.batches.len(), 4);
    for (name, is_same) in [("day=2026-01-01", false), ("day=2026-01-02", true), ("day=null", true)] {
        assert_eq!(digest(&after.batches, name) == digest(&before.batches, name), is_same, "{name}");
    }
}

#[tokio::test]
async fn a_batch_has_the_same_bytes_whatever_lies_between_its_rows() {
    let rows = |other: usize| {
        let mut text = "k,n\n".to_owned();
        for n in 0..5000 {
            text += &format!("a,{n}\n");
            text += &format!("b{},{n}\n", n % 7).repeat(usize::from(n % 5 == 0) * other);
        }
        text
    };
    let digests = async |other| {
        let world = World::new(&[("a.csv", &rows(other))]);
        let batches = world.prepared("a.csv", by("k")).await.unwrap().batches;
        (batches[0].digest, batches.len())
    };
    let (few, many) = (digests(1).await, digests(40).await);
    assert_eq!((few.0, few.1, many.1), (many.0, 8, 8));
}

#[tokio::test]
async fn categories_keep_their_type() {
    let world = World::new(&[]);
    for (name, values) in [("a.parquet", ["x", "y", "x"]), ("b.parquet", ["z", "x", "z"])] {
        let values: DictionaryArray<Int32Type> = values.into_iter().collect();
        world.write_parquet(name, &RecordBatch::try_from_iter([("k", Arc::new(values) as ArrayRef)]).unwrap());
    }
    let prepared = world.prepared("*.parquet", by("k")).await.unwrap();
    assert_eq!(names(&prepared.batches), ["k=x", "k=y", "k=z"]);
    assert_eq!(column(&prepared.batches[0], "k"), ["x", "x", "x"]);
    let rows = super::rows(&prepared.batches[0]);
    assert!(matches!(rows[0].column(0).data_type(), DataType::Dictionary(..)), "as it was");
}

#[tokio::test]
async fn values_name_batches() {
    let world = World::new(&[(
        "a.jsonl",
        "{\"k\":\"null\"}\n{\"k\":null}\n{\"k\":\"\"}\n{\"k\":\"a b/c\"}\n{\"k\":\"\\\"\\n\"}\n{\"k\":\"ö\"}\n",
    )]);
    let prepared = world.prepared("a.jsonl", by("k")).await.unwrap();
    assert_eq!(names(&prepared.batches), ["k=", "k=\"\\\"\\n\"", "k=\"null\"", "k=a b/c", "k=null", "k=ö"]);
}

#[tokio::test]
async fn what_cannot_be_cut_by_is_said() {
    let many: String = (0..10_001).map(|n| format!("{{\"n\":{n},\"l\":[1]}}\n")).collect();
    let long = format!("{{\"n\":\"{}\"}}\n", "x".repeat(300));
    let world = World::new(&[("a.jsonl", &many), ("b.jsonl", &long), ("c.txt", "x")]);
    for (source, key, expected) in [
        ("a.jsonl", "x", "there is no column `x` to cut by: there are l, n"),
        ("a.jsonl", "n", "there are more than 10000 values in the column to cut by: cut by another column, or by rows"),
        ("a.jsonl", "l", "the data: column `l` is List(Int64), whose values cannot name a batch"),
        ("b.jsonl", "n", "the data: cannot be cut by column `n`: a value of it is longer than 256 bytes"),
        ("c.txt", "n", "`column` needs tables, and `c.txt` is none: cut files by \"file\" or bytes"),
    ] {
        assert_eq!(world.problem(source, by(key)).await, expected);
        assert_eq!(world.directories("work"), 0);
    }
}
