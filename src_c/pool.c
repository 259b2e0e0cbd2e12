#if defined(__linux__)
#define _GNU_SOURCE /* sched_getcpu, sched_setaffinity */
#endif
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>

#include "float_env.h"
#include "thread.h"

/* Pieces strip, strip + n_strips, ... of a job, which run one after the other. */
typedef struct {
    int64_t n_started;
    bool is_running;
} fe_strip;

/* A job lives on its caller's stack, and is in the list while it has pieces left to start. The lock
 * protects all fields. */
typedef struct fe_job {
    fe_piece run;
    const void *work;
    int64_t n_pieces, n_started;
    int32_t n_strips; /* 0: pieces are independent, and `strips` is not used */
    fe_strip strips[FE_MAX_STRIPS];
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
typedef struct {
    long thread_id;
    int cpu;          /* where it went to sleep; -1 while it is awake, or where that is unknown */
    bool is_kept_off; /* of one of `cpus`, where it may run otherwise */
    fe_cpus cpus;
} fe_worker;
static fe_worker workers[MAX_WORKERS];
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

static void start_no_more(fe_job *job)
{
    job->n_started = job->n_pieces;
    remove_job(job);
}

/* The next piece that can start; -1 if there is none, or none until another one has ended. Of the
 * strips that no thread is working on, the one that is furthest behind comes first. */
static int64_t next_piece(const fe_job *job)
{
    if (job->n_started == job->n_pieces || job->n_strips == 0)
        return job->n_started < job->n_pieces ? job->n_started : -1;
    const int64_t n_blocks = job->n_pieces / job->n_strips;
    int64_t next = -1, least = n_blocks;
    for (int32_t k = 0; k < job->n_strips; k++)
        if (!job->strips[k].is_running && job->strips[k].n_started < least) {
            least = job->strips[k].n_started;
            next = least * job->n_strips + k;
        }
    return next;
}

/* Runs a piece without the lock, and records its outcome. */
static void run_piece(fe_job *job, int64_t piece)
{
    fe_strip *strip = &job->strips[job->n_strips == 0 ? 0 : piece % job->n_strips];
    strip->is_running = true;
    strip->n_started++;
    if (++job->n_started == job->n_pieces)
        remove_job(job);
    job->n_running++;
    fe_unlock(&lock);
    const fe_status status = job->run(job->work, piece);
    fe_lock(&lock);
    strip->is_running = false;
    if (status.code != FE_OK && piece < job->failed_piece) {
        job->failed_piece = piece;
        job->status = status;
        start_no_more(job);
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
    while (job != NULL && (job->n_running >= job->n_threads || next_piece(job) < 0))
        job = job->next;
    return job;
}

/* Sleeps until a job is added. */
static void sleep_as(fe_worker *me)
{
    me->cpu = fe_this_cpu();
    fe_wait(&job_added, &lock);
    me->cpu = -1;
    if (me->is_kept_off) { /* until it is awake; stopped later, it may go on where its caller waits */
        me->is_kept_off = false;
        const fe_cpus cpus = me->cpus;
        fe_unlock(&lock);
        fe_set_cpus(0, &cpus);
        fe_lock(&lock);
    }
}

/* A worker gives up its CPU, between two pieces, when it has had it for so long: well within a
 * time slice of the system (3 ms). Where another thread wants the CPU, a worker that uses up its
 * slice is stopped within a piece, and its caller waits for that. */
enum { SLICE = 500 }; /* microseconds */

static FE_THREAD_RESULT work(void *number)
{
    fe_worker *me = &workers[(intptr_t)number];
    fe_enter_default_floats();
    fe_lock(&lock);
    me->thread_id = fe_thread_id();
    int32_t spins_left = 0;
    int64_t slice_began = fe_microseconds();
    for (;;) {
        fe_job *job = runnable_job();
        if (job == NULL && spins_left > 0) {
            const int32_t n_jobs_seen = n_jobs_added;
            fe_unlock(&lock);
            while (spins_left-- > 0 && n_jobs_added == n_jobs_seen)
                spin_pause();
            fe_lock(&lock);
        } else if (job == NULL) {
            sleep_as(me);
            slice_began = fe_microseconds();
        } else {
            run_piece(job, next_piece(job));
            spins_left = N_SPINS;
            if (fe_microseconds() - slice_began >= SLICE) {
                fe_unlock(&lock);
                fe_yield();
                fe_lock(&lock);
                slice_began = fe_microseconds();
            }
        }
    }
    return 0;
}

/* Keeps workers that sleep on the caller's CPU from waking up there. */
static void exclude_own_cpu(void)
{
    const int cpu = fe_this_cpu();
    for (int32_t w = 0; w < n_workers && cpu >= 0; w++)
        if (workers[w].cpu == cpu && !workers[w].is_kept_off)
            workers[w].is_kept_off = fe_exclude_cpu(workers[w].thread_id, cpu, &workers[w].cpus);
}

#if !defined(_WIN32)
static bool handles_forks = false;

/* A forked child has none of its parent's workers, and maybe a lock that one of its threads had. */
static void reset_in_child(void)
{
    lock = (fe_mutex)FE_MUTEX_INIT;
    job_added = (fe_cond)FE_COND_INIT;
    jobs = NULL;
    n_workers = 0;
    n_forks++;
}

/* From the start, not from the first worker on: the caller's own threads take the lock too. */
__attribute__((constructor)) static void watch_forks(void)
{
    handles_forks = pthread_atfork(NULL, NULL, reset_in_child) == 0;
}
#endif

/* Enough workers for n_threads, the caller among them; fewer if the system refuses. */
static void start_workers(int32_t n_threads)
{
#if !defined(_WIN32)
    if (!handles_forks)
        return;
#endif
    while (n_workers < n_threads - 1 && n_workers < MAX_WORKERS) {
        workers[n_workers].cpu = -1;
        workers[n_workers].is_kept_off = false;
        if (!fe_start_thread(work, (void *)(intptr_t)n_workers))
            return;
        n_workers++;
    }
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
        job->n_started = 0;
        job->n_running = 0;
    }
    if (stopped) {
        job->failed_piece = -1;
        job->status = (fe_status){.code = FE_STOPPED};
        start_no_more(job);
    }
}

/* Waits until none of the job's pieces is running. */
static void wait_for_workers(fe_job *job)
{
    fe_unlock(&lock);
    for (int32_t k = 0; k < N_SPINS && job->n_running > 0; k++)
        spin_pause();
    fe_lock(&lock);
    if (job->n_running > 0)
        fe_wait(&job->is_stopped, &lock);
}

/* The caller's share: pieces until none is left to start, and none is running. */
static void run_pieces(fe_job *job, fe_stop stop, fe_float_env floats)
{
    enum { STOP_INTERVAL = 50000 }; /* microseconds */
    int64_t last_check = stop == NULL ? 0 : fe_microseconds();
    while (job->n_started < job->n_pieces || job->n_running > 0) {
        const int64_t piece = next_piece(job);
        if (piece >= 0 && stop != NULL && fe_microseconds() - last_check >= STOP_INTERVAL) {
            check_stop(job, stop, floats);
            last_check = fe_microseconds();
        } else if (piece >= 0) {
            run_piece(job, piece);
        } else {
            wait_for_workers(job);
        }
    }
}

/* The job's pieces, some of them on other threads. */
static void run_shared(fe_job *job, fe_stop stop, fe_float_env floats)
{
    fe_lock(&lock);
    job->n_threads = n_threads_wanted;
    if (job->n_pieces > 1 && job->n_threads > 1) {
        start_workers(job->n_threads);
        job->next = jobs;
        jobs = job;
        n_jobs_added++;
        exclude_own_cpu();
        fe_wake_all(&job_added);
    }
    run_pieces(job, stop, floats);
    fe_unlock(&lock);
}

static fe_status run_all(fe_piece run, const void *work_of_job, int64_t n_pieces, int32_t n_strips, fe_stop stop)
{
    const fe_float_env floats = fe_enter_default_floats();
    fe_status status;
    if (n_pieces == 1) {
        status = run(work_of_job, 0);
    } else {
        fe_job job = {.run = run, .work = work_of_job, .n_pieces = n_pieces, .n_strips = n_strips};
        job.failed_piece = n_pieces;
        job.is_stopped = (fe_cond)FE_COND_INIT;
        run_shared(&job, stop, floats);
        status = job.status;
    }
    fe_restore_floats(floats);
    return status;
}

fe_status fe_pool_run(fe_piece run, const void *work_of_job, int64_t n_pieces, fe_stop stop)
{
    return run_all(run, work_of_job, n_pieces, 0, stop);
}

fe_status fe_pool_run_strips(fe_piece run, const void *work_of_job, int64_t n_blocks, int32_t n_strips)
{
    return run_all(run, work_of_job, n_blocks * n_strips, n_strips, NULL);
}
