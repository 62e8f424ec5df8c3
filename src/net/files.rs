//! Open files: a connection is one, and a request that is passed on takes another. It asks the system how many there may
//! be; who gets one is decided elsewhere.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept back for listeners, the log, the admin listener, providers and the store.
const RESERVE: u64 = 64;

/// Takes as many as the system grants: what a shell or systemd sets at first (1024) is meant for programs that use
/// `select`. Returns how many client connections that is enough for.
pub fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let files = if raised.is_ok() { limit.maximum } else { limit.current };
    files.map_or(usize::MAX, enough_for)
}

/// SECURITY: FX-21. Each with a file left for its upstream: else those that are open would be answered 502.
fn enough_for(files: u64) -> usize {
    let each = files.saturating_sub(RESERVE) / 2;
    usize::try_from(each.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fx_21_every_connection_has_a_file_for_its_upstream() {
        assert_eq!(enough_for(1024), 480);
        assert_eq!(enough_for(256), 96);
        // So few that nothing works well; but it says so, and does not refuse everybody.
        assert_eq!(enough_for(10), 1);
    }
}
