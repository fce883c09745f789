use std::fs::FileTimes;
use std::path::Path;
use std::time::Duration;

use super::*;

const VALID: &str = "[proxy]\nmax_connections = 5\n";

/// Writes a file whose time of change is `second`, so that no test depends on the clock.
fn write(path: &Path, text: &str, second: u64) {
    fs::write(path, text).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn watched(text: &str) -> (tempfile::TempDir, PathBuf, Watcher) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    write(&path, text, 1);
    let watcher = Watcher::new(path.clone());
    (dir, path, watcher)
}

#[test]
fn a_changed_file_is_told_once() {
    let (_dir, path, mut watcher) = watched("");
    assert_eq!(watcher.poll(), Reload::Unchanged);
    write(&path, VALID, 2);
    let Reload::Valid(config) = watcher.poll() else {
        panic!("valid")
    };
    assert_eq!(config.proxy.max_connections, 5);
    assert_eq!(watcher.poll(), Reload::Unchanged);
}

#[test]
fn a_touched_file_with_the_same_content_is_unchanged() {
    let (_dir, path, mut watcher) = watched(VALID);
    write(&path, VALID, 2);
    assert_eq!(watcher.poll(), Reload::Unchanged);
}

#[test]
fn a_change_that_keeps_time_and_length_is_found_by_looking() {
    let (_dir, path, mut watcher) = watched(VALID);
    write(&path, &VALID.replace('5', "6"), 1);
    assert_eq!(watcher.poll(), Reload::Unchanged);
    assert!(matches!(watcher.look(), Reload::Valid(_)));
}

#[test]
fn problems_are_told_once_and_a_repaired_file_is_valid() {
    let (_dir, path, mut watcher) = watched(VALID);
    write(&path, "[proxy]\nmax_connections = 0\n", 2);
    assert!(matches!(watcher.poll(), Reload::Invalid(_)));
    assert_eq!(watcher.poll(), Reload::Unchanged);
    write(&path, VALID, 3);
    assert!(matches!(watcher.poll(), Reload::Valid(_)));
}

#[test]
fn a_removed_file_is_a_problem_and_an_absent_one_is_none() {
    let (dir, path, mut watcher) = watched(VALID);
    fs::remove_file(&path).unwrap();
    assert!(matches!(watcher.poll(), Reload::Invalid(_)));
    assert_eq!(watcher.poll(), Reload::Unchanged);
    let mut absent = Watcher::new(dir.path().join("other.toml"));
    assert_eq!(absent.poll(), Reload::Unchanged);
    assert_eq!(absent.look(), Reload::Unchanged);
    write(&dir.path().join("other.toml"), VALID, 1);
    assert!(matches!(absent.poll(), Reload::Valid(_)));
}

#[test]
fn only_keys_that_are_built_in_at_the_start_need_a_restart() {
    let old = Config::default();
    let mut new = Config::default();
    new.proxy.max_body_bytes = 1;
    new.proxy.drain_timeout = Duration::from_secs(1);
    new.upstreams.clear();
    assert_eq!(restart_needed(&old, &new), Vec::<&str>::new());
    new.proxy.listen.set_port(1);
    new.ledger.dir = PathBuf::from("elsewhere");
    assert_eq!(restart_needed(&old, &new), ["proxy.listen", "ledger.dir"]);
}
