/// \file greenapi.hpp
/// Delete instances of a GREEN-API partner account: the C++17 interface over greenapi.h.
///
/// Header-only; link with the same library as a C program (`-lgreenapi`). The classes own handles,
/// turn statuses into exceptions and durations into milliseconds, and decide nothing: greenapi.h
/// documents what a status means, how retries work and which values are allowed.
///
/// \code
/// greenapi::options options;
/// options.session = greenapi::session::log_out;   // never delete under a live session
/// greenapi::client client("https://api.green-api.com", token, options);
/// try {
///     client.delete_instance(1101000001);
/// } catch (const greenapi::error& problem) {
///     if (problem.effect() == greenapi::effect::unknown)
///         ;   // calling again with the same id is safe, and its result shows which
/// }
/// \endcode
///
/// The token is never part of any message or exception.
#pragma once

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 201703L
#error "greenapi.hpp needs C++17: compile with -std=c++17 (MSVC: /std:c++17), or use greenapi.h"
#elif !defined(__cpp_exceptions)
#error "greenapi.hpp throws: compile with exceptions (MSVC: /EHsc), or use greenapi.h"
#else

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "greenapi.h"

namespace greenapi
{

/// What happened: `greenapi_status` as a scoped enumeration. The tens show the effect. A newer
/// library may give a number that has no name here.
enum class status : std::int32_t {
    /// The API said that the instance is deleted.
    ok = GREENAPI_STATUS_OK,
    /// A retry found the instance gone, after an earlier attempt of this call may have deleted it.
    gone = GREENAPI_STATUS_GONE,
    /// There is no such instance, or it had already been deleted.
    not_found = GREENAPI_STATUS_NOT_FOUND,
    /// The token is wrong.
    unauthorized = GREENAPI_STATUS_UNAUTHORIZED,
    /// The token has no right to this instance.
    forbidden = GREENAPI_STATUS_FORBIDDEN,
    /// Too many requests, and the retries are used up.
    rate_limited = GREENAPI_STATUS_RATE_LIMITED,
    /// Any other refusal.
    rejected = GREENAPI_STATUS_REJECTED,
    /// The session policy forbade the deletion.
    session_active = GREENAPI_STATUS_SESSION_ACTIVE,
    /// The session policy could not be checked.
    session_unknown = GREENAPI_STATUS_SESSION_UNKNOWN,
    /// Refused before anything was sent.
    invalid_argument = GREENAPI_STATUS_INVALID_ARGUMENT,
    /// No connection: no request was sent, or each one that was sent was refused unprocessed.
    connect_failed = GREENAPI_STATUS_CONNECT_FAILED,
    /// The certificate or the handshake failed: no request was sent, or each one that was sent was
    /// refused unprocessed.
    tls_failed = GREENAPI_STATUS_TLS_FAILED,
    /// Cancelled before the request was sent.
    cancelled = GREENAPI_STATUS_CANCELLED,
    /// Memory, threads, descriptors or disk space ran out before the request was sent.
    out_of_resources = GREENAPI_STATUS_OUT_OF_RESOURCES,
    /// The server said that it did not process the request, and the retries are used up.
    unprocessed = GREENAPI_STATUS_UNPROCESSED,
    /// The call's turn did not come within its timeout, and nothing was sent.
    not_started = GREENAPI_STATUS_NOT_STARTED,
    /// No answer in time, after the request may have been sent.
    timeout = GREENAPI_STATUS_TIMEOUT,
    /// The connection broke after the request may have been sent.
    connection_lost = GREENAPI_STATUS_CONNECTION_LOST,
    /// The server failed, and the retries are used up.
    server_error = GREENAPI_STATUS_SERVER_ERROR,
    /// The response did not come from this API.
    bad_response = GREENAPI_STATUS_BAD_RESPONSE,
    /// Cancelled after the request may have been sent.
    cancelled_in_flight = GREENAPI_STATUS_CANCELLED_IN_FLIGHT,
    /// A defect in the library itself.
    internal = GREENAPI_STATUS_INTERNAL,
};

/// What a status says about the instance. Unlike in C zero is unknown, so that an unset value never
/// means a deletion.
enum class effect {
    /// The instance may or may not have been deleted; calling again with the same id is safe, and
    /// its result shows which.
    unknown,
    /// The instance is gone.
    deleted,
    /// This call did not delete the instance.
    not_deleted,
};

/// What to do about a session that is still open on somebody's phone: deleting an instance does
/// not end its session.
enum class session : std::uint32_t {
    /// Delete without asking for the state.
    ignore = GREENAPI_SESSION_IGNORE,
    /// Delete only an instance that is logged out already.
    require_logged_out = GREENAPI_SESSION_REQUIRE_LOGGED_OUT,
    /// Log out first, and delete once that is confirmed.
    log_out = GREENAPI_SESSION_LOG_OUT,
    /// Log out where possible, and delete in any case once the API (not a proxy or a firewall) has
    /// answered the logout, or said that the instance cannot be asked (expired, being created,
    /// starting).
    try_log_out = GREENAPI_SESSION_TRY_LOG_OUT,
};

/// The state of an instance: `greenapi_state` as a scoped enumeration. A newer library may give a
/// number that has no name here.
enum class state : std::int32_t {
    /// The list was requested without states, or the instance is deleted.
    not_asked = GREENAPI_STATE_NOT_ASKED,
    /// Nobody is logged in.
    not_authorized = GREENAPI_STATE_NOT_AUTHORIZED,
    /// A device is logged in.
    authorized = GREENAPI_STATE_AUTHORIZED,
    /// The messenger has banned the account.
    blocked = GREENAPI_STATE_BLOCKED,
    /// A device is logged in and switched off.
    sleep_mode = GREENAPI_STATE_SLEEP_MODE,
    /// The instance is starting, which takes up to five minutes.
    starting = GREENAPI_STATE_STARTING,
    /// A device is logged in; sending is limited for suspicion of spam.
    yellow_card = GREENAPI_STATE_YELLOW_CARD,
    /// The messenger has suspended the account.
    suspended = GREENAPI_STATE_SUSPENDED,
    /// A login waits for its password.
    pending_password = GREENAPI_STATE_PENDING_PASSWORD,
    /// The instance has expired: none of its own methods works until it is renewed.
    expired = GREENAPI_STATE_EXPIRED,
    /// The instance is being created, which takes up to five minutes.
    creating = GREENAPI_STATE_CREATING,
    /// A state that this version of the library does not know.
    other = GREENAPI_STATE_OTHER,
    /// The state could not be learned.
    unknown = GREENAPI_STATE_UNKNOWN,
};

/// Whether client::instances asks each instance for its state.
enum class states : std::uint32_t {
    /// Without states: one request in all.
    not_asked = 0,
    /// With states, under the client's pace and limits, each instance at most once a second.
    asked = GREENAPI_LIST_STATES,
};

/// The version of the library that is loaded, such as "0.2.0".
[[nodiscard]] inline std::string_view version() noexcept
{
    return greenapi_version();
}

/// The C name of a status, such as "GREENAPI_STATUS_NOT_FOUND". Any number is harmless.
[[nodiscard]] inline std::string_view status_name(status value) noexcept
{
    return greenapi_status_name(static_cast<std::int32_t>(value));
}

/// One plain sentence about a status. Any number is harmless.
[[nodiscard]] inline std::string_view status_message(status value) noexcept
{
    return greenapi_status_message(static_cast<std::int32_t>(value));
}

/// What a status says about the instance. Any number is harmless.
[[nodiscard]] inline effect status_effect(status value) noexcept
{
    switch (greenapi_status_effect(static_cast<std::int32_t>(value))) {
    case GREENAPI_EFFECT_DELETED:
        return effect::deleted;
    case GREENAPI_EFFECT_NOT_DELETED:
        return effect::not_deleted;
    default:
        return effect::unknown;
    }
}

/// The result of one deletion. A plain value: copy it, keep it, pass it to another thread.
class result
{
public:
    /// Wraps a result of the C interface.
    explicit result(const greenapi_result &raw) noexcept : raw_(raw) {}

