use std::ops::Range;

use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use super::*;

const GRACE: Duration = Duration::from_secs(3600);

/// Bytes that do not repeat, lest parts that are mixed up go unnoticed.
fn bytes(length: usize) -> Bytes {
    (0..length.div_ceil(4)).flat_map(|n| (n as u32).to_le_bytes()).take(length).collect()
}

fn blob_of(bytes: &[u8]) -> Blob {
    Blob { digest: BlobDigest::new(Sha256::digest(bytes).into()), size: bytes.len() as u64 }
}

async fn write(blobs: &Blobs, bytes: &Bytes, chunk: usize) -> Blob {
    let blob = blob_of(bytes);
    let Begun::Upload(mut upload) = blobs.begin(blob).await.unwrap() else { panic!("it is there already") };
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        upload.write(rest.split_to(rest.len().min(chunk))).await.unwrap();
    }
    assert_eq!(upload.finish().await.unwrap(), blob);
    blob
}

async fn read(blobs: &Blobs, blob: Blob, range: Range<u64>) -> Result<Bytes, BlobError> {
    let pieces: Vec<Bytes> = blobs.read(blob, range).await.try_collect().await?;
    Ok(pieces.concat().into())
}

fn files_in(folder: &FilePath) -> Vec<String> {
    let mut files = Vec::new();
    for shard in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            files.push(file.unwrap().file_name().into_string().unwrap());
        }
    }
    files
}

/// Waits for what another thread does, for ten seconds at most.
async fn wait_until(mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.expect("it holds within ten seconds");
}

#[tokio::test]
async fn blobs_of_any_size_are_kept_and_read_in_ranges() {
    let temp = tempfile::tempdir().unwrap();
    for (blobs, again) in [
        (Blobs::in_memory(GRACE), None),
        (Blobs::open(temp.path(), GRACE).unwrap(), Some(Blobs::open(temp.path(), GRACE).unwrap())),
    ] {
        for (length, chunk) in
            [(0, 1), (1, 1), (300_000, 7_000), (4 * 1024 * 1024, 100_000), (17 * 1024 * 1024 + 1, 1 << 20)]
        {
            let bytes = bytes(length);
            let blob = write(&blobs, &bytes, chunk).await;
            assert_eq!(read(&blobs, blob, 0..blob.size).await.unwrap(), bytes);
            assert_eq!(blobs.read_all(blob).await.unwrap(), bytes);
            let size = blob.size;
            // From memory, and from the disk.
            for (blobs, range) in
                [0..size, size / 3..size / 2, size / 2..size, size..size, size / 2..size + 9]
                    .iter()
                    .flat_map(|range| again.iter().chain([&blobs]).map(|blobs| (blobs, range.clone())))
            {
                let expected = &bytes[range.start as usize..range.end.min(size) as usize];
                assert_eq!(read(blobs, blob, range).await.unwrap(), expected);
            }
        }
    }
    // What was acknowledged is there for the next process.
    let reopened = Blobs::open(temp.path(), GRACE).unwrap();
    let blob = blob_of(&bytes(300_000));
    assert_eq!(reopened.find(blob.digest).await.unwrap(), Some(blob));
    assert_eq!(reopened.list().try_collect::<Vec<_>>().await.unwrap().len(), 5);
}

#[tokio::test]
async fn equal_bytes_are_stored_once() {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    let bytes = bytes(5 * 1024 * 1024);
    let blob = blob_of(&bytes);
    // Two at once: both are told that it is not there.
    let (first, second) = (blobs.begin(blob).await.unwrap(), blobs.begin(blob).await.unwrap());
    for begun in [first, second] {
        let Begun::Upload(mut upload) = begun else { panic!("nobody has written it") };
        upload.write(bytes.clone()).await.unwrap();
        assert_eq!(upload.finish().await.unwrap(), blob);
    }
    assert!(matches!(blobs.begin(blob).await.unwrap(), Begun::Exists));
    let half = bytes.len() / 2;
    let pieces = [bytes.slice(..half), bytes.slice(half..)].map(Piece::Bytes).to_vec();
    assert_eq!(blobs.compose(pieces).await.unwrap(), blob);
    assert_eq!(blobs.list().try_collect::<Vec<_>>().await.unwrap(), [blob]);
}

