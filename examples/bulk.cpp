// Deletes many instances from C++, with a lambda as the progress function, and lists the failures.
//
//   c++ -std=c++17 bulk.cpp -o bulk $(pkg-config --cflags --libs greenapi)
//   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... ./bulk 1101000001 1101000002
//
// GREENAPI_CA_FILE, if set, names a PEM file to trust instead of the system's certificates.
//
// Exit status: 0 every instance is gone, 1 at least one was not deleted, 3 at least one may be
// gone (running again is safe, and shows which), 2 wrong usage.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <greenapi.hpp>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

// std::stoll reads "1101x" as 1101, which is another instance.
static std::int64_t parse_id(const std::string &text)
{
    std::size_t used = 0;
    const std::int64_t id = std::stoll(text, &used);
    if (used != text.size())
        throw std::invalid_argument(text);
    return id;
}

int main(int argc, char **argv)
{
    const char *url = std::getenv("GREENAPI_URL");
    const char *token = std::getenv("GREENAPI_TOKEN");
    if (url == nullptr || token == nullptr || argc < 2) {
        std::cerr << "usage: GREENAPI_URL=... GREENAPI_TOKEN=... " << argv[0] << " ID...\n";
        return 2;
    }

    greenapi::options options;
    if (const char *ca_file = std::getenv("GREENAPI_CA_FILE"))
        options.ca_file = ca_file;

    try {
        std::vector<std::int64_t> ids;
        for (int i = 1; i < argc; i++)
            ids.push_back(parse_id(argv[i]));

        greenapi::client client(url, token, options);
        const auto results = client.delete_instances(ids, [](std::size_t done, std::size_t total,
                                                             const greenapi::result &last) {
            std::cout << done << '/' << total << ' ' << last.id() << ": " << last.message() << '\n';
            // A wrong token fails for every id, so false cancels the remaining deletions.
            return last.status() != greenapi::status::unauthorized;
        });

        const auto count = [&](greenapi::effect effect) {
            return std::count_if(results.begin(), results.end(),
                                 [&](const auto &result) { return result.effect() == effect; });
        };
        const auto unknown = count(greenapi::effect::unknown);
        const auto not_deleted = count(greenapi::effect::not_deleted);
        std::cout << count(greenapi::effect::deleted) << " deleted, " << not_deleted
                  << " not deleted, " << unknown << " uncertain\n";
        return unknown > 0 ? 3 : not_deleted > 0 ? 1 : 0;
    } catch (const greenapi::error &problem) {
        std::cerr << argv[0] << ": " << problem.what() << '\n';
        return 2;
    } catch (const std::logic_error &) { // from parse_id
        std::cerr << argv[0] << ": an id has digits only\n";
        return 2;
    }
}