    /// The tag given to queue::submit; 0 for blocking calls.
    [[nodiscard]] std::uint64_t tag() const noexcept { return raw_.tag; }
    /// The instance.
    [[nodiscard]] std::int64_t id() const noexcept { return raw_.id; }
    /// What happened.
    [[nodiscard]] greenapi::status status() const noexcept
    {
        return static_cast<greenapi::status>(raw_.status);
    }
    /// What the status says about the instance. A result without an id, such as one made from a
    /// zeroed greenapi_result, never means a deletion.
    [[nodiscard]] greenapi::effect effect() const noexcept
    {
        const auto said = status_effect(status());
        return raw_.id == 0 && said == effect::deleted ? effect::unknown : said;
    }
    /// Whether the instance is gone: the same as `effect() == effect::deleted`.
    [[nodiscard]] bool deleted() const noexcept { return effect() == greenapi::effect::deleted; }
    /// The API's own code when its answer had one, else the HTTP status, else 0.
    [[nodiscard]] std::int32_t code() const noexcept { return raw_.code; }
    /// The HTTP status of the answer that determined the status. 0: there was no answer, or the
    /// status follows from an answer without an error to a question of the session policy (the
    /// list, a state).
    [[nodiscard]] std::int32_t http_status() const noexcept { return raw_.http_status; }
    /// Deletion requests that may have been sent, retries included.
    [[nodiscard]] std::uint32_t attempts() const noexcept { return raw_.attempts; }
    /// What happened and what to do, in UTF-8; valid as long as this object.
    [[nodiscard]] std::string_view message() const noexcept { return raw_.message; }
    /// The result of the C interface.
    [[nodiscard]] const greenapi_result &raw() const noexcept { return raw_; }

private:
    greenapi_result raw_;
};

// So that the C interface can fill a vector of results without a copy.
static_assert(sizeof(result) == sizeof(greenapi_result) && std::is_standard_layout_v<result> &&
              std::is_trivially_copyable_v<result>);

/// Thrown when the instance is not known to be gone, or an argument was refused.
// Not a std::runtime_error, which allocates a copy of its text: while memory is short, the caller
// would get std::bad_alloc and never learn what became of the instance.
class error : public std::exception
{
public:
    /// Carries a result. Allocates nothing.
    explicit error(const greenapi::result &cause) noexcept : result_(cause) {}

