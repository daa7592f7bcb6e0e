/* Writes down what a program does to the files below one folder, in the order in which the kernel
 * did it, so that a test can work out what a disk might hold if the power had failed at any moment.
 *
 * Loaded with LD_PRELOAD. POWER_ROOT: the folder. POWER_TRACE: the file to append to. POWER_KILL: the
 * program is killed where it begins its so many-th sync. POWER_FULL: from the so many-th call on that
 * needs another block of the disk there is none, until the file of POWER_ROOM is there; of the first
 * such write half fits. What is sent on sockets is written down as well, so that the trace says when
 * somebody was told something.
 *
 * A call is carried out first and written down then, both under one lock: a kill in between loses
 * the record of a call that nobody knows of yet. A sync is two records, before and after, without
 * the lock: what others write while it runs is not promised.
 *
 * What cannot be written down truthfully (a shared mapping, a copy inside the kernel) becomes an
 * 'X', and the test fails. Calls that bypass libc are not seen; the test compares the files with
 * the trace at the end of a run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static char root[PATH_MAX];
static size_t root_len;
static atomic_ulong tickets;
static unsigned long kill_at = ULONG_MAX;
static atomic_ulong needing;
static unsigned long full_from = ULONG_MAX;
static char room[PATH_MAX];

static void note_the_start(void);

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("POWER_ROOT"), *file = getenv("POWER_TRACE");
    if (!folder || !file || !realpath(folder, root)) return;
    root_len = strlen(root);
    const char *count = getenv("POWER_KILL");
    if (count) kill_at = strtoul(count, NULL, 10);
    const char *full = getenv("POWER_FULL"), *until = getenv("POWER_ROOM");
    if (full && until) {
        full_from = strtoul(full, NULL, 10);
        snprintf(room, sizeof room, "%s", until);
    }
    trace = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    note_the_start();
}

struct header {
    uint32_t size; /* of header and what follows */
    uint32_t what;
    uint64_t inode;
    uint64_t number; /* offset, length or ticket */
    uint32_t path, other, data;
    uint32_t zero;
};

static void record(char what, uint64_t inode, uint64_t number, const char *path, const char *other,
                   const struct iovec *data, int parts, size_t most) {
    if (trace < 0) return;
    struct iovec out[3 + 1024];
    struct header head = {0, (uint32_t)what, inode, number, 0, 0, 0, 0};
    head.path = path ? (uint32_t)strlen(path) : 0;
    head.other = other ? (uint32_t)strlen(other) : 0;
    int count = 0;
    out[count++] = (struct iovec){&head, sizeof head};
    out[count++] = (struct iovec){(void *)path, head.path};
    out[count++] = (struct iovec){(void *)other, head.other};
    size_t left = most;
    for (int part = 0; part < parts && part < 1024 && left > 0; part++) {
        size_t size = data[part].iov_len < left ? data[part].iov_len : left;
        out[count++] = (struct iovec){data[part].iov_base, size};
        left -= size;
        head.data += (uint32_t)size;
    }
    head.size = (uint32_t)(sizeof head + head.path + head.other + head.data);
    int before = errno;
    if (syscall(SYS_writev, trace, out, count) != (long)head.size) abort();
    errno = before;
}

static void note_the_start(void) { record('P', 0, 0, NULL, NULL, NULL, 0, 0); }
static void cannot(const char *why) { record('X', 0, 0, why, NULL, NULL, 0, 0); }

static int is_below(const char *path) {
    return trace >= 0 && strncmp(path, root, root_len) == 0 &&
           (path[root_len] == '/' || path[root_len] == 0);
}

/* The path behind a descriptor, as it was when it was opened. */
static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return 1;
}

