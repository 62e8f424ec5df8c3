//! Whether the files that a configuration was read from hold something else by now. By their contents: times of files lie
//! where Kubernetes swaps a symbolic link (`..data`) beneath them. Reads nothing on a request's path.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// No file of a configuration is larger; what is beyond is not looked at.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Changed files are left alone for as long as this before they are read, unless the interval is shorter: a certificate
/// and its key are two files, and neither is written at once.
const SETTLE: Duration = Duration::from_secs(1);
/// Files that go on changing are read in the end.
const MOST_LOOKS: usize = 30;

/// What files held when they were looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Contents(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Contents {
    pub(super) fn of(files: &[PathBuf]) -> Self {
        Self(files.iter().map(|file| (file.clone(), digest(file))).collect())
    }

    fn again(&self) -> Self {
        Self(self.0.iter().map(|(file, _)| (file.clone(), digest(file))).collect())
    }

    async fn look(&self) -> Self {
        let before = self.clone();
        // What cannot be looked at now has not changed; the next look is soon.
        spawn_blocking(move || before.again()).await.unwrap_or_else(|_| self.clone())
    }

    /// Returns when one of the files holds something else, and all have been the same for a moment. Zero: never.
    pub(super) async fn changed(&self, interval: Duration) {
        if interval.is_zero() {
            std::future::pending::<()>().await;
        }
        let settle = interval.min(SETTLE);
        loop {
            sleep(interval).await;
            let mut now = self.look().await;
            if now == *self {
                continue;
            }
            for _ in 0..MOST_LOOKS {
                sleep(settle).await;
                let before = std::mem::replace(&mut now, self.look().await);
                if before == now {
                    break;
                }
            }
            if now != *self {
                return;
            }
        }
    }
}

/// None: it cannot be read.
fn digest(file: &Path) -> Option<Vec<u8>> {
    let mut reader = File::open(file).ok()?.take(LARGEST);
    let mut context = Context::new(&SHA256);
    let mut buffer = [0; 8192];
    loop {
        match reader.read(&mut buffer).ok()? {
            0 => return Some(context.finish().as_ref().to_vec()),
            n => context.update(buffer.get(..n)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::time::timeout;

    use super::*;

    const OFTEN: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_file_written_again_with_the_same_text_has_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, absent) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&file, "one").unwrap();
        let known = Contents::of(&[file.clone(), absent.clone()]);
        std::fs::write(&file, "one").unwrap();
        assert_eq!(known.look().await, known);
        std::fs::write(&file, "two").unwrap();
        assert_ne!(known.look().await, known);
        timeout(LONG, known.changed(OFTEN)).await.unwrap();

        let known = known.look().await;
        std::fs::write(&absent, "").unwrap();
        timeout(LONG, known.changed(OFTEN)).await.expect("one that appears has changed");
        let known = known.look().await;
        std::fs::remove_file(&file).unwrap();
        timeout(LONG, known.changed(OFTEN)).await.expect("one that is gone has changed");
    }

    #[tokio::test]
    async fn yx_09_a_swapped_data_link_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..1", "old"), ("..2", "new")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("tls.crt"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let known = Contents::of(&[at("tls.crt")]);
        symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        timeout(LONG, known.changed(OFTEN)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_never() {
        let known = Contents::of(&["/nonexistent".into()]);
        timeout(LONG, known.changed(Duration::ZERO)).await.unwrap_err();
    }
}
