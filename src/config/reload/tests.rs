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
    let (_, watcher) = Watcher::load(Some(&path), None).unwrap();
    (dir, path, watcher)
}

/// What is told of a change once it was seen to last.
#[track_caller]
fn settled(watcher: &mut Watcher) -> Reload {
    assert_eq!(watcher.poll(), Reload::Unchanged);
    watcher.poll()
}

#[test]
fn a_changed_file_is_told_once() {
    let (_dir, path, mut watcher) = watched("");
    assert_eq!(watcher.poll(), Reload::Unchanged);
    write(&path, VALID, 2);
    let Reload::Valid(config) = settled(&mut watcher) else {
        panic!("valid")
    };
    assert_eq!(config.proxy.max_connections, 5);
    assert_eq!(watcher.poll(), Reload::Unchanged);
}

#[test]
fn a_touched_file_with_the_same_content_is_unchanged() {
    let (_dir, path, mut watcher) = watched(VALID);
    write(&path, VALID, 2);
    assert_eq!(settled(&mut watcher), Reload::Unchanged);
}

#[test]
fn a_change_that_keeps_time_and_length_is_found_by_looking() {
    let (_dir, path, mut watcher) = watched(VALID);
    write(&path, &VALID.replace('5', "6"), 1);
    assert_eq!(settled(&mut watcher), Reload::Unchanged);
    assert!(matches!(watcher.look(), Reload::Valid(_)));
}

#[test]
fn problems_are_told_once_and_a_repaired_file_is_valid() {
    let (_dir, path, mut watcher) = watched(VALID);
    write(&path, "[proxy]\nmax_connections = 0\n", 2);
    assert!(matches!(settled(&mut watcher), Reload::Invalid(_)));
    assert_eq!(watcher.poll(), Reload::Unchanged);
    write(&path, VALID, 3);
    assert!(matches!(settled(&mut watcher), Reload::Valid(_)));
}

#[test]
fn a_removed_file_is_a_problem_until_it_is_back() {
    let (_dir, path, mut watcher) = watched(VALID);
    fs::remove_file(&path).unwrap();
    let Reload::Invalid(problems) = settled(&mut watcher) else {
        panic!("invalid")
    };
    assert!(problems.to_string().contains("config.toml"), "{problems}");
    assert_eq!(watcher.poll(), Reload::Unchanged);
    write(&path, VALID, 1);
    assert!(matches!(settled(&mut watcher), Reload::Valid(_)));
}

#[test]
fn a_named_file_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.toml");
    let problems = Watcher::load(Some(&path), None).unwrap_err().to_string();
    assert!(problems.contains("other.toml"), "{problems}");
}

#[test]
fn the_directory_that_was_asked_for_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    write(&path, VALID, 1);
    let asked = Path::new("elsewhere");
    let (old, mut watcher) = Watcher::load(Some(&path), Some(asked)).unwrap();
    assert_eq!(old.ledger.dir, asked);
    write(&path, "[ledger]\ndir = \"here\"\n", 2);
    let Reload::Valid(new) = settled(&mut watcher) else {
        panic!("valid")
    };
    assert_eq!(new.ledger.dir, asked);
}

#[test]
fn a_file_that_takes_its_place_is_seen_though_it_looks_the_same() {
    let (dir, path, mut watcher) = watched(VALID);
    let new = dir.path().join(".config.toml.swp");
    write(&new, &VALID.replace('5', "6"), 1);
    fs::rename(new, &path).unwrap();
    assert_eq!(connections(settled(&mut watcher)), 6);
    assert_eq!(watcher.poll(), Reload::Unchanged);
}

/// As Kubernetes mounts a `ConfigMap`: the file is a link through a directory that is swapped.
#[cfg(unix)]
#[test]
fn a_swapped_directory_behind_a_link_is_seen() {
    use std::os::unix::fs::symlink;

    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (version, limit) in [("..1", "5"), ("..2", "6")] {
        fs::create_dir(at(version)).unwrap();
        let file = at(version).join("config.toml");
        write(&file, &VALID.replace('5', limit), 1);
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/config.toml", at("config.toml")).unwrap();
    let (config, mut watcher) = Watcher::load(Some(&at("config.toml")), None).unwrap();
    assert_eq!(config.proxy.max_connections, 5);
    assert_eq!(watcher.poll(), Reload::Unchanged);
    symlink("..2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    fs::remove_dir_all(at("..1")).unwrap();
    assert_eq!(connections(settled(&mut watcher)), 6);
}

#[track_caller]
fn connections(reload: Reload) -> usize {
    match reload {
        Reload::Valid(config) => config.proxy.max_connections,
        other => panic!("{other:?}"),
    }
}

#[test]
fn file_that_is_being_written_is_left_alone() {
    let (_dir, path, mut watcher) = watched(VALID);
    write(&path, "", 2);
    assert_eq!(watcher.poll(), Reload::Unchanged);
    write(&path, &VALID.replace('5', "6"), 3);
    assert_eq!(watcher.poll(), Reload::Unchanged);
    assert_eq!(connections(watcher.poll()), 6);
    write(&path, VALID, 4);
    assert_eq!(connections(watcher.look()), 5);
}

#[test]
fn what_is_built_in_at_the_start_is_held_back() {
    let running = Config::default();
    let mut new = Config::default();
    new.proxy.max_body_bytes = 1;
    new.proxy.drain_timeout = Duration::from_secs(1);
    new.admin.allowed_hosts = vec!["other".to_owned()];
    new.upstreams.clear();
    new.accounting.max_accounts = 1;
    let budget = "[[budget]]\nname = \"a\"\ncalls = 1";
    new.budgets = Config::parse("", budget, &|_| None).unwrap().budgets;
    let effective = new.clone();
    assert_eq!(hold_back(&running, &mut new), Vec::<&str>::new());
    assert_eq!(new, effective);
    new.proxy.listen.set_port(1);
    new.admin.listen.set_port(2);
    new.ledger.dir = PathBuf::from("elsewhere");
    new.ledger.max_queue_bytes += 1;
    let held = [
        "proxy.listen",
        "admin.listen",
        "ledger.dir",
        "ledger.max_queue",
    ];
    assert_eq!(hold_back(&running, &mut new), held);
    assert_eq!(new, effective);
}

#[test]
fn an_open_listener_keeps_its_token_until_it_is_gone() {
    let read = |text: &str| Config::parse("", text, &|_| Some("0123456789abcdef".to_owned()));
    let open = read("[admin]\nlisten = \"0.0.0.0:1\"\ntoken_env = \"ONE\"").unwrap();
    let in_force = read("[admin]\nlisten = \"0.0.0.0:1\"\ntoken_env = \"TWO\"").unwrap();
    let mut new = read("[admin]\nlisten = \"127.0.0.1:1\"").unwrap();
    assert_eq!(hold_back(&open, &mut new), ["admin.listen"]);
    assert_eq!(keep_token(&in_force, &mut new), Some("admin.token_env"));
    assert_eq!(new.admin, in_force.admin);
    assert_eq!(keep_token(&open, &mut new), None);
    assert_eq!(new.admin, in_force.admin);
    let mut local = Config::default();
    assert_eq!(keep_token(&in_force, &mut local), None);
    assert_eq!(local.admin.token, None);
}
