// The C++ driver for the tables of test cases that run in every language; driver.c describes its
// input and output. It uses only greenapi.hpp.
#include <cstdint>
#include <cstdlib>
#include <greenapi.hpp>
#include <iostream>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace
{

struct usage_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::optional<std::string> variable(const std::string &name)
{
    const char *value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::make_optional<std::string>(value);
}

std::string required(const std::string &name)
{
    if (auto value = variable(name))
        return *value;
    throw usage_error("set " + name);
}

std::optional<std::uint32_t> number(const std::string &name)
{
    const auto text = variable(name);
    if (!text)
        return std::nullopt;
    std::size_t used = 0;
    unsigned long long value = 0;
    try {
        value = std::stoull(*text, &used);
    } catch (const std::logic_error &) {
        used = 0;
    }
    if (used == 0 || used != text->size() || value > std::numeric_limits<std::uint32_t>::max())
        throw usage_error(name + " must be a 32-bit number, not \"" + *text + '"');
    return static_cast<std::uint32_t>(value);
}

greenapi::options options_from_environment()
{
    greenapi::options options;
    options.ca_file = variable("GREENAPI_CA_FILE");
    options.instance_url = variable("GREENAPI_INSTANCE_URL");
    options.journal = variable("GREENAPI_JOURNAL");
    if (const auto retries = number("GREENAPI_MAX_RETRIES"))
        options.max_retries = *retries;
    if (const auto timeout = number("GREENAPI_TIMEOUT_MS"))
        options.timeout = std::chrono::milliseconds(*timeout);

    const auto session = variable("GREENAPI_SESSION");
    if (session == "ignore") {
        options.session = greenapi::session::ignore;
    } else if (session == "require_logged_out") {
        options.session = greenapi::session::require_logged_out;
    } else if (session == "log_out") {
        options.session = greenapi::session::log_out;
    } else if (session == "try_log_out") {
        options.session = greenapi::session::try_log_out;
    } else if (const auto value = number("GREENAPI_SESSION")) {
        options.session = static_cast<greenapi::session>(*value);
    }
    return options;
}

std::vector<std::int64_t> read_ids()
{
    std::vector<std::int64_t> ids;
    for (std::string line; std::getline(std::cin, line);) {
        std::size_t used = 0;
        try {
            ids.push_back(std::stoll(line, &used));
        } catch (const std::logic_error &) {
            used = 0;
        }
        if (used == 0 || used != line.size())
            throw usage_error("standard input must hold one id per line, not \"" + line + '"');
    }
    return ids;
}

void print(std::int64_t id, const greenapi::result &result, bool one_call = false)
{
    std::cout << id << '\t' << static_cast<std::int32_t>(result.status()) << '\t' << result.code()
              << '\t';
    if (one_call) {
        std::cout << "-\t-";
    } else {
        std::cout << result.http_status() << '\t' << result.attempts();
    }
    std::cout << '\t' << greenapi::status_name(result.status()) << '\t' << result.message() << '\n';
}

void one_call(const std::string &url, const std::string &token,
              const std::vector<std::int64_t> &ids)
{
    for (const auto id : ids) {
        try {
            print(id, greenapi::delete_instance(url, token, id), true);
        } catch (const greenapi::error &problem) {
            print(id, problem.result(), true);
        }
    }
}

// The throwing and the returning function must give the same results, so they take turns.
void blocking(greenapi::client &client, const std::vector<std::int64_t> &ids)
{
    bool throwing = false;
    for (const auto id : ids) {
        throwing = !throwing;
        if (!throwing) {
            print(id, client.try_delete_instance(id));
            continue;
        }
        try {
            print(id, client.delete_instance(id));
        } catch (const greenapi::error &problem) {
            print(id, problem.result());
        }
    }
}

void queued(const greenapi::client &client, const std::vector<std::int64_t> &ids)
{
    greenapi::queue queue;
    for (std::size_t i = 0; i < ids.size(); i++)
        queue.submit(client, ids[i], i);
    for (auto under_way = ids.size(); under_way > 0;) {
        const auto results = queue.take(32);
        if (results.empty())
            throw std::runtime_error("the queue ended with results missing");
        for (const auto &result : results) {
            if (ids.at(result.tag()) != result.id())
                throw std::runtime_error("a tag came back with another id");
            print(result.id(), result);
        }
        under_way -= results.size();
    }
}

void bulk(greenapi::client &client, const std::vector<std::int64_t> &ids)
{
    std::size_t seen = 0;
    const auto results = client.delete_instances(
        ids, [&](std::size_t done, std::size_t total, const greenapi::result &) {
            if (done != ++seen || total != ids.size())
                throw std::runtime_error("progress does not count one by one");
        });
    if (seen != ids.size())
        throw std::runtime_error("progress did not reach the end");
    for (std::size_t i = 0; i < ids.size(); i++)
        print(ids[i], results[i]);
}

void print(std::optional<greenapi::instance::time_point> moment)
{
    if (moment)
        std::cout << '\t' << moment->time_since_epoch().count();
    else
        std::cout << "\t-";
}

void print(std::string_view text)
{
    constexpr auto digits = "0123456789abcdef";
    std::cout << '\t';
    for (const unsigned char byte : text)
        std::cout << digits[byte >> 4] << digits[byte & 15];
}

void list(greenapi::client &client)
{
    const auto wanted =
        variable("GREENAPI_STATES") ? greenapi::states::asked : greenapi::states::not_asked;
    try {
        for (const auto &one : client.instances(wanted)) {
            std::cout << "instance\t" << one.id() << '\t' << static_cast<std::int32_t>(one.state());
            print(one.created_at());
            print(one.deleted_at());
            print(one.expires_at());
            std::cout << '\t' << one.is_deleted() << '\t' << one.is_expired() << '\t'
                      << one.is_free() << '\t' << one.is_partner();
            print(one.type());
            print(one.tariff());
            print(one.name());
            std::cout << '\n';
        }
        std::cout << "0\t-\t-\t-\t-\tok\t-\n";
    } catch (const greenapi::error &problem) {
        print(0, problem.result());
    }
}

int run(const std::string &mode)
{
    const auto url = required("GREENAPI_URL");
    const auto token = required("GREENAPI_TOKEN");
    const auto ids = read_ids();

    if (mode == "one_call") {
        one_call(url, token, ids);
        return 0;
    }
    if (mode != "client" && mode != "queue" && mode != "bulk" && mode != "list")
        throw usage_error('"' + mode + "\" is no mode: one_call, client, queue, bulk or list");

    std::optional<greenapi::client> client;
    try {
        client.emplace(url, token, options_from_environment());
    } catch (const greenapi::error &refusal) {
        for (const auto id : ids)
            print(id, refusal.result());
        return 0;
    }
    if (mode == "client")
        blocking(*client, ids);
    if (mode == "queue")
        queued(*client, ids);
    if (mode == "bulk")
        bulk(*client, ids);
    if (mode == "list")
        list(*client);
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    try {
        if (argc != 2)
            throw usage_error("usage: driver one_call|client|queue|bulk|list < ids");
        return run(argv[1]);
    } catch (const std::exception &problem) {
        std::cerr << "driver: " << problem.what() << '\n';
        return 2;
    }
}