/* Whether a descriptor's file lies below the root, or is a socket. */
enum kind { OTHER, OURS, SOCKET };
static enum kind kind_of(int fd, uint64_t *inode) {
    struct stat about;
    char path[PATH_MAX];
    if (trace < 0 || fd == trace || fstat(fd, &about)) return OTHER;
    *inode = about.st_ino;
    if (S_ISSOCK(about.st_mode)) {
        *inode = (uint64_t)fd;
        return SOCKET;
    }
    if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)) return OTHER;
    return path_of(fd, path) && is_below(path) ? OURS : OTHER;
}

/* A path as the test sees it; 0 where it is not below the root. */
static int resolve(int folder, const char *path, char *full) {
    if (trace < 0) return 0;
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX];
        if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(folder, base)) return 0;
        if (snprintf(full, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    return is_below(full);
}

static uint64_t inode_at(const char *path) {
    struct stat about;
    return lstat(path, &about) == 0 ? about.st_ino : 0;
}

/* ---- a disk without room ---- */

enum room { ENOUGH, HALF, NONE };
static enum room room_for_more(void) {
    if (full_from == ULONG_MAX) return ENOUGH;
    unsigned long number = atomic_fetch_add(&needing, 1);
    if (number < full_from || syscall(SYS_faccessat, AT_FDCWD, room, F_OK) == 0) return ENOUGH;
    errno = ENOSPC;
    return number == full_from ? HALF : NONE;
}

/* Whether bytes up to an end lie in blocks that the file has. */
static int is_there(int fd, uint64_t end) {
    struct stat about;
    if (fstat(fd, &about)) return 1;
    return end <= (uint64_t)about.st_size && end <= (uint64_t)about.st_blocks * 512;
}

/* ---- opening ---- */

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    int makes = flags & (O_CREAT | O_TRUNC);
    if (!makes || !resolve(folder, path, full))
        return (int)syscall(SYS_openat, folder, path, flags, mode);
    if (inode_at(full) == 0 && room_for_more() == NONE) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&order);
    int was_there = inode_at(full) != 0;
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0) {
        struct stat about;
        if (fstat(fd, &about)) abort();
        if ((flags & O_TMPFILE) == O_TMPFILE) cannot("a file without a name");
        if (!was_there) record('C', about.st_ino, 0, full, NULL, NULL, 0, 0);
        else if (flags & O_TRUNC) record('T', about.st_ino, 0, NULL, NULL, NULL, 0, 0);
    }
    pthread_mutex_unlock(&order);
    return fd;
}

