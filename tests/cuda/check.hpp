/* The runner of the C++ tests: a table of cases, and checks that end the process with a message. */
#ifndef HR_TESTS_CUDA_CHECK_HPP
#define HR_TESTS_CUDA_CHECK_HPP

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/emulator/emulator.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_EQUAL(a, b)                                                                                              \
    do {                                                                                                               \
        const long long check_a = (long long)(a), check_b = (long long)(b);                                            \
        if (check_a != check_b) {                                                                                      \
            fprintf(stderr, "%s:%d: %s = %lld (0x%llx), %s = %lld (0x%llx)\n", __FILE__, __LINE__, #a, check_a,        \
                    (unsigned long long)check_a, #b, check_b, (unsigned long long)check_b);                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The launch fails, and its message has all of these words, separated by |. */
#define CHECK_FAILS(words, call)                                                                                       \
    do {                                                                                                               \
        std::string check_message;                                                                                     \
        try {                                                                                                          \
            call;                                                                                                      \
        } catch (const hre_error &error) {                                                                             \
            check_message = error.what();                                                                              \
        }                                                                                                              \
        if (!check_has(check_message, words)) {                                                                        \
            fprintf(stderr, "%s:%d: expected |%s|, found: %s\n", __FILE__, __LINE__, words,                            \
                    check_message.empty() ? "no failure" : check_message.c_str());                                     \
            exit(1);                                                                                                   \
        }                                                                                                              \
        if (getenv("CHECK_VERBOSE"))                                                                                   \
            printf("    %s\n", check_message.c_str());                                                                 \
    } while (0)

inline bool check_has(const std::string &message, const std::string &words)
{
    for (size_t from = 0; from <= words.size();) {
        const size_t to = words.find('|', from) == std::string::npos ? words.size() : words.find('|', from);
        if (message.find(words.substr(from, to - from)) == std::string::npos || message.empty())
            return false;
        from = to + 1;
    }
    return true;
}

struct check_case {
    const char *name;
    void (*run)();
};

template <size_t N> int check_run(const check_case (&cases)[N])
{
    for (const check_case &c : cases) {
        printf("%s\n", c.name);
        fflush(stdout);
        c.run();
    }
    printf("%zu passed\n", N);
    return 0;
}

/* Small numbers from a seed, the same everywhere. */
inline unsigned check_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

#endif
