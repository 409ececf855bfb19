/* The truth server's twin in C, for rates that Python cannot send.
 *
 * Only OpenAI streams (/v1/completions, /v1/chat/completions), with constant or uniform delays. What it sends is, but for
 * stamps, byte for byte what aifactory_bench.node.truth_server sends for the same request, and its log has the same form;
 * benchmarks/truth_twin.py compiles it and checks both. Requests are searched for a few fields, not parsed: strings
 * without escapes, one message.
 *
 *   cc -O2 -o truth_server truth_server.c
 *   ./truth_server --port 8000 --ttft uniform:100ms:120ms --gap 20ms --tokens-per-chunk 1 --log FILE
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, OUT = 4096, BURST = 64, EVENTS = 1024, DESCRIPTORS = 1 << 17 };
#define SECOND 1000000000LL

typedef struct { int64_t low, high; } Delay;

typedef struct {                /* one request, kept for the log */
    int64_t received, read_late, *due, *sent;
    int *tokens;
    char *kinds;
    int number, chat, sendings, prompt_tokens, output_tokens;
    const char *end;
} Record;

typedef struct {
    int fd, used, busy, out_size, stamp_at[2], stamps, tokens, chat, usage, truth, sent, want, named;
    char *in, out[OUT], model[256], kind;
    int64_t due, received, read_late, created;
    uint64_t random;
    Record *record;
} Conn;

static Conn *conns[DESCRIPTORS];
static Conn **heap;
static int heap_size, heap_room, ep, number, per_chunk = 1;
static Delay ttft = {50000000, 50000000}, gap = {10000000, 10000000};
static Record **records;
static int record_count, record_room;
static uint64_t seed = 1;
static volatile sig_atomic_t stopped;

static void die(const char *what) { perror(what); exit(2); }
static void on_signal(int n) { (void)n; stopped = 1; }
static void *need(void *p) { if (!p) die("memory"); return p; }

static int64_t now_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}
static int64_t mono(void) { return now_of(CLOCK_MONOTONIC); }

static int64_t draw(Delay d, uint64_t *state) {      /* splitmix64 */
    if (d.low == d.high) return d.low;
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    return d.low + (int64_t)((double)(z >> 11) / 9007199254740992.0 * (double)(d.high - d.low));
}

static int64_t duration(const char *text, char **end) {
    double value = strtod(text, end);
    static const struct { const char *name; double ns; } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 6e10}};
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
        size_t n = strlen(units[i].name);
        if (*end != text && !strncmp(*end, units[i].name, n) && ((*end)[n] == 0 || (*end)[n] == ':')) {
            *end += n;
            return (int64_t)(value * units[i].ns + 0.5);
        }
    }
    fprintf(stderr, "truth_server: not a duration: %s\n", text);
    exit(2);
}

static Delay delay(const char *text) {
    char *end;
    Delay d;
    if (!strncmp(text, "constant:", 9)) text += 9;
    if (!strncmp(text, "uniform:", 8)) {
        d.low = duration(text + 8, &end);
        if (*end != ':') { fprintf(stderr, "truth_server: not a delay: %s\n", text); exit(2); }
        d.high = duration(end + 1, &end);
    } else d.low = d.high = duration(text, &end);
    if (*end || d.high < d.low) { fprintf(stderr, "truth_server: not a delay: %s\n", text); exit(2); }
    return d;
}

/* the heap: earliest due first */