#define MODE(flags)                                                        \
    mode_t mode = 0;                                                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                 \
        va_list rest;                                                      \
        va_start(rest, flags);                                             \
        mode = va_arg(rest, mode_t);                                       \
        va_end(rest);                                                      \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return open_at(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return open_at(folder, path, flags, mode);
}
int creat(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* ---- contents ---- */

/* offset < 0: where the descriptor stands. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset) {
    uint64_t inode;
    enum kind kind = kind_of(fd, &inode);
    if (kind == OTHER) {
        return offset < 0 ? syscall(SYS_writev, fd, parts, count)
                          : syscall(SYS_pwritev, fd, parts, count, offset, 0L);
    }
    pthread_mutex_lock(&order);
    struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};
    if (kind == OURS && full_from != ULONG_MAX) {
        int appends = offset < 0 && (fcntl(fd, F_GETFL) & O_APPEND);
        off_t end = offset >= 0 ? offset : lseek(fd, 0, appends ? SEEK_END : SEEK_CUR);
        for (int part = 0; part < count; part++) end += (off_t)parts[part].iov_len;
        enum room left = is_there(fd, (uint64_t)end) ? ENOUGH : room_for_more();
        if (left == NONE || (left == HALF && half.iov_len == 0)) {
            pthread_mutex_unlock(&order);
            errno = ENOSPC;
            return -1;
        }
        if (left == HALF) parts = &half, count = 1;
    }
    ssize_t done = offset < 0 ? syscall(SYS_writev, fd, parts, count)
                              : syscall(SYS_pwritev, fd, parts, count, offset, 0L);
    if (done > 0 && kind == SOCKET) {
        record('A', inode, 0, NULL, NULL, parts, count, (size_t)done);
    } else if (done > 0) {
        int flags = fcntl(fd, F_GETFL);
        if (offset >= 0 && (flags & O_APPEND)) cannot("a placed write to a file that appends");
        off_t at = offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR) - done;
        record('W', inode, (uint64_t)at, NULL, NULL, parts, count, (size_t)done);
    }
    pthread_mutex_unlock(&order);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    struct iovec part = {(void *)bytes, size};
    return write_parts(fd, &part, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return write_parts(fd, parts, count, -1);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    struct iovec part = {(void *)bytes, size};
    return write_parts(fd, &part, 1, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
    return pwrite(fd, bytes, size, offset);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return write_parts(fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return write_parts(fd, parts, count, offset);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    uint64_t inode;
    if (flags && kind_of(fd, &inode) == OURS) cannot("a write with flags");
    return write_parts(fd, parts, count, offset);
}
ssize_t send(int fd, const void *bytes, size_t size, int flags) {
    uint64_t inode;
    if (kind_of(fd, &inode) != SOCKET) return syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0);
    pthread_mutex_lock(&order);
    ssize_t done = syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0);
    struct iovec part = {(void *)bytes, size};
    if (done > 0) record('A', inode, 0, NULL, NULL, &part, 1, (size_t)done);
    pthread_mutex_unlock(&order);
    return done;
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    uint64_t inode;
    if (kind_of(fd, &inode) != SOCKET) return syscall(SYS_sendmsg, fd, message, flags);
    pthread_mutex_lock(&order);
    ssize_t done = syscall(SYS_sendmsg, fd, message, flags);
    if (done > 0)
        record('A', inode, 0, NULL, NULL, message->msg_iov, (int)message->msg_iovlen, (size_t)done);
    pthread_mutex_unlock(&order);
    return done;
}

int ftruncate(int fd, off_t len) {
    uint64_t inode;
    if (kind_of(fd, &inode) != OURS) return (int)syscall(SYS_ftruncate, fd, len);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_ftruncate, fd, len);
    if (done == 0) record('T', inode, (uint64_t)len, NULL, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}
int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }

int truncate(const char *path, off_t len) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int done = ftruncate(fd, len), before = errno;
    close(fd);
    errno = before;
    return done;
}
int truncate64(const char *path, off64_t len) { return truncate(path, len); }

int fallocate(int fd, int mode, off_t offset, off_t len) {
    uint64_t inode;
    if (kind_of(fd, &inode) != OURS) return (int)syscall(SYS_fallocate, fd, mode, offset, len);
    if (!is_there(fd, (uint64_t)offset + (uint64_t)len) && room_for_more() != ENOUGH) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&order);
    struct stat about;
    int done = (int)syscall(SYS_fallocate, fd, mode, offset, len);
    if (done == 0) {
        if (mode & ~FALLOC_FL_KEEP_SIZE) cannot("a hole or another change of a file's blocks");
        if (fstat(fd, &about)) abort();
        record('T', inode, (uint64_t)about.st_size, NULL, NULL, NULL, 0, 0);
    }
    pthread_mutex_unlock(&order);
    return done;
}
int fallocate64(int fd, int mode, off64_t offset, off64_t len) {
    return fallocate(fd, mode, offset, len);
}
int posix_fallocate(int fd, off_t offset, off_t len) {
    return fallocate(fd, 0, offset, len) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off64_t offset, off64_t len) {
    return posix_fallocate(fd, offset, len);
}

/* ---- names ---- */

static int make_folder(int folder, const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (!resolve(folder, path, full)) return (int)syscall(SYS_mkdirat, folder, path, mode);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_mkdirat, folder, path, mode);
    if (done == 0) record('D', inode_at(full), 0, full, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}
int mkdir(const char *path, mode_t mode) { return make_folder(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return make_folder(folder, path, mode); }

static int move(int from, const char *path, int to, const char *other, unsigned flags) {
    char full[PATH_MAX], target[PATH_MAX];
    int is_from = resolve(from, path, full), is_to = resolve(to, other, target);
    if (!is_from && !is_to) return (int)syscall(SYS_renameat2, from, path, to, other, flags);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_renameat2, from, path, to, other, flags);
    if (done == 0) {
        if (!is_from || !is_to || (flags & ~RENAME_NOREPLACE)) cannot("a rename across the root");
        record('R', 0, 0, full, target, NULL, 0, 0);
    }
    pthread_mutex_unlock(&order);
    return done;
}
int rename(const char *path, const char *other) {
    return move(AT_FDCWD, path, AT_FDCWD, other, 0);
}
int renameat(int from, const char *path, int to, const char *other) {
    return move(from, path, to, other, 0);
}
int renameat2(int from, const char *path, int to, const char *other, unsigned flags) {
    return move(from, path, to, other, flags);
}

static int take_away(int folder, const char *path, int flags) {
    char full[PATH_MAX];
    if (!resolve(folder, path, full)) return (int)syscall(SYS_unlinkat, folder, path, flags);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_unlinkat, folder, path, flags);
    if (done == 0) record('U', 0, 0, full, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}
int unlink(const char *path) { return take_away(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return take_away(folder, path, flags); }
int rmdir(const char *path) { return take_away(AT_FDCWD, path, AT_REMOVEDIR); }

int linkat(int from, const char *path, int to, const char *other, int flags) {
    char full[PATH_MAX];
    if (!resolve(to, other, full)) return (int)syscall(SYS_linkat, from, path, to, other, flags);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_linkat, from, path, to, other, flags);
    if (done == 0) record('L', inode_at(full), 0, full, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}
int link(const char *path, const char *other) {
    return linkat(AT_FDCWD, path, AT_FDCWD, other, 0);
}
int symlink(const char *target, const char *path) {
    char full[PATH_MAX];
    if (resolve(AT_FDCWD, path, full)) cannot("a symbolic link");
    return (int)syscall(SYS_symlinkat, target, AT_FDCWD, path);
}

/* ---- promises ---- */

static int sync_file(long call, int fd) {
    uint64_t inode;
    if (kind_of(fd, &inode) != OURS) return (int)syscall(call, fd);
    unsigned long ticket = atomic_fetch_add(&tickets, 1);
    /* Tickets of two processes must differ: a trace may go on after a kill. */
    uint64_t number = ((uint64_t)getpid() << 32) | ticket;
    pthread_mutex_lock(&order);
    record('B', inode, number, NULL, NULL, NULL, 0, 0);
    if (ticket == kill_at) {
        kill(getpid(), SIGKILL);
        pause();
    }
    pthread_mutex_unlock(&order);
    int done = (int)syscall(call, fd);
    pthread_mutex_lock(&order);
    if (done == 0) record('S', inode, number, NULL, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}
int fsync(int fd) { return sync_file(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }

/* Starts writing and waits for it, but flushes neither the disk's cache nor the length: nothing
 * is promised. */
int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags) {
    return (int)syscall(SYS_sync_file_range, fd, offset, len, flags);
}
int syncfs(int fd) {
    cannot("syncfs");
    return (int)syscall(SYS_syncfs, fd);
}
void sync(void) {
    cannot("sync");
    syscall(SYS_sync);
}

/* ---- what cannot be followed ---- */

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    uint64_t inode;
    if (fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED) && kind_of(fd, &inode) == OURS)
        cannot("a shared mapping");
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t offset) {
    return mmap(at, len, protection, flags, fd, offset);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    uint64_t inode;
    if (kind_of(out, &inode) == OURS) cannot("copy_file_range");
    return syscall(SYS_copy_file_range, in, from, out, to, len, flags);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    uint64_t inode;
    if (kind_of(out, &inode) == OURS) cannot("sendfile");
    return syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
    return sendfile(out, in, offset, count);
}