    /// What happened and what to do, in UTF-8; valid as long as this object.
    [[nodiscard]] const char *what() const noexcept override { return result_.raw().message; }
    /// What happened.
    [[nodiscard]] greenapi::status status() const noexcept { return result_.status(); }
    /// What the status says about the instance.
    [[nodiscard]] greenapi::effect effect() const noexcept { return result_.effect(); }
    /// The API's own code when its answer had one, else the HTTP status, else 0.
    [[nodiscard]] std::int32_t code() const noexcept { return result_.code(); }
    /// As result::http_status(). Always 0 from the free function greenapi::delete_instance, whose
    /// C function does not report the HTTP status.
    [[nodiscard]] std::int32_t http_status() const noexcept { return result_.http_status(); }
    /// Deletion requests that may have been sent. Always 0 from the free function
    /// greenapi::delete_instance, whose C function does not report them.
    [[nodiscard]] std::uint32_t attempts() const noexcept { return result_.attempts(); }
    /// The whole result.
    [[nodiscard]] const greenapi::result &result() const noexcept { return result_; }

private:
    greenapi::result result_;
};

/// One instance of the account, as the API's list shows it. A plain value.
class instance
{
public:
    /// A time in UTC: the API's times have no zone and are read as UTC. In seconds, because
    /// system_clock's own ticks can end in 2262, and an instance may expire in 9999.
    using time_point = std::chrono::time_point<std::chrono::system_clock, std::chrono::seconds>;

    /// Wraps an instance of the C interface.
    explicit instance(const greenapi_instance &raw) noexcept : raw_(raw) {}

