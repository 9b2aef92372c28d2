//! Inputs and outputs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use firn_sandbox::{ExitKind, Input};

use super::fixture::{Fixture, root};

async fn inputs_are_read_only(mut it: Fixture) {
    let dir = it.content("dir", "/nix/store/aaa-dir");
    fs::write(dir.join("file"), "in a directory").unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let file = it.at("content/file");
    fs::write(&file, "a file").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let link = it.at("content/link");
    symlink("aaa-dir/file", &link).unwrap();
    let dangling = it.at("content/dangling");
    symlink("/etc/shadow", &dangling).unwrap();
    for (target, source) in [("bbb-file", file), ("ccc-link", link), ("ddd-dangling", dangling)] {
        it.spec.inputs.push(Input {
            target: format!("/nix/store/{target}").into(),
            source,
        });
    }
    let log = it
        .output(
            "cd /nix/store; echo *; cat aaa-dir/file; echo; cat bbb-file; echo; readlink ccc-link; cat ccc-link; echo
             readlink ddd-dangling; cat ddd-dangling 2>&1 | grep -c 'No such'
             for c in 'touch aaa-dir/new' 'touch aaa-dir/file' 'touch bbb-file' 'chmod 700 aaa-dir' 'ln bbb-file mine' \
                 'rm -f bbb-file' 'mv aaa-dir eee' 'rmdir aaa-dir'; do $c 2>/dev/null && echo \"done: $c\"; done
             echo built > out-1; mkdir out-2; echo deep > out-2/file; ln -s out-1 out-3; echo *",
        )
        .await;
    assert_eq!(
        log,
        "aaa-dir bbb-file ccc-link ddd-dangling\nin a directory\na file\naaa-dir/file\nin a directory\n/etc/shadow\n1\n\
         aaa-dir bbb-file ccc-link ddd-dangling out-1 out-2 out-3\n"
    );
    let mut left: Vec<_> = fs::read_dir(it.at("outputs/store"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["out-1", "out-2", "out-3"]);
    assert_eq!(
        fs::read_to_string(it.at("outputs/store/out-2/file")).unwrap(),
        "deep\n"
    );
    assert_eq!(
        fs::metadata(it.at("outputs/store/out-2/file")).unwrap().uid(),
        it.uid
    );
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "in a directory");
    assert!(
        fs::read_dir(it.spec.scratch.join("root"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[tokio::test]
async fn inputs_are_read_only_and_outputs_are_found() {
    let Some(it) = Fixture::new() else { return };
    inputs_are_read_only(it).await;
}

#[tokio::test]
async fn the_same_for_an_ordinary_user() {
    let Some(it) = Fixture::ordinary_user() else {
        return;
    };
    inputs_are_read_only(it).await;
}

#[tokio::test]
async fn the_same_without_an_overlay() {
    let (Some(mut it), Ok(elsewhere)) = (Fixture::new(), tempfile::tempdir_in("/dev/shm")) else {
        eprintln!("skipped: needs /dev/shm as another file system");
        return;
    };
    // An overlay needs its working directory in the file system of the outputs.
    it.spec.scratch = elsewhere.path().to_owned();
    inputs_are_read_only(it).await;
}

/// Prints which of the two ways this machine takes.
#[tokio::test]
async fn the_store_directory_shows_no_host_path() {
    for it in [Fixture::new(), Fixture::ordinary_user()] {
        let Some(mut it) = it else { return };
        it.content("dir", "/nix/store/aaa-dir");
        let log = it.output("grep ' /nix/store ' /proc/mounts").await;
        print!("{log}");
        assert!(!log.contains(it.dir.path().to_str().unwrap()), "{log}");
    }
}

#[tokio::test]
async fn sources_may_lie_where_only_root_can_go() {
    let Some(mut it) = Fixture::new() else { return };
    if !root() {
        return;
    }
    let dir = it.content("dir", "/nix/store/aaa-dir");
    fs::write(dir.join("file"), "x").unwrap();
    fs::set_permissions(it.at("content"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        it.output("cat /nix/store/aaa-dir/file; stat -c ' %u' /nix/store/aaa-dir/file")
            .await,
        "x 65534\n"
    );
}

/// As the content store keeps them: root's, and writable for nobody.
#[tokio::test]
async fn contents_of_the_store_need_no_mounts() {
    let Some(mut it) = Fixture::new() else { return };
    if !root() {
        eprintln!("skipped: needs root");
        return;
    }
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let dir = it.content("ab/dir", "/nix/store/aaa-dir");
    fs::create_dir(dir.join("bin")).unwrap();
    fs::write(dir.join("bin/tool"), "#!/bin/sh\necho a tool\n").unwrap();
    mode(&dir.join("bin/tool"), 0o555);
    for path in [dir.join("bin"), dir.clone()] {
        mode(&path, 0o555);
    }
    let file = it.at("content/ab/file");
    fs::write(&file, "a file").unwrap();
    mode(&file, 0o444);
    let script = it.at("content/ab/script");
    fs::write(&script, "#!/bin/sh\necho a script\n").unwrap();
    mode(&script, 0o555);
    let link = it.at("content/ab/link");
    symlink("aaa-dir/bin", &link).unwrap();
    let elsewhere = it.at("bin/elsewhere");
    fs::write(&elsewhere, "elsewhere").unwrap();
    for (target, source) in [
        ("bbb-file", file.clone()),
        ("ccc-script", script),
        ("ddd-link", link),
        ("eee-elsewhere", elsewhere),
    ] {
        it.spec.inputs.push(Input {
            target: format!("/nix/store/{target}").into(),
            source,
        });
    }
    fs::write(it.at("content/ab/secret"), "somebody else's").unwrap();
    it.spec.content_dir = Some(it.at("content"));
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
    fs::File::open(&file).unwrap().set_modified(old).unwrap();
    let log = it
        .output(
            "cd /nix/store; echo *; aaa-dir/bin/tool; ./ccc-script; ls ddd-link; cat bbb-file eee-elsewhere; echo
             stat -c '%a %u %s %Y' bbb-file; stat -c '%a %u' aaa-dir aaa-dir/bin/tool ccc-script
             for c in 'touch aaa-dir/new' 'touch bbb-file' 'chmod 777 aaa-dir' 'ln bbb-file mine' 'rm -f bbb-file' \
                 'mv aaa-dir fff' 'rm -rf aaa-dir' 'mv bbb-file ggg'; do $c 2>/dev/null && echo \"done: $c\"; done
             grep -c store /proc/self/mountinfo; grep -c content /proc/self/mountinfo
             echo built > out",
        )
        .await;
    assert_eq!(
        log,
        "aaa-dir bbb-file ccc-script ddd-link eee-elsewhere\na tool\na script\ntool\na fileelsewhere\n\
         444 65534 6 1\n555 65534\n555 65534\n555 65534\n2\n0\n"
    );
    let left: Vec<_> = fs::read_dir(it.at("outputs/store"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["out"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a file");
}

#[tokio::test]
async fn two_at_once_see_different_contents_under_one_name() {
    let (Some(mut one), Some(mut two)) = (Fixture::new(), Fixture::new()) else {
        return;
    };
    for (it, text) in [(&mut one, "one"), (&mut two, "two")] {
        let dir = it.content("dir", "/nix/store/aaa-dir");
        fs::write(dir.join("file"), text).unwrap();
        it.sh("touch /build/started; sleep 0.3; cat /nix/store/aaa-dir/file");
    }
    let (one, two) = tokio::join!(one.run(), two.run());
    assert_eq!((one.1.as_str(), two.1.as_str()), ("one", "two"));
}

#[tokio::test]
async fn thousands_of_inputs() {
    let Some(mut it) = Fixture::new() else { return };
    for number in 0..2000 {
        let dir = it.content(&number.to_string(), &format!("/nix/store/{number}-dir"));
        fs::write(dir.join("file"), number.to_string()).unwrap();
    }
    let log = it
        .output("cd /nix/store; set -- *; echo $#; cat 1234-dir/file; touch 77-dir/x 2>/dev/null || true")
        .await;
    assert_eq!(log, "2000\n1234");
}

#[tokio::test]
async fn what_cannot_be_set_up_is_named() {
    let Some(mut it) = Fixture::new() else { return };
    it.spec.inputs = vec![Input {
        target: "/nix/store/aaa".into(),
        source: "/does/not/exist".into(),
    }];
    let (exit, _) = it.run().await;
    let ExitKind::SetupFailed(why) = &exit.status else {
        panic!("{exit:?}")
    };
    assert!(
        why.contains("/does/not/exist") && why.contains("No such file"),
        "{why}"
    );

    it.spec.inputs.clear();
    it.dir = tempfile::tempdir().unwrap();
    let (exit, _) = it.run().await;
    assert!(
        matches!(&exit.status, ExitKind::SetupFailed(why) if why.contains("scratch")),
        "{exit:?}"
    );
}

#[tokio::test]
async fn a_program_that_is_absent_is_the_requests_own_doing() {
    let Some(mut it) = Fixture::new() else { return };
    it.spec.program = b"/bin/absent".to_vec();
    let (exit, _) = it.run().await;
    assert!(
        matches!(&exit.status, ExitKind::NotExecutable(why) if why.contains("/bin/absent")),
        "{exit:?}"
    );
}
