#if defined(__linux__)
#define _GNU_SOURCE /* sched_getcpu, sched_setaffinity */
#endif
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include "float_env.h"
#include "thread.h"

/* A job lives on its caller's stack, and is in the list while it has pieces left to start. The lock
 * protects all fields. */
typedef struct fe_job {
    fe_piece run;
    const void *work;
    int64_t n_pieces, next_piece;
    _Atomic int32_t n_running; /* pieces that have started and not ended; written under the lock */
    int32_t n_threads;         /* how many may run at once */
    int64_t failed_piece;
    fe_status status;   /* of failed_piece */
    fe_cond is_stopped; /* n_running became 0 */
    struct fe_job *next;
} fe_job;

static fe_mutex lock = FE_MUTEX_INIT;
static fe_cond job_added = FE_COND_INIT;
static fe_job *jobs = NULL;
static _Atomic int32_t n_jobs_added = 0; /* written under the lock */

enum { MAX_WORKERS = 1023 };
static struct {
    long thread_id;
    int cpu; /* where it went to sleep; -1 while it is awake, or where that is unknown */
} workers[MAX_WORKERS];
static int32_t n_workers = 0, n_threads_wanted = 1;
static int32_t n_forks = 0; /* between the first process and this one */

int32_t fe_get_num_threads(void)
{
    fe_lock(&lock);
    const int32_t n = n_threads_wanted;
    fe_unlock(&lock);
    return n;
}

void fe_set_num_threads(int32_t n)
{
    fe_lock(&lock);
    n_threads_wanted = n;
    fe_unlock(&lock);
}

static void remove_job(const fe_job *job)
{
    for (fe_job **link = &jobs; *link != NULL; link = &(*link)->next)
        if (*link == job) {
            *link = job->next;
            return;
        }
}

/* Starts the job's next piece, runs it without the lock, and records its outcome. */
static void run_next_piece(fe_job *job)
{
    const int64_t piece = job->next_piece++;
    if (job->next_piece == job->n_pieces)
        remove_job(job);
    job->n_running++;
    fe_unlock(&lock);
    const fe_status status = job->run(job->work, piece);
    fe_lock(&lock);
    if (status.code != FE_OK && piece < job->failed_piece) {
        job->failed_piece = piece;
        job->status = status;
        job->next_piece = job->n_pieces;
        remove_job(job);
    }
    if (--job->n_running == 0)
        fe_wake_one(&job->is_stopped);
}

/* A waiting thread spins for about 30 microseconds before it sleeps: waking it takes as long, and a
 * training loop calls again soon. */
enum { N_SPINS = 1000 };

static inline void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* A job that may run on one more thread. */
static fe_job *runnable_job(void)
{
    fe_job *job = jobs;
    while (job != NULL && job->n_running >= job->n_threads)
        job = job->next;
    return job;
}

static FE_THREAD_RESULT work(void *number)
{
    const intptr_t me = (intptr_t)number;
    fe_enter_default_floats();
    fe_lock(&lock);
    workers[me].thread_id = fe_thread_id();
    int32_t spins_left = 0;
    for (;;) {
        fe_job *job = runnable_job();
        if (job == NULL && spins_left > 0) {
            const int32_t n_jobs_seen = n_jobs_added;
            fe_unlock(&lock);
            while (spins_left-- > 0 && n_jobs_added == n_jobs_seen)
                spin_pause();
            fe_lock(&lock);
        } else if (job == NULL) {
            workers[me].cpu = fe_this_cpu();
            fe_wait(&job_added, &lock);
            workers[me].cpu = -1;
        } else {
            run_next_piece(job);
            spins_left = N_SPINS;
        }
    }
    return 0;
}

/* Keeps workers that sleep on the caller's CPU from waking up there. */
static void exclude_own_cpu(void)
{
    const int cpu = fe_this_cpu();
    for (int32_t w = 0; w < n_workers && cpu >= 0; w++)
        if (workers[w].cpu == cpu) {
            fe_exclude_cpu(workers[w].thread_id, cpu);
            workers[w].cpu = -1;
        }
}

#if !defined(_WIN32)
/* A forked child has none of its parent's workers, and maybe a lock that one of them held. */
static void reset_in_child(void)
{
    lock = (fe_mutex)FE_MUTEX_INIT;
    job_added = (fe_cond)FE_COND_INIT;
    jobs = NULL;
    n_workers = 0;
    n_forks++;
}
#endif

/* Enough workers for n_threads, the caller among them; fewer if the system refuses. */
static void start_workers(int32_t n_threads)
{
#if !defined(_WIN32)
    static bool handles_forks = false;
    if (!handles_forks)
        handles_forks = pthread_atfork(NULL, NULL, reset_in_child) == 0;
    if (!handles_forks)
        return;
#endif
    while (n_workers < n_threads - 1 && n_workers < MAX_WORKERS) {
        workers[n_workers].cpu = -1;
        if (!fe_start_thread(work, (void *)(intptr_t)n_workers))
            return;
        n_workers++;
    }
}

static int64_t milliseconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Calls `stop` without the lock, in the caller's floating-point environment; if it asks for the
 * end, no more pieces start. */
static void check_stop(fe_job *job, fe_stop stop, fe_float_env floats)
{
    const int32_t n_forks_before = n_forks;
    fe_unlock(&lock);
    fe_restore_floats(floats);
    const bool stopped = stop() != 0;
    fe_enter_default_floats();
    fe_lock(&lock);
    if (n_forks != n_forks_before) { /* a signal handler forked: no worker is left */
        job->next_piece = 0;
        job->n_running = 0;
    }
    if (stopped) {
        job->next_piece = job->n_pieces;
        job->failed_piece = -1;
        job->status = (fe_status){.code = FE_STOPPED};
        remove_job(job);
    }
}

/* The caller's share: pieces until none is left to start. */
static void run_pieces(fe_job *job, fe_stop stop, fe_float_env floats)
{
    enum { STOP_INTERVAL = 50 }; /* ms */
    int64_t last_check = stop == NULL ? 0 : milliseconds();
    while (job->next_piece < job->n_pieces)
        if (stop != NULL && milliseconds() - last_check >= STOP_INTERVAL) {
            check_stop(job, stop, floats);
            last_check = milliseconds();
        } else {
            run_next_piece(job);
        }
}

/* The job's pieces, some of them on other threads. */
static fe_status run_shared(fe_job job, fe_stop stop, fe_float_env floats)
{
    fe_lock(&lock);
    job.n_threads = n_threads_wanted;
    if (job.n_pieces > 1 && job.n_threads > 1) {
        start_workers(job.n_threads);
        job.next = jobs;
        jobs = &job;
        n_jobs_added++;
        exclude_own_cpu();
        fe_wake_all(&job_added);
    }
    run_pieces(&job, stop, floats);
    if (job.n_running > 0) {
        fe_unlock(&lock);
        for (int32_t k = 0; k < N_SPINS && job.n_running > 0; k++)
            spin_pause();
        fe_lock(&lock);
    }
    while (job.n_running > 0)
        fe_wait(&job.is_stopped, &lock);
    fe_unlock(&lock);
    return job.status;
}

fe_status fe_pool_run(fe_piece run, const void *work_of_job, int64_t n_pieces, fe_stop stop)
{
    const fe_job job = {
        .run = run, .work = work_of_job, .n_pieces = n_pieces, .failed_piece = n_pieces, .is_stopped = FE_COND_INIT};
    const fe_float_env floats = fe_enter_default_floats();
    const fe_status status = n_pieces == 1 ? run(work_of_job, 0) : run_shared(job, stop, floats);
    fe_restore_floats(floats);
    return status;
}