    /// The instance's id.
    [[nodiscard]] std::int64_t id() const noexcept { return raw_.id; }
    /// The messenger: "whatsapp", "telegram", "v3" (MAX), or what else the API says, in UTF-8.
    /// This text, the name and the tariff are valid as long as this object.
    [[nodiscard]] std::string_view type() const noexcept { return raw_.type; }
    /// The name, cut to at most 167 bytes. It may contain any character.
    [[nodiscard]] std::string_view name() const noexcept { return raw_.name; }
    /// The tariff.
    [[nodiscard]] std::string_view tariff() const noexcept { return raw_.tariff; }
    /// The state; state::not_asked unless states::asked was given, and for deleted instances.
    [[nodiscard]] greenapi::state state() const noexcept
    {
        return static_cast<greenapi::state>(raw_.state);
    }
    /// When the instance was created, if the API says so.
    [[nodiscard]] std::optional<time_point> created_at() const { return moment(raw_.created); }
    /// When the instance was deleted, if the API says so.
    [[nodiscard]] std::optional<time_point> deleted_at() const { return moment(raw_.deleted); }
    /// When the instance expires or expired, if the API says so.
    [[nodiscard]] std::optional<time_point> expires_at() const { return moment(raw_.expires); }
    /// Whether the instance is deleted.
    [[nodiscard]] bool is_deleted() const noexcept { return has(GREENAPI_INSTANCE_DELETED); }
    /// Whether the instance has expired. A new one may be shown as expired for an hour.
    [[nodiscard]] bool is_expired() const noexcept { return has(GREENAPI_INSTANCE_EXPIRED); }
    /// Whether the instance is free of charge.
    [[nodiscard]] bool is_free() const noexcept { return has(GREENAPI_INSTANCE_FREE); }
    /// Whether the instance was made by a partner.
    [[nodiscard]] bool is_partner() const noexcept { return has(GREENAPI_INSTANCE_PARTNER); }
    /// The instance of the C interface.
    [[nodiscard]] const greenapi_instance &raw() const noexcept { return raw_; }

private:
    [[nodiscard]] bool has(std::uint32_t flag) const noexcept { return (raw_.flags & flag) != 0; }

    static std::optional<time_point> moment(std::int64_t seconds)
    {
        if (seconds == 0)
            return std::nullopt;
        return time_point(std::chrono::seconds(seconds));
    }

    greenapi_instance raw_;
};

// So that the C interface can fill a vector of instances.
static_assert(sizeof(instance) == sizeof(greenapi_instance) &&
              std::is_standard_layout_v<instance> && std::is_trivially_copyable_v<instance>);

/// Internals of this header, not for programs.
namespace detail
{

/// A result for a C function that reports only a status.
inline result make_result(greenapi_status status, std::string_view message, std::int64_t id = 0,
                          std::int32_t code = 0) noexcept
{
    greenapi_result raw{};
    raw.status = status;
    raw.id = id;
    raw.code = code;
    // The array is zeroed, so the last byte ends the text.
    message.copy(raw.message, sizeof raw.message - 1);
    return result(raw);
}

/// The same, with the status's own sentence.
inline result make_result(greenapi_status status, std::int64_t id = 0,
                          std::int32_t code = 0) noexcept
{
    return make_result(status, greenapi_status_message(static_cast<std::int32_t>(status)), id,
                       code);
}

/// The result of a refused client, with the names of `options` in C++ in place of those in C. In
/// place, because memory may be short.
inline result in_own_words(greenapi_result refusal) noexcept
{
    using text = std::string_view;
    for (const auto &[in_c, own] :
         {std::pair<text, text>("timeout_ms", "timeout"),
          std::pair<text, text>("GREENAPI_FLAG_ALLOW_HTTP", "allow_http")}) {
        const text message = refusal.message;
        const auto place = message.find(in_c);
        if (place == text::npos)
            continue;
        const text rest = message.substr(place + in_c.size());
        // The own name is the shorter one. The rest is moved with its NUL.
        char *const end = refusal.message + place + own.copy(refusal.message + place, own.size());
        std::char_traits<char>::move(end, rest.data(), rest.size() + 1);
    }
    return result(refusal);
}

/// The text for C. C would silently cut a text at a NUL byte, so such a text is refused.
inline const char *c_string(const std::string &text, const char *name)
{
    if (text.find('\0') != std::string::npos) {
        throw error(make_result(GREENAPI_STATUS_INVALID_ARGUMENT,
                                std::string(name) + " contains a NUL byte; remove it"));
    }
    return text.c_str();
}

/// The same for an optional text.
inline const char *c_string(const std::optional<std::string> &text, const char *name)
{
    return text ? c_string(*text, name) : nullptr;
}

/// A text that the caller has to give. A pointer stays one, because NULL, which std::getenv returns
/// for an unset variable, cannot become a string: the library refuses it.
class required
{
public:
    required(const std::string &text) noexcept : text_(&text) {}
    required(const char *pointer) noexcept : pointer_(pointer) {}

