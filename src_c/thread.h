/* The few thread functions that the pool needs, over POSIX threads or Windows. */
#ifndef FE_THREAD_H
#define FE_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#if defined(_WIN32)
#include <windows.h>

typedef SRWLOCK fe_mutex;
typedef CONDITION_VARIABLE fe_cond;
#define FE_MUTEX_INIT SRWLOCK_INIT
#define FE_COND_INIT CONDITION_VARIABLE_INIT
#define FE_THREAD_RESULT DWORD WINAPI
#define fe_lock(mutex) AcquireSRWLockExclusive(mutex)
#define fe_unlock(mutex) ReleaseSRWLockExclusive(mutex)
#define fe_wait(cond, mutex) SleepConditionVariableSRW(cond, mutex, INFINITE, 0)
#define fe_init_timed(cond) InitializeConditionVariable(cond)
#define fe_wait_ms(cond, mutex, ms) SleepConditionVariableSRW(cond, mutex, ms, 0)
#define fe_wake_one(cond) WakeConditionVariable(cond)
#define fe_wake_all(cond) WakeAllConditionVariable(cond)
#define fe_yield() SwitchToThread()

/* Of a clock that nobody sets. */
static inline int64_t fe_microseconds(void)
{
    LARGE_INTEGER now, a_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&a_second);
    return now.QuadPart / a_second.QuadPart * 1000000 + now.QuadPart % a_second.QuadPart * 1000000 / a_second.QuadPart;
}

static inline bool fe_start_thread(DWORD(WINAPI *run)(void *), void *argument)
{
    HANDLE thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    return thread != NULL && CloseHandle(thread);
}

#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

typedef pthread_mutex_t fe_mutex;
typedef pthread_cond_t fe_cond;
#define FE_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define FE_COND_INIT PTHREAD_COND_INITIALIZER
#define FE_THREAD_RESULT void *
#define fe_lock(mutex) pthread_mutex_lock(mutex)
#define fe_unlock(mutex) pthread_mutex_unlock(mutex)
#define fe_wait(cond, mutex) pthread_cond_wait(cond, mutex)
#define fe_wake_one(cond) pthread_cond_signal(cond)
#define fe_wake_all(cond) pthread_cond_broadcast(cond)
#define fe_yield() sched_yield()

/* Of a clock that nobody sets. */
static inline int64_t fe_microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

#if defined(__APPLE__)
#define fe_init_timed(cond) pthread_cond_init(cond, NULL)

static inline void fe_wait_ms(fe_cond *cond, fe_mutex *mutex, int32_t ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    pthread_cond_timedwait_relative_np(cond, mutex, &time);
}

#else
/* Initialises a condition for fe_wait_ms. */
static inline void fe_init_timed(fe_cond *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* Waits for that long at most, whatever becomes of the system's clock. */
static inline void fe_wait_ms(fe_cond *cond, fe_mutex *mutex, int32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000L;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(cond, mutex, &until);
}
#endif

/* A detached thread with every signal blocked: signals go to the threads that Python knows. */
static inline bool fe_start_thread(void *(*run)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const bool started = pthread_create(&thread, NULL, run, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started && pthread_detach(thread) == 0;
}

#endif

/* CPU affinity. Linux wakes a thread on the CPU where it went to sleep, even if that is the waker's
 * own and others are idle; the load balancer moves it only after many a short call has ended. */
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

static inline long fe_thread_id(void)
{
    return syscall(SYS_gettid);
}

static inline int fe_this_cpu(void)
{
    return sched_getcpu();
}

typedef cpu_set_t fe_cpus;

static inline bool fe_set_cpus(long thread_id, const fe_cpus *cpus)
{
    return sched_setaffinity((pid_t)thread_id, sizeof *cpus, cpus) == 0;
}

/* Lets a thread run on all of the caller's CPUs, `cpus`, except one, if there are others. */
static inline bool fe_exclude_cpu(long thread_id, int cpu, fe_cpus *cpus)
{
    if (sched_getaffinity(0, sizeof *cpus, cpus) != 0 || CPU_COUNT(cpus) < 2)
        return false;
    fe_cpus others = *cpus;
    CPU_CLR(cpu, &others);
    return fe_set_cpus(thread_id, &others);
}

#else
typedef int fe_cpus;

static inline long fe_thread_id(void)
{
    return 0;
}

static inline int fe_this_cpu(void)
{
    return -1;
}

static inline bool fe_set_cpus(long thread_id, const fe_cpus *cpus)
{
    return (void)thread_id, (void)cpus, false;
}

static inline bool fe_exclude_cpu(long thread_id, int cpu, fe_cpus *cpus)
{
    return (void)thread_id, (void)cpu, (void)cpus, false;
}
#endif
#endif
