//! `cairn`: the node and every tool around it, in one binary.

mod audit;
mod cli;
mod config;
mod exit;
mod home;
mod logging;
mod passphrase;
mod running;
mod snapshots;

/// Tens of threads allocate blocks and free them on others: the system's allocator keeps several times what
/// is in use then. `.cargo/config.toml` says when this one gives memory back (docs/decisions/019).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main().into()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    /// Its options are set while it is built, where a mistake goes unnoticed: it then starts no thread.
    #[test]
    fn the_allocator_has_a_thread_that_gives_memory_back() {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
            let names: Vec<String> = names.filter_map(Result::ok).collect();
            if names.iter().any(|name| name.trim_end() == "jemalloc_bg_thd") {
                return;
            }
            assert!(Instant::now() < end, "threads: {names:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