#[tokio::test]
async fn what_is_not_as_it_was_said_to_be_is_refused_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    for length in [10, 6 * 1024 * 1024] {
        let good = bytes(length);
        let blob = blob_of(&good);
        let mut other = good.to_vec();
        other[length / 2] ^= 1;
        for (sent, why) in [
            (Bytes::from(other), "the bytes sent hash to"),
            (good.slice(1..), "bytes were sent"),
            (bytes(length + 1), "more than its"),
        ] {
            let Begun::Upload(mut upload) = blobs.begin(blob).await.unwrap() else { panic!("it is there") };
            let refused = match upload.write(sent).await {
                Ok(()) => upload.finish().await.unwrap_err(),
                Err(refused) => refused,
            };
            assert!(matches!(&refused, BlobError::Differs(text) if text.contains(why)), "{refused}");
            assert_eq!(blobs.find(blob.digest).await.unwrap(), None);
        }
    }
    assert_eq!(blobs.list().try_collect::<Vec<_>>().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_unfinished_is_not_listed_and_goes_with_its_writer_or_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    let bytes = bytes(3 * 1024 * 1024);
    let Begun::Upload(mut upload) = blobs.begin(blob_of(&bytes)).await.unwrap() else {
        panic!("it is there")
    };
    upload.write(bytes.slice(1..)).await.unwrap();
    wait_until(|| files_in(temp.path()).len() == 1).await;
    assert_eq!(blobs.list().try_collect::<Vec<_>>().await.unwrap(), []);
    drop(upload);
    wait_until(|| files_in(temp.path()).is_empty()).await;

    std::fs::write(temp.path().join("staging").join("0123"), "half").unwrap();
    assert_eq!(blobs.list().try_collect::<Vec<_>>().await.unwrap(), []);
    drop(blobs);
    let _blobs = Blobs::open(temp.path(), GRACE).unwrap();
    assert_eq!(files_in(temp.path()), [""; 0]);
}

#[test]
fn a_blob_is_put_together_from_others_on_a_runtime_with_a_single_thread_that_may_block() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let composed = async {
        let temp = tempfile::tempdir().unwrap();
        let piece = write(&Blobs::open(temp.path(), GRACE).unwrap(), &bytes(2_000_000), 100_000).await;
        // Opened again, it has nothing in memory: what it writes waits for what it reads.
        let blobs = Blobs::open(temp.path(), GRACE).unwrap();
        blobs.compose(vec![Piece::Bytes(bytes(1_000_000)), Piece::Blob(piece)]).await.unwrap().size
    };
    let size = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), composed).await });
    // Dropped, it would wait for the threads that hang.
    runtime.shutdown_background();
    assert_eq!(size, Ok(3_000_000));
}

/// Tells when it is dropped.
struct Watched {
    bytes: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test]
