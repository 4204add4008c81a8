//! A process that opens a journal knows the deletions of earlier processes, however those ended.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use greenapi_standin::{Config, Fault, Rule, Stage, Standin, Target, Then, Until};
use support::abi::{c_string, options, Client, Queue, RawOptions, RawResult};
use support::journal::{self, crc32, finish, run, start, Said};

const PATIENCE: Duration = Duration::from_secs(20);
const FIRST: i64 = 5_000_000_000;
/// An id that never exists.
const MISSING: i64 = 9_000_000_001;

/// A stand-in with some instances, and the path of a journal.
struct Scene {
    standin: Standin,
    path: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Self {
        let standin = Standin::start(Config::default()).expect("the stand-in starts");
        standin.fill(FIRST, 100, Some("notAuthorized"));
        let path = support::scratch("journals").join(name);
        let _ = fs::remove_file(&path);
        Self { standin, path }
    }

    fn try_client(
        &self,
        url: &str,
        change: impl FnOnce(&mut RawOptions),
    ) -> Result<Client, Box<RawResult>> {
        let path = c_string(self.path.to_str().expect("UTF-8"));
        let mut options = options();
        options.journal = path.as_ptr();
        options.max_retries = 0;
        change(&mut options);
        Client::new(url, &self.standin.endpoints().token, Some(&options))
    }

