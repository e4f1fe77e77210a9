//! Mistakes that people make: the words that help, the exit code, and nothing changed.

use anyhow::Result;

use super::{example, json, ok, refused, start};

#[tokio::test]
async fn mistakes_end_with_words_that_help() -> Result<()> {
    let world = start(&["us-east1", "europe-west1"]).await?;
    ok(&world, &format!("models push {}", example("v1"))).await?;
    let before = (json(&world, "models list").await?, json(&world, "status").await?["models"].clone());

    for line in [
        "deploy --regions us-west1 europe-west1 m",
        "deploy --regions [us-west1 europe-west1] m",
        "deploy --region us-west1 europe-west1 m",
    ] {
        let expected = "error: regions are separated by commas: --regions us-west1,europe-west1\n\
                        hint: tradewind deploy --regions us-west1,europe-west1 m\n";
        assert_eq!(refused(&world, line, 2).await?, expected, "{line}");
    }
    for (line, code, sentence, hint) in [
        (
            "deploy --regions us-east1,europe-wst1 digits",
            3,
            "no region is called `europe-wst1`",
            "did you mean `europe-west1`? regions here: europe-west1, us-east1",
        ),
        ("deploy --regions us-east1 digitz", 3, "no model is called `digitz`", "did you mean `digits`?"),
        ("deploy --regions us-east1 digits:9", 3, "digits has no version 9", "its versions: 1"),
        ("models show digits:9", 3, "digits has no version 9", "its versions: 1"),
        ("models show letters", 3, "no model is called `letters`", "models here: digits"),
        ("status letters", 3, "letters", ""),
        ("history letters", 3, "letters", ""),
        ("rollout show letters", 3, "letters", ""),
        ("deploy digits", 2, "regions", "--regions"),
        ("deploy --regions us-east1 ./nowhere", 3, "there is no ./nowhere", ""),
    ] {
        let said = refused(&world, line, code).await?;
        let lines = |start: &str| said.lines().filter(|line| line.starts_with(start)).collect::<String>();
        assert!(lines("error: ").contains(sentence), "{line}: {said}");
        assert!(lines("hint: ").contains(hint), "{line}: {said}");
    }
    assert_eq!((json(&world, "models list").await?, json(&world, "status").await?["models"].clone()), before);
    Ok(())
}
