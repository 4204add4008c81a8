/**
 * \file greenapi.h
 * Deletes instances of a GREEN-API partner account, and reports reliably what became of each one.
 *
 * One call is enough:
 *
 *     int code;
 *     greenapi_status status = greenapi_delete_instance("https://api.green-api.com", token,
 *                                                        1101000001, &code);
 *     if (greenapi_status_effect(status) != GREENAPI_EFFECT_DELETED)
 *         fprintf(stderr, "%s\n", greenapi_status_message(status));
 *
 * A **client** (greenapi_client_new) deletes with options of your own: timeouts, retries, a pace,
 * certificates, a proxy, and what to do about a session on a phone. A **queue**
 * (greenapi_queue_new) deletes thousands of instances at once, from any event loop.
 *
 * **Errors.** Every function that can fail returns a greenapi_status. Its range shows the effect:
 * 0–9 the instance is gone, 10–29 nothing was deleted, 30–49 the instance may or may not have been
 * deleted: calling again with the same id is safe, and the new result shows which. NULL where a
 * value is required gives GREENAPI_STATUS_INVALID_ARGUMENT, never a crash.
 *
 * **Memory.** Free what greenapi_…_new made with greenapi_…_free; there is nothing else to free.
 * Strings that you give are copied before the function returns.
 *
 * **Threads.** Every function may be called from any thread at any time, also in the child of
 * fork() (but not in one made by a raw clone() or _Fork()). The library has its own threads:
 * none before the first call, then at most four, and one more for each journal. They block every
 * signal except the fault signals (SIGSEGV and its like); on Linux, they have the CPUs and the
 * scheduling class that the process had when it loaded the library.
 *
 * **Out of memory.** A failed allocation does not end your process: calls whose request was not
 * sent end in GREENAPI_STATUS_OUT_OF_RESOURCES, and calls whose request was sent are finished with a
 * memory reserve of the library, and end with their true status. Not covered: more than some 2,000
 * requests at once over one HTTP/2 connection, and the system's first look-up of a name. With the
 * static library, and with the shared one except on Linux on x86-64 and aarch64, a thread's first
 * allocations in the library (one of yours makes them in its first call) also end the process if
 * they fail, although the library checks right before them that 64 KiB are free. Tested on Linux
 * with glibc.
 *
 * **Your process.** The library prints nothing, installs no signal handler and changes no
 * environment variable. It reads the environment only on the caller's thread, inside
 * greenapi_client_new or greenapi_delete_instance. No message contains the token. If you close the
 * descriptors 0, 1 and 2, open /dev/null in their place, as daemon() does: journals, queues and the
 * connections of deletions keep away from these numbers, but the library's event loop and the
 * connections of other requests do not.
 *
 * Link with `$(pkg-config --cflags --libs greenapi)`.
 */


#ifndef GREENAPI_H
#define GREENAPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header; greenapi_version() gives the version of the loaded library. */
#define GREENAPI_VERSION_MAJOR 0
/** See GREENAPI_VERSION_MAJOR. */
#define GREENAPI_VERSION_MINOR 2
/** See GREENAPI_VERSION_MAJOR. */
#define GREENAPI_VERSION_PATCH 0

/**
 * What happened to a deletion.
 *
 * The values are stable for ever. Their ranges show the effect, so a caller who needs only the
 * effect compares once: 0–9 the instance is gone; 10–29 nothing was deleted by this call; 30–49
 * the instance may or may not have been deleted: calling again with the same id is safe, and the
 * new result shows which. greenapi_status_effect() gives the effect as an enum.
 */
enum greenapi_status
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
  : int32_t
