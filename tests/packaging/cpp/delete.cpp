// The same as delete.c, with the C++ header.
#include <greenapi.hpp>

#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <iostream>
#include <string>

// Prints the status if it is not the wanted one.
static int delete_instance(std::int64_t id, greenapi::status wanted)
{
    try {
        greenapi::options options;
        options.ca_file = std::getenv("GREENAPI_CA_FILE");
        greenapi::client client(std::getenv("GREENAPI_URL"), std::getenv("GREENAPI_TOKEN"),
                                options);
        return client.delete_instance(id).status() == wanted ? 0 : 1;
    } catch (const greenapi::error &problem) {
        if (problem.status() == wanted)
            return 0;
        std::cerr << problem.what() << '\n';
        return 1;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    const std::int64_t id = std::stoll(argv[1]);

    std::cout << "header " << GREENAPI_VERSION_MAJOR << '.' << GREENAPI_VERSION_MINOR << '.'
              << GREENAPI_VERSION_PATCH << " library " << greenapi::version() << std::endl;

    if (delete_instance(id, greenapi::status::ok) != 0)
        return 1;
#ifdef _WIN32
    return delete_instance(id, greenapi::status::not_found);
#else
    const pid_t child = fork();
    if (child == 0)
        _exit(delete_instance(id, greenapi::status::not_found));
    int ended = 0;
    if (child < 0 || waitpid(child, &ended, 0) != child)
        return 1;
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : 1;
#endif
}
