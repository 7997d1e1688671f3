//! `--cache-to` of `type=gha`, `type=s3` and `type=azblob`: builds of several machines share steps by a
//! service that keeps files.

use crossdock_testkit::actions::{SIGNATURE, TOKEN};
use crossdock_testkit::bucket::ACCESS_KEY;
use crossdock_testkit::container::ACCOUNT_KEY;
use crossdock_testkit::{ActionsService, TestBucket, TestContainers};

use crate::support::{Ran, World, grep};

const STEPS: &str = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN echo more > /more\n";

/// A build as a step of a job runs it.
fn build(world: &World, job: &[(&str, &str)], args: &[&str]) -> Ran {
    let command = world.building(STEPS, args);
    job.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
}

#[test]
fn jobs_share_steps() {
    for variables in [&["ACTIONS_CACHE_URL"][..], &["ACTIONS_RESULTS_URL"]] {
        let service = ActionsService::start();
        let url = service.url();
        let mut job: Vec<(&str, &str)> = variables.iter().map(|name| (*name, url.as_str())).collect();
        job.push(("ACTIONS_RUNTIME_TOKEN", TOKEN));
        let cache = ["--cache-from", "type=gha,scope=a b", "--cache-to", "type=gha,mode=max,scope=a b"];
        let args = [&cache[..], &["-t", "t"]].concat();

        let first = World::with_base();
        let built = build(&first, &job, &args);
        assert!(built.err.contains("has no effect: nothing was cached in scope a b yet"), "{}", built.err);
        assert!(
            built.err.contains("exported the cache of 2 steps to the job's cache, scope a b"),
            "{}",
            built.err
        );
        assert_eq!(built.executed().len(), 2);
        built.ok();
        let id = first.sh("t", "cat /id");

        // Another job, which has nothing but the service.
        let second = World::with_base();
        let built = build(&second, &job, &args);
        assert_eq!(built.executed(), [""; 0], "{}", built.err);
        built.ok();
        assert_eq!(second.sh("t", "cat /id"), id);
        let keys = service.keys();
        let lists = keys.iter().filter(|key| key.starts_with("crossdock-index-1-a b#")).count();
        assert_eq!((lists, keys.len()), (2, 4), "{keys:?}");

        // What is damaged or gone is made again.
        service.damage("crossdock-blob-");
        let third = World::with_base();
        let built = build(&third, &job, &args[..2]);
        assert_eq!(built.executed().len(), 2, "{}", built.err);
        built.ok();
        service.evict("crossdock-blob-");
        let fourth = World::with_base();
        let built = build(&fourth, &job, &args[..2]);
        assert_eq!(built.executed().len(), 2, "{}", built.err);
        built.ok();
        service.damage("crossdock-index-");
        build(&fourth, &job, &args[..2]).ok();

        for world in [&first, &second, &third, &fourth] {
            assert_eq!(grep(world.directory.path(), TOKEN.as_bytes()), Vec::<std::path::PathBuf>::new());
            assert_eq!(grep(world.directory.path(), SIGNATURE.as_bytes()), Vec::<std::path::PathBuf>::new());
        }
    }
}

#[test]
fn a_service_that_fails_is_named_without_its_token() {
    let world = World::with_base();
    let built = build(&world, &[], &["--cache-from", "type=gha", "--cache-to", "type=gha,mode=max"]);
    assert_eq!(built.err.matches("ACTIONS_RUNTIME_TOKEN").count(), 2, "{}", built.err);
    built.ok();

    let service = ActionsService::start();
    let given = format!("type=gha,url_v2={},token=wrong.token", service.url());
    let built = build(&world, &[], &["--cache-from", &given]);
    assert!(built.err.contains("status 401") && !built.err.contains("wrong.token"), "{}", built.err);
    built.ok();
    let refused = build(&world, &[], &["--cache-to", &given]);
    assert!(!refused.err.contains("wrong.token"), "{}", refused.err);
    refused.fails_with(&["export the cache to the job's cache", "status 401"]);
    build(&world, &[], &["--cache-to", &format!("{given},ignore-error=1")]).ok();
    // What is typed as buildx accepts it, and what cannot be read, is not shown.
    for given in ["type=gha, Token=wrong.token,scope=a#1", "type=gha,\"token=wrong.token"] {
        let error = build(&world, &[], &["--cache-to", given]).fails(1);
        assert!(error.contains("--cache-to") && !error.contains("wrong.token"), "{error}");
    }
    // Two layers are looked for.
    service.fail_next(&[(400, "what is wrong.token?"); 2]);
    let error =
        build(&world, &[], &["--cache-to", &format!("type=gha,url={},token=wrong.token", service.url())]);
    error.fails_with(&["status 400", "what is ***?"]);
    // Two layers are looked for, and begun.
    service.fail_next(&[(200, "{\"ok\":false}"); 4]);
    let error =
        build(&world, &[], &["--cache-to", &format!("type=gha,url_v2={},token={TOKEN}", service.url())]);
    error.fails_with(&["CreateCacheEntry: it takes no entry"]);
    build(&world, &[], &["--cache-to", "type=gha,token=wrong.token,scope=a#1"])
        .fails_with(&["--cache-to type=gha,scope=a#1", "at most 400 characters"]);
}