static void sift_down(int at) {
    Conn *c = heap[at];
    for (int child; (child = 2 * at + 1) < heap_size; at = child) {
        if (child + 1 < heap_size && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= c->due) break;
        heap[at] = heap[child];
    }
    heap[at] = c;
}
static void push(Conn *c) {
    if (heap_size == heap_room) heap = need(realloc(heap, sizeof *heap * (size_t)(heap_room = heap_room ? 2 * heap_room : 1024)));
    int at = heap_size++;
    for (int parent; at && heap[parent = (at - 1) / 2]->due > c->due; at = parent) heap[at] = heap[parent];
    heap[at] = c;
}
static void pop(void) { if (--heap_size) { heap[0] = heap[heap_size]; sift_down(0); } }
static void take_out(Conn *c) {
    for (int i = 0; i < heap_size; i++)
        if (heap[i] == c) {
            if (i != --heap_size) {
                Conn *moved = heap[heap_size];
                heap[i] = moved;
                while (i && heap[(i - 1) / 2]->due > moved->due) { heap[i] = heap[(i - 1) / 2]; i = (i - 1) / 2; }
                heap[i] = moved;
                sift_down(i);
            }
            return;
        }
}

/* what is sent: made before it is due, but for the stamps */

static int word(char *to, int index) {
    static const char *consonants = "bdfghjklmnprstvz", *vowels = "aeiou";
    int n = 0, high = index / 80, part[3] = {index % 80, high % 80, high / 80 % 80};
    if (index) to[n++] = ' ';
    for (int i = 0; i < (high >= 80 ? 3 : 2); i++) { to[n++] = consonants[part[i] / 5]; to[n++] = vowels[part[i] % 5]; }
    return n;
}

static void add_chunk(Conn *c, const char *event, int size, int stamp_at) {
    c->out_size += sprintf(c->out + c->out_size, "%x\r\n", (unsigned)size);
    if (stamp_at >= 0) c->stamp_at[c->stamps++] = c->out_size + stamp_at;
    memcpy(c->out + c->out_size, event, (size_t)size);
    c->out_size += size;
    memcpy(c->out + c->out_size, "\r\n", 2);
    c->out_size += 2;
}

static int event_head(Conn *c, char *to, int *stamp_at) {
    int n = sprintf(to, "data: {\"id\":\"%scmpl-afb-%d\",\"object\":\"%s\",\"created\":%lld,\"model\":\"%s\"", c->chat ? "chat" : "",
                    c->record->number, c->chat ? "chat.completion.chunk" : "text_completion", (long long)c->created, c->model);
    *stamp_at = -1;
    if (c->truth) {
        n += sprintf(to + n, ",\"afb\":[%lld,", (long long)c->received);
        *stamp_at = n;
        n += sprintf(to + n, "%19d]", 0);
    }
    return n + sprintf(to + n, ",\"choices\":[");
}