#endif /* defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L) */
 {
  /**
   * The API said `"deleteInstanceAccount": true`.
   */
  GREENAPI_STATUS_OK = 0,
  /**
   * The instance is gone, most likely deleted by this call: an earlier attempt of this call may
   * have been carried out (its answer was lost, or was a 5xx or 499), and a retry was answered
   * with 404.
   */
  GREENAPI_STATUS_GONE = 1,
  /**
   * The API's own `code` 404: there is no such instance, or it had been deleted before.
   */
  GREENAPI_STATUS_NOT_FOUND = 10,
  /**
   * 401: the partner token is wrong.
   */
  GREENAPI_STATUS_UNAUTHORIZED = 11,
  /**
   * 403: this token may not delete this instance.
   */
  GREENAPI_STATUS_FORBIDDEN = 12,
  /**
   * 429, and the retries are used up, or the pause that the API asked for does not fit into
   * the timeout.
   */
  GREENAPI_STATUS_RATE_LIMITED = 13,
  /**
   * Any other refusal: `"deleteInstanceAccount": false`, another `code`, a redirect, another
   * 4xx. An HTTP 404 whose body is not the API's own JSON belongs here too: check the URL.
   */
  GREENAPI_STATUS_REJECTED = 14,
  /**
   * The session policy forbade it: the instance is (or may be) logged in on a device.
   */
  GREENAPI_STATUS_SESSION_ACTIVE = 15,
  /**
   * The session policy could not be checked, so no deletion was sent: the list or the state was
   * lost, unreadable or refused (401, 403 and 429 have statuses of their own), or the instance
   * has expired, is being created or is starting. The message says which.
   */
  GREENAPI_STATUS_SESSION_UNKNOWN = 16,
  /**
   * An argument cannot be used, and nothing was sent.
   */
  GREENAPI_STATUS_INVALID_ARGUMENT = 20,
  /**
   * The DNS look-up failed, the connection was refused or timed out, or the host is unreachable:
   * no request was sent, or each one that was sent was refused unprocessed (`attempts` counts
   * them).
   */
  GREENAPI_STATUS_CONNECT_FAILED = 21,
  /**
   * The TLS handshake failed or the certificate was refused: no request was sent, or each one that
   * was sent was refused unprocessed (`attempts` counts them).
   */
  GREENAPI_STATUS_TLS_FAILED = 22,
  /**
   * Cancelled before the request was sent.
   */
  GREENAPI_STATUS_CANCELLED = 23,
  /**
   * Memory, threads, descriptors or the journal's disk ran out before the request was sent.
   */
  GREENAPI_STATUS_OUT_OF_RESOURCES = 24,
  /**
   * The server said that it did not process the request (HTTP/2: a GOAWAY whose last stream is
   * below the request's, or REFUSED_STREAM before any byte of a response), and the retries are
   * used up.
   */
  GREENAPI_STATUS_UNPROCESSED = 25,
  /**
   * The turn of this call did not come within its timeout (because of max_in_flight, the pace or
   * a pause that the API asked for), and nothing was sent.
   */
  GREENAPI_STATUS_NOT_STARTED = 26,
  /**
   * No answer came in time after the request may have been sent.
   */
  GREENAPI_STATUS_TIMEOUT = 30,
  /**
   * The connection broke after the request may have been sent, and the retries are used up.
   */
  GREENAPI_STATUS_CONNECTION_LOST = 31,
  /**
   * The server answered with 5xx or 499 (as the HTTP status, or as the API's `code` inside a
   * success), and the retries are used up.
   */
  GREENAPI_STATUS_SERVER_ERROR = 32,
  /**
   * An HTTP success status with a body that is no valid response of this API: not JSON, of wrong
   * types, contradictory, larger than 64 KiB, or empty. At the end of a list: a part of the list
   * could not be read.
   */
  GREENAPI_STATUS_BAD_RESPONSE = 33,
  /**
   * Cancelled after the request may have been sent.
   */
  GREENAPI_STATUS_CANCELLED_IN_FLIGHT = 34,
  /**
   * A defect in the library itself. Please report it.
   */
  GREENAPI_STATUS_INTERNAL = 40
};
#ifndef __cplusplus
#if (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
typedef enum greenapi_status greenapi_status;
#else
typedef int32_t greenapi_status;
#endif /* (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L) */
#endif /* __cplusplus */

/**
 * What a status means for the instance.
 */
enum greenapi_effect
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
  : int32_t
#endif /* defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L) */
 {
  /**
   * The instance is gone (statuses 0–9).
   */
  GREENAPI_EFFECT_DELETED = 0,
  /**
   * Nothing was deleted by this call (statuses 10–29).
   */
  GREENAPI_EFFECT_NOT_DELETED = 1,
  /**
   * The instance may or may not have been deleted (every other number): call again with the same
   * id.
   */
  GREENAPI_EFFECT_UNKNOWN = 2
};
#ifndef __cplusplus
#if (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
typedef enum greenapi_effect greenapi_effect;
#else
typedef int32_t greenapi_effect;
#endif /* (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L) */
#endif /* __cplusplus */

/**
 * The state of an instance. The numbers are part of the C interface.
 */
enum greenapi_state
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
  : int32_t
