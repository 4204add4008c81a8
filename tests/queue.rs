//! The queue gives one result for each submission, its descriptor is readable exactly while it
//! holds results, and cancelled submissions report whether they were sent.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenapi_standin::{Config, Fault, Rule, Standin, Target, Until};
use support::abi::{options, Client, Queue};

const FIRST: i64 = 5_000_000_000;
const LONG: Duration = Duration::from_secs(30);

fn standin(instances: u32) -> Standin {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.fill(FIRST, instances, None);
    standin
}

fn hold_everything(standin: &Standin) {
    standin.add_faults([Rule {
        method: Target::Delete,
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
}

fn wait_held(standin: &Standin, count: u64) {
    let until = Until {
        held: Some(count),
        ..Until::default()
    };
    assert!(standin.wait(&until, LONG), "{:?}", standin.stats());
}

fn client(standin: &Standin, max_in_flight: u32) -> Client {
    let mut options = options();
    options.max_in_flight = max_in_flight;
    let endpoints = standin.endpoints();
    Client::new(&endpoints.http, &endpoints.token, Some(&options)).unwrap()
}

#[test]
fn every_submission_of_many_threads_gives_one_result() {
    const SUBMITTERS: u64 = 4;
    const TAKERS: usize = 3;
    const EACH: u64 = 1_000;
    let standin = standin((SUBMITTERS * EACH) as u32);
    let client = client(&standin, 64);
    let queue = Queue::new();
    let taken = AtomicUsize::new(0);
    let total = (SUBMITTERS * EACH) as usize;
    let tags: Vec<HashSet<u64>> = std::thread::scope(|scope| {
        for submitter in 0..SUBMITTERS {
            let (queue, client) = (&queue, &client);
            scope.spawn(move || {
                for index in submitter * EACH..(submitter + 1) * EACH {
                    assert_eq!(queue.submit(client, FIRST + index as i64, index), 0);
                }
            });
        }
        let takers: Vec<_> = (0..TAKERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut tags = HashSet::new();
                    while taken.load(Ordering::Relaxed) < total {
                        for result in queue.take(16, 20) {
                            assert_eq!(result.status, 0, "{result:?}");
                            assert_eq!(result.id, FIRST + result.tag as i64);
                            assert!(tags.insert(result.tag));
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    tags
                })
            })
            .collect();
        takers
            .into_iter()
            .map(|taker| taker.join().unwrap())
            .collect()
    });
    let all: HashSet<u64> = tags.iter().flatten().copied().collect();
    assert_eq!(all.len(), total);
    assert_eq!(tags.iter().map(HashSet::len).sum::<usize>(), total);
    assert!(!queue.is_readable());
    assert!(queue.take(1, -1).is_empty(), "an unexpected result");
}

/// How often this thread has slept.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux has /proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok())
        .expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn one_result_wakes_only_one_waiting_thread() {
    const TAKERS: u64 = 64;
    let standin = standin(TAKERS as u32);
    hold_everything(&standin);
    // One request at a time, so that the results come one by one.
    let client = client(&standin, 1);
    let queue = Queue::new();
    for tag in 0..TAKERS {
        queue.submit(&client, FIRST + tag as i64, tag);
    }
    wait_held(&standin, 1);
    let begun = std::sync::Barrier::new(TAKERS as usize + 1);
    let sleeps: u64 = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..TAKERS)
            .map(|_| {
                scope.spawn(|| {
                    begun.wait();
                    let before = sleeps();
                    assert_eq!(queue.take(1, -1).len(), 1);
                    sleeps() - before
                })
            })
            .collect();
        begun.wait();
        standin.clear_faults();
        standin.release();
        let takers = takers.into_iter();
        takers.map(|taker| taker.join().unwrap()).sum()
    });
    // Threads also sleep when they contend for the lock, but if each result woke all threads, they
    // would sleep more than a thousand times.
    assert!(sleeps < 4 * TAKERS, "{sleeps} for {TAKERS} results");
}

#[test]
fn the_descriptor_is_readable_exactly_while_the_queue_holds_results() {
    let standin = standin(3);
    let (client, queue) = (client(&standin, 8), Queue::new());
    assert!(!queue.is_readable());
    hold_everything(&standin);
    for index in 0..3 {
        assert_eq!(queue.submit(&client, FIRST + index, index as u64), 0);
    }
    wait_held(&standin, 3);
    assert!(!queue.is_readable());
    assert!(queue.take(8, 0).is_empty());
    standin.release();
    let mut left = 3;
    while left > 0 {
        let mut poll = libc::pollfd {
            fd: queue.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 30_000) }, 1);
        assert!(
            queue.is_readable(),
            "the descriptor is not readable although the queue holds results"
        );
        left -= queue.take(1, 0).len();
    }
    assert!(!queue.is_readable());
}

#[test]
fn cancelled_submissions_report_whether_they_may_have_been_sent() {
    let standin = standin(4);
    let (client, queue) = (client(&standin, 2), Queue::new());
    hold_everything(&standin);
    // max_in_flight is 2: two requests are sent, two wait for their turn.
    for index in 0..4 {
        assert_eq!(queue.submit(&client, FIRST + index, 7), 0);
    }
    wait_held(&standin, 2);
    assert_eq!(queue.cancel(8), 0);
    assert_eq!(queue.cancel(7), 4);
    assert_eq!(queue.cancel(7), 0);
    let mut statuses: Vec<(i32, u32)> = queue
        .take(8, 0)
        .iter()
        .map(|result| (result.status, result.attempts))
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [(23, 0), (23, 0), (34, 1), (34, 1)]);
    assert!(queue.take(8, -1).is_empty());
    // The cancelled requests no longer count towards max_in_flight.
    standin.clear_faults();
    assert_eq!(queue.submit(&client, FIRST + 3, 9), 0);
    assert_eq!(queue.take(1, -1)[0].status, 0);
}