static void build(Conn *c) {
    static const char *http = "HTTP/1.1 200 OK\r\nserver: aifactory-bench-truth\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                              "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    char event[OUT / 2];
    int stamp_at, n;
    c->out_size = c->stamps = c->tokens = 0;
    if (!c->named) {            /* the head, with the role */
        c->named = 1;
        c->kind = c->chat ? 'R' : 'H';
        c->out_size = sprintf(c->out, "%s", http);
        if (!c->chat) return;
        n = event_head(c, event, &stamp_at);
        n += sprintf(event + n, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
        add_chunk(c, event, n, stamp_at);
        return;
    }
    if (c->sent < c->want) {
        c->kind = 'C';
        n = event_head(c, event, &stamp_at);
        n += sprintf(event + n, c->chat ? "{\"index\":0,\"delta\":{\"content\":\"" : "{\"index\":0,\"text\":\"");
        for (; c->tokens < per_chunk && c->sent < c->want; c->tokens++, c->sent++) n += word(event + n, c->sent);
        n += sprintf(event + n, "\"%s,\"logprobs\":null,\"finish_reason\":%s}]}\n\n", c->chat ? "}" : "",
                     c->sent == c->want ? "\"length\"" : "null");
        add_chunk(c, event, n, stamp_at);
        return;
    }
    c->kind = 'F';
    if (c->usage) {
        n = event_head(c, event, &stamp_at);
        n += sprintf(event + n, "],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,\"completion_tokens\":%d}}\n\n",
                     c->record->prompt_tokens, c->record->prompt_tokens + c->want, c->want);
        add_chunk(c, event, n, stamp_at);
    }
    add_chunk(c, "data: [DONE]\n\n", 14, -1);
    c->out_size += sprintf(c->out + c->out_size, "0\r\n\r\n");
}

static void drop(Conn *c, const char *end) {
    if (c->record) { c->record->end = end; take_out(c); }
    close(c->fd);
    conns[c->fd] = NULL;
    free(c->in);
    free(c);
}

static void parse(Conn *c);

static void send_due(void) {
    for (int i = 0; i < BURST && heap_size; i++) {
        Conn *c = heap[0];
        int64_t now = mono();
        if (c->due > now) return;
        for (int s = 0; s < c->stamps; s++) {
            char digits[24];
            snprintf(digits, sizeof digits, "%19lld", (long long)now);
            memcpy(c->out + c->stamp_at[s], digits, 19);
        }
        ssize_t count = send(c->fd, c->out, (size_t)c->out_size, MSG_NOSIGNAL);
        if (count != c->out_size) { drop(c, "client_closed"); continue; }  /* a client that does not read is given up */
        Record *r = c->record;
        r->due[r->sendings] = c->due;
        r->sent[r->sendings] = now;
        r->tokens[r->sendings] = c->tokens;
        r->kinds[r->sendings++] = c->kind;
        if (c->kind == 'F') {
            pop();
            r->end = "done";
            c->record = NULL;
            c->busy = 0;
            if (c->used) parse(c);
            continue;
        }
        int first = c->kind == 'R' || c->kind == 'H';
        build(c);
        c->due += c->kind == 'F' ? 0 : draw(first ? ttft : gap, &c->random);
        sift_down(0);
    }
}

/* reading */

static int whole(const char *text, const char *name, int fallback) {
    const char *at = strstr(text, name);
    return at ? atoi(at + strlen(name) + strspn(at + strlen(name), "\": ")) : fallback;
}
static const char *string(const char *text, const char *name, int *size) {
    const char *at = strstr(text, name);
    *size = 0;
    if (!at) return "";
    at += strlen(name);
    at += strspn(at, ": ");
    if (*at++ != '"') return "";
    *size = (int)strcspn(at, "\"");
    return at;
}
static int yes(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at && !strncmp(at + strlen(name) + strspn(at + strlen(name), ": "), "true", 4);
}

static void parse(Conn *c) {
    c->in[c->used] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(c->in, "content-length:");
    int body = length && length < end ? atoi(length + 15) : 0, size = (int)(end - c->in) + 4 + body, n;
    if (size >= BUFFER) { drop(c, "refused"); return; }
    if (c->used < size) return;
    char *text = end + 4, kept = c->in[size];
    c->in[size] = 0;
    c->chat = !strncmp(c->in, "POST /v1/chat/completions ", 26);
    if (!c->chat && strncmp(c->in, "POST /v1/completions ", 21)) {
        const char *answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n";
        if (send(c->fd, answer, strlen(answer), MSG_NOSIGNAL) < 0) { drop(c, "client_closed"); return; }
        c->in[size] = kept;
        memmove(c->in, c->in + size, (size_t)(c->used -= size));
        return;
    }
    const char *found = string(text, "\"model\"", &n);
    snprintf(c->model, sizeof c->model, "%.*s", n, found);
    found = string(text, c->chat ? "\"content\"" : "\"prompt\"", &n);
    int words = 0;
    for (int i = 0; i < n; i++) words += found[i] != ' ' && (i == 0 || found[i - 1] == ' ');
    c->want = whole(text, "\"max_tokens\"", 16);
    c->usage = yes(text, "\"include_usage\"");
    c->truth = yes(text, "\"afb_truth\"");
    c->in[size] = kept;
    memmove(c->in, c->in + size, (size_t)(c->used -= size));
    Record *r = c->record = need(calloc(1, sizeof *r));
    if (record_count == record_room) records = need(realloc(records, sizeof *records * (size_t)(record_room = record_room ? 2 * record_room : 1024)));
    records[record_count++] = r;
    size_t most = (size_t)(c->want + per_chunk - 1) / (size_t)per_chunk + 2;
    r->number = ++number;
    r->chat = c->chat;
    r->received = c->received;
    r->read_late = c->read_late;
    r->prompt_tokens = words;
    r->output_tokens = c->want;
    r->due = need(malloc(most * sizeof *r->due));
    r->sent = need(malloc(most * sizeof *r->sent));
    r->tokens = need(malloc(most * sizeof *r->tokens));
    r->kinds = need(malloc(most));
    r->end = "stopped";
    c->busy = 1;
    c->sent = c->named = 0;
    c->created = now_of(CLOCK_REALTIME) / SECOND;
    c->random = seed * 1000003ULL + (uint64_t)r->number;
    c->due = c->received;
    build(c);
    push(c);
}

static void receive(Conn *c) {
    char control[128];
    struct iovec part = {c->in + c->used, (size_t)(BUFFER - 1 - c->used)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(c->fd, &message, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) { drop(c, "client_closed"); return; }
    c->used += (int)count;
    if (c->busy) return;
    c->received = mono();
    c->read_late = 0;
    for (struct cmsghdr *m = CMSG_FIRSTHDR(&message); m; m = CMSG_NXTHDR(&message, m))
        if (m->cmsg_level == SOL_SOCKET && m->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(m), sizeof t);
            int64_t age = now_of(CLOCK_REALTIME) - t.tv_sec * SECOND - t.tv_nsec;
            if (age > 0 && age < 10 * SECOND) { c->received -= age; c->read_late = age; }
        }
    parse(c);
}

static void take_connections(int listener) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= DESCRIPTORS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
        Conn *c = conns[fd] = need(calloc(1, sizeof *c));
        c->fd = fd;
        c->in = need(malloc(BUFFER));
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
    }
}