async fn of_what_came_with_a_message_only_the_bytes_of_the_blob_are_held() {
    let temp = tempfile::tempdir().unwrap();
    for blobs in [Blobs::in_memory(GRACE), Blobs::open(temp.path(), GRACE).unwrap()] {
        let bytes = bytes(300_000);
        let mut upload = blobs.begin_unnamed().await.unwrap();
        for begin in (0..bytes.len()).step_by(20_000) {
            let alive = Arc::new(());
            let mut message = vec![0; 1_000_000];
            message[..20_000].copy_from_slice(&bytes[begin..begin + 20_000]);
            let message = Bytes::from_owner(Watched { bytes: message, _alive: Arc::clone(&alive) });
            upload.write(message.slice(..20_000)).await.unwrap();
            drop(message);
            assert_eq!(Arc::strong_count(&alive), 1, "chunk at {begin}");
        }
        let blob = upload.finish().await.unwrap();
        assert_eq!(blob, blob_of(&bytes));
        assert_eq!(blobs.read_all(blob).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn what_nobody_waits_for_while_it_is_finished_is_pinned_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    let mut upload = blobs.begin_unnamed().await.unwrap();
    // So little that it does not have to wait for the disk.
    let bytes = bytes(900_000);
    upload.write(bytes.clone()).await.unwrap();
    let mut finishing = Box::pin(upload.finish());
    assert!(futures::poll!(&mut finishing).is_pending());
    drop(finishing);
    let digest = blob_of(&bytes).digest;
    wait_until(|| blobs.pins().is_pinned(digest)).await;
    assert_eq!(files_in(temp.path()), [digest.to_string()]);
}

#[tokio::test]
async fn a_blob_that_has_to_leave_memory_is_read_on_from_where_it_is_stored() {
    let bytes = bytes(3_000_000);
    let size = bytes.len() as u64;
    for (range, damaged_at, is_found) in [
        (0..size, None, false),
        (0..size, Some(10), true),
        (0..size, Some(2_900_000), true),
        (1_000_001..size, None, false),
        (1_000_001..size, Some(10), false),
        (5..2_222_222, None, false),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(temp.path(), GRACE).unwrap();
        let blob = write(&blobs, &bytes, 100_000).await;
        let mut pieces = blobs.read(blob, range.clone()).await;
        let mut found = pieces.try_next().await.unwrap().unwrap().to_vec();
        assert!(found.len() <= 256 * 1024, "a reader holds {} bytes", found.len());
        let mut stored = bytes.to_vec();
        if let Some(at) = damaged_at {
            stored[at] ^= 1;
        }
        std::fs::write(temp.path().join(path_of(blob.digest).as_ref()), &stored).unwrap();
        blobs.recent().forget(blob.digest);
        let rest: Result<Vec<Bytes>, BlobError> = pieces.try_collect().await;
        if is_found {
            assert!(matches!(rest, Err(BlobError::Damaged { .. })), "{range:?}, damaged at {damaged_at:?}");
        } else {
            found.extend(rest.unwrap().concat());
            assert!(found == bytes[range.start as usize..range.end as usize], "{range:?}");
        }
    }
}

#[tokio::test]
async fn what_the_disk_refuses_is_refused_and_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    let bytes = bytes(3 * 1024 * 1024);
    let blob = blob_of(&bytes);
    let upload = async || {
        let Begun::Upload(mut upload) = blobs.begin(blob).await? else { panic!("it is there") };
        for begin in (0..bytes.len()).step_by(100_000) {
            upload.write(bytes.slice(begin..bytes.len().min(begin + 100_000))).await?;
        }
        upload.finish().await
    };
    // Neither can it be begun, nor get its name.
    for folder in [temp.path().join("staging"), temp.path().join(shard_of(blob.digest))] {
        let elsewhere = temp.path().join("elsewhere");
        std::fs::rename(&folder, &elsewhere).unwrap();
        let refused = upload().await.unwrap_err();
        assert!(matches!(refused, BlobError::Unavailable(_)), "{refused}");
        std::fs::rename(&elsewhere, &folder).unwrap();
        assert_eq!(blobs.find(blob.digest).await.unwrap(), None);
    }
    assert_eq!(upload().await.unwrap(), blob);
    assert_eq!(files_in(temp.path()), [blob.digest.to_string()]);
}

#[cfg(unix)]
#[tokio::test]
async fn files_of_blobs_can_be_read_by_nobody_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    let blob = write(&blobs, &bytes(10), 10).await;
    let mode = |path: &FilePath| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&temp.path().join(path_of(blob.digest).as_ref())) & 0o777, 0o600);
    assert_eq!(mode(&temp.path().join(shard_of(blob.digest))) & 0o777, 0o700);
}