    [[nodiscard]] const char *c_string(const char *name) const
    {
        return text_ ? detail::c_string(*text_, name) : pointer_;
    }

private:
    const std::string *text_ = nullptr;
    const char *pointer_ = nullptr;
};

/// A duration in the range of the C type. A negative one becomes 0, as in the standard library's
/// waits; one that is too long becomes the longest.
template <class Number>
constexpr Number clamp_milliseconds(std::chrono::milliseconds duration) noexcept
{
    // In parentheses, because <windows.h> defines a macro of that name.
    constexpr auto longest = (std::numeric_limits<Number>::max)();
    if (duration.count() <= 0)
        return 0;
    if (duration >= std::chrono::milliseconds(longest))
        return longest;
    return static_cast<Number>(duration.count());
}

/// The library's defaults, so that no default is repeated here.
inline greenapi_options default_options() noexcept
{
    greenapi_options defaults;
    greenapi_options_init(&defaults, sizeof defaults);
    return defaults;
}

/// A vector for so many results, none of which reads as a deletion before C fills it.
inline std::vector<result> blank_results(std::size_t count)
{
    return std::vector<result>(count, make_result(GREENAPI_STATUS_INTERNAL));
}

/// The vector's memory for the C interface; see the assertion beside `result`.
inline greenapi_result *raw_results(std::vector<result> &results) noexcept
{
    return reinterpret_cast<greenapi_result *>(results.data());
}

/// Calls the caller's function; returns whether to go on. A function without a result always does.
template <class Progress>
bool goes_on(Progress &progress, std::size_t done, std::size_t total, const result &last)
{
    if constexpr (std::is_void_v<decltype(progress(done, total, last))>) {
        progress(done, total, last);
        return true;
    } else {
        return static_cast<bool>(progress(done, total, last));
    }
}

/// A caller's function for the C callback, and the exception that it may have thrown.
template <class Progress> struct progress_call {
    /// The caller's function.
    Progress &progress;
    /// The exception, if the function threw one.
    std::exception_ptr thrown;

    /// The function that C calls; `user_data` is the object.
    static bool run(std::size_t done, std::size_t total, const greenapi_result *last,
                    void *user_data) noexcept
    {
        auto &self = *static_cast<progress_call *>(user_data);
        // The deletions under way when the function threw still report their ends.
        if (self.thrown)
            return false;
        try {
            return goes_on(self.progress, done, total, result(*last));
        } catch (...) {
            self.thrown = std::current_exception();
            return false;
        }
    }
};

} // namespace detail

/// How a client behaves. Every member starts with the default that the library reports.
///
/// The constructor of the client refuses an invalid value, with a message that names the option. A
/// duration below one millisecond counts as 0, one above 49 days as 49 days.
struct options {
    /// For the whole call, retries included; default 30 s.
    std::chrono::milliseconds timeout{detail::default_options().timeout_ms};
    /// For making one connection; default 10 s.
    std::chrono::milliseconds connect_timeout{detail::default_options().connect_timeout_ms};
    /// Attempts after the first; default 3, 0 means a single attempt.
    std::uint32_t max_retries = detail::default_options().max_retries;
    /// Requests under way at once; default 64, at least 1.
    std::uint32_t max_in_flight = detail::default_options().max_in_flight;
    /// Pace of new requests; default 0, which means no limit.
    double requests_per_second = detail::default_options().requests_per_second;
    /// What to do about open sessions; default session::ignore.
    greenapi::session session = static_cast<greenapi::session>(detail::default_options().session);
    /// Whether `http://` may lead to hosts other than this machine, with the token in clear.
    bool allow_http = false;
    /// A PEM bundle of certificates to trust instead of the system's; default: the system's.
    std::optional<std::string> ca_file{};
    /// The URL of a proxy; default: the environment's. An empty text means no proxy.
    std::optional<std::string> proxy{};
    /// Put before the library's own user agent; default: nothing.
    std::optional<std::string> user_agent{};
    /// Certificates to trust instead of the system's, as PEM text; not beside ca_file.
    std::optional<std::string> ca_pem{};
    /// Where an instance's own methods (its state, its logout) are asked; `{pool}` stands for the
    /// first four digits of its id. Default: the client's URL.
    std::optional<std::string> instance_url{};
    /// The path of a journal, which notes each deletion durably before its request may be sent, so
    /// that a later process knows what this process did; default: none. Use another file for each
    /// account.
    std::optional<std::string> journal{};
};

/// Deletes one instance, with every option at its default. Connections are kept and shared by all
/// such calls of the process, whatever their token.
///
/// May be called from any thread; blocks for at most 30 s. Returns when the instance is gone
/// (status ok or gone). `url` and `token` are strings, of C or C++.
/// \throws greenapi::error in every other case; see error::effect.
inline result delete_instance(detail::required url, detail::required token, std::int64_t id)
{
    int code = 0;
    const auto status =
        greenapi_delete_instance(url.c_string("url"), token.c_string("token"), id, &code);
    const auto outcome = detail::make_result(status, id, code);
    if (!outcome.deleted())
        throw error(outcome);
    return outcome;
}

/// The account's instances, read while the loop runs: an input range for one loop and one thread.
///
/// Made by client::instances. The loop ends when the whole list has come; a list that breaks off
/// throws, so a loop that ends without an exception has seen the whole list. Destroying the range
/// ends the reading at once.
class instance_list
{
public:
    /// An input iterator over the list.
    class iterator
    {
    public:
        /// For std::iterator_traits.
        using iterator_category = std::input_iterator_tag;
        /// See above.
        using value_type = instance;
        /// See above.
        using difference_type = std::ptrdiff_t;
        /// See above.
        using pointer = const instance *;
        /// See above.
        using reference = const instance &;

