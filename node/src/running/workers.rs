//! Threads that check signatures. One bounded queue feeds a few threads, each of which sleeps while there is
//! nothing to do: several nodes may share a machine, and threads that look for work by yielding the processor
//! to one another take a large part of it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Something to check. It holds a permit of whoever bounds the queue.
type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// The way to the threads. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Workers {
    shared: Arc<(Mutex<Queue>, Condvar)>,
}

impl Workers {
    /// Queues a job. Its caller bounds how many there are at one moment, by a permit that the job holds. After
    /// [`Workers::close`] a job is dropped unrun.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let (queue, news) = &*self.shared;
        let mut queue = queue.lock();
        if !queue.closed {
            queue.jobs.push_back(Box::new(job));
            news.notify_one();
        }
    }

    /// Works off jobs on this thread until [`Workers::close`].
    pub(crate) fn work(&self) {
        let (queue, news) = &*self.shared;
        let mut queue = queue.lock();
        while !queue.closed {
            match queue.jobs.pop_front() {
                Some(job) => parking_lot::MutexGuard::unlocked(&mut queue, job),
                None => news.wait(&mut queue),
            }
        }
    }

    /// Ends every thread after the job it is at.
    pub(crate) fn close(&self) {
        let (queue, news) = &*self.shared;
        let mut queue = queue.lock();
        queue.closed = true;
        // Dropped here, and with them the permits that somebody may be waiting for.
        queue.jobs.clear();
        news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_job_runs_once_and_close_ends_the_threads() {
        let (workers, ran) = (Workers::default(), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let workers = workers.clone();
                std::thread::spawn(move || workers.work())
            })
            .collect();
        let (done, all) = std::sync::mpsc::channel();
        for _ in 0..500 {
            let (ran, done) = (Arc::clone(&ran), done.clone());
            workers.spawn(move || {
                ran.fetch_add(1, Ordering::SeqCst);
                done.send(()).unwrap();
            });
        }
        for _ in 0..500 {
            all.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert_eq!(ran.load(Ordering::SeqCst), 500);
        workers.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let counted = Arc::clone(&ran);
        workers.spawn(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(Arc::strong_count(&ran), 1, "a job after the end is dropped, and what it holds with it");
    }
}