#endif /* defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L) */
 {
  /**
   * The state was not asked for: the list was read without states, or the instance is deleted.
   */
  GREENAPI_STATE_NOT_ASKED = 0,
  /**
   * Nobody is logged in.
   */
  GREENAPI_STATE_NOT_AUTHORIZED = 1,
  /**
   * A device is logged in.
   */
  GREENAPI_STATE_AUTHORIZED = 2,
  /**
   * The messenger has banned the account.
   */
  GREENAPI_STATE_BLOCKED = 3,
  /**
   * A device is logged in but switched off.
   */
  GREENAPI_STATE_SLEEP_MODE = 4,
  /**
   * The instance is starting, which takes up to five minutes.
   */
  GREENAPI_STATE_STARTING = 5,
  /**
   * A device is logged in, but sending is limited because of suspected spam.
   */
  GREENAPI_STATE_YELLOW_CARD = 6,
  /**
   * The messenger has suspended the account.
   */
  GREENAPI_STATE_SUSPENDED = 7,
  /**
   * A login waits for its password.
   */
  GREENAPI_STATE_PENDING_PASSWORD = 8,
  /**
   * The instance has expired: none of its own methods works until it is renewed.
   */
  GREENAPI_STATE_EXPIRED = 9,
  /**
   * The instance is being created, which takes up to five minutes.
   */
  GREENAPI_STATE_CREATING = 10,
  /**
   * A state that this version of the library does not know.
   */
  GREENAPI_STATE_OTHER = 11,
  /**
   * The state could not be learned: the question failed, or was refused.
   */
  GREENAPI_STATE_UNKNOWN = 12
};
#ifndef __cplusplus
#if (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
typedef enum greenapi_state greenapi_state;
#else
typedef int32_t greenapi_state;
#endif /* (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L) */
#endif /* __cplusplus */

/**
 * `flags`: the instance has been deleted.
 */
#define GREENAPI_INSTANCE_DELETED 1

/**
 * `flags`: the list calls the instance expired. A fresh instance can show as expired for an hour.
 */
#define GREENAPI_INSTANCE_EXPIRED 2

/**
 * `flags`: the instance costs nothing.
 */
#define GREENAPI_INSTANCE_FREE 4

/**
 * `flags`: the instance was made by a partner.
 */
#define GREENAPI_INSTANCE_PARTNER 8

/**
 * `flags`: ask each instance that is not deleted for its state, within the client's max_in_flight
 * and requests_per_second, each instance at most once a second.
 */
#define GREENAPI_LIST_STATES 1

/**
 * `session`: delete without asking for the instance's state: only the documented call is made.
 */
#define GREENAPI_SESSION_IGNORE 0

/**
 * `session`: ask for the instance's state first, and delete the instance only if it is logged out
 * (`notAuthorized`), or if the API says that it is deleted although the account's list still shows
 * it. In any other state GREENAPI_STATUS_SESSION_ACTIVE; if the instance cannot be asked or is
 * starting, GREENAPI_STATUS_SESSION_UNKNOWN (`starting` is asked again while there is time); if the
 * list does not show it as living, GREENAPI_STATUS_NOT_FOUND. Then nothing is deleted.
 */
#define GREENAPI_SESSION_REQUIRE_LOGGED_OUT 1

/**
 * `session`: log the instance out unless it already is, wait for the confirmation, then delete the
 * instance; without a confirmation GREENAPI_STATUS_SESSION_ACTIVE, and nothing is deleted. If the
 * instance cannot be asked or is not in the list, as GREENAPI_SESSION_REQUIRE_LOGGED_OUT. Every
 * result of a call that logged the instance out, or may have, says so in its message.
 */
#define GREENAPI_SESSION_LOG_OUT 2

/**
 * `session`: try to log the instance out, and delete it in any case once the API has answered the
 * logout or refused to be asked about the instance (it has expired, is being created or starting,
 * or its token is refused); the message says so. A lost answer, a 5xx, and a refusal by another
 * server (an HTML page, like a firewall's, or a 4xx that the API does not document) are not taken for
 * the API's answer: GREENAPI_STATUS_SESSION_UNKNOWN (for a page with 401 or 403
 * GREENAPI_STATUS_UNAUTHORIZED or GREENAPI_STATUS_FORBIDDEN), or GREENAPI_STATUS_SESSION_ACTIVE if the
 * state shows a session after that; nothing is deleted. A 404 page counts as the API's answer.
 */
#define GREENAPI_SESSION_TRY_LOG_OUT 3

/**
 * `flags`: allow plain http:// to any host. Everybody on the network path can then read the token.
 */
#define GREENAPI_FLAG_ALLOW_HTTP 1

/**
 * A client: one account at one address, with options. Made by greenapi_client_new, freed by
 * greenapi_client_free. Any number of threads may use a client at once, and after fork() the child
 * may use it too.
 */
typedef struct greenapi_client greenapi_client;

/**
 * A list of instances that is being read. Made by greenapi_client_list_instances, freed by
 * greenapi_list_free. Any number of threads may use a list at once. After fork() the list goes on
 * in the parent; in the child it has ended, with GREENAPI_STATUS_CANCELLED.
 */
