"""Small shared objects that stand between a run and the C library, for what no file system or clock does on demand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# Every third write below a folder "out" takes a third of what it is given, every seventh is interrupted.
SHORT_WRITES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    static unsigned times;
    char link[64], path[4096];
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return real(fd, bytes, count);
    path[length] = 0;
    if (!strstr(path, "/out/")) return real(fd, bytes, count);
    times++;
    if (times % 7 == 0) { errno = EINTR; return -1; }
    if (times % 3 == 0 && count > 1) count = 1 + count / 3;
    return real(fd, bytes, count);
}
"""

# The time of day is shifted by the seconds in the file $CLOCK_OFFSET, which may change under way; sleeps and the
# monotonic clock stay as they are. libfaketime does the same, but its sleeps fail when the offset changes, and a run
# takes ten times as long.
SHIFTED_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (failed || clock != CLOCK_REALTIME) return failed;
    char text[32] = {0};
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
    close(file);
    return 0;
}
"""


def build_shim(folder: Path, source: str) -> str:
    """Compile for LD_PRELOAD. Skips the test where there is no C compiler."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    code, shim = folder / "shim.c", folder / "shim.so"
    code.write_text(source)
    made = subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", shim, code, "-ldl"], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"the C compiler makes no shared object here: {made.stderr[:100]}")
    return str(shim)
