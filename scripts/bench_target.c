/* The endpoint that scripts/bench asks: it sends the bytes of a file as the answer to every POST, and costs far less than
 * any client. One thread, epoll, HTTP/1.1 with keep-alive, Linux.
 *
 *   bench_target ANSWER LATENCY_MS SECONDS
 *
 * ANSWER: a file with a whole answer, head and body. It listens on a free port of 127.0.0.1 and prints its number. It ends
 * after SECONDS, and as soon as its standard input does, which is a pipe that its parent holds: a parent that is killed
 * takes it along. In the end it prints how many requests came, how many were answered, the most in flight at once, and
 * the nanoseconds from the first request to the last answer. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 1 << 16, MOST_WAITING = 1 << 17, MOST_EVENTS = 512 };

struct connection {
    int fd, in_body, waits_to_write, is_dead;
    unsigned serial; /* a file descriptor is given again, a serial is not */
    unsigned owed;   /* answers to send now */
    size_t sent;     /* of the first of them */
    size_t have, body_left;
    char bytes[16384];
};

struct promise {
    long long due_ns;
    int fd;
    unsigned serial;
};

static struct connection *connections[MOST_FILES];
static struct promise queue[MOST_WAITING]; /* every answer waits equally long: first come, first due */
static unsigned first, after_last, serials;
static char *answer;
static size_t answer_bytes;
static long long latency_ns, began_ns, ended_ns;
static long in_flight, peak, requests, answered;
static int poller, listener;

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, int how, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, how, fd, &event)) fail("epoll_ctl");
}

static void drop(struct connection *c) {
    in_flight -= c->owed;
    connections[c->fd] = NULL;
    close(c->fd);
    free(c);
}

static void send_answers(struct connection *c) {
    while (c->owed) {
        ssize_t count = send(c->fd, answer + c->sent, answer_bytes - c->sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) {
            c->is_dead = 1;
            return;
        }
        c->sent += count;
        if (c->sent < answer_bytes) continue;
        c->sent = 0, c->owed--, in_flight--, answered++;
        ended_ns = now_ns();
    }
    if (c->waits_to_write != (c->owed > 0)) {
        c->waits_to_write = c->owed > 0;
        watch(c->fd, EPOLL_CTL_MOD, EPOLLIN | (c->waits_to_write ? EPOLLOUT : 0));
    }
}

static void take_request(struct connection *c) {
    requests++, in_flight++;
    if (in_flight > peak) peak = in_flight;
    long long now = now_ns();
    if (!began_ns) began_ns = now;
    if (!latency_ns) {
        c->owed++;
        send_answers(c);
    } else if (after_last - first < MOST_WAITING) {
        queue[after_last++ % MOST_WAITING] = (struct promise){now + latency_ns, c->fd, c->serial};
    } else {
        c->is_dead = 1, in_flight--;
    }
}

static void forget(struct connection *c, size_t count) {
    c->have -= count;
    memmove(c->bytes, c->bytes + count, c->have);
}

static void parse(struct connection *c) {
    while (c->have && !c->is_dead) {
        if (!c->in_body) {
            char *end = memmem(c->bytes, c->have, "\r\n\r\n", 4);
            if (!end) {
                c->is_dead = c->have == sizeof c->bytes;
                return;
            }
            *end = 0;
            char *length = strcasestr(c->bytes, "\r\ncontent-length:");
            c->body_left = length ? strtoul(length + 17, NULL, 10) : 0;
            c->in_body = 1;
            forget(c, end + 4 - c->bytes);
        }
        size_t count = c->have < c->body_left ? c->have : c->body_left;
        forget(c, count);
        c->body_left -= count;
        if (c->body_left) return;
        c->in_body = 0;
        take_request(c);
    }
}

static void serve(struct connection *c, unsigned events) {
    if (events & EPOLLOUT) send_answers(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t count = read(c->fd, c->bytes + c->have, sizeof c->bytes - c->have);
        if (count > 0) {
            c->have += count;
            parse(c);
        } else if (count == 0 || errno != EAGAIN) {
            c->is_dead = 1;
        }
    }
    if (c->is_dead) drop(c);
}

static void welcome(void) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MOST_FILES || !(connections[fd] = calloc(1, sizeof(struct connection)))) {
            close(fd);
            continue;
        }
        connections[fd]->fd = fd;
        connections[fd]->serial = ++serials;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Sends what is due. Returns the milliseconds until the next answer is, -1 where none waits. */
static int send_due(void) {
    for (; first != after_last; first++) {
        struct promise *next = &queue[first % MOST_WAITING];
        long long left_ns = next->due_ns - now_ns();
        if (left_ns > 0) return (int)((left_ns + 999999) / 1000000);
        struct connection *c = connections[next->fd];
        if (!c || c->serial != next->serial) {
            in_flight--;
            continue;
        }
        c->owed++;
        send_answers(c);
        if (c->is_dead) drop(c);
    }
    return -1;
}

static void read_answer(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    answer_bytes = ftell(file);
    rewind(file);
    answer = malloc(answer_bytes + 1);
    if (!answer || fread(answer, 1, answer_bytes, file) != answer_bytes) fail(path);
    fclose(file);
}

static void listen_here(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&here, length) || listen(listener, 4096)) fail("bind");
    if (getsockname(listener, (struct sockaddr *)&here, &length)) fail("getsockname");
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
}

int main(int count, char **words) {
    if (count != 4) {
        fprintf(stderr, "usage: bench_target ANSWER LATENCY_MS SECONDS\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    read_answer(words[1]);
    latency_ns = atoll(words[2]) * 1000000;
    alarm(atoi(words[3])); /* its signal ends the process */
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll_create1");
    watch(STDIN_FILENO, EPOLL_CTL_ADD, EPOLLIN);
    listen_here();
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        struct epoll_event events[MOST_EVENTS];
        int ready = epoll_wait(poller, events, MOST_EVENTS, send_due());
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            char ignored[256];
            if (fd == listener) welcome();
            else if (fd != STDIN_FILENO) serve(connections[fd], events[i].events);
            else if (read(fd, ignored, sizeof ignored) <= 0) {
                printf("%ld %ld %ld %lld\n", requests, answered, peak, answered ? ended_ns - began_ns : 0);
                return 0;
            }
        }
    }
}