/* the log */

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}
/* Lateness of each sending with tokens, put to `late` if that is given, and whether the request is marked. What is due
 * together with the one before it is so once that is sent. */
static int lateness(const Record *r, int64_t *late, long *n, int64_t *most) {
    int64_t before = r->received, sent_before = r->received;
    int mark = 0;
    *most = 0;
    for (int i = 0; i < r->sendings; i++) {
        if (!r->tokens[i]) continue;
        int64_t due = r->due[i];
        int64_t by = r->sent[i] - (due == before && sent_before > due ? sent_before : due);
        if (late) late[(*n)++] = by;
        if (by > *most) *most = by;
        mark |= by > 1000000 && (double)by > 0.05 * (double)(due - before);
        before = due;
        sent_before = r->sent[i];
    }
    return mark;
}
static double percentile(const int64_t *sorted, long n, double share) {
    if (!n) return 0;
    long at = (long)(share * (double)n);
    if ((double)at < share * (double)n) at++;
    return (double)sorted[at > 0 ? at - 1 : 0] / 1000.0;
}

static void write_log(const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) die(path);
    long sendings = 0, n = 0, tokens = 0, marked = 0;
    int64_t read_late = 0, most;
    for (int i = 0; i < record_count; i++) sendings += records[i]->sendings;
    int64_t *late = need(malloc(sizeof *late * (size_t)(sendings + 1)));
    for (int i = 0; i < record_count; i++) {
        const Record *r = records[i];
        for (int s = 0; s < r->sendings; s++) tokens += r->tokens[s];
        if (r->read_late > read_late) read_late = r->read_late;
        marked += lateness(r, late, &n, &most);
    }
    qsort(late, (size_t)n, sizeof *late, ascending);
    char boot[64] = "";
    FILE *id = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (id) { if (!fgets(boot, sizeof boot, id)) boot[0] = 0; fclose(id); boot[strcspn(boot, "\n")] = 0; }
    fprintf(file, "{\"afb_truth_log\":1,\"server\":\"c\",\"boot_id\":\"%s\",\"wall_ns\":%lld,\"monotonic_ns\":%lld,\"requests\":%d,\"forgotten\":0,"
                  "\"sendings\":%ld,\"tokens\":%ld,\"lateness_p50_us\":%.1f,\"lateness_p99_us\":%.1f,\"lateness_max_us\":%.1f,"
                  "\"read_late_max_us\":%.1f,\"server_late_requests\":%ld}\n",
            boot, (long long)now_of(CLOCK_REALTIME), (long long)mono(), record_count, n, tokens, percentile(late, n, .5),
            percentile(late, n, .99), percentile(late, n, 1), (double)read_late / 1000, marked);
    for (int i = 0; i < record_count; i++) {
        const Record *r = records[i];
        int mark = lateness(r, NULL, NULL, &most), sent = 0;
        for (int s = 0; s < r->sendings; s++) sent += r->tokens[s];
        fprintf(file, "{\"number\":%d,\"path\":\"%s\",\"status\":200,\"end\":\"%s\",\"received_ns\":%lld,\"read_late_ns\":%lld,\"start_ns\":0,"
                      "\"stream\":true,\"prompt_tokens\":%d,\"output_tokens\":%d,\"kinds\":\"%.*s\",\"due_ns\":[",
                r->number, r->chat ? "/v1/chat/completions" : "/v1/completions", r->end, (long long)r->received,
                (long long)r->read_late, r->prompt_tokens, sent, r->sendings, r->kinds);
        for (int s = 0; s < r->sendings; s++) fprintf(file, "%s%lld", s ? "," : "", (long long)(r->due[s] - r->received));
        fprintf(file, "],\"sent_ns\":[");
        for (int s = 0; s < r->sendings; s++) fprintf(file, "%s%lld", s ? "," : "", (long long)(r->sent[s] - r->received));
        fprintf(file, "],\"tokens\":[");
        for (int s = 0; s < r->sendings; s++) fprintf(file, "%s%d", s ? "," : "", r->tokens[s]);
        fprintf(file, "],\"late_max_us\":%.1f,\"server_late\":%s,\"blocked\":false}\n", (double)most / 1000, mark ? "true" : "false");
    }
    if (fclose(file)) die(path);
}