#[test]
fn machines_share_steps_by_a_bucket() {
    let bucket = TestBucket::start();
    let url = bucket.url();
    let job = [("AWS_REGION", "r"), ("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    let cache = format!("type=s3,bucket=cache,endpoint_url={url},prefix=a b/,name=app");
    let (from, to) = (["--cache-from", &cache], ["--cache-to", &format!("{cache},mode=max")]);
    let first = World::with_base();
    let built = build(&first, &job, &[&from[..], &to, &["-t", "t"]].concat());
    assert!(built.err.contains("there is no a b/manifests/app.crossdock in the bucket"), "{}", built.err);
    assert_eq!(built.executed().len(), 2);
    built.ok();
    assert_eq!(bucket.keys().len(), 3, "{:?}", bucket.keys());
    assert!(bucket.keys()[0].starts_with("a b/blobs/sha256:"), "{:?}", bucket.keys());

    let second = World::with_base();
    let built = build(&second, &job, &[&from[..], &["-t", "t"]].concat());
    assert_eq!(built.executed(), [""; 0], "{}", built.err);
    built.ok();
    assert_eq!(second.sh("t", "cat /id"), first.sh("t", "cat /id"));

    // A layer that was cut off is made again, and replaced.
    bucket.cut("a b/blobs/");
    let third = World::with_base();
    let built = build(&third, &job, &[&from[..], &to].concat());
    assert_eq!(built.executed().len(), 2, "{}", built.err);
    built.ok();
    let fourth = World::with_base();
    assert_eq!(build(&fourth, &job, &from).executed(), [""; 0]);

    let wrong = [job[0], ("AWS_ACCESS_KEY_ID", "OTHER"), job[2]];
    let built = build(&fourth, &wrong, &from);
    assert!(built.err.contains("the access key has no right to it"), "{}", built.err);
    assert!(!built.err.contains("hunter2") && !built.err.contains("X-Amz-Signature"), "{}", built.err);
    built.ok();
    build(&fourth, &job[..2], &from).ok();
    let error = build(&fourth, &job[..2], &to);
    error.fails_with(&["secret_access_key= is missing, and AWS_SECRET_ACCESS_KEY is not set"]);
}

#[test]
fn machines_share_steps_by_a_container_of_blobs() {
    let service = TestContainers::start();
    let place = format!("type=azblob,account_url={},container=c,prefix=a b,name=app", service.url());
    let with = |key: &str| format!("{place},secret_access_key={key}");
    let (cache, to) = (with(ACCOUNT_KEY), format!("{},mode=max", with(ACCOUNT_KEY)));
    let args = ["--cache-from", &cache, "--cache-to", &to, "-t", "t"];
    let first = World::with_base();
    let built = build(&first, &[], &args);
    assert!(
        built.err.contains("there is no a b/manifests/app.crossdock in the container c yet"),
        "{}",
        built.err
    );
    assert_eq!(built.executed().len(), 2);
    let shown = "exported the cache of 2 steps to a b/manifests/app.crossdock of the container c";
    assert!(built.err.contains(shown), "{}", built.err);
    built.ok();
    let keys = service.keys();
    let layers = keys.iter().filter(|key| key.starts_with("c/a b/blobs/sha256:")).count();
    assert_eq!((layers, keys.len()), (2, 3), "{keys:?}");

    // The key of a job is in its environment.
    let job = [("AZURE_STORAGE_KEY", ACCOUNT_KEY)];
    let second = World::with_base();
    let built = build(&second, &job, &["--cache-from", &place, "-t", "t"]);
    assert_eq!(built.executed(), [""; 0], "{}", built.err);
    built.ok();
    assert_eq!(second.sh("t", "cat /id"), first.sh("t", "cat /id"));

    // A layer that was cut off is made again, and replaced.
    service.cut("a b/blobs/");
    let third = World::with_base();
    assert_eq!(build(&third, &[], &args[..4]).executed().len(), 2);
    let fourth = World::with_base();
    assert_eq!(build(&fourth, &[], &args[..2]).executed(), [""; 0]);

    let wrong = "d3Jvbmcga2V5";
    let refused = build(&fourth, &[], &["--cache-from", &with(wrong)]);
    assert!(refused.err.contains("the key has no right to it"), "{}", refused.err);
    assert!(!refused.err.contains(wrong) && !refused.err.contains("sig="), "{}", refused.err);
    refused.ok();
    let error = build(&fourth, &[], &["--cache-to", &with("no base64!")]).fails(1);
    assert!(error.contains("its key is not base64") && !error.contains("no base64!"), "{error}");
    let error = build(&fourth, &[], &["--cache-to", &place]);
    error.fails_with(&["secret_access_key= is missing, and AZURE_STORAGE_KEY is not set"]);
    for world in [&first, &second, &third, &fourth] {
        assert_eq!(grep(world.directory.path(), ACCOUNT_KEY.as_bytes()), Vec::<std::path::PathBuf>::new());
    }
}
