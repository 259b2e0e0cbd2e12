/* Faults on purpose, one for each tool: a tool that does not see its own is not at work. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static volatile int zero = 0;

/* address, and valgrind: a write beyond a block */
int overflow(void)
{
    char *block = malloc(16);
    memset(block, 1, (size_t)(17 + zero));
    const int last = block[15 + zero];
    free(block);
    return last;
}

/* undefined: a signed integer that overflows */
int undefined(void)
{
    volatile int largest = 0x7FFFFFFF;
    return largest + 1 + zero;
}

/* leak: a block that nothing points to any more */
int leak(void)
{
    char *volatile block = malloc(1000);
    memset(block, 1, 1000);
    block = NULL;
    return block != NULL;
}

static int shared = 0;

static void *add(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++)
        shared++;
    return NULL;
}

/* thread: two threads write one number */
int race(void)
{
    pthread_t threads[2];
    for (int k = 0; k < 2; k++)
        pthread_create(&threads[k], NULL, add, NULL);
    for (int k = 0; k < 2; k++)
        pthread_join(threads[k], NULL);
    return shared;
}

/* None of them. */
int nothing(void)
{
    return zero;
}
