//! Blobs, in batches and as streams.

use std::collections::BTreeMap;

use crossdock_reapi::{Blob, Content, Digest, FarmError};
use crossdock_testkit::farm::TestFarm;

use crate::client;

/// Bytes that zstd makes smaller, though not small: 3 MiB.
fn large() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 60) as u8
    };
    (0..3 << 20).map(|_| next()).collect()
}

#[test]
fn small_blobs_go_in_batches_and_files_only_once() {
    let farm = TestFarm::start(1, &[]);
    farm.behave(|behaviour| behaviour.batch_size_max = 64 << 10);
    let client = client(&farm);
    let directory = tempfile::tempdir().expect("a directory");
    let file = |i: u8| {
        let path = directory.path().join(i.to_string());
        let bytes = vec![i; 10 << 10];
        std::fs::write(&path, &bytes).expect("written");
        Blob { digest: Digest::of(&bytes), content: Content::File(path, false) }
    };
    let blobs: Vec<Blob> = (0..100).map(file).collect();
    farm.take_requests();
    client.send(&[&blobs[..], &blobs[..3]].concat()).expect("sent");
    let requests = farm.take_requests();
    assert_eq!(requests["FindMissingBlobs"], 1);
    // Six of them fit into a batch.
    assert_eq!(requests["BatchUpdateBlobs"], 17);
    client.send(&blobs).expect("there already");
    assert_eq!(farm.take_requests(), BTreeMap::from([("FindMissingBlobs".to_string(), 1)]));
    for (i, blob) in blobs.iter().enumerate() {
        assert_eq!(client.read_small(&blob.digest).expect("it is there"), vec![i as u8; 10 << 10]);
    }
    farm.take_requests();
    // What is in memory is new, most likely.
    client.send(&[Blob::of(b"a message".to_vec()), blobs[0].clone()]).expect("sent");
    let requests = farm.take_requests().into_iter().collect::<Vec<_>>();
    assert_eq!(requests, ["BatchUpdateBlobs", "FindMissingBlobs"].map(|name| (name.to_string(), 1)));
    let nowhere = [Blob { digest: Digest::of(b"nowhere"), content: Content::Elsewhere }];
    let lacks = |error| matches!(error, FarmError::Missing(list) if list == [Digest::of(b"nowhere")]);
    assert!(client.send(&nowhere).is_err_and(lacks));
    farm.put(b"nowhere".to_vec());
    client.send(&nowhere).expect("the server has it");
}

#[test]
fn streams_go_on_where_they_broke() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("blob");
    let bytes = large();
    std::fs::write(&path, &bytes).expect("written");
    for is_compressible in [false, true] {
        let farm = TestFarm::start(1, &[]);
        let client = client(&farm);
        let digest = Digest::of(&bytes);
        let blob = Blob { digest: digest.clone(), content: Content::File(path.clone(), is_compressible) };
        farm.behave(|behaviour| behaviour.breaks_streams = 2);
        farm.take_requests();
        client.send(&[blob]).expect("sent");
        let requests = farm.take_requests();
        assert_eq!(requests["Write"], 3);
        assert_eq!(
            requests.get("QueryWriteStatus").copied().unwrap_or_default(),
            if is_compressible { 0 } else { 2 }
        );
        farm.behave(|behaviour| behaviour.breaks_streams = 2);
        let mut read = Vec::new();
        client.read(&digest, is_compressible, &mut read).expect("read");
        assert!(read == bytes, "{} bytes", read.len());
        assert_eq!(farm.take_requests()["Read"], 3);
    }
}

#[test]
fn what_a_server_says_is_verified() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    let (small, bytes) = (Blob::of(b"hello".to_vec()), large());
    let large = Blob::of(bytes.clone());
    client.send(&[small.clone(), large.clone()]).expect("sent");
    farm.behave(|behaviour| behaviour.lies = 3);
    assert!(matches!(client.read_small(&small.digest), Err(FarmError::Corrupt { .. })));
    for is_compressible in [false, true] {
        let read = client.read(&large.digest, is_compressible, &mut Vec::new());
        assert!(matches!(read, Err(FarmError::Corrupt { .. })), "{read:?}");
    }
    client.read(&large.digest, false, &mut Vec::new()).expect("an honest answer");
    farm.forget_blobs();
    assert!(
        matches!(client.read_small(&small.digest), Err(FarmError::Missing(list)) if list == [small.digest.clone()])
    );
    assert!(matches!(client.read(&large.digest, true, &mut Vec::new()), Err(FarmError::Missing(_))));
    assert_eq!(client.missing(&[small.digest.clone(), small.digest.clone()]).expect("asked").len(), 1);
    // A blob that is longer than its digest says ends before it fills the disk.
    farm.put(bytes);
    farm.behave(|behaviour| behaviour.lengthens = 2);
    for is_compressible in [false, true] {
        let read = client.read(&large.digest, is_compressible, &mut Vec::new());
        assert!(matches!(read, Err(FarmError::Corrupt { .. })), "{read:?}");
    }
}

#[test]
fn one_of_many_threads_sends_a_large_blob() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    let blob = Blob::of(large());
    farm.take_requests();
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| client.send(std::slice::from_ref(&blob)).expect("sent"));
        }
    });
    assert_eq!(farm.take_requests()["Write"], 1);
}
