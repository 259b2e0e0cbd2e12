/* Calls a harness of tests/campaigns/fuzz with random bytes, where there is no libFuzzer: N inputs
 * of a seed. The input at which it fails is named. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LARGEST = 2048 };

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static long input, seed;

static void failed(int number)
{
    fprintf(stderr, "signal %d at input %ld of seed %ld\n", number, input, seed);
    _Exit(1);
}

int main(int argc, char **argv)
{
    const long n = argc > 1 ? atol(argv[1]) : 1000;
    seed = argc > 2 ? atol(argv[2]) : 0;
    for (int number = SIGILL; number <= SIGSEGV; number++)
        signal(number, failed);
    for (input = 0; input < n; input++) {
        uint64_t state = (uint64_t)seed << 32 ^ (uint64_t)input;
        const size_t size = next(&state) % (LARGEST + 1);
        uint8_t *data = malloc(size > 0 ? size : 1);
        if (data == NULL)
            return 2;
        for (size_t k = 0; k < size; k++)
            data[k] = (uint8_t)next(&state);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    fprintf(stderr, "%ld inputs of seed %ld\n", n, seed);
    return 0;
}
