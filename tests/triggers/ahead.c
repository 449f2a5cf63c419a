/* The clock of the day, two minutes ahead, for the process that this is loaded into. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *to)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int end = real(id, to);
    if (end == 0 && id == CLOCK_REALTIME)
        to->tv_sec += 120;
    return end;
}