#[tokio::test]
async fn damage_is_found_when_a_blob_is_read_whole() {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    let good = bytes(2_000_000);
    let blob = write(&blobs, &good, 250_000).await;
    // What was just written is in memory; a later process reads it from the disk.
    let blobs = Blobs::open(temp.path(), GRACE).unwrap();
    let file = temp.path().join(path_of(blob.digest).as_ref());
    let mut damaged = good.to_vec();
    damaged[1_234_567] ^= 4;
    std::fs::write(&file, &damaged).unwrap();
    assert!(matches!(blobs.read_all(blob).await, Err(BlobError::Damaged { .. })));
    assert!(matches!(blobs.compose(vec![Piece::Blob(blob)]).await, Err(BlobError::Damaged { .. })));

    std::fs::write(&file, &good[..1_500_000]).unwrap();
    let error = blobs.read_all(blob).await.unwrap_err();
    assert!(matches!(error, BlobError::Damaged { .. } | BlobError::Unavailable(_)), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(blobs.read_all(blob).await, Err(BlobError::NotFound(_))));
}

#[tokio::test]
async fn what_is_damaged_is_mended_by_whoever_writes_it_again() {
    let good = bytes(2_000_000);
    let damage = |name, file: &FilePath| match name {
        "changed" => {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[7] ^= 1;
            std::fs::write(file, bytes).unwrap();
        }
        "cut" => std::fs::File::options().write(true).open(file).unwrap().set_len(1_500_000).unwrap(),
        _ => std::fs::remove_file(file).unwrap(),
    };
    for name in ["changed", "cut", "gone"] {
        for is_read in [true, false] {
            let temp = tempfile::tempdir().unwrap();
            let blob = write(&Blobs::open(temp.path(), GRACE).unwrap(), &good, 250_000).await;
            let blobs = Blobs::open(temp.path(), GRACE).unwrap();
            if is_read {
                // Pinned, so it is known to be there.
                assert!(matches!(blobs.begin(blob).await.unwrap(), Begun::Exists));
            }
            damage(name, &temp.path().join(path_of(blob.digest).as_ref()));
            if is_read {
                blobs.read_all(blob).await.unwrap_err();
                assert_eq!(blobs.find_sound(blob.digest).await.unwrap(), None, "{name}");
                assert!(matches!(blobs.require(&[blob]).await, Err(BlobError::NotFound(_))), "{name}");
            } else if name == "changed" {
                // Nobody knows.
                continue;
            }
            write(&blobs, &good, 250_000).await;
            blobs.require(&[blob]).await.unwrap();
            assert!(matches!(blobs.begin(blob).await.unwrap(), Begun::Exists), "{name}");
            let blobs = Blobs::open(temp.path(), GRACE).unwrap();
            assert_eq!(blobs.read_all(blob).await.unwrap(), good, "{name}");
        }
    }
}

#[tokio::test]
async fn a_blob_is_removed_only_if_it_is_neither_pinned_nor_used() {
    let blobs = Blobs::in_memory(Duration::ZERO);
    let blob = write(&blobs, &bytes(10), 10).await;
    assert!(!blobs.remove_if(blob.digest, async || true).await.unwrap(), "it is pinned");
    assert_eq!(blobs.expired(9), [blob.digest]);
    assert!(!blobs.remove_if(blob.digest, async || false).await.unwrap(), "it is used");
    assert_eq!(blobs.find(blob.digest).await.unwrap(), Some(blob), "and pinned again");
    assert!(!blobs.remove_if(blob.digest, async || true).await.unwrap());
    assert_eq!(blobs.expired(9), [blob.digest]);
    assert!(blobs.remove_if(blob.digest, async || true).await.unwrap());
    assert_eq!(blobs.find(blob.digest).await.unwrap(), None);
    assert!(matches!(blobs.require(&[blob]).await, Err(BlobError::NotFound(_))));
}