        /// The end.
        iterator() noexcept = default;
        /// The current instance; valid until the iterator is incremented.
        reference operator*() const noexcept { return list_->page_[list_->next_]; }
        /// See operator*.
        pointer operator->() const noexcept { return &**this; }
        /// Waits for the next instance.
        /// \throws greenapi::error when the list breaks off.
        iterator &operator++()
        {
            list_->next_++;
            return *this = list_->current();
        }
        /// See above.
        void operator++(int) { ++*this; }
        /// Whether both are the end.
        friend bool operator==(const iterator &a, const iterator &b) noexcept
        {
            return a.list_ == b.list_;
        }
        /// See above.
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return !(a == b); }

    private:
        friend class instance_list;
        explicit iterator(instance_list *list) noexcept : list_(list) {}

        instance_list *list_ = nullptr;
    };

    instance_list(const instance_list &) = delete;
    instance_list &operator=(const instance_list &) = delete;
    /// Takes the other's handle; iterators of the other are no longer valid.
    instance_list(instance_list &&other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), page_(std::move(other.page_)),
          next_(other.next_)
    {
    }
    /// Takes the other's handle; iterators of both are no longer valid.
    instance_list &operator=(instance_list &&other) noexcept
    {
        if (this != &other) {
            greenapi_list_free(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
            page_ = std::move(other.page_);
            next_ = other.next_;
        }
        return *this;
    }
    /// Ends the reading at once.
    ~instance_list() { greenapi_list_free(handle_); }

    /// Waits for the first instance that no iterator has passed.
    /// \throws greenapi::error when the list breaks off before that instance.
    iterator begin() { return current(); }
    /// The end of the list.
    [[nodiscard]] iterator end() const noexcept { return {}; }

    /// The handle for the C interface; this object keeps owning it.
    [[nodiscard]] greenapi_list *get() const noexcept { return handle_; }

private:
    friend class client;
    explicit instance_list(greenapi_list *handle) noexcept : handle_(handle) {}

    iterator current()
    {
        if (next_ < page_.size())
            return iterator(this);
        constexpr std::size_t capacity = 64;
        page_.assign(capacity, instance(greenapi_instance{}));
        next_ = 0;
        const auto taken = greenapi_list_take(
            handle_, reinterpret_cast<greenapi_instance *>(page_.data()), capacity, -1);
        page_.erase(page_.begin() + static_cast<std::ptrdiff_t>(taken), page_.end());
        if (taken > 0)
            return iterator(this);
        greenapi_result how{};
        if (!greenapi_list_ended(handle_, &how) || how.status != GREENAPI_STATUS_OK)
            throw error(result(how));
        return {};
    }

    greenapi_list *handle_;
    std::vector<instance> page_;
    std::size_t next_ = 0;
};

/// An account at a URL, with its options, connections and limits.
///
/// Many threads may call its functions at once, but not while it is moved or destroyed. Destroying
/// a client never waits: submissions under way complete. A client that was moved from refuses every
/// call as an invalid argument.
class client
{
public:
    /// Checks all arguments; makes no connection yet. `url` and `token` are strings, of C or C++.
    /// \throws greenapi::error with status::invalid_argument and a message that names the
    /// argument or option, or with status::out_of_resources.
    client(detail::required url, detail::required token, const options &settings = {})
    {
        greenapi_options raw = detail::default_options();
        raw.timeout_ms = detail::clamp_milliseconds<std::uint32_t>(settings.timeout);
        raw.connect_timeout_ms =
            detail::clamp_milliseconds<std::uint32_t>(settings.connect_timeout);
        raw.max_retries = settings.max_retries;
        raw.max_in_flight = settings.max_in_flight;
        raw.requests_per_second = settings.requests_per_second;
        raw.session = static_cast<std::uint32_t>(settings.session);
        if (settings.allow_http)
            raw.flags |= GREENAPI_FLAG_ALLOW_HTTP;
        raw.ca_file = detail::c_string(settings.ca_file, "ca_file");
        raw.proxy = detail::c_string(settings.proxy, "proxy");
        raw.user_agent = detail::c_string(settings.user_agent, "user_agent");
        raw.ca_pem = detail::c_string(settings.ca_pem, "ca_pem");
        raw.instance_url = detail::c_string(settings.instance_url, "instance_url");
        raw.journal = detail::c_string(settings.journal, "journal");

        greenapi_result problem;
        const auto status = greenapi_client_new(url.c_string("url"), token.c_string("token"), &raw,
                                                &handle_, &problem);
        if (status != GREENAPI_STATUS_OK)
            throw error(detail::in_own_words(problem));
    }

