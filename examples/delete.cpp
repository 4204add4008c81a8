// Deletes one instance from C++. Failures are exceptions.
//
//   c++ -std=c++17 delete.cpp -o delete $(pkg-config --cflags --libs greenapi)
//   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... ./delete 1101000001
//
// GREENAPI_CA_FILE, if set, names a PEM file to trust instead of the system's certificates.
//
// Exit status: 0 the instance is gone, 1 it was not deleted, 3 it may be gone (running again is
// safe, and shows which), 2 wrong usage.
#include <cstdint>
#include <cstdlib>
#include <greenapi.hpp>
#include <iostream>
#include <stdexcept>
#include <string>

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
    if (url == nullptr || token == nullptr || argc != 2) {
        std::cerr << "usage: GREENAPI_URL=... GREENAPI_TOKEN=... " << argv[0] << " ID\n";
        return 2;
    }

    greenapi::options options;
    options.session = greenapi::session::log_out; // deleting does not log the phone out
    if (const char *ca_file = std::getenv("GREENAPI_CA_FILE"))
        options.ca_file = ca_file;

    try {
        const auto id = parse_id(argv[1]);
        greenapi::client client(url, token, options);
        const auto result = client.delete_instance(id);
        std::cout << result.id() << ": " << result.message() << '\n';
        return 0;
    } catch (const greenapi::error &problem) {
        std::cerr << argv[0] << ": " << problem.what() << '\n';
        if (problem.status() == greenapi::status::invalid_argument)
            return 2;
        return problem.effect() == greenapi::effect::unknown ? 3 : 1;
    } catch (const std::logic_error &) { // from parse_id
        std::cerr << argv[0] << ": " << argv[1] << " is not an id: give digits only\n";
        return 2;
    }
}
