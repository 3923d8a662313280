//! The shipped pipelines, each by the cases beside it.

use std::path::Path;
use std::process::Command;

/// The files of `config/` whose names end so.
fn shipped(ending: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files = std::fs::read_dir(folder).expect("it is there");
    let names = files
        .map(|file| file.expect("it can be read").file_name().into_string().expect("the names are ours"));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

#[test]
fn every_shipped_pipeline_passes_its_cases() {
    let cases = shipped(".test.yaml");
    let pipelines: Vec<String> =
        shipped(".yaml").into_iter().filter(|name| !name.ends_with(".test.yaml")).collect();
    let with_cases: Vec<String> = cases.iter().map(|name| name.replace(".test.", ".")).collect();
    assert_eq!(pipelines, with_cases, "each pipeline has a file of cases");
    assert!(pipelines.len() >= 8, "{pipelines:?}");

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("test")
        .args(&pipelines)
        .current_dir(&folder)
        .env_remove("TIDEMILL_DATA")
        .env_remove("LOG_PORT")
        .output()
        .expect("the binary was built for this test");
    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}{errors}");
    for name in cases {
        assert!(shown.contains(&format!("ok      {name}: ")), "{name} has no case: {shown}");
    }
}

/// `UPDATE_EXPECTED=1 cargo test config` writes them anew.
#[test]
fn the_schemas_that_the_files_name_are_those_of_this_version() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for (args, name) in
        [(&["schema"][..], "tidemill.schema.json"), (&["schema", "--cases"], "tidemill-test.schema.json")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemill")).args(args).output().expect("it was built");
        assert!(output.status.success());
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(folder.join(name), &output.stdout).expect("the folder can be written");
        }
        let kept = std::fs::read(folder.join(name)).expect("it is there");
        assert!(kept == output.stdout, "config/{name} is of another version");
    }
}
