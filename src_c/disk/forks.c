/* Forks: while a process forks it has the locks of all disks, so that the child finds nothing half
 * done. */
#if defined(__linux__)
#define _GNU_SOURCE /* for thread.h */
#endif
#include "engine.h"

static fe_mutex open_lock = FE_MUTEX_INIT;
static fe_disk *open_disks = NULL;

#if defined(_WIN32)
static const bool handles_forks = true; /* there are none */
#else
static bool handles_forks = false;

static void lock_all(void)
{
    fe_lock(&open_lock);
    for (fe_disk *disk = open_disks; disk != NULL; disk = disk->next_open)
        fe_lock(&disk->lock);
}

static void unlock_all(void)
{
    for (fe_disk *disk = open_disks; disk != NULL; disk = disk->next_open)
        fe_unlock(&disk->lock);
    fe_unlock(&open_lock);
}

/* Threads, their reads and other callers are the parent's alone. */
static void forget_others(fe_disk *disk)
{
    const bool nothing_asked = disk->n_held == 0 && disk->urgent.first < 0 && disk->later.first < 0;
    const bool is_at_rest = nothing_asked && disk->n_workers == disk->n_idle;
    for (int64_t number = 0; number < disk->cache.n_slots && !is_at_rest; number++) {
        fe_slot *slot = &disk->cache.slots[number];
        if (slot->n_holders != 0) /* a write would copy the page */
            slot->n_holders = 0;
        if (slot->state == FE_SLOT_READING || slot->state == FE_SLOT_FAILED)
            fe_cache_remove(&disk->cache, (int32_t)number);
    }
    disk->urgent.first = disk->later.first = -1;
    disk->has_work = (fe_cond)FE_COND_INIT;
    fe_init_timed(&disk->has_news);
    disk->n_ahead = disk->n_held = 0;
    disk->n_workers = disk->n_idle = disk->n_waiting = 0;
    disk->n_forks++;
}

static void reset_in_child(void)
{
    for (fe_disk *disk = open_disks; disk != NULL; disk = disk->next_open) {
        for (const fe_job *job = disk->jobs; job != NULL; job = job->next)
            disk->counts.n_skipped += job->n_rows;
        disk->jobs = NULL; /* not freed: memory may be what a fork interrupts */
        disk->end_of_jobs = &disk->jobs;
        forget_others(disk);
    }
    unlock_all();
}

/* From the start: with the first disk, a fork could come while its thread has the lock. */
__attribute__((constructor)) static void watch_forks(void)
{
    handles_forks = pthread_atfork(lock_all, unlock_all, reset_in_child) == 0;
}
#endif

bool fe_disk_watch_forks(fe_disk *disk)
{
    fe_lock(&open_lock);
    if (handles_forks) {
        disk->next_open = open_disks;
        open_disks = disk;
    }
    fe_unlock(&open_lock);
    return handles_forks;
}

void fe_disk_unwatch_forks(const fe_disk *disk)
{
    fe_lock(&open_lock);
    fe_disk **link = &open_disks;
    while (*link != disk)
        link = &(*link)->next_open;
    *link = disk->next_open;
    fe_unlock(&open_lock);
}