    client(const client &) = delete;
    client &operator=(const client &) = delete;

    /// Takes the other's handle; the other has none afterwards.
    client(client &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

    /// Frees this client's handle and takes the other's.
    client &operator=(client &&other) noexcept
    {
        if (this != &other) {
            greenapi_client_free(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }

    /// Frees the client at once; submissions under way complete.
    ~client() { greenapi_client_free(handle_); }

    /// Deletes one instance and blocks for at most options::timeout. Returns when it is gone
    /// (status ok or gone).
    /// \throws greenapi::error in every other case.
    result delete_instance(std::int64_t id)
    {
        const auto outcome = try_delete_instance(id);
        if (!outcome.deleted())
            throw error(outcome);
        return outcome;
    }

    /// The same, with every outcome as a result.
    [[nodiscard]] result try_delete_instance(std::int64_t id) noexcept
    {
        greenapi_result raw;
        greenapi_client_delete_instance(handle_, id, &raw);
        return result(raw);
    }

    /// Deletes many instances, options::max_in_flight at a time, and blocks until each has its
    /// result; the results come in the order of `ids`. A failed deletion is a result, never an
    /// exception.
    std::vector<result> delete_instances(const std::vector<std::int64_t> &ids)
    {
        auto results = detail::blank_results(ids.size());
        greenapi_client_delete_instances(handle_, ids.data(), ids.size(),
                                         detail::raw_results(results), nullptr, nullptr);
        return results;
    }

    /// The same, calling `progress(done, total, last)` on this thread after each result, with the
    /// counts as `std::size_t` and the latest result as `const result&`. When `progress` returns
    /// false, the rest is cancelled; a function without a result never cancels. It must not call
    /// pthread_exit(), which ends the process.
    /// \throws whatever `progress` throws, after the rest has been cancelled and has ended. The
    /// results are then lost; the next function keeps them.
    template <class Progress>
    std::vector<result> delete_instances(const std::vector<std::int64_t> &ids, Progress &&progress)
    {
        std::vector<result> results;
        delete_instances(ids, results, progress);
        return results;
    }

    /// The same, replacing `results` with the result of each id, in the order of `ids`, also when
    /// `progress` throws.
    /// \throws whatever `progress` throws, after the rest has been cancelled and has ended.
    template <class Progress>
    void delete_instances(const std::vector<std::int64_t> &ids, std::vector<result> &results,
                          Progress &&progress)
    {
        using call = detail::progress_call<std::remove_reference_t<Progress>>;
        call state{progress, nullptr};
        results = detail::blank_results(ids.size());
        greenapi_client_delete_instances(handle_, ids.data(), ids.size(),
                                         detail::raw_results(results), &call::run, &state);
        if (state.thrown)
            std::rethrow_exception(state.thrown);
    }

    /// The account's instances, deleted ones of the last three months included, in the API's
    /// order: `for (const auto &instance : client.instances())`. They are read while the loop
    /// runs, and a slow loop holds back the reading. The client may be destroyed meanwhile.
    /// \throws greenapi::error here for a client that was moved from and for resources, and in
    /// the loop when the list breaks off.
    [[nodiscard]] instance_list instances(states wanted = states::not_asked)
    {
        greenapi_list *list = nullptr;
        greenapi_result problem;
        if (greenapi_client_list_instances(handle_, static_cast<std::uint32_t>(wanted), &list,
                                           &problem) != GREENAPI_STATUS_OK)
            throw error(result(problem));
        return instance_list(list);
    }

    /// The handle for the C interface; this object keeps owning it.
    [[nodiscard]] greenapi_client *get() const noexcept { return handle_; }

private:
    greenapi_client *handle_ = nullptr;
};

/// Many deletions at once from any event loop: submit, wait for the descriptor, take the results.
///
/// Many threads may call its functions at once, but not while it is moved or destroyed. Destroying
/// a queue never waits: the rest of the submissions is cancelled, and their results are lost. To
/// stop without losing results, cancel each tag and take until nothing comes.
class queue
{
public:
    /// An empty queue.
    /// \throws greenapi::error with status::out_of_resources.
    queue()
    {
        const auto status = greenapi_queue_new(&handle_);
        if (status != GREENAPI_STATUS_OK)
            throw error(detail::make_result(status));
    }

    queue(const queue &) = delete;
    queue &operator=(const queue &) = delete;

    /// Takes the other's handle; the other has none afterwards.
    queue(queue &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

    /// Frees this queue's handle and takes the other's.
    queue &operator=(queue &&other) noexcept
    {
        if (this != &other) {
            greenapi_queue_free(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }

    /// Cancels the rest of the submissions and frees the queue at once.
    ~queue() { greenapi_queue_free(handle_); }

    /// The descriptor that is readable exactly while results wait (level-triggered; for poll,
    /// epoll, kqueue, Asio). The queue owns the descriptor: never read or close it.
    [[nodiscard]] greenapi_fd fd() const noexcept { return greenapi_queue_fd(handle_); }

    /// Submits a deletion without blocking. Every submission gives exactly one result, with this
    /// tag, also when the id is out of range. The timeout starts with the request, not while the
    /// submission waits for its turn.
    /// \throws greenapi::error for a client that was moved from and for resources, never for
    /// errors of the network.
    void submit(const client &with, std::int64_t id, std::uint64_t tag = 0)
    {
        const auto status = greenapi_queue_submit(handle_, with.get(), id, tag);
        if (status != GREENAPI_STATUS_OK)
            throw error(detail::make_result(status, id));
    }

    /// Cancels the submissions with this tag that have no result yet; returns how many. Their
    /// results come out of the queue like all others.
    std::size_t cancel(std::uint64_t tag) noexcept { return greenapi_queue_cancel(handle_, tag); }

    /// Waits without a limit for a result, and takes up to `capacity` results in the order of
    /// completion. Returns none only when nothing is under way.
    [[nodiscard]] std::vector<result> take(std::size_t capacity) { return take_for(capacity, -1); }

    /// The same, waiting at most for `timeout`; zero or less means not at all.
    [[nodiscard]] std::vector<result> take(std::size_t capacity, std::chrono::milliseconds timeout)
    {
        return take_for(capacity, detail::clamp_milliseconds<int>(timeout));
    }

    /// The handle for the C interface; this object keeps owning it.
    [[nodiscard]] greenapi_queue *get() const noexcept { return handle_; }

private:
    std::vector<result> take_for(std::size_t capacity, int timeout_ms)
    {
        auto results = detail::blank_results(capacity);
        const auto taken =
            greenapi_queue_take(handle_, detail::raw_results(results), capacity, timeout_ms);
        results.erase(results.begin() + static_cast<std::ptrdiff_t>(taken), results.end());
        return results;
    }

    greenapi_queue *handle_ = nullptr;
};

} // namespace greenapi

#endif
