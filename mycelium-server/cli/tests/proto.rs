//! `mycelium proto` writes the contract for other languages.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod support;

use std::fs;
use std::path::Path;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use support::{mycelium, run};

#[tokio::test]
async fn the_contract_is_written_whole_and_anew() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/new folder");
    let out_text = out.to_str().unwrap();
    let first = run(mycelium().args(["proto", "--out", out_text])).await.good();
    let again = run(mycelium().args(["proto", "--out", out_text, "--output", "json"])).await.good();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    let listed: Vec<&str> = first.lines().collect();
    assert_eq!(again["files"], serde_json::json!(listed), "what is there is replaced");
    assert_eq!(listed.len(), 13);

    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut paths: Vec<String> = Vec::new();
    for path in listed {
        let relative = Path::new(path).strip_prefix(&out).unwrap();
        if let Some("proto") = relative.extension().and_then(|extension| extension.to_str()) {
            assert_eq!(fs::read(path).unwrap(), fs::read(sources.join(relative)).unwrap(), "{path}");
            paths.push(relative.to_str().unwrap().to_owned());
        }
    }
    assert!(paths.contains(&"google/rpc/error_details.proto".to_owned()), "{paths:?}");
    let ours = fs::read_dir(sources.join("mycelium/v1")).unwrap().count();
    assert_eq!(paths.iter().filter(|path| path.starts_with("mycelium/v1/")).count(), ours);

    // The descriptor set holds them all with what they import, and every file of ours says where its code goes.
    let set = fs::read(out.join("mycelium.v1.binpb")).unwrap();
    let set = FileDescriptorSet::decode(set.as_slice()).unwrap();
    let names: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
    for path in paths.iter().map(String::as_str).chain(["google/protobuf/duration.proto"]) {
        assert!(names.contains(&path), "{path} is not in {names:?}");
    }
    for file in &set.file {
        for import in &file.dependency {
            assert!(names.contains(&import.as_str()), "{import} is not in {names:?}");
        }
        if file.package() != "mycelium.v1" {
            continue;
        }
        let options = file.options.as_ref().unwrap();
        let said = (
            options.go_package(),
            options.java_package(),
            options.java_multiple_files(),
            options.csharp_namespace(),
            options.php_namespace(),
            options.ruby_package(),
        );
        let expected =
            ("mycelium/v1;myceliumv1", "mycelium.v1", true, "Mycelium.V1", r"Mycelium\V1", "Mycelium::V1");
        assert_eq!(said, expected, "{}", file.name());
        assert!(!file.source_code_info.as_ref().unwrap().location.is_empty(), "comments are kept");
    }
}

#[tokio::test]
async fn a_place_that_is_no_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let text = run(mycelium().args(["proto", "--out", file.to_str().unwrap()])).await.bad(2);
    assert_eq!(text, format!("error: --out: `{}` is there, and is no folder", file.display()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let below = file.join("below");
    let text = run(mycelium().args(["proto", "--out", below.to_str().unwrap()])).await.bad(1);
    assert!(text.starts_with(&format!("error: cannot write `{}", below.display())), "{text}");
    let empty = run(mycelium().args(["proto", "--out", ""])).await;
    assert_eq!(empty.code, Some(2), "{}", empty.stderr);
    let missing = run(mycelium().args(["proto"])).await;
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("--out <DIR>"), "{}", missing.stderr);
    let elsewhere = run(mycelium().args(["proto", "--out", "x", "--url", "http://127.0.0.1:1"])).await;
    assert!(elsewhere.stderr.contains("takes no --url"), "{}", elsewhere.stderr);
}
