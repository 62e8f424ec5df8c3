//! A proxy as a process of its own, so that the kernel can say what it spent.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tokio::net::TcpStream;

pub(crate) struct Child {
    process: std::process::Child,
    callgrind: Option<NamedTempFile>,
}

impl Child {
    /// Returns when `listen` answers.
    pub(crate) async fn start(program: &Path, arguments: &[String], listen: SocketAddr, callgrind: bool) -> Self {
        let report = callgrind.then(|| NamedTempFile::new().unwrap());
        let mut command = match &report {
            None => Command::new(program),
            Some(report) => {
                let mut valgrind = Command::new("valgrind");
                valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
                valgrind.arg(format!("--log-file={}", report.path().display())).arg(program);
                valgrind
            }
        };
        let mut process = command
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e} (set DOORWARD?)", program.display()));
        let patience = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(listen).await.is_err() {
            assert!(process.try_wait().unwrap().is_none(), "{} ended at once", program.display());
            assert!(Instant::now() < patience, "{} does not listen on {listen}", program.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { process, callgrind: report }
    }

    /// The memory of it and its children, where shared pages count in parts (proc(5): `Pss` of `smaps_rollup`).
    #[allow(dead_code, reason = "each benchmark uses a part of it")]
    pub(crate) fn memory_kib(&self) -> u64 {
        let parent = |process: &str| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
        };
        let memory = |process: &str| {
            let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let own =
            |process: &String| process.parse() == Ok(self.process.id()) || parent(process) == Some(self.process.id());
        processes.filter(own).filter_map(|process| memory(&process)).sum()
    }

    /// User and system time of all its threads (proc(5): fields 14 and 15 of `stat`, in hundredths of a second).
    #[allow(dead_code, reason = "each benchmark uses a part of it")]
    pub(crate) fn cpu_micros(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The name in parentheses may hold blanks.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10_000).sum()
    }

    /// Ends it, and reads how many instructions it took.
    #[allow(dead_code, reason = "each benchmark uses a part of it")]
    pub(crate) fn instructions(mut self) -> u64 {
        self.terminate();
        let report = fs::read_to_string(self.callgrind.as_ref().unwrap().path()).unwrap();
        let collected = report.split("Collected : ").nth(1).and_then(|rest| rest.lines().next());
        collected.unwrap_or_else(|| panic!("no count in: {report}")).trim().parse().unwrap()
    }

    fn terminate(&mut self) {
        let id = self.process.id().to_string();
        drop(Command::new("kill").args(["-TERM", &id]).status());
        drop(self.process.wait());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.terminate();
        }
    }
}
