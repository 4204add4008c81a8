// The C++ header in a program that throws. An exception of the progress function reaches the caller
// without unwinding C frames, errors need no memory, handles can be moved and are freed once, and
// NULL and strings that C would cut at a NUL byte are refused.
//
// The environment and the exit status are those of the C programs in this directory.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <greenapi.hpp>
#include <iostream>
#include <iterator>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace
{

/// Whether this program's `new` finds no memory. The library does not use it.
bool memory_is_short = false;

} // namespace

void *operator new(std::size_t size)
{
    void *const block = memory_is_short ? nullptr : std::malloc(size);
    if (block == nullptr)
        throw std::bad_alloc();
    return block;
}

void operator delete(void *block) noexcept
{
    std::free(block);
}

void operator delete(void *block, std::size_t) noexcept
{
    std::free(block);
}

namespace
{

constexpr std::int64_t nobodys_id = 9000000001; // the stand-in has no such instance

struct failed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void check(bool holds, const std::string &otherwise)
{
    if (!holds)
        throw failed(otherwise);
}

std::string environment(const char *name)
{
    const char *value = std::getenv(name);
    if (value == nullptr) {
        std::cerr << "cpp_exceptions: set " << name << " as tests/guest/README.md says\n";
        std::exit(2);
    }
    return value;
}

greenapi::client make_client(std::uint32_t max_in_flight = 64)
{
    greenapi::options options;
    options.max_in_flight = max_in_flight;
    options.proxy = "";
    if (const char *ca_file = std::getenv("GREENAPI_CA_FILE"))
        options.ca_file = ca_file;
    return greenapi::client(environment("GREENAPI_URL"), environment("GREENAPI_TOKEN"), options);
}

template <class Call> greenapi::error expect_error(greenapi::status status, const Call &call)
{
    try {
        call();
    } catch (const greenapi::error &problem) {
        check(problem.status() == status, std::string("a wrong status: ") + problem.what());
        check(problem.effect() == greenapi::status_effect(status), "a wrong effect");
        check(problem.what() == std::string(problem.result().message()),
              "what() is another message");
        check(std::string(problem.what()).size() > 10, "what() is no sentence");
        return problem;
    }
    throw failed("nothing was thrown");
}

void progress_throws()
{
    auto client = make_client(1);
    const std::vector<std::int64_t> ids(200, nobodys_id);
    struct its_own {
        int value;
    };
    const auto caller = std::this_thread::get_id();
    std::size_t calls = 0;
    try {
        client.delete_instances(ids, [&](std::size_t, std::size_t total, const greenapi::result &) {
            check(total == ids.size(), "a wrong total");
            check(std::this_thread::get_id() == caller, "progress ran on another thread");
            if (++calls == 3)
                throw its_own{42};
        });
        throw failed("the exception did not arrive");
    } catch (const its_own &thrown) {
        check(thrown.value == 42, "another exception arrived");
    }
    check(calls == 3, "progress was called again after it had thrown");

    // With the results kept, every id still gets its result.
    std::vector<greenapi::result> kept;
    try {
        client.delete_instances(ids, kept, [&](std::size_t, std::size_t, const greenapi::result &) {
            throw its_own{43};
        });
        throw failed("the exception did not arrive");
    } catch (const its_own &) {
        std::size_t never_sent = 0;
        check(kept.size() == ids.size(), "results were lost to the exception");
        for (const auto &result : kept) {
            check(result.id() == nobodys_id && result.status() != greenapi::status::internal,
                  "an id has no result of its own");
            if (result.status() == greenapi::status::cancelled)
                never_sent++;
        }
        check(never_sent > ids.size() / 2, "an exception did not cancel what was left");
    }

    // The client still works. Returning false cancels, and every id gets its result.
    const auto results = client.delete_instances(
        ids, [&](std::size_t done, std::size_t, const greenapi::result &) { return done < 3; });
    check(results.size() == ids.size(), "results are missing");
    std::size_t cancelled = 0;
    for (const auto &result : results) {
        check(result.id() == nobodys_id && !result.deleted(), "a wrong result");
        if (result.status() == greenapi::status::cancelled)
            cancelled++;
    }
    check(cancelled > ids.size() / 2, "false did not cancel what was left");

    const auto all = client.delete_instances({nobodys_id, 0, nobodys_id});
    check(all[0].status() == greenapi::status::not_found &&
              all[1].status() == greenapi::status::invalid_argument &&
              all[2].status() == greenapi::status::not_found,
          "a wrong id affected the results of other ids");
    check(client.delete_instances({}).empty(), "results for no ids");
}

void errors_carry_results()
{
    auto client = make_client();
    const auto problem =
        expect_error(greenapi::status::not_found, [&] { client.delete_instance(nobodys_id); });
    check(problem.code() == 404 && problem.http_status() == 200 && problem.attempts() == 1 &&
              problem.result().id() == nobodys_id,
          "the error lost what the result says");
    const auto result = client.try_delete_instance(nobodys_id);
    check(result.status() == greenapi::status::not_found && result.message() == problem.what(),
          "the two forms tell different things");

    const auto plain = expect_error(greenapi::status::not_found, [] {
        greenapi::delete_instance(environment("GREENAPI_URL"), environment("GREENAPI_TOKEN"),
                                  nobodys_id);
    });
    check(plain.code() == 404 && plain.result().id() == nobodys_id,
          "the one call lost its code or id");
}

void nul_bytes_are_refused()
{
    using namespace std::string_literals;
    const auto url = environment("GREENAPI_URL");
    const auto token = environment("GREENAPI_TOKEN");
    const auto refused = greenapi::status::invalid_argument;
    for (const auto &problem : {
             expect_error(refused, [&] { greenapi::delete_instance(url + "\0x"s, token, 1); }),
             expect_error(refused, [&] { greenapi::delete_instance(url, token + "\0x"s, 1); }),
             expect_error(refused, [&] { greenapi::client(url + "\0x"s, token); }),
             expect_error(refused, [&] { greenapi::client(url, token + "\0x"s); }),
         })
        check(std::string(problem.what()).find(token) == std::string::npos, "the token is shown");
    for (const auto member : {&greenapi::options::ca_file, &greenapi::options::proxy,
                              &greenapi::options::user_agent, &greenapi::options::ca_pem,
                              &greenapi::options::instance_url, &greenapi::options::journal}) {
        greenapi::options options;
        options.*member = "a\0b"s;
        expect_error(refused, [&] { greenapi::client(url, token, options); });
    }
}

void null_is_refused()
{
    const auto url = environment("GREENAPI_URL");
    const char *const unset = std::getenv("GREENAPI_IS_NOT_SET");
    const auto refused = greenapi::status::invalid_argument;
    expect_error(refused, [&] { greenapi::delete_instance(url, unset, 1); });
    expect_error(refused, [&] { greenapi::delete_instance(unset, "gac.x", 1); });
    for (const auto &[name, problem] :
         {std::pair("url", expect_error(refused, [&] { greenapi::client(unset, unset); })),
          std::pair("token", expect_error(refused, [&] { greenapi::client(url, unset); }))})
        check(std::string(problem.what()).find(name) == 0,
              "the message does not name what is NULL");
}

void options_translate()
{
    using std::chrono::milliseconds;
    greenapi_options defaults;
    greenapi_options_init(&defaults, sizeof defaults);
    const greenapi::options options;
    check(options.timeout == milliseconds(defaults.timeout_ms) &&
              options.connect_timeout == milliseconds(defaults.connect_timeout_ms) &&
              options.max_retries == defaults.max_retries &&
              options.max_in_flight == defaults.max_in_flight,
          "the defaults are not the library's");

    const auto url = environment("GREENAPI_URL");
    const auto token = environment("GREENAPI_TOKEN");
    for (const auto &[timeout, valid] :
         {std::pair(milliseconds(0), false), std::pair(milliseconds(-5), false),
          std::pair(milliseconds(1), true), std::pair(milliseconds::max(), true)}) {
        greenapi::options bounded;
        bounded.timeout = timeout;
        bounded.connect_timeout = std::chrono::hours(1);
        if (valid) {
            greenapi::client(url, token, bounded);
        } else {
            const auto problem = expect_error(greenapi::status::invalid_argument,
                                              [&] { greenapi::client(url, token, bounded); });
            check(std::string(problem.what()).find("timeout") == 0 &&
                      std::string(problem.what()).find("timeout_ms") == std::string::npos,
                  "the message does not name the option as C++ does");
        }
    }
}

void zero_values_are_unknown()
{
    check(greenapi::effect{} == greenapi::effect::unknown, "the zero effect says something");
    const greenapi::result zero(greenapi_result{});
    check(zero.effect() == greenapi::effect::unknown && !zero.deleted(),
          "a result about no instance says that one was deleted");
    for (std::int32_t number = -1; number < 60; number++) {
        const auto of_c = greenapi_status_effect(number);
        const auto own = greenapi::status_effect(static_cast<greenapi::status>(number));
        check((own == greenapi::effect::deleted) == (of_c == GREENAPI_EFFECT_DELETED) &&
                  (own == greenapi::effect::not_deleted) == (of_c == GREENAPI_EFFECT_NOT_DELETED),
              "an effect is not the library's");
    }
}

void plain_http_is_refused_in_own_words()
{
    const auto problem = expect_error(greenapi::status::invalid_argument, [] {
        greenapi::client("http://example.com", environment("GREENAPI_TOKEN"));
    });
    const std::string message = problem.what();
    check(message.find("allow_http") != std::string::npos &&
              message.find("GREENAPI_") == std::string::npos,
          "the message does not name the option as C++ does");
}

void the_list_is_a_range()
{
    auto client = make_client();
    // The stand-in starts with these instances, of which every other one is logged in.
    std::int64_t next = 1101000001;
    for (const auto &instance : client.instances(greenapi::states::asked)) {
        check(instance.id() == next, "the list has another order");
        const auto expected = next % 2 == 1 ? greenapi::state::authorized //
                                            : greenapi::state::not_authorized;
        check(instance.state() == expected, "a wrong state");
        check(instance.type() == "whatsapp" && !instance.is_deleted() && !instance.is_expired() &&
                  instance.created_at() && !instance.deleted_at(),
              "a field was lost");
        next++;
    }
    check(next > 1101000002, "the list is empty");

    auto list = [] { return make_client().instances(); }(); // its client is gone
    for (const auto &instance : list) {
        check(instance.id() == 1101000001 && instance.state() == greenapi::state::not_asked,
              "a wrong first instance");
        break;
    }
    auto moved = std::move(list);
    check(moved.begin()->id() == 1101000001, "what was not passed by did not move");
    check(std::distance(moved.begin(), moved.end()) == next - 1101000001, "instances were lost");
    check(moved.begin() == moved.end(), "a list has no end");
    expect_error(greenapi::status::invalid_argument, [&] { list.begin(); });

    // A list that is not complete must end with an error.
    greenapi::client stranger(environment("GREENAPI_URL"), "gac.wrong");
    expect_error(greenapi::status::unauthorized, [&] {
        for (const auto &instance : stranger.instances())
            check(instance.id() == 0, "a stranger sees instances");
    });
    auto gone = std::move(stranger);
    expect_error(greenapi::status::invalid_argument, [&] { (void)stranger.instances(); });
}

/// In a shortage the caller of a deletion must learn what became of it, not get std::bad_alloc.
void errors_need_no_memory()
{
    auto client = make_client();
    greenapi::queue queue;
    auto moved = std::move(client);
    const auto url = environment("GREENAPI_URL"), token = environment("GREENAPI_TOKEN");
    greenapi::options options;
    options.timeout = options.timeout.zero();
    const auto caught = [](const auto &call) {
        memory_is_short = true;
        try {
            call();
        } catch (const greenapi::error &problem) {
            memory_is_short = false;
            return problem;
        } catch (...) {
            memory_is_short = false;
            throw;
        }
        memory_is_short = false;
        throw failed("no exception");
    };
    const greenapi::error errors[] = {
        caught([&] { greenapi::delete_instance(url, token, 0); }),
        caught([&] { client.delete_instance(nobodys_id); }),
        caught([&] { queue.submit(client, nobodys_id); }),
        caught([&] { greenapi::client refused(url, token, options); }),
    };
    const auto gone = caught([&] { moved.delete_instance(nobodys_id); });
    check(gone.status() == greenapi::status::not_found, "the result was lost");
    for (const auto &error : errors)
        check(error.status() == greenapi::status::invalid_argument &&
                  error.result().message() == error.what(),
              std::string("without memory: ") + error.what());
    check(errors[3].what() == std::string("timeout is 0, which leaves no time: give 1 or more."),
          errors[3].what());
}

void handles_move()
{
    static_assert(!std::is_copy_constructible_v<greenapi::client> &&
                  !std::is_copy_constructible_v<greenapi::queue> &&
                  std::is_nothrow_move_constructible_v<greenapi::client> &&
                  std::is_nothrow_move_assignable_v<greenapi::queue> &&
                  std::is_nothrow_copy_constructible_v<greenapi::error> &&
                  std::is_trivially_copyable_v<greenapi::result>);

    auto first = make_client();
    auto second = make_client();
    second = std::move(first);
    check(second.try_delete_instance(nobodys_id).status() == greenapi::status::not_found,
          "a client does not work after moving");
    check(first.try_delete_instance(nobodys_id).status() == greenapi::status::invalid_argument,
          "a client that was moved from does not refuse");
    auto &same = second;
    second = std::move(same);
    check(second.get() != nullptr, "moving a client onto itself lost it");

    greenapi::queue queue;
    {
        const auto submitting = make_client();
        for (std::uint64_t tag = 1; tag <= 8; tag++)
            queue.submit(submitting, nobodys_id, tag);
    } // the client is freed first, its deletions complete
    greenapi::queue moved(std::move(queue));
    std::uint64_t tags = 0;
    for (std::size_t taken = 0; taken < 8;) {
        const auto results = moved.take(3);
        check(!results.empty() && results.size() <= 3, "results are missing or too many");
        for (const auto &result : results) {
            check(result.status() == greenapi::status::not_found, "a wrong result");
            tags += result.tag();
        }
        taken += results.size();
    }
    check(tags == 36, "tags were lost");
    check(moved.take(3).empty() && moved.take(3, std::chrono::hours(1)).empty() &&
              moved.take(3, std::chrono::milliseconds(-1)).empty() && moved.cancel(1) == 0,
          "an empty queue has results");
    check(moved.fd() >= 0 && queue.fd() < 0, "the descriptor did not move");
    moved.submit(second, 0, 5);
    const auto refused = moved.take(3);
    check(refused.size() == 1 && refused[0].status() == greenapi::status::invalid_argument &&
              refused[0].tag() == 5,
          "an id out of range is not a result like any other");
    expect_error(greenapi::status::invalid_argument, [&] { queue.submit(second, nobodys_id); });
}

} // namespace

int main()
{
    if (const char *ca_file = std::getenv("GREENAPI_CA_FILE"))
        setenv("SSL_CERT_FILE", ca_file, 1);
    try {
        progress_throws();
        errors_carry_results();
        errors_need_no_memory();
        nul_bytes_are_refused();
        null_is_refused();
        options_translate();
        zero_values_are_unknown();
        plain_http_is_refused_in_own_words();
        the_list_is_a_range();
        handles_move();
    } catch (const std::exception &problem) {
        std::cerr << "cpp_exceptions: FAILED: " << problem.what() << '\n';
        return 1;
    }
    std::cout << "cpp_exceptions: exceptions pass around the C frames, handles move, NULL and NUL "
                 "bytes are refused (version "
              << greenapi::version() << ")\n";
    return 0;
}
