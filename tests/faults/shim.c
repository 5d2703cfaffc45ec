/* Preloaded before libc: makes the n-th call that changes files below a folder fail, be short, or kill the process.

   run.py says which in a file that all processes of a scenario map, so they share one count. The layout of `struct state`
   is repeated there. */
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
#define MOST 4096

enum mode { OFF, COUNT, FAIL, SHORT, FULL, KILL };
/* What a call does, one letter each; lower case for what needs no room on the disk. */
enum kind { OPEN = 'O', WRITE = 'W', SYNC = 's', RENAME = 'r', REMOVE = 'u', MAKE = 'M', LINK = 'L', CUT = 't' };

struct state {
  long mode, at, error, sticky, root, no_exchange;
  _Atomic long count;
  long hits;
  char folder[512];
  char trace[MOST]; /* the kinds of calls so far */
  char what[512];   /* the call that failed */
};

static struct state *state;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FASTSHARD_FAULTS");
  if (!path) return;
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (mapped != MAP_FAILED) state = mapped;
}

static int is_below(const char *path) {
  size_t length = strlen(state->folder);
  return !strncmp(path, state->folder, length) && (path[length] == '/' || !path[length]);
}

/* The path of an open file, or of a name in an open folder. */
static int path_of(int file, const char *name, char *path) {
  if (name && name[0] == '/') return snprintf(path, PATH_MAX, "%s", name);
  char link[64], folder[PATH_MAX];
  snprintf(link, sizeof link, file == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, folder, sizeof folder - 1);
  if (length < 0) return -1;
  folder[length] = 0;
  return name ? snprintf(path, PATH_MAX, "%s/%s", folder, name) : snprintf(path, PATH_MAX, "%s", folder);
}

enum verdict { GO_ON, FAILS, IS_SHORT };

static enum verdict judge(char kind, const char *call, int file, const char *name) {
  char path[PATH_MAX];
  if (!state || state->mode == OFF) return GO_ON;
  int before = errno;
  int length = path_of(file, name, path);
  errno = before;
  if (length < 0 || !is_below(path)) return GO_ON;
  long number = atomic_fetch_add(&state->count, 1) + 1;
  if (number <= MOST) state->trace[number - 1] = kind;
  if (state->mode == COUNT || number < state->at || (number > state->at && !state->sticky)) return GO_ON;
  if (state->mode == FULL && kind >= 'a') return GO_ON;
  if (!state->hits++) snprintf(state->what, sizeof state->what, "%s %s", call, path + strlen(state->folder));
  switch (state->mode) {
  case KILL:
    kill(state->root, SIGKILL);
    kill(getpid(), SIGKILL);
    for (;;) pause();
  case SHORT:
    return kind == WRITE ? IS_SHORT : GO_ON;
  case FULL:
    if (kind == WRITE && number == state->at) return IS_SHORT;
  }
  errno = state->error;
  return FAILS;
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define FAIL_IF(kind, file, name) \
  if (judge(kind, __func__, file, name) == FAILS) return -1

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define MODE_OF(flags) \
  mode_t mode = 0; \
  if (flags & (O_CREAT | __O_TMPFILE)) { \
    va_list more; \
    va_start(more, flags); \
    mode = va_arg(more, mode_t); \
    va_end(more); \
  }

#define DEFINE_OPEN(name) \
  EXPORTED int name(const char *path, int flags, ...) { \
    REAL(name); \
    MODE_OF(flags) \
    if (writes(flags)) FAIL_IF(OPEN, AT_FDCWD, path); \
    return real(path, flags, mode); \
  }
#define DEFINE_OPENAT(name) \
  EXPORTED int name(int folder, const char *path, int flags, ...) { \
    REAL(name); \
    MODE_OF(flags) \
    if (writes(flags)) FAIL_IF(OPEN, folder, path); \
    return real(folder, path, flags, mode); \
  }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

#define DEFINE_WRITE(name, parameters, whole, half) \
  EXPORTED ssize_t name parameters { \
    REAL(name); \
    switch (judge(WRITE, #name, file, NULL)) { \
    case FAILS: return -1; \
    case IS_SHORT: return real half; \
    default: return real whole; \
    } \
  }
#define HALF ((size + 1) / 2)
DEFINE_WRITE(write, (int file, const void *data, size_t size), (file, data, size), (file, data, HALF))
DEFINE_WRITE(pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), (file, data, HALF, at))
DEFINE_WRITE(pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), (file, data, HALF, at))
DEFINE_WRITE(writev, (int file, const struct iovec *parts, int size), (file, parts, size), (file, parts, 1))

#define DEFINE_ON_FILE(kind, name) \
  EXPORTED int name(int file) { \
    REAL(name); \
    FAIL_IF(kind, file, NULL); \
    return real(file); \
  }
DEFINE_ON_FILE(SYNC, fsync)
DEFINE_ON_FILE(SYNC, fdatasync)

EXPORTED int syncfs(int file) { /* counted, but not done: the machine's disk has other things to write */
  FAIL_IF(SYNC, file, NULL);
  return 0;
}

#define DEFINE_CUT(name, type) \
  EXPORTED int name(int file, type length) { \
    REAL(name); \
    FAIL_IF(CUT, file, NULL); \
    return real(file, length); \
  }
DEFINE_CUT(ftruncate, off_t)
DEFINE_CUT(ftruncate64, off64_t)

#define DEFINE_ON_PATH(kind, name) \
  EXPORTED int name(const char *path) { \
    REAL(name); \
    FAIL_IF(kind, AT_FDCWD, path); \
    return real(path); \
  }
DEFINE_ON_PATH(REMOVE, unlink)
DEFINE_ON_PATH(REMOVE, rmdir)

EXPORTED int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  FAIL_IF(REMOVE, folder, path);
  return real(folder, path, flags);
}
EXPORTED int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  FAIL_IF(MAKE, AT_FDCWD, path);
  return real(path, mode);
}
EXPORTED int mkdirat(int folder, const char *path, mode_t mode) {
  REAL(mkdirat);
  FAIL_IF(MAKE, folder, path);
  return real(folder, path, mode);
}

#define DEFINE_TWO(kind, name) \
  EXPORTED int name(const char *from, const char *to) { \
    REAL(name); \
    FAIL_IF(kind, AT_FDCWD, to); \
    return real(from, to); \
  }
DEFINE_TWO(RENAME, rename)
DEFINE_TWO(LINK, link)
DEFINE_TWO(LINK, symlink)

EXPORTED int renameat(int from, const char *name, int to, const char *other) {
  REAL(renameat);
  FAIL_IF(RENAME, to, other);
  return real(from, name, to, other);
}
EXPORTED int renameat2(int from, const char *name, int to, const char *other, unsigned flags) {
  REAL(renameat2);
  if (state && state->no_exchange && flags) {
    errno = EINVAL;
    return -1;
  }
  FAIL_IF(RENAME, to, other);
  return real(from, name, to, other, flags);
}
EXPORTED int linkat(int from, const char *name, int to, const char *other, int flags) {
  REAL(linkat);
  FAIL_IF(LINK, to, other);
  return real(from, name, to, other, flags);
}
