/* Makes the kernel look as if it refused one socket option: a sandbox, for one process.
 *
 * Load it with LD_PRELOAD. refuse(level, option, error) chooses the option, for setsockopt() and
 * getsockopt(); error 0 refuses none. refused() returns how often that has happened since.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

static volatile int level_, option_, error_, count_;

void refuse(int level, int option, int error) {
    error_ = 0;
    level_ = level;
    option_ = option;
    count_ = 0;
    error_ = error;
}

int refused(void) { return count_; }

static int refuses(int level, int option) {
    if (error_ == 0 || level != level_ || option != option_) return 0;
    count_++;
    errno = error_;
    return 1;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    static int (*real)(int, int, int, const void *, socklen_t);
    if (refuses(level, option)) return -1;
    if (real == NULL) real = dlsym(RTLD_NEXT, "setsockopt");
    return real(fd, level, option, value, length);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
    static int (*real)(int, int, int, void *, socklen_t *);
    if (refuses(level, option)) return -1;
    if (real == NULL) real = dlsym(RTLD_NEXT, "getsockopt");
    return real(fd, level, option, value, length);
}
