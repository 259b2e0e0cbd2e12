/* The little of threads that the pool needs, over POSIX threads or Windows. */
#ifndef FE_THREAD_H
#define FE_THREAD_H

#include <stdbool.h>

#if defined(_WIN32)
#include <windows.h>

typedef SRWLOCK fe_mutex;
typedef CONDITION_VARIABLE fe_cond;
#define FE_MUTEX_INIT SRWLOCK_INIT
#define FE_COND_INIT CONDITION_VARIABLE_INIT
#define FE_THREAD_RESULT DWORD WINAPI
static inline void fe_lock(fe_mutex *m) { AcquireSRWLockExclusive(m); }
static inline void fe_unlock(fe_mutex *m) { ReleaseSRWLockExclusive(m); }
static inline void fe_wait(fe_cond *c, fe_mutex *m) { SleepConditionVariableSRW(c, m, INFINITE, 0); }
static inline void fe_wake_one(fe_cond *c) { WakeConditionVariable(c); }
static inline void fe_wake_all(fe_cond *c) { WakeAllConditionVariable(c); }

static inline bool fe_start_thread(DWORD(WINAPI *run)(void *), void *argument)
{
    HANDLE thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    return thread != NULL && CloseHandle(thread);
}

#else
#include <pthread.h>
#include <signal.h>

typedef pthread_mutex_t fe_mutex;
typedef pthread_cond_t fe_cond;
#define FE_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define FE_COND_INIT PTHREAD_COND_INITIALIZER
#define FE_THREAD_RESULT void *
static inline void fe_lock(fe_mutex *m) { pthread_mutex_lock(m); }
static inline void fe_unlock(fe_mutex *m) { pthread_mutex_unlock(m); }
static inline void fe_wait(fe_cond *c, fe_mutex *m) { pthread_cond_wait(c, m); }
static inline void fe_wake_one(fe_cond *c) { pthread_cond_signal(c); }
static inline void fe_wake_all(fe_cond *c) { pthread_cond_broadcast(c); }

/* Detached, with every signal blocked: signals stay with the threads that Python knows. */
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

/* Where threads run. Linux wakes a thread where it slept, be it the waker's own processor with others idle: a worker that slept there
 * is only moved when the load is balanced, which is after many a call has ended. */
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline long fe_thread_id(void) { return syscall(SYS_gettid); }
static inline int fe_this_cpu(void) { return sched_getcpu(); }

/* Lets a thread run on the caller's processors but for one, if there are others. */
static inline void fe_keep_off(long thread_id, int cpu)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2)
        return;
    CPU_CLR(cpu, &allowed);
    sched_setaffinity((pid_t)thread_id, sizeof allowed, &allowed);
}

#else
static inline long fe_thread_id(void) { return 0; }
static inline int fe_this_cpu(void) { return -1; }
static inline void fe_keep_off(long thread_id, int cpu) { (void)thread_id, (void)cpu; }
#endif
#endif