    fn client(&self) -> Client {
        self.try_client(&self.standin.endpoints().http, |_| {})
            .unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Why a client with this journal is refused.
    fn refusal(&self) -> RawResult {
        match self.try_client(&self.standin.endpoints().http, |_| {}) {
            Ok(_) => panic!("{:?} was accepted", self.path),
            Err(error) => *error,
        }
    }

    /// Resets the connection of the next deletion at `stage`, so that it gets no answer.
    fn lose_next(&self, stage: Stage) {
        self.standin.add_faults([Rule {
            method: Target::Delete,
            times: Some(1),
            fault: Fault {
                stage: Some(stage),
                then: Some(Then::Reset),
                ..Fault::default()
            },
            ..Rule::default()
        }]);
    }

    /// Waits until the journal is closed, which its thread does a moment after its last client
    /// ended.
    fn await_closed(&self) {
        use std::os::fd::AsRawFd;
        let file = fs::File::open(&self.path).expect("the journal exists");
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    }

    fn received(&self, id: i64) -> u64 {
        self.standin
            .requests()
            .get(&id)
            .map_or(0, |requests| requests.received)
    }

    fn lines(&self) -> Vec<journal::Line> {
        journal::read(&self.path).1
    }

    fn worker(&self, mode: &str) -> Command {
        let endpoints = self.standin.endpoints();
        journal::worker(mode, &self.path, &endpoints.http, &endpoints.token)
    }

    fn shimmed(&self, mode: &str) -> Command {
        journal::shimmed(self.worker(mode), &self.path)
    }
}

fn of(said: &[Said], id: i64) -> &Said {
    said.iter().find(|said| said.id == id).expect("a result")
}

#[test]
fn a_confirmed_deletion_is_answered_without_a_request() {
    let scene = Scene::new("ended");
    let ids = [FIRST, FIRST + 1, MISSING];
    {
        let client = scene.client();
        let results = client.delete_instances(&ids);
        let statuses: Vec<i32> = results.iter().map(|result| result.status).collect();
        assert_eq!(statuses, [0, 0, 10]);
        // A second call in the same process is also answered from the journal.
        assert_eq!(client.delete_instance(FIRST).attempts, 0);
    }
    assert_eq!(scene.standin.ledger().len(), 2);
    let client = scene.client();
    let queue = Queue::new();
    for (tag, id) in (0..).zip(ids) {
        assert_eq!(queue.submit(&client, id, tag), 0);
    }
    let mut queued = Vec::new();
    while queued.len() < ids.len() {
        queued.extend(queue.take(8, -1));
    }
    queued.sort_by_key(|result| result.tag);
    let blocking = ids.map(|id| client.delete_instance(id)).to_vec();
    let bulk = client.delete_instances(&ids);
    for results in [blocking, bulk, queued] {
        for result in &results[..2] {
            assert_eq!((result.status, result.code), (0, 200), "{result:?}");
            assert_eq!((result.attempts, result.http_status), (0, 0), "{result:?}");
            assert!(result.message().contains(" UTC"), "{result:?}");
        }
        // An id that never existed is still NOT_FOUND.
        let missing = &results[2];
        assert_eq!((missing.status, missing.attempts), (10, 1), "{missing:?}");
    }
    assert_eq!(scene.received(FIRST) + scene.received(FIRST + 1), 2);
    assert_eq!(scene.received(MISSING), 4);
}

#[test]
fn a_lost_deletion_is_sent_again_and_not_found_becomes_gone() {
    let scene = Scene::new("lost");
    scene.lose_next(Stage::Acted);
    assert_eq!(scene.client().delete_instance(FIRST).status, 31);
    // A refusal says nothing about the earlier deletion, whose outcome stays unknown.
    let wrong = {
        let path = c_string(scene.path.to_str().unwrap());
        let mut options = options();
        options.journal = path.as_ptr();
        let url = &scene.standin.endpoints().http;
        Client::new(url, "gac.of-somebody-else", Some(&options)).unwrap()
    };
    let refused = wrong.delete_instance(FIRST);
    assert_eq!((refused.status, refused.attempts), (11, 1), "{refused:?}");
    assert!(
        refused.message().contains("may have deleted"),
        "{refused:?}"
    );
    drop(wrong);
    let client = scene.client();
    let gone = client.delete_instance(FIRST);
    assert_eq!((gone.status, gone.code), (1, 404), "{gone:?}");
    assert_eq!((gone.attempts, gone.http_status), (1, 200), "{gone:?}");
    let again = client.delete_instance(FIRST);
    assert_eq!((again.status, again.code), (1, 404), "{again:?}");
    assert_eq!(again.attempts, 0, "{again:?}");

    // This request is lost before the API carries it out, so the second call deletes the instance.
    scene.lose_next(Stage::Received);
    assert_eq!(client.delete_instance(FIRST + 1).status, 31);
    assert_eq!(client.delete_instance(FIRST + 1).status, 0);
    let ends: Vec<_> = scene
        .lines()
        .iter()
        .filter_map(|line| line.status)
        .collect();
    assert_eq!(ends, [31, 1, 31, 0]);
}

/// The session policy reads the list, which shows that the lost deletion was carried out.
#[test]
fn gone_by_the_list_is_remembered() {
    const REQUIRE_LOGGED_OUT: u32 = 1;
    let scene = Scene::new("gone-by-the-list");
    scene.lose_next(Stage::Acted);
    let url = &scene.standin.endpoints().http;
    let change = |options: &mut RawOptions| options.session = REQUIRE_LOGGED_OUT;
    let client = scene.try_client(url, change).unwrap();
    assert_eq!(client.delete_instance(FIRST).status, 31);
    let gone = client.delete_instance(FIRST);
    assert_eq!((gone.status, gone.attempts), (1, 0), "{gone:?}");
    drop(client);
    scene.await_closed();
    let ends: Vec<_> = scene
        .lines()
        .iter()
        .filter_map(|line| line.status)
        .collect();
    assert_eq!(ends, [31, 1]);
    let before = scene.standin.stats().requests;
    let again = scene
        .try_client(url, change)
        .unwrap()
        .delete_instance(FIRST);
    assert_eq!(again.status, 1, "{again:?}");
    assert!(again.message().contains("journal"), "{again:?}");
    assert_eq!(scene.standin.stats().requests, before);
}

/// The first attempt deletes the instance but is lost; the retry is told 404.
#[test]
fn a_call_with_retries_has_one_begin_and_one_end() {
    let scene = Scene::new("retries");
    scene.lose_next(Stage::Acted);
    let url = &scene.standin.endpoints().http;
    let client = scene
        .try_client(url, |options| options.max_retries = 2)
        .unwrap();
    let gone = client.delete_instance(FIRST);
    assert_eq!((gone.status, gone.attempts), (1, 2), "{gone:?}");
    let events: Vec<_> = scene.lines().into_iter().map(|line| line.event).collect();
    assert_eq!(events, ["begin", "end"]);
}

#[test]
fn two_calls_with_one_id_send_one_request() {
    let scene = Scene::new("twice");
    scene.standin.add_faults([Rule {
        method: Target::Delete,
        id: Some(FIRST),
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let (first, second) = (scene.client(), scene.client());
    let queue = Queue::new();
    for tag in 0..4 {
        let client = if tag % 2 == 0 { &first } else { &second };
        assert_eq!(queue.submit(client, FIRST, tag), 0);
    }
    assert_eq!(queue.submit(&first, FIRST + 1, 9), 0);
    // A call with another id does not wait.
    let other = queue.take(1, -1);
    assert_eq!((other[0].tag, other[0].status), (9, 0));
    assert!(scene.standin.wait(
        &Until {
            held: Some(1),
            ..Until::default()
        },
        PATIENCE
    ));
    assert_eq!(scene.standin.release(), 1);
    let mut results = Vec::new();
    while results.len() < 4 {
        results.extend(queue.take(8, -1));
    }
    let attempts: u32 = results.iter().map(|result| result.attempts).sum();
    assert!(
        results.iter().all(|result| result.status == 0),
        "{results:?}"
    );
    assert_eq!((attempts, scene.received(FIRST)), (1, 1));
}

#[test]
fn a_deletion_that_was_cancelled_before_it_was_sent_is_not_in_doubt() {
    let scene = Scene::new("cancelled");
    scene.standin.add_faults([Rule {
        method: Target::Delete,
        times: Some(1),
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let url = &scene.standin.endpoints().http;
    let client = scene
        .try_client(url, |options| options.max_in_flight = 1)
        .unwrap();
    let queue = Queue::new();
    queue.submit(&client, FIRST, 1);
    queue.submit(&client, MISSING, 2);
    assert!(scene.standin.wait(
        &Until {
            held: Some(1),
            ..Until::default()
        },
        PATIENCE
    ));
    assert_eq!((queue.cancel(1), queue.cancel(2)), (1, 1));
    let mut results = Vec::new();
    while results.len() < 2 {
        results.extend(queue.take(2, -1));
    }
    results.sort_by_key(|result| result.tag);
    let statuses: Vec<i32> = results.iter().map(|result| result.status).collect();
    assert_eq!(statuses, [34, 23]);
    drop((client, queue));
    // The stand-in drops a held request whose client disconnects, so FIRST still exists.
    let client = scene.client();
    assert_eq!(client.delete_instance(MISSING).status, 10);
    assert_eq!(client.delete_instance(FIRST).status, 0);
    let ends = scene.lines().into_iter().filter(|line| line.id == FIRST);
    let ends: Vec<_> = ends.filter_map(|line| line.status).collect();
    assert_eq!(ends, [34, 0]);
}

/// Cancelled while their records are being written, the deletions of a process that ends right after
/// its last result are not in doubt for the next process, except those that may have been sent.
#[test]
fn a_cancelled_deletion_is_recorded_before_its_result() {
    let scene = Scene::new("stopped");
    for (round, mode) in (0..).zip(["bulk", "queue", "bulk", "queue"]) {
        let first = MISSING + 1000 * round;
        let ids: Vec<i64> = (first..first + 200).collect();
        let mut command = scene.worker(mode);
        command.env("WORKER_STOP", "1");
        let said = run(command, &ids);
        let states = journal::states(&scene.lines());
        for id in &ids {
            let end = states.get(id);
            assert_ne!(end, Some(&None), "{id} has no end");
            // A bulk call reports only the results until it is stopped.
            for said in said.iter().filter(|said| said.id == *id) {
                let unsent = said.status == 23 && said.attempts == 0;
                assert!(end.is_some() || unsent, "{said:?}");
                assert!(!unsent || !journal::is_in_doubt(end), "{said:?}");
            }
        }
    }
}

#[test]
fn a_journal_belongs_to_one_address_and_one_process() {
    let scene = Scene::new("belongs");
    let http = scene.standin.endpoints().http.clone();
    let first = scene.client();
    // The same address in another spelling.
    let second = scene.try_client(&format!("{http}/"), |_| {}).unwrap();
    assert_eq!(second.delete_instance(FIRST).status, 0);
    assert_eq!(first.delete_instance(FIRST).attempts, 0);
    let refuses = |url: &str| {
        let error = scene.try_client(url, |_| {}).map(drop).unwrap_err();
        assert_eq!(error.status, 20, "{error:?}");
        assert!(error.message().contains("belongs to"), "{error:?}");
        assert!(error.message().contains(&http), "{error:?}");
        assert!(error.message().ends_with("/belongs"), "{error:?}");
    };
    refuses(&format!("{http}/prefix"));
    drop((first, second));
    refuses(&format!("{http}/prefix"));
    assert_eq!(journal::read(&scene.path).0, http);
    let text = fs::read_to_string(&scene.path).unwrap();
    assert!(!support::shows(&text, &scene.standin.endpoints().token));
    let mode = fs::metadata(&scene.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Another process holds the journal until it is killed.
    scene.standin.add_faults([Rule {
        method: Target::Delete,
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let mut holder = start(scene.worker("queue"), &[FIRST + 1]);
    let held = Until {
        held: Some(1),
        ..Until::default()
    };
    assert!(scene.standin.wait(&held, PATIENCE));
    let error = scene.refusal();
    assert_eq!(error.status, 20, "{error:?}");
    assert!(error.message().contains("another process"), "{error:?}");
    assert!(error.message().ends_with("/belongs"), "{error:?}");
    holder.kill().unwrap();
    let (killed, said) = finish(holder);
    assert!(killed && said.is_empty());
    scene.standin.clear_faults();
    assert_eq!(scene.client().delete_instance(FIRST + 1).status, 0);
}

/// The journal records a logout before it may be sent, and a later process mentions it.
#[test]
fn a_logout_is_known_to_the_next_process() {
    const LOG_OUT: u32 = 2;
    let scene = Scene::new("logout");
    scene.standin.fill(FIRST, 2, Some("authorized"));
    scene.standin.add_faults([Rule {
        method: Target::Logout,
        times: Some(1),
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let mut command = scene.worker("queue");
    command.env("WORKER_SESSION", LOG_OUT.to_string());
    let mut child = start(command, &[FIRST]);
    let held = Until {
        held: Some(1),
        ..Until::default()
    };
    assert!(scene.standin.wait(&held, PATIENCE));
    child.kill().unwrap();
    assert!(finish(child).0);
    let events = |id: i64| {
        let lines = scene.lines().into_iter().filter(move |line| line.id == id);
        lines.map(|line| line.event).collect::<Vec<_>>()
    };
    assert_eq!(events(FIRST), ["logout"]);
    let url = &scene.standin.endpoints().http;
    let client = scene
        .try_client(url, |options| options.session = LOG_OUT)
        .unwrap();
    for id in [FIRST, FIRST + 1] {
        let result = client.delete_instance(id);
        assert_eq!((result.status, result.attempts), (0, 1), "{result:?}");
        let earlier = result.message().contains("An earlier call may have logged");
        assert_eq!(earlier, id == FIRST, "{result:?}");
    }
    assert_eq!(events(FIRST + 1), ["logout", "begin", "end"]);
    assert_eq!(events(FIRST), ["logout", "logout", "begin", "end"]);
}

#[test]
fn a_file_that_is_not_a_journal_is_refused_and_not_changed() {
    let scene = Scene::new("not-one");
    let refuse = |what: &str| {
        let error = scene.refusal();
        assert_eq!(error.status, 20, "{error:?}");
        assert!(error.message().starts_with("journal: "), "{error:?}");
        assert!(error.message().contains(what), "{error:?}");
    };
    let target = scene.path.with_extension("target");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &scene.path).unwrap();
    refuse("a symbolic link");
    assert_eq!(fs::read(&target).unwrap(), b"");
    fs::remove_file(&scene.path).unwrap();
    fs::create_dir(&scene.path).unwrap();
    refuse("a directory");
    fs::remove_dir(&scene.path).unwrap();
    support::run(Command::new("mkfifo").arg(&scene.path));
    refuse("a FIFO");
    fs::remove_file(&scene.path).unwrap();

    for (content, what) in [
        ("127.0.0.1 localhost\n", "line 1"),
        ("half a line", "line 1"),
    ] {
        fs::write(&scene.path, content).unwrap();
        refuse(what);
        assert_eq!(fs::read_to_string(&scene.path).unwrap(), content);
    }
    let later = "greenapi-journal 2 https://api.green-api.com";
    let later = format!("{later} {:08x}\n", crc32(later.as_bytes()));
    fs::write(&scene.path, &later).unwrap();
    refuse("a newer greenapi");
    assert_eq!(fs::read_to_string(&scene.path).unwrap(), later);
    fs::remove_file(&scene.path).unwrap();

    let path = c_string("");
    let mut options = options();
    options.journal = path.as_ptr();
    let endpoints = scene.standin.endpoints();
    let error = Client::new(&endpoints.http, &endpoints.token, Some(&options));
    let error = error.map(drop).unwrap_err();
    assert!(error.message().contains("empty path"), "{error:?}");
    let nowhere = Scene {
        path: scene.path.join("nowhere"),
        ..scene
    };
    let error = nowhere.refusal();
    assert_eq!(error.status, 20, "{error:?}");
}

/// The path of the journal, its address and the path of the certificates may contain the token.
#[test]
fn no_message_shows_a_token_that_is_in_a_path() {
    const TOKEN: &str = "gac.4f9d27c1b8e6";
    const OTHER: &str = "x7Kq-0Zw3vBn5";
    const URL: &str = "https://api.green-api.com";
    let place = support::scratch("journals").join(format!("{TOKEN} {OTHER}"));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir(&place).unwrap();
    let quoted: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let hidden = |message: String| {
        let shown = [TOKEN, OTHER, &quoted].map(|secret| support::shows(&message, secret));
        assert_eq!(shown, [false; 3], "{message}");
        assert!(message.contains('…'), "{message}");
    };
    let text = |path: &std::path::Path| c_string(path.to_str().expect("UTF-8"));
    let make = |url: &str, token, journal: &std::path::Path, ca: Option<&std::path::Path>| {
        let (journal, ca) = (text(journal), ca.map(text));
        let mut options = options();
        options.journal = journal.as_ptr();
        options.ca_file = ca.as_ref().map_or(std::ptr::null(), |path| path.as_ptr());
        Client::new(url, token, Some(&options)).map_err(|error| error.message())
    };
    let journal = place.join("j");
    let refused = |made: Result<Client, String>| made.err().expect("it is refused");
    for name in ["missing", quoted.as_str()] {
        let ca = PathBuf::from("/x").join(TOKEN).join(name);
        hidden(refused(make(URL, TOKEN, &journal, Some(&ca))));
        let nowhere = place.join(name).join("j");
        let said = refused(make(URL, TOKEN, &nowhere, None));
        hidden(said.replace(OTHER, ""));
    }
    // The journal's directory has both tokens in its name, and the address one of them.
    let first = make(&format!("{URL}/{TOKEN}"), TOKEN, &journal, None).unwrap();
    let other_address = refused(make(URL, TOKEN, &journal, None));
    assert!(
        other_address.contains("this one belongs to"),
        "{other_address}"
    );
    hidden(other_address.replace(OTHER, ""));
    let second = make(&format!("{URL}/{TOKEN}"), OTHER, &journal, None).unwrap();
    fs::remove_file(&journal).unwrap();
    for client in [&first, &second] {
        let result = client.delete_instance(FIRST);
        assert_eq!((result.status, result.attempts), (24, 0), "{result:?}");
        hidden(result.message());
    }
    drop((first, second));
    fs::remove_dir_all(&place).unwrap();
}

/// Flips a sample of the bits; a unit test in src/journal flips all of them.
#[test]
fn a_damaged_line_is_refused_and_an_incomplete_last_line_is_dropped() {
    let scene = Scene::new("damage");
    let client = scene.client();
    client.delete_instances(&[FIRST, FIRST + 1, FIRST + 2]);
    drop(client);
    scene.await_closed();
    let whole = fs::read(&scene.path).unwrap();
    for place in (0..whole.len()).step_by(13) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        fs::write(&scene.path, &flipped).unwrap();
        let line = 1 + whole[..place].iter().filter(|b| **b == b'\n').count();
        let error = scene.refusal();
        assert_eq!(error.status, 20, "{error:?}");
        assert!(
            error.message().contains(&format!("line {line} ")),
            "{place}: {error:?}"
        );
        assert_eq!(fs::read(&scene.path).unwrap(), flipped);
    }
    for length in 0..whole.len() {
        fs::write(&scene.path, &whole[..length]).unwrap();
        let torn = whole[..length].iter().rposition(|byte| *byte == b'\n');
        drop(scene.client());
        scene.await_closed();
        let header = whole.iter().position(|byte| *byte == b'\n').unwrap();
        let end = torn.unwrap_or(header);
        assert_eq!(fs::read(&scene.path).unwrap(), whole[..=end], "{length}");
    }
}

/// The file was written in 2026 by the first version that had a journal.
#[test]
fn a_journal_of_every_version_is_read() {
    let scene = Scene::new("fixture");
    let fixture = support::root().join("tests/journal/version-1.journal");
    fs::copy(&fixture, &scene.path).unwrap();
    let url = "http://127.0.0.1:9/green/api";
    let client = scene.try_client(url, |_| {}).unwrap();
    for (id, status, code, moment) in [
        (1_101_000_001, 0, 200, "2026-11-25 00:41:18 UTC"),
        (1_101_000_002, 1, 404, "2026-11-25 00:42:10 UTC"),
        (9_999_999_999, 0, 200, "2026-12-31 23:59:59 UTC"),
    ] {
        let result = client.delete_instance(id);
        assert_eq!((result.status, result.code), (status, code), "{result:?}");
        assert!(result.message().contains(moment), "{result:?}");
    }
    // These ids are in doubt or were refused, so their deletions are sent, to a port without a
    // server.
    for (id, in_doubt) in [
        (1_101_000_003, true),
        (1_101_000_004, true),
        (1_101_000_005, false),
        (1_101_000_006, false),
    ] {
        let result = client.delete_instance(id);
        assert_eq!(result.status, 21, "{result:?}");
        assert_eq!(
            result.message().contains("may have deleted"),
            in_doubt,
            "{result:?}"
        );
    }
    let result = client.delete_instance(1_101_000_006);
    assert!(!result.message().contains("logged"), "{result:?}");
    drop(client);
    let (_, lines) = journal::read(&scene.path);
    assert!(lines.len() > journal::read(&fixture).1.len());
}

#[test]
fn with_a_full_disk_nothing_is_sent_until_there_is_space() {
    const ENOSPC: i32 = 28;
    let scene = Scene::new("full");
    let ids: Vec<i64> = (FIRST..FIRST + 40).collect();
    let mut command = scene.shimmed("blocking");
    command
        .env("SHIM_FAIL", "write")
        .env("SHIM_FROM", "9")
        .env("SHIM_TO", "20")
        .env("SHIM_ERRNO", ENOSPC.to_string());
    let said = run(command, &ids);
    let full = said.iter().filter(|said| said.status == 24).count();
    assert!((1..12).contains(&full), "{said:?}");
    for said in &said {
        assert!(matches!(said.status, 0 | 24), "{said:?}");
        if said.status == 24 {
            assert_eq!((said.attempts, scene.received(said.id)), (0, 0), "{said:?}");
            assert!(
                said.message.starts_with("Free room on the journal's disk"),
                "{said:?}"
            );
        }
    }
    let last = said.last().unwrap();
    assert_eq!((last.status, last.code), (0, 200));
    // Confirmed deletions are still known, and the others can be carried out now.
    for said in run(scene.worker("bulk"), &ids) {
        assert_eq!((said.status, scene.received(said.id)), (0, 1), "{said:?}");
    }
}

/// The disk gets full at different lengths of the journal: by a limit on the size of files, and by
/// a small file system where this user may mount one.
#[test]
fn a_disk_that_gets_full_at_any_length_of_the_journal_sends_nothing() {
    let folder = support::scratch("journals").join("tmpfs");
    fs::create_dir_all(&folder).unwrap();
    for (number, size) in (0..).zip([1, 20, 60, 300, 1_000, 4_096]) {
        let scene = Scene::new("limit");
        let ids: Vec<i64> = (FIRST..FIRST + 40).collect();
        let mut command = scene.worker("bulk");
        command.env("WORKER_FILE_LIMIT", size.to_string());
        check_full(&scene, start(command, &ids), true);
        let said = run(scene.worker("bulk"), &ids);
        assert!(said.iter().all(|said| said.status == 0), "{said:?}");
        assert!(ids.iter().all(|id| scene.received(*id) == 1));

        let mut inside = Scene::new("tmpfs-journal");
        inside.path = folder.join(format!("journal-{number}"));
        let mut command = inside.worker("bulk");
        command
            .env("WORKER_TMPFS", &folder)
            .env("WORKER_TMPFS_KIB", "4");
        check_full(&inside, start(command, &ids), false);
    }
}

/// Either the journal could not be opened, or each deletion without a record was not sent.
fn check_full(scene: &Scene, child: Child, must_open_or_say: bool) {
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(3) => {
            assert!(complaint.starts_with("24 journal: "), "{complaint}");
            assert!(scene.standin.requests().is_empty());
            return;
        }
        Some(77) => return support::leave_out(&format!("a file system that is full: {complaint}")),
        _ => panic!("{}: {complaint}", output.status),
    }
    let mut unsent = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let said = Said::parse(line);
        assert!(matches!(said.status, 0 | 24), "{said:?}");
        let sent = u64::from(said.status == 0);
        assert_eq!(scene.received(said.id), sent, "{said:?}");
        unsent += 1 - sent;
    }
    if must_open_or_say && fs::metadata(&scene.path).unwrap().len() < 1_500 {
        assert!(unsent > 0);
    }
}

#[test]
fn after_a_failed_sync_nothing_is_sent_until_the_journal_is_opened_again() {
    const EIO: i32 = 5;
    let scene = Scene::new("sync");
    let ids: Vec<i64> = (FIRST..FIRST + 20).collect();
    let mut command = scene.shimmed("blocking");
    command
        .env("SHIM_FAIL", "fdatasync")
        .env("SHIM_FROM", "5")
        .env("SHIM_TO", "5")
        .env("SHIM_ERRNO", EIO.to_string());
    let said = run(command, &ids);
    for (place, said) in said.iter().enumerate() {
        let expected = if place < 4 { 0 } else { 24 };
        assert_eq!(said.status, expected, "{said:?}");
        assert_eq!(scene.received(said.id), u64::from(place < 4));
        assert!(
            place < 4 || said.message.contains("open it anew"),
            "{said:?}"
        );
    }
    let journal = fs::read_to_string(&scene.path).unwrap();
    for said in &said {
        let begun = journal.contains(&format!(" begin {} ", said.id));
        assert_eq!(begun, said.status == 0, "{journal}");
    }
    for said in run(scene.worker("bulk"), &ids) {
        assert_eq!((said.status, scene.received(said.id)), (0, 1), "{said:?}");
    }
    // When the sync of a new file fails, making the client fails.
    let mut command = scene.shimmed("blocking");
    command
        .env("SHIM_FAIL", "fsync")
        .env("SHIM_FROM", "1")
        .env("SHIM_TO", "1")
        .env("SHIM_ERRNO", EIO.to_string());
    let output = start(command, &ids).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.starts_with("24 journal: "), "{complaint}");
}

/// One sync fails while other deletions are under way. The disk takes writes again, so the ends of
/// those are written, and the next process does not take them for deletions in doubt.
#[test]
fn a_failed_sync_loses_no_end_of_a_deletion_under_way() {
    const EIO: i32 = 5;
    let scene = Scene::new("sync-under-way");
    let held: Vec<i64> = (MISSING..MISSING + 3).collect();
    scene.standin.add_faults(held.iter().map(|id| Rule {
        method: Target::Delete,
        id: Some(*id),
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }));
    let mut command = scene.shimmed("queue");
    command
        .env("WORKER_IN_FLIGHT", "4")
        .env("SHIM_FAIL_AFTER", format!(" begin {} ", FIRST + 1))
        .env("SHIM_ERRNO", EIO.to_string());
    // The second of FIRST starts when the first has ended.
    let ids = [&held[..], &[FIRST, FIRST + 1]].concat();
    let mut child = start(command, &ids);
    let mut lines = BufReader::new(child.stdout.take().expect("its pipe")).lines();
    let mut said = || Said::parse(&lines.next().expect("a result").expect("UTF-8"));
    let before = [said(), said()];
    assert_eq!(of(&before, FIRST).status, 0, "{before:?}");
    assert_eq!(of(&before, FIRST + 1).status, 24, "{before:?}");
    scene.standin.release();
    for said in [said(), said(), said()] {
        assert_eq!(said.status, 10, "{said:?}");
    }
    assert!(child.wait().expect("it ends").success());
    scene.standin.clear_faults();
    for said in run(scene.worker("queue"), &ids) {
        let expected = if held.contains(&said.id) { 10 } else { 0 };
        assert_eq!(said.status, expected, "{said:?}");
    }
}

#[test]
fn deletions_that_start_together_share_one_sync() {
    let scene = Scene::new("together");
    scene.standin.add_faults([Rule {
        method: Target::Delete,
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let count = scene.path.with_extension("count");
    let mut command = scene.shimmed("queue");
    command.env("SHIM_COUNT", &count);
    let ids: Vec<i64> = (FIRST..FIRST + 64).collect();
    let child = start(command, &ids);
    let held = Until {
        held: Some(64),
        ..Until::default()
    };
    assert!(scene.standin.wait(&held, PATIENCE));
    // Opening takes five calls: open, lock, mode, header, sync. The deletions need a write and a
    // sync, or a few of each if they do not all start at the same moment.
    let calls = fs::read_to_string(&count).unwrap();
    let calls: u32 = calls.trim().parse().unwrap();
    assert!(
        (7..=7 + 2 * 3).contains(&calls),
        "{calls} system calls for 64 records"
    );
    scene.standin.clear_faults();
    assert_eq!(scene.standin.release(), 64);
    let (_, said) = finish(child);
    assert!(said.iter().all(|said| said.status == 0), "{said:?}");
}

/// Ends the process before and after each system call on the journal and in the middle of each
/// write. Then a second process must confirm every reported result and finish the other deletions.
#[test]
fn a_process_may_end_at_any_system_call() {
    let scene = Scene::new("inside");
    let mut first = FIRST;
    for when in ["before", "half", "after"] {
        for call in 1.. {
            let _ = fs::remove_file(&scene.path);
            first += 10;
            scene.standin.reset();
            scene.standin.fill(first, 3, Some("notAuthorized"));
            let missing = first + 9;
            let ids: Vec<i64> = (first..first + 3).chain([missing]).collect();
            let mut command = scene.shimmed("queue");
            command
                .env("SHIM_EXIT", call.to_string())
                .env("SHIM_WHEN", when)
                .env("WORKER_IN_FLIGHT", "2");
            let (killed, before) = finish(start(command, &ids));
            let begun = match fs::metadata(&scene.path).map(|there| there.len()) {
                Ok(1..) => journal::parse(&whole_or_header(&scene)).1,
                _ => Vec::new(),
            };
            let begun = journal::states(&begun);
            for id in scene.standin.requests().keys() {
                assert!(begun.contains_key(id), "{id} was sent without a record");
            }
            let received: Vec<u64> = ids.iter().map(|id| scene.received(*id)).collect();
            let after = run(scene.worker("queue"), &ids);
            for (id, received) in ids.iter().zip(received) {
                let said = of(&after, *id);
                let doubt = journal::is_in_doubt(begun.get(id));
                let expected = match (*id == missing, doubt) {
                    (true, false) => &[10][..],
                    (true, true) => &[1],
                    (false, false) => &[0],
                    (false, true) => &[0, 1],
                };
                assert!(expected.contains(&said.status), "{when} {call}: {said:?}");
                if let Some(before) = before.iter().find(|before| before.id == *id) {
                    assert_eq!(before.status, said.status, "{when} {call}");
                    if before.status < 10 {
                        assert_eq!(scene.received(*id), received, "{when} {call}: {said:?}");
                    }
                }
            }
            assert_eq!(scene.standin.ledger().len(), 3);
            if !killed {
                assert!(call > 10, "only {call} system calls were seen");
                break;
            }
        }
    }
}

/// The journal's bytes, or those of an empty journal if the first line is incomplete.
fn whole_or_header(scene: &Scene) -> Vec<u8> {
    let bytes = fs::read(&scene.path).unwrap();
    match bytes.contains(&b'\n') {
        true => bytes,
        false => {
            let header = format!("greenapi-journal 1 {}", scene.standin.endpoints().http);
            format!("{header} {:08x}\n", crc32(header.as_bytes())).into_bytes()
        }
    }
}
