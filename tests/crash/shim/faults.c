/* Makes calls on some files fail with an errno of one's choice, and the clock go wrong; loaded with LD_PRELOAD,
 * see __init__.py.
 *
 * EVENTLOG_FAULTS names a control file of six 32-bit numbers that processes share (shim/__init__.py writes it):
 *
 *     errno   0: nothing fails
 *     calls   which: a sum of OPEN, WRITE, SYNC, TRUNCATE, READ
 *     skip    so many of those calls still work
 *     left    so many fail, then all work again (a negative number: no end)
 *     hits    how many failed so far
 *     clock   seconds by which the time of day is wrong
 *
 * EVENTLOG_FAULTS_NAME is a part of the names of the files that are meant ("log.db": also its -wal and -shm).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, TRUNCATE = 8, READ = 16 };
enum { FILES_MAX = 4096 };

struct control {
    int32_t error, calls, skip, left, hits, clock;
};

static struct control *control;
static const char *name;
static char meant[FILES_MAX];

#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("EVENTLOG_FAULTS");
    name = getenv("EVENTLOG_FAULTS_NAME");
    int file = path && name ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED)
        control = shared;
    REAL(close)(file);
}

/* Whether a call of this kind fails now; sets errno. */
static int fails(int call)
{
    if (!control || !control->error || !(control->calls & call))
        return 0;
    if (control->skip > 0 && __atomic_fetch_sub(&control->skip, 1, __ATOMIC_SEQ_CST) > 0)
        return 0;
    if (!control->left)
        return 0;
    if (control->left > 0)
        __atomic_fetch_sub(&control->left, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&control->hits, 1, __ATOMIC_SEQ_CST);
    errno = control->error;
    return 1;
}

static int fails_on(int file, int call)
{
    return file >= 0 && file < FILES_MAX && meant[file] && fails(call);
}

static int remember(int file, const char *path)
{
    if (file >= 0 && file < FILES_MAX)
        meant[file] = name && strstr(path, name) != NULL;
    return file;
}

/* A file that is only read can be opened on a disk that is full or read-only. */
static int may_open(const char *path, int flags)
{
    return !name || !strstr(path, name) || (flags & O_ACCMODE) == O_RDONLY || !fails(OPEN);
}

#define OPENER(function)                                            \
    int function(const char *path, int flags, ...)                  \
    {                                                               \
        va_list more;                                               \
        va_start(more, flags);                                      \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                               \
        if (!may_open(path, flags))                                 \
            return -1;                                              \
        return remember(REAL(function)(path, flags, mode), path);   \
    }
OPENER(open)
OPENER(open64)

int openat(int folder, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return may_open(path, flags) ? remember(REAL(openat)(folder, path, flags, mode), path) : -1;
}

int close(int file)
{
    if (file >= 0 && file < FILES_MAX)
        meant[file] = 0;
    return REAL(close)(file);
}

ssize_t write(int file, const void *data, size_t count)
{
    return fails_on(file, WRITE) ? -1 : REAL(write)(file, data, count);
}

ssize_t pwrite(int file, const void *data, size_t count, off_t at)
{
    return fails_on(file, WRITE) ? -1 : REAL(pwrite)(file, data, count, at);
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t at)
{
    return fails_on(file, WRITE) ? -1 : REAL(pwrite64)(file, data, count, at);
}

ssize_t read(int file, void *data, size_t count)
{
    return fails_on(file, READ) ? -1 : REAL(read)(file, data, count);
}

ssize_t pread(int file, void *data, size_t count, off_t at)
{
    return fails_on(file, READ) ? -1 : REAL(pread)(file, data, count, at);
}

ssize_t pread64(int file, void *data, size_t count, off64_t at)
{
    return fails_on(file, READ) ? -1 : REAL(pread64)(file, data, count, at);
}

int fsync(int file)
{
    return fails_on(file, SYNC) ? -1 : REAL(fsync)(file);
}

int fdatasync(int file)
{
    return fails_on(file, SYNC) ? -1 : REAL(fdatasync)(file);
}

int ftruncate(int file, off_t size)
{
    return fails_on(file, TRUNCATE) ? -1 : REAL(ftruncate)(file, size);
}

int ftruncate64(int file, off64_t size)
{
    return fails_on(file, TRUNCATE) ? -1 : REAL(ftruncate64)(file, size);
}

int clock_gettime(clockid_t which, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = REAL(clock_gettime);
    int failed = real(which, now);
    if (!failed && which == CLOCK_REALTIME && control)
        now->tv_sec += control->clock;
    return failed;
}