typedef struct greenapi_list greenapi_list;

/**
 * A queue: it holds the results of submitted deletions until they are taken. Made by
 * greenapi_queue_new, freed by greenapi_queue_free. Any number of threads may use a queue at once.
 * After fork() the queue is empty in the child, because the deletions under way belong to the
 * parent.
 */
typedef struct greenapi_queue greenapi_queue;

/**
 * The options of a client. Set them up with greenapi_options_init, then change what you need;
 * greenapi_client_new copies them, so they may be on the stack. No text is longer than 32768 bytes,
 * except `ca_pem`.
 */
typedef struct greenapi_options {
  /**
   * sizeof(greenapi_options), set by greenapi_options_init. The size lets later versions add
   * fields: a smaller size comes from an older program, and the fields that it lacks take their
   * defaults; a larger size comes from a newer program, and is accepted only while the extra
   * bytes are zero.
   */
  size_t size;
  /**
   * Milliseconds for a whole call, retries included: 1 or more, default 30000. In a queue and in
   * greenapi_client_delete_instances they count from the moment when the request is started.
   */
  uint32_t timeout_ms;
  /**
   * Milliseconds to get a connection, TLS included: 1 or more, default 10000.
   */
  uint32_t connect_timeout_ms;
  /**
   * Attempts after the first: default 3; 0 = one attempt. Retried are failed and lost
   * connections, requests that the server did not process, a 408 to a deletion on a connection
   * that had been kept, and the answers 429, 499, 500, 502, 503, 504, with growing random pauses
   * (the first up to 200 ms, none longer than 5 s unless `Retry-After` asks for more), never past
   * the timeout.
   */
  uint32_t max_retries;
  /**
   * Requests of this client under way at once, whatever their method: 1 or more, default 64.
   * Further requests wait. If both deletions and requests of a list wait, they take turns. (A
   * list that is not being read because the caller is slow to take instances does not count.)
   */
  uint32_t max_in_flight;
  /**
   * Greatest number of requests that this client starts in a second, evenly spaced; default 0 =
   * no limit. (The API documents no limit for partner methods; its general limit was 50.)
   */
  double requests_per_second;
  /**
   * One of GREENAPI_SESSION_…: what to do about the session on a linked device, which a deletion
   * does not end. Default GREENAPI_SESSION_IGNORE.
   */
  uint32_t session;
  /**
   * 0, or GREENAPI_FLAG_… added up.
   */
  uint32_t flags;
  /**
   * Path of a PEM bundle of certificates (a file of at most 16 MiB) to trust instead of the
   * system's; NULL = the system's. Read once, by greenapi_client_new.
   */
  const char *ca_file;
  /**
   * URL of the proxy for all requests: http://, https://, socks5:// or socks5h:// (the proxy
   * looks names up), with user:password@ if the proxy needs a login. "" = no proxy. NULL = the
   * environment's https_proxy, all_proxy and no_proxy, in lower or upper case (for plain http://
   * http_proxy, in lower case only), which greenapi_client_new reads as libcurl does, and
   * ignores in a set-user-ID program. Plain http:// to loopback never takes a proxy from the
   * environment.
   */
  const char *proxy;
  /**
   * Text put before the library's own name in the `User-Agent` header, at most 1024 bytes, no
   * control characters; NULL = none.
   */
  const char *user_agent;
  /**
   * PEM text of certificates to trust instead of the system's; NULL = none. Not together with
   * ca_file.
   */
  const char *ca_pem;
  /**
   * Address of an instance's own methods (its state, its logout): a URL like `url`, in which
   * `{pool}` stands for the first four digits of the instance's id, as in
   * `https://{pool}.api.greenapi.com`; NULL = `url`. The instance's token is sent to this
   * address only.
   */
  const char *instance_url;
  /**
   * Path of the journal, UTF-8; NULL = no journal. The journal is a file in which each deletion
   * is recorded durably before its request is sent, and its outcome afterwards, so that a later
   * process with the same file continues where this one stopped, even after a crash. An id whose
   * deletion ended with 0–9 gets the same status and code again without a request, with
   * `attempts` 0. An id whose deletion has no recorded outcome, or ended with 30–49, is sent
   * again, and a 404 then means GREENAPI_STATUS_GONE.
   *
   * The file is created with mode 0600 if it does not exist; symbolic links are not followed.
   * One process at a time holds the journal, with any number of clients of one address (url and
   * prefix), until the last of these clients is freed and its calls have ended; a forked child
   * does not hold the journal, and its calls with such a client end in
   * GREENAPI_STATUS_INVALID_ARGUMENT. When the disk is full or fails, calls end in
   * GREENAPI_STATUS_OUT_OF_RESOURCES, and nothing is sent. Use another file for each account: the
   * token may change, so nothing checks that. Each open journal has a thread of the library.
   * docs/JOURNAL.md lists what the journal protects against.
   */
  const char *journal;
} greenapi_options;

