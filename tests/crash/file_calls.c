/* Counts the calls that change files below one folder, and at a chosen one ends the process or
   fills the disk. Preloaded into a process (LD_PRELOAD); armed from it by arm(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, TORN, FULL };  /* TORN: half of a write is done, and any other call */

static char below[PATH_MAX];
static long chosen = -1;
static int mode = COUNT;
static atomic_long calls;

void arm(const char *folder, int how, long at) {
    snprintf(below, sizeof below, "%s", folder);
    chosen = at;
    mode = how;
    calls = 0;
}

long counted(void) { return calls; }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int is_below(int folder, const char *path) {
    char whole[2 * PATH_MAX], from[PATH_MAX] = "";
    if (!below[0]) return 0;
    if (path == NULL || path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (getcwd(from, sizeof from) == NULL) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, from, sizeof from - 1);
            if (length < 0) return 0;
            from[length] = 0;
        }
    }
    snprintf(whole, sizeof whole, "%s%s%s", from, from[0] && path ? "/" : "", path ? path : "");
    size_t length = strlen(below);
    return strncmp(whole, below, length) == 0 && (whole[length] == '/' || whole[length] == 0);
}

/* 0: go on; 1: go on, then die; -1: there is no room. */
static int strike(int folder, const char *path, int takes_room) {
    int before = errno, now = 0;
    if (is_below(folder, path)) {
        long n = ++calls;
        if (mode == KILL && n == chosen) die();
        if (mode == TORN && n == chosen) now = 1;
        if (mode == FULL && chosen >= 0 && n >= chosen && takes_room) now = -1;
    }
    errno = now == -1 ? ENOSPC : before;
    return now;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define AROUND(folder, path, room, call) \
    do { \
        int now = strike(folder, path, room); \
        if (now == -1) return -1; \
        __typeof__(call) result = (call); \
        if (now == 1) die(); \
        return result; \
    } while (0)

static int creates(int flags) { return flags & (O_CREAT | O_TRUNC | O_APPEND); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
        if (!creates(flags)) return REAL(name)(path, flags, bits); \
        AROUND(AT_FDCWD, path, access(path, F_OK) != 0, REAL(name)(path, flags, bits)); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
        if (!creates(flags)) return REAL(name)(folder, path, flags, bits); \
        AROUND(folder, path, 0, REAL(name)(folder, path, flags, bits)); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *data, size_t size) {
    int now = strike(file, NULL, 1);
    if (now == -1) return -1;
    ssize_t done = REAL(write)(file, data, now == 1 ? size / 2 : size);
    if (now == 1) die();
    return done;
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    AROUND(file, NULL, 1, REAL(pwrite64)(file, data, size, at));
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    AROUND(file, NULL, 1, REAL(writev)(file, parts, count));
}
int ftruncate64(int file, off64_t size) { AROUND(file, NULL, 0, REAL(ftruncate64)(file, size)); }
int ftruncate(int file, off_t size) { AROUND(file, NULL, 0, REAL(ftruncate)(file, size)); }
int fsync(int file) { AROUND(file, NULL, 0, REAL(fsync)(file)); }
int fdatasync(int file) { AROUND(file, NULL, 0, REAL(fdatasync)(file)); }
int rename(const char *a, const char *b) { AROUND(AT_FDCWD, b, 0, REAL(rename)(a, b)); }
int renameat(int f, const char *a, int g, const char *b) {
    AROUND(g, b, 0, REAL(renameat)(f, a, g, b));
}
int unlink(const char *path) { AROUND(AT_FDCWD, path, 0, REAL(unlink)(path)); }
int unlinkat(int f, const char *path, int flags) { AROUND(f, path, 0, REAL(unlinkat)(f, path, flags)); }
int rmdir(const char *path) { AROUND(AT_FDCWD, path, 0, REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t bits) { AROUND(AT_FDCWD, path, 1, REAL(mkdir)(path, bits)); }
int mkdirat(int f, const char *path, mode_t bits) { AROUND(f, path, 1, REAL(mkdirat)(f, path, bits)); }