#[test]
fn a_client_may_be_freed_while_its_work_is_under_way() {
    let standin = standin(10);
    let (client, queue) = (client(&standin, 3), Queue::new());
    hold_everything(&standin);
    for index in 0..10 {
        assert_eq!(queue.submit(&client, FIRST + index, index as u64), 0);
    }
    wait_held(&standin, 3);
    drop(client);
    standin.clear_faults();
    standin.release();
    let mut count = 0;
    while let [first, ..] = queue.take(4, -1)[..] {
        assert_eq!(first.status, 0, "{first:?}");
        count += 1;
        assert!(count <= 10);
    }
    assert_eq!(standin.ledger().len(), 10);
}

#[test]
fn a_queue_may_be_freed_while_work_is_under_way() {
    let standin = standin(10);
    let client = client(&standin, 3);
    let queue = Queue::new();
    hold_everything(&standin);
    for index in 0..10 {
        assert_eq!(queue.submit(&client, FIRST + index, 0), 0);
    }
    wait_held(&standin, 3);
    let fd = queue.fd();
    drop(queue);
    let closed = unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1;
    // If the number is still open, another test of this process has reused it.
    assert!(closed || Queue::new().fd() != fd);
    // Freeing the queue cancelled all its requests, so the client starts another one at once.
    standin.clear_faults();
    assert_eq!(client.delete_instance(FIRST + 9).status, 0);
}

#[test]
fn a_429_holds_back_the_whole_client() {
    let standin = standin(20);
    standin.add_faults([Rule {
        method: Target::Delete,
        times: Some(1),
        fault: Fault {
            status: Some(429),
            headers: vec![("Retry-After".into(), "1".into())],
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let client = client(&standin, 1);
    let queue = Queue::new();
    for index in 0..20 {
        assert_eq!(queue.submit(&client, FIRST + index, 0), 0);
    }
    let mut done = 0;
    while done < 20 {
        done += queue
            .take(20, -1)
            .iter()
            .filter(|result| result.status == 0)
            .count();
    }
    let times: Vec<u64> = standin
        .arrivals()
        .iter()
        .map(|arrival| arrival.at_ms)
        .collect();
    assert_eq!(times.len(), 21);
    assert!(
        times[1] - times[0] >= 990,
        "the request after the 429 came {} ms later",
        times[1] - times[0]
    );
}

#[test]
fn requests_are_paced_evenly() {
    let standin = standin(20);
    let endpoints = standin.endpoints();
    let mut options = options();
    options.requests_per_second = 50.0;
    let client = Client::new(&endpoints.http, &endpoints.token, Some(&options)).unwrap();
    let ids: Vec<i64> = (FIRST..FIRST + 20).collect();
    assert!(client
        .delete_instances(&ids)
        .iter()
        .all(|result| result.status == 0));
    let times: Vec<u64> = standin
        .arrivals()
        .iter()
        .map(|arrival| arrival.at_ms)
        .collect();
    // 19 pauses of 20 ms are 380 ms. After a late timer the next pause may be a little shorter.
    let total = times[19] - times[0];
    assert!(total >= 370, "{total} ms for 20 requests at 50 a second");
}

/// The pace would let the second call start long after its timeout, so the call is not sent.
#[test]
fn a_call_whose_turn_does_not_come_in_time_was_not_started() {
    let standin = standin(2);
    let endpoints = standin.endpoints();
    let mut options = options();
    options.requests_per_second = 0.01;
    options.timeout_ms = 200;
    let client = Client::new(&endpoints.http, &endpoints.token, Some(&options)).unwrap();
    assert_eq!(client.delete_instance(FIRST).status, 0);
    let result = client.delete_instance(FIRST + 1);
    assert_eq!((result.status, result.attempts), (26, 0), "{result:?}");
    assert_eq!(standin.ledger().len(), 1);
}

/// The API asked an earlier call for a pause longer than the timeout, so a later call ends at once.
#[test]
fn a_call_that_a_429_holds_back_past_its_timeout_was_not_started() {
    let standin = standin(1);
    let endpoints = standin.endpoints();
    standin.add_faults([Rule {
        method: Target::Delete,
        times: Some(1),
        fault: Fault {
            status: Some(429),
            headers: vec![("Retry-After".into(), "100".into())],
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let client = Client::new(&endpoints.http, &endpoints.token, None).unwrap();
    let result = client.delete_instance(FIRST);
    assert_eq!((result.status, result.attempts), (13, 1), "{result:?}");
    let result = client.delete_instance(FIRST);
    assert_eq!((result.status, result.attempts), (26, 0), "{result:?}");
    assert!(result.message().contains("429"), "{result:?}");
    assert_eq!(standin.ledger().len(), 0);
}

#[test]
fn an_id_out_of_range_is_accepted_and_its_result_is_the_error() {
    let standin = standin(1);
    let (client, queue) = (client(&standin, 1), Queue::new());
    for (tag, id) in [(1, 0), (2, -1), (3, 10_000_000_000), (4, i64::MIN)] {
        assert_eq!(queue.submit(&client, id, tag), 0);
        assert!(queue.is_readable());
        let result = queue.take(8, 0)[0];
        assert_eq!((result.status, result.id, result.tag), (20, id, tag));
        assert_eq!(client.delete_instance(id).message(), result.message());
        assert!(result.message().contains("9999999999"), "{result:?}");
    }
    assert!(!queue.is_readable());
}