/**
 * Everything that is known about one deletion. 256 bytes without pointers: a result can be copied
 * and kept, and there is nothing to free.
 */
typedef struct greenapi_result {
  /**
   * The tag given to greenapi_queue_submit; 0 for blocking calls.
   */
  uint64_t tag;
  /**
   * The id of the instance that the call was to delete; 0: the call had no id.
   */
  int64_t id;
  /**
   * What happened.
   */
  greenapi_status status;
  /**
   * The API's own `code` when its body had one, else the HTTP status, else 0.
   */
  int32_t code;
  /**
   * The HTTP status of the answer that determined the status. 0: there was no answer, or the status
   * follows from an answer without an error to a question of the session policy (the list, a
   * state).
   */
  int32_t http_status;
  /**
   * The number of deletion requests that may have been sent, retries included; 0: none was sent.
   */
  uint32_t attempts;
  /**
   * What happened and what to do: NUL-terminated UTF-8, one line, without secrets.
   */
  char message[224];
} greenapi_result;

/**
 * A progress callback: greenapi_client_delete_instances calls it for each result, on the thread
 * that called that function.
 *
 * `done` of `total` ids have a result; `last` is the latest result, valid until the callback
 * returns; `user_data` is what the caller gave. Return true to go on, false to cancel the rest.
 * The callback must return: no longjmp, no pthread_exit and no C++ exception may leave it. If the
 * callback calls fork(), the parent's deletions go on; in the child the callback is not called
 * again, and each id that had no result at that moment gets GREENAPI_STATUS_CANCELLED_IN_FLIGHT
 * there.
 */
typedef bool (*greenapi_progress_fn)(size_t done,
                                     size_t total,
                                     const struct greenapi_result *last,
                                     void *user_data);

/**
 * One instance of an account, as the API's list shows it. 256 bytes without pointers and secrets:
 * an instance can be copied and kept, and there is nothing to free.
 *
 * Times are seconds since 1970-01-01T00:00:00Z. The API writes most of them without a time zone:
 * they are read as UTC. 0: the API gives no time, or gives 0001-01-01T00:00:00.
 */
typedef struct greenapi_instance {
  /**
   * The instance's id.
   */
  int64_t id;
  /**
   * When it was created.
   */
  int64_t created;
  /**
   * When it was deleted. (The list shows deleted instances for three months.)
   */
  int64_t deleted;
  /**
   * When it expires or expired.
   */
  int64_t expires;
  /**
   * GREENAPI_INSTANCE_… added up.
   */
  uint32_t flags;
  /**
   * One of greenapi_state: GREENAPI_STATE_NOT_ASKED, unless GREENAPI_LIST_STATES was given and
   * the instance is not deleted.
   */
  int32_t state;
  /**
   * The instance's messenger: "whatsapp", "telegram", "v3" (MAX), or another word of the API;
   * NUL-terminated UTF-8, as are `tariff` and `name`.
   */
  char type[16];
  /**
   * The instance's tariff.
   */
  char tariff[32];
  /**
   * The instance's name; a longer name is cut between characters. The name may contain any
   * character but NUL, line ends and terminal escapes included.
   */
  char name[168];
} greenapi_instance;

#if defined(_WIN32)
/**
 * What an event loop watches: a descriptor, on Windows a SOCKET (for select, WSAPoll,
 * WSAEventSelect). (greenapi_fd)-1 is none.
 */
typedef uintptr_t greenapi_fd;
#endif

#if !defined(_WIN32)
/**
 * What an event loop watches: a descriptor, on Windows a SOCKET (for select, WSAPoll,
 * WSAEventSelect). (greenapi_fd)-1 is none.
 */
typedef int greenapi_fd;
#endif