int main(int argc, char **argv) {
    int port = 8000, one = 1;
    const char *log = NULL, *host = "127.0.0.1";
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--host")) host = value;
        else if (!strcmp(name, "--ttft")) ttft = delay(value);
        else if (!strcmp(name, "--gap")) gap = delay(value);
        else if (!strcmp(name, "--tokens-per-chunk")) per_chunk = atoi(value);
        else if (!strcmp(name, "--server-seed")) seed = (uint64_t)atoll(value);
        else if (!strcmp(name, "--log")) log = value;
        else { fprintf(stderr, "truth_server: unknown option %s\n", name); return 2; }
    }
    if (argc % 2 == 0 || per_chunk < 1 || per_chunk > 64) { fprintf(stderr, "truth_server: options come in pairs; --tokens-per-chunk is 1 to 64\n"); return 2; }
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) { files.rlim_cur = files.rlim_max; setrlimit(RLIMIT_NOFILE, &files); }
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) { fprintf(stderr, "truth_server: not an address: %s\n", host); return 2; }
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event);
    printf("truth_server: listening on http://%s:%d\n", host, ntohs(address.sin_port));
    fflush(stdout);
    while (!stopped) {
        send_due();
        int64_t wait = heap_size ? heap[0]->due - mono() : SECOND / 2;
        if (wait > SECOND / 2) wait = SECOND / 2;
        if (wait > 0) {
            struct pollfd ready = {.fd = ep, .events = POLLIN};
            struct timespec time = {.tv_sec = 0, .tv_nsec = wait};
            if (ppoll(&ready, 1, &time, NULL) <= 0) continue;
        }
        int n = epoll_wait(ep, events, EVENTS, 0);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) take_connections(listener);
            else if (conns[events[i].data.fd]) receive(conns[events[i].data.fd]);
        }
    }
    if (log) write_log(log);
    return 0;
}