#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/**
 * Deletes one instance with the default options: 30 s for the whole call, 10 s to connect, 3
 * retries, the system's certificates and proxy settings, no session policy, no journal. Deleting
 * cannot be undone.
 *
 * Sends `POST {url}/partner/deleteInstanceAccount/{token}` with `{"idInstance": id}`. This API
 * reports its errors inside HTTP 200, so only its `"deleteInstanceAccount": true` counts as a
 * deletion. The library keeps connections open and reuses them for later calls, also with another
 * token. Redirects are never followed: they would send the token to another address.
 *
 * \param url `https://host[:port][/prefix]`, at most 4096 bytes, from the partner's console, like
 * `https://api.green-api.com`. A trailing slash does not matter, a path prefix is kept. User
 * info, query and fragment are refused; `http://` is for loopback hosts only.
 * \param token the partner token, 1 to 4096 bytes. It is percent-encoded, so no token can change the
 * path. Empty, ".", ".." and control characters are refused.
 * \param id the instance, 1 to 9 999 999 999.
 * \param out_code NULL, or where to write the API's own `code` (404, 401, …), else the HTTP status
 * (502, …), else 0; 200 after a deletion. Written whatever the outcome.
 *
 * \return GREENAPI_STATUS_OK, or another status that says what happened; greenapi_status_effect
 * says what a status means for the instance.
 *
 * Blocks the calling thread for at most 30 s. Any number of threads may call it at once, and so
 * may the child of a fork(). The strings are copied and stay the caller's. The environment
 * (HTTPS_PROXY and its like, SSL_CERT_FILE, SSL_CERT_DIR) is read inside the call, on the calling
 * thread, when `url` or `token` differs from the previous call's: a later change of the
 * environment has no effect on calls that repeat both. A set-user-ID program takes nothing from
 * the environment.
 */
greenapi_status greenapi_delete_instance(const char *url,
                                         const char *token,
                                         int64_t id,
                                         int *out_code);

/**
 * Makes a client. Nothing is sent yet, and no thread is started, except the journal's if the
 * options name a journal.
 *
 * \param url as for greenapi_delete_instance; copied.
 * \param token as for greenapi_delete_instance; copied.
 * \param options NULL = defaults; else set up by greenapi_options_init. An unusable value is refused
 * with a message that names the option. The options and their strings are copied.
 * \param out_client where to write the client, or NULL on failure; required. The caller frees the
 * client with greenapi_client_free.
 * \param out_error NULL, or where to write what is wrong, in `message`; written whatever the outcome.
 *
 * \return GREENAPI_STATUS_OK, GREENAPI_STATUS_INVALID_ARGUMENT, or
 * GREENAPI_STATUS_OUT_OF_RESOURCES when memory, or the journal's disk, has run out.
 *
 * The environment (HTTPS_PROXY and its like, SSL_CERT_FILE, SSL_CERT_DIR) is read here, on the
 * calling thread, and so is `ca_file`; a set-user-ID program takes nothing from the environment.
 * Any thread.
 */
greenapi_status greenapi_client_new(const char *url,
                                    const char *token,
                                    const struct greenapi_options *options,
                                    struct greenapi_client **out_client,
                                    struct greenapi_result *out_error);

/**
 * Frees a client. Deletions that were submitted to a queue with this client still complete.
 *
 * \param client the client; NULL does nothing. No other thread may be inside a blocking call with the
 * client, and nobody may use the client afterwards.
 *
 * Any thread; returns at once. The token is overwritten in memory once the last submission of the
 * client has its result.
 */
void greenapi_client_free(struct greenapi_client *client);

/**
 * Deletes one instance with a client's options. Deleting cannot be undone.
 *
 * \param client from greenapi_client_new.
 * \param id the instance, 1 to 9 999 999 999.
 * \param out_result NULL, or where to write the result, message included; written whatever the
 * outcome.
 *
 * \return the status that is also in the result.
 *
 * Blocks the calling thread for at most the client's timeout_ms; with a journal whose disk hangs, up
 * to a second more, for the record of the result. Any thread.
 */
greenapi_status greenapi_client_delete_instance(struct greenapi_client *client,
                                                int64_t id,
                                                struct greenapi_result *out_result);

/**
 * Deletes many instances, as many at once as the client's max_in_flight allows, and waits for
 * all of them. Deleting cannot be undone.
 *
 * \param client from greenapi_client_new.
 * \param ids the instances, each 1 to 9 999 999 999. An id out of that range gets
 * GREENAPI_STATUS_INVALID_ARGUMENT, and the others are still deleted.
 * \param count how many ids there are.
 * \param out_results NULL, or room for `count` results, written in the order of `ids`.
 * \param on_progress NULL, or a callback for each result as it comes, on the calling thread. When the
 * callback returns false, the remaining deletions are cancelled, and every id still gets its
 * result.
 * \param user_data passed to `on_progress` unchanged.
 *
 * \return GREENAPI_STATUS_OK when every id ended with a status from 0 to 9, else the first other
 * status in the order of `ids`.
 *
 * Blocks the calling thread. For each id, timeout_ms counts from the moment when its request is
 * started. Any thread.
 */
greenapi_status greenapi_client_delete_instances(struct greenapi_client *client,
                                                 const int64_t *ids,
                                                 size_t count,
                                                 struct greenapi_result *out_results,
                                                 greenapi_progress_fn on_progress,
                                                 void *user_data);

/**
 * Asks for the list of the account's instances, deleted ones included. Returns at once:
 * greenapi_list_take returns the instances in the API's order, while the list is still being read.
 * At most about 1 MiB of instances waits to be taken: while a caller is slow to take them, the
 * library reads no further. (With GREENAPI_LIST_STATES up to 16,384 instances more are read ahead,
 * about 5 MiB.)
 *
 * The client's options apply: max_retries, until the first instance has come; timeout_ms once for
 * the list, not counting the time in which the library waits for the caller to take instances, and
 * again for each question about a state.
 *
 * \param client from greenapi_client_new; it may be freed at once, and the list goes on.
 * \param flags 0, or GREENAPI_LIST_STATES.
 * \param out_list where to write the list, or NULL on failure; required.
 * \param out_error NULL, or where to write what is wrong, in `message`; written whatever the outcome.
 *
 * \return GREENAPI_STATUS_OK when the list was begun; else GREENAPI_STATUS_INVALID_ARGUMENT or
 * GREENAPI_STATUS_OUT_OF_RESOURCES. greenapi_list_ended reports how the list ended. Any thread.
 * The caller owns the list and frees it with greenapi_list_free.
 */
greenapi_status greenapi_client_list_instances(struct greenapi_client *client,
                                               uint32_t flags,
                                               struct greenapi_list **out_list,
                                               struct greenapi_result *out_error);

/**
 * Takes instances, in the API's order.
 *
 * \param list NULL gives 0.
 * \param out_instances room for `capacity` instances; NULL takes none.
 * \param capacity how many instances to take at most.
 * \param timeout_ms milliseconds to wait for the first instance: 0 = do not wait, -1 = until there is
 * one or the list has ended.
 *
 * \return how many instances were taken; 0 when none came in time, and when the list has ended:
 * greenapi_list_ended tells the two apart. Any thread, several at once; each instance is given to
 * one of them.
 */
size_t greenapi_list_take(struct greenapi_list *list,
                          struct greenapi_instance *out_instances,
                          size_t capacity,
                          int timeout_ms);

/**
 * The descriptor that is readable while instances wait, and from the end of the list on
 * (level-triggered), for poll, epoll, kqueue, asyncio or Go's netpoller; on Windows a socket, for
 * select or WSAPoll.
 *
 * \param list the list.
 *
 * \return the descriptor; -1 for NULL, and in a child of a fork() that has no descriptor left. The
 * descriptor belongs to the list and lives as long as the list: the caller only watches it, and
 * never reads or closes it. Close-on-exec. Any thread.
 */
greenapi_fd greenapi_list_fd(const struct greenapi_list *list);

/**
 * Whether the list has ended: it is complete or broke off, and every instance that came has been
 * taken.
 *
 * \param list NULL has ended, with GREENAPI_STATUS_INVALID_ARGUMENT.
 * \param out_result NULL, or where to write how the list ended: its `id` and `tag` are 0, `attempts`
 * counts the requests for the list, `message` says what happened. GREENAPI_STATUS_OK: the list is
 * complete. Any other status: the instances that were taken are only a part of the list. Written
 * only when true is returned.
 *
 * \return false while more may come. Any thread.
 */
bool greenapi_list_ended(const struct greenapi_list *list, struct greenapi_result *out_result);

/**
 * Frees a list, stops reading it if it has not ended, and returns at once. Instances that were not
 * taken are lost, and the descriptor is closed.
 *
 * \param list the list; NULL does nothing. No other thread may be using the list, and nobody may use
 * it afterwards. Remove its descriptor from the event loop first. Any thread.
 */
void greenapi_list_free(struct greenapi_list *list);

/**
 * Sets every option to its default and `size` to what the caller was compiled with.
 *
 * \param options the options to set up; NULL does nothing.
 * \param size sizeof(greenapi_options); that many bytes are written.
 *
 * Any thread.
 */
void greenapi_options_init(struct greenapi_options *options, size_t size);

/**
 * Makes a queue.
 *
 * \param out_queue where to write the queue, or NULL on failure; required.
 *
 * \return GREENAPI_STATUS_OK, GREENAPI_STATUS_INVALID_ARGUMENT, or
 * GREENAPI_STATUS_OUT_OF_RESOURCES when no descriptor or memory is left.
 *
 * The caller frees the queue with greenapi_queue_free. Any thread.
 */
greenapi_status greenapi_queue_new(struct greenapi_queue **out_queue);

/**
 * Frees a queue, cancels its deletions that are still under way and returns at once. Results that
 * were not taken are lost, and the descriptor is closed.
 *
 * \param queue the queue; NULL does nothing. No other thread may be using the queue, and nobody may
 * use it afterwards. Remove its descriptor from the event loop first.
 *
 * Any thread.
 */
void greenapi_queue_free(struct greenapi_queue *queue);

/**
 * The descriptor that is readable exactly while results wait (level-triggered), for poll, epoll,
 * kqueue, asyncio or Go's netpoller; on Windows a socket, for select or WSAPoll.
 *
 * \param queue the queue.
 *
 * \return the descriptor; -1 for NULL, and in a child of a fork() that has no descriptor left. The
 * descriptor belongs to the queue and lives as long as the queue: the caller only watches it, and
 * never reads or closes it. Close-on-exec.
 *
 * Any thread.
 */
greenapi_fd greenapi_queue_fd(const struct greenapi_queue *queue);

/**
 * Submits the deletion of one instance. Deleting cannot be undone.
 *
 * Never blocks, and never fails because of the network: every accepted submission gives exactly
 * one result, which greenapi_queue_take returns. A submission that waits because of the client's
 * max_in_flight takes some hundred bytes. timeout_ms counts from the moment when the request is
 * started.
 *
 * \param queue the queue that gets the result.
 * \param client the client whose account and options are used. It may be freed at once; the submission
 * still completes.
 * \param id the instance, 1 to 9 999 999 999.
 * \param tag any number; the result carries it. Tags need not be unique.
 *
 * \return GREENAPI_STATUS_OK when the submission was accepted (one with an `id` out of range is
 * accepted too; its result is GREENAPI_STATUS_INVALID_ARGUMENT); else
 * GREENAPI_STATUS_INVALID_ARGUMENT (a NULL) or GREENAPI_STATUS_OUT_OF_RESOURCES, and there will be
 * no result.
 *
 * Any thread.
 */
greenapi_status greenapi_queue_submit(struct greenapi_queue *queue,
                                      struct greenapi_client *client,
                                      int64_t id,
                                      uint64_t tag);

/**
 * Cancels every submission with this tag that has no result yet. Each still gives its result:
 * GREENAPI_STATUS_CANCELLED if its request had not been sent, else
 * GREENAPI_STATUS_CANCELLED_IN_FLIGHT. With a journal, the result of a deletion that had begun comes
 * when its end is recorded, or after a second.
 *
 * \param queue the queue.
 * \param tag the tag given to greenapi_queue_submit.
 *
 * \return how many submissions were cancelled; 0 for NULL.
 *
 * Never waits for the network. Any thread.
 */
size_t greenapi_queue_cancel(struct greenapi_queue *queue,
                             uint64_t tag);

/**
 * Takes results, in the order in which the deletions ended; while memory is short, those that ended
 * before they began come last.
 *
 * \param queue the queue.
 * \param out_results room for `capacity` results; NULL takes none.
 * \param capacity how many results to take at most.
 * \param timeout_ms milliseconds to wait for the first result: 0 = do not wait, -1 = until there is
 * one.
 *
 * \return how many results were taken; 0 when none came in time, when nothing is under way (then
 * without waiting), and for NULL.
 *
 * Any thread, several at once; each result is given to one of them.
 */
size_t greenapi_queue_take(struct greenapi_queue *queue,
                           struct greenapi_result *out_results,
                           size_t capacity,
                           int timeout_ms);

/**
 * The C name of a status, like "GREENAPI_STATUS_NOT_FOUND".
 *
 * \param status any number; a number that is no enumerator gives "GREENAPI_STATUS_UNKNOWN".
 *
 * \return a string that lives as long as the process; never NULL. Any thread.
 */
const char *greenapi_status_name(int32_t status);

/**
 * One plain English sentence about a status: what happened, and what to do.
 *
 * \param status any number; for a number that is no enumerator the sentence says that.
 *
 * \return a string that lives as long as the process; never NULL. Any thread.
 */
const char *greenapi_status_message(int32_t status);

/**
 * What a status means for the instance: deleted, not deleted by this call, or unknown.
 *
 * \param status any number. A number that is no enumerator may come from a newer library: its range
 * shows the effect (see greenapi_status).
 *
 * \return the effect; GREENAPI_EFFECT_UNKNOWN for a number below 0 or above 49. Any thread.
 */
greenapi_effect greenapi_status_effect(int32_t status);

/**
 * The version of the loaded library, like "0.2.0". GREENAPI_VERSION_MAJOR, _MINOR and _PATCH are
 * the version of the header that the program was compiled with.
 *
 * \return a string that lives as long as the process; never NULL. Any thread.
 */
const char *greenapi_version(void);

#ifdef __cplusplus
} /* extern "C" */
#endif /* __cplusplus */

#endif  /* GREENAPI_H */
