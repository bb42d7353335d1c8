/*
 * relay: joins two network namespaces by a pair of TUN devices, as a line with a delay, a rate, a
 * queue and losses. For kernels without netem, and for counts that do not come from the kernel.
 *
 * usage: relay --client PATH --server PATH --device NAME
 *              [--delay-us N] [--rate-bps N] [--queue-bytes N] [--loss P] [--seed N]
 *              [--duplicate P] [--reorder P] [--watch N] [--only-watched] [--gap-from N --gap-to N]
 *              [--police-bps N --burst-bytes N] [--hole-bytes N] [--hole-way up|down|both]
 *
 *   PATH           a namespace, such as /run/netns/NAME
 *   NAME           the TUN device to make in each; the caller gives it addresses and brings it up
 *   --delay-us     how long a packet travels, one way, once it is sent
 *   --rate-bps     bits of IP packets per second in each direction; 0: no limit
 *   --queue-bytes  how much may wait for the line at that rate before packets are dropped; 0: no limit
 *   --loss         the probability that a packet is lost, from 0 to 1
 *   --seed         decides which packets are lost: for one seed, the n-th packet of a direction always
 *                  meets the same fate
 *
 *   --duplicate    the probability that a packet arrives twice
 *   --reorder      the probability that a packet arrives behind the next one
 *   --watch        datagrams of UDP with so many bytes of payload are counted apart
 *   --only-watched everything else passes whole, and shifts no draw
 *   --gap-from     from this watched datagram of a direction, counted from 1,
 *   --gap-to       to this one all of them are lost, and counted as such
 *   --police-bps   a policer in each direction: packets that exceed this rate by more than the burst
 *                  are dropped at once (a token bucket), the others are not delayed
 *   --burst-bytes  the depth of the policer's bucket
 *   --hole-bytes   packets that are longer than this vanish without a word; 0: none does
 *   --hole-way     the direction of the hole, from the client (up), to it (down), or both
 *
 * Lines on its standard input change the line from that moment on, in both directions:
 *
 *   rate N         N bits of IP packets per second, also for what waits for the line; 0: no limit
 *   cut            every packet that comes is lost; what was sent before still arrives
 *   mend           the end of a cut
 *
 * Prints "ready" when both devices exist, and "done" or "unknown" after each of those lines. Ends on
 * SIGTERM, SIGINT, or the end of its standard input (the caller died), and then prints one line of
 * JSON with what it did in each direction.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1 << 17, BATCH = 64, LARGEST_PACKET = 65536, LONGEST_ORDER = 64 };

static const uint64_t NS_PER_S = 1000000000;
static const uint64_t ASIDE_NS = 50000000; /* how long a packet waits to be overtaken */

struct settings {
    const char *client, *server, *device;
    uint64_t delay_ns, rate_bps, queue_bytes, seed, watched_bytes, gap_from, gap_to;
    uint64_t police_bps, burst_bytes, hole_bytes;
    bool hole[2]; /* up, down */
    double loss, duplicate, reorder;
    bool only_watched, cut;
};

struct packet {
    uint64_t due_ns;
    size_t length;
    unsigned char *bytes;
    bool watched;
};

struct counts {
    uint64_t forwarded_packets, forwarded_bytes; /* written to the far side */
    uint64_t lost_packets;                       /* by chance, as ordered */
    uint64_t queue_dropped_packets;              /* the queue was full */
    uint64_t refused_packets;                    /* the far device did not take it */
    uint64_t duplicated_packets;                 /* of those not lost: arrived twice */
    uint64_t reordered_packets;                  /* of those not lost: arrived after the next */
};

/* One way of the line. The delay is the same for all packets, so a ring in order of arrival is also
 * in order of departure. */
struct direction {
    int from, to;
    struct packet *slots;
    size_t first, held;
    uint64_t line_free_ns; /* when the last packet accepted so far has been sent */
    uint64_t random_state;
    struct packet aside;   /* waits for the next one to overtake it; length 0: none */
    uint64_t watched_seen;
    double tokens;         /* bytes that the policer lets pass at once */
    uint64_t policed_ns;   /* when they were counted last; 0: not yet */
    int number;            /* 0: up, 1: down */
    struct counts counts, watched;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

/* splitmix64, as a fraction from 0 to 1: the same on every machine, unlike the C library's. */
static double draw(uint64_t *state)
{
    uint64_t mixed = (*state += 0x9e3779b97f4a7c15u);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    return (double)(mixed >> 11) * 0x1p-53;
}

/* ---- what happens to one packet ---------------------------------------------------------------- */

static uint64_t sending_ns(const struct settings *set, uint64_t bytes)
{
    return set->rate_bps ? bytes * 8 * NS_PER_S / set->rate_bps : 0;
}

static bool queue_is_full(const struct direction *way, const struct settings *set, uint64_t now)
{
    if (way->held == SLOTS)
        return true;
    if (!set->queue_bytes || way->line_free_ns <= now)
        return false;
    return way->line_free_ns - now > sending_ns(set, set->queue_bytes);
}

static bool is_watched(const struct settings *set, const unsigned char *bytes, size_t length)
{
    enum { IPV4_BYTES = 20, UDP_BYTES = 8 };
    return set->watched_bytes && length == IPV4_BYTES + UDP_BYTES + set->watched_bytes
           && bytes[0] == 0x45 && bytes[9] == IPPROTO_UDP;
}

/* Count a packet by what happened to it, and separately if it is watched. */
#define COUNT(way, member, is_it)              \
    do {                                       \
        (way)->counts.member++;                \
        (way)->watched.member += (is_it) != 0; \
    } while (0)

static struct packet copy_of(const unsigned char *bytes, size_t length, bool watched)
{
    struct packet packet = {.length = length, .bytes = malloc(length), .watched = watched};
    if (!packet.bytes)
        die("malloc");
    memcpy(packet.bytes, bytes, length);
    return packet;
}

/* Whether the policer lets a packet pass; its bucket fills up with time and is full at first. */
static bool conforms(struct direction *way, const struct settings *set, uint64_t bytes)
{
    if (!set->police_bps)
        return true;
    uint64_t now = now_ns();
    double filled = way->policed_ns ? (double)(now - way->policed_ns) * set->police_bps / 8e9
                                    : (double)set->burst_bytes;
    way->tokens += filled;
    if (way->tokens > (double)set->burst_bytes)
        way->tokens = (double)set->burst_bytes;
    way->policed_ns = now;
    if (way->tokens < (double)bytes)
        return false;
    way->tokens -= (double)bytes;
    return true;
}

/* Puts a packet on the line, which owns its bytes from then on. */
static void append(struct direction *way, const struct settings *set, struct packet packet)
{
    uint64_t now = now_ns();
    if (queue_is_full(way, set, now)) {
        COUNT(way, queue_dropped_packets, packet.watched);
        free(packet.bytes);
        return;
    }
    uint64_t start = way->line_free_ns > now ? way->line_free_ns : now;
    way->line_free_ns = start + sending_ns(set, packet.length);
    packet.due_ns = way->line_free_ns + set->delay_ns;
    way->slots[(way->first + way->held) % SLOTS] = packet;
    way->held++;
}

/* Sends the packet that was laid aside: after the packet that was just appended, or, if no packet
 * comes, after some time and in its place. */
static void let_aside_go(struct direction *way, const struct settings *set, bool overtaken)
{
    if (!way->aside.length)
        return;
    if (overtaken)
        COUNT(way, reordered_packets, way->aside.watched);
    append(way, set, way->aside);
    way->aside.length = 0;
}

/* Random numbers are drawn first and for every packet, so that the queue's state does not shift them. */
static void admit(struct direction *way, const struct settings *set, const unsigned char *bytes,
                  size_t length)
{
    bool watched = is_watched(set, bytes, length);
    bool spared = set->only_watched && !watched;
    double fate = spared ? 1 : draw(&way->random_state);
    way->watched_seen += watched;
    bool in_gap = watched && set->gap_from && way->watched_seen >= set->gap_from
                  && way->watched_seen <= set->gap_to;
    bool too_long = set->hole_bytes && length > set->hole_bytes && set->hole[way->number];
    if (set->cut || fate < set->loss || in_gap || too_long || !conforms(way, set, length)) {
        COUNT(way, lost_packets, watched);
        return;
    }
    fate -= set->loss;
    bool twice = fate < set->duplicate;
    bool aside = !twice && fate < set->duplicate + set->reorder && !spared && !way->aside.length;
    struct packet packet = copy_of(bytes, length, watched);
    if (aside) {
        packet.due_ns = now_ns() + ASIDE_NS;
        way->aside = packet;
        return;
    }
    append(way, set, packet);
    if (twice) {
        COUNT(way, duplicated_packets, watched);
        append(way, set, copy_of(bytes, length, watched));
    }
    if (!spared)
        let_aside_go(way, set, true);
}

/* ---- what happens to one direction ------------------------------------------------------------- */

static void take_in(struct direction *way, const struct settings *set)
{
    static unsigned char bytes[LARGEST_PACKET];
    for (int i = 0; i < BATCH; i++) {
        ssize_t length = read(way->from, bytes, sizeof bytes);
        if (length <= 0)
            return;
        admit(way, set, bytes, (size_t)length);
    }
}

static void let_out(struct direction *way, const struct settings *set, uint64_t now)
{
    if (way->aside.length && way->aside.due_ns <= now)
        let_aside_go(way, set, false);
    while (way->held && way->slots[way->first].due_ns <= now) {
        struct packet *packet = &way->slots[way->first];
        if (write(way->to, packet->bytes, packet->length) == (ssize_t)packet->length) {
            COUNT(way, forwarded_packets, packet->watched);
            way->counts.forwarded_bytes += packet->length;
            way->watched.forwarded_bytes += packet->watched ? packet->length : 0;
        } else {
            COUNT(way, refused_packets, packet->watched);
        }
        free(packet->bytes);
        way->first = (way->first + 1) % SLOTS;
        way->held--;
    }
}

static uint64_t next_due_ns(const struct direction ways[2])
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < 2; i++) {
        if (ways[i].held && ways[i].slots[ways[i].first].due_ns < next)
            next = ways[i].slots[ways[i].first].due_ns;
        if (ways[i].aside.length && ways[i].aside.due_ns < next)
            next = ways[i].aside.due_ns;
    }
    return next;
}

/* ---- orders, while packets pass ----------------------------------------------------------------- */

/* Sends waiting packets at the new rate: their remaining time is scaled. The delay does not change. */
static void change_rate(struct direction ways[2], struct settings *set, uint64_t rate_bps)
{
    uint64_t now = now_ns();
    double scale = rate_bps ? (double)set->rate_bps / (double)rate_bps : 0;
    for (int i = 0; i < 2; i++) {
        struct direction *way = &ways[i];
        for (size_t n = 0; n < way->held; n++) {
            struct packet *packet = &way->slots[(way->first + n) % SLOTS];
            uint64_t sent_ns = packet->due_ns - set->delay_ns;
            if (sent_ns > now)
                packet->due_ns = now + (uint64_t)((double)(sent_ns - now) * scale) + set->delay_ns;
        }
        if (way->line_free_ns > now)
            way->line_free_ns = now + (uint64_t)((double)(way->line_free_ns - now) * scale);
    }
    set->rate_bps = rate_bps;
}

static void obey(struct direction ways[2], struct settings *set, const char *order)
{
    uint64_t rate_bps;
    char more;
    bool known = true;
    if (strcmp(order, "cut") == 0 || strcmp(order, "mend") == 0) {
        set->cut = *order == 'c';
    } else if (sscanf(order, "rate %" SCNu64 "%c", &rate_bps, &more) == 1) {
        change_rate(ways, set, rate_bps);
    } else {
        known = false;
    }
    puts(known ? "done" : "unknown");
    fflush(stdout);
}

/* Obeys each whole line of the standard input; returns whether more may come. */
static bool take_orders(struct direction ways[2], struct settings *set)
{
    static char order[LONGEST_ORDER];
    static size_t length;
    ssize_t got = read(STDIN_FILENO, order + length, sizeof order - 1 - length);
    if (got <= 0) /* the end, or an order that is too long */
        return false;
    length += (size_t)got;
    order[length] = 0;
    char *end;
    while ((end = strchr(order, '\n')) != NULL) {
        *end = 0;
        obey(ways, set, order);
        length -= (size_t)(end + 1 - order);
        memmove(order, end + 1, length + 1);
    }
    return true;
}

/* ---- the loop ---------------------------------------------------------------------------------- */

/* Wait for a packet to arrive or to be due. Signals are open only here, so none can be missed. */
static void wait_for_work(struct pollfd polled[3], uint64_t due_ns, const sigset_t *signals)
{
    struct timespec left, *timeout = NULL;
    if (due_ns != UINT64_MAX) {
        uint64_t now = now_ns(), ns = due_ns > now ? due_ns - now : 0;
        left.tv_sec = (time_t)(ns / NS_PER_S);
        left.tv_nsec = (long)(ns % NS_PER_S);
        timeout = &left;
    }
    if (ppoll(polled, 3, timeout, signals) < 0) {
        if (errno != EINTR)
            die("ppoll");
        for (int i = 0; i < 3; i++)
            polled[i].revents = 0;
    }
}

static void run(struct direction ways[2], struct settings *set, const sigset_t *signals)
{
    struct pollfd polled[3] = {
        {.fd = ways[0].from, .events = POLLIN},
        {.fd = ways[1].from, .events = POLLIN},
        {.fd = STDIN_FILENO, .events = POLLIN},
    };
    while (!stopped) {
        wait_for_work(polled, next_due_ns(ways), signals);
        for (int i = 0; i < 2; i++) {
            if (polled[i].revents & POLLIN)
                take_in(&ways[i], set);
            else if (polled[i].revents)
                return; /* the namespace is gone, and the device with it */
            let_out(&ways[i], set, now_ns());
        }
        if (polled[2].revents && !take_orders(ways, set))
            return;
    }
}

/* ---- setting up and reporting ------------------------------------------------------------------ */

static int open_tun(const char *namespace, const char *device)
{
    int home = open(namespace, O_RDONLY | O_CLOEXEC);
    if (home < 0 || setns(home, CLONE_NEWNET) != 0)
        die(namespace);
    close(home);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0)
        die("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (ioctl(tun, TUNSETIFF, &request) != 0)
        die("TUNSETIFF");
    return tun;
}

static struct direction make_direction(int from, int to, uint64_t seed, int number)
{
    struct direction way = {.from = from, .to = to, .random_state = seed, .number = number};
    way.slots = calloc(SLOTS, sizeof *way.slots);
    if (!way.slots)
        die("calloc");
    return way;
}

static sigset_t catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t both, before;
    sigemptyset(&both);
    sigaddset(&both, SIGTERM);
    sigaddset(&both, SIGINT);
    sigprocmask(SIG_BLOCK, &both, &before);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigdelset(&before, SIGTERM);
    sigdelset(&before, SIGINT);
    return before;
}

static void report_counts(const struct counts *counts)
{
    printf("\"forwarded_packets\": %" PRIu64 ", \"forwarded_bytes\": %" PRIu64
           ", \"lost_packets\": %" PRIu64 ", \"queue_dropped_packets\": %" PRIu64
           ", \"refused_packets\": %" PRIu64 ", \"duplicated_packets\": %" PRIu64
           ", \"reordered_packets\": %" PRIu64,
           counts->forwarded_packets, counts->forwarded_bytes, counts->lost_packets,
           counts->queue_dropped_packets, counts->refused_packets, counts->duplicated_packets,
           counts->reordered_packets);
}

static void report(const char *name, const struct direction *way, const char *end)
{
    printf("\"%s\": {", name);
    report_counts(&way->counts);
    printf(", \"held_packets\": %zu, \"watched\": {", way->held + (way->aside.length != 0));
    report_counts(&way->watched);
    printf("}}%s", end);
}

static void usage(void)
{
    fputs("usage: relay --client PATH --server PATH --device NAME [--delay-us N] [--rate-bps N]\n"
          "             [--queue-bytes N] [--loss P] [--seed N] [--duplicate P] [--reorder P]\n"
          "             [--watch N] [--only-watched] [--gap-from N --gap-to N]\n",
          stderr);
    exit(2);
}

static uint64_t whole_number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-')
        usage();
    return value;
}

static double probability(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 1))
        usage();
    return value;
}

static struct settings parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"client", required_argument, NULL, 'c'},      {"server", required_argument, NULL, 's'},
        {"device", required_argument, NULL, 'd'},      {"delay-us", required_argument, NULL, 'D'},
        {"rate-bps", required_argument, NULL, 'r'},    {"queue-bytes", required_argument, NULL, 'q'},
        {"loss", required_argument, NULL, 'l'},        {"seed", required_argument, NULL, 'S'},
        {"duplicate", required_argument, NULL, 'u'},   {"reorder", required_argument, NULL, 'R'},
        {"watch", required_argument, NULL, 'w'},       {"only-watched", no_argument, NULL, 'o'},
        {"gap-from", required_argument, NULL, 'f'},    {"gap-to", required_argument, NULL, 't'},
        {"police-bps", required_argument, NULL, 'p'},  {"burst-bytes", required_argument, NULL, 'b'},
        {"hole-bytes", required_argument, NULL, 'h'},  {"hole-way", required_argument, NULL, 'W'},
        {NULL, 0, NULL, 0},
    };
    struct settings set = {.seed = 1, .hole = {true, true}};
    int letter;
    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'c': set.client = optarg; break;
        case 's': set.server = optarg; break;
        case 'd': set.device = optarg; break;
        case 'D': set.delay_ns = whole_number(optarg) * 1000; break;
        case 'r': set.rate_bps = whole_number(optarg); break;
        case 'q': set.queue_bytes = whole_number(optarg); break;
        case 'l': set.loss = probability(optarg); break;
        case 'S': set.seed = whole_number(optarg); break;
        case 'u': set.duplicate = probability(optarg); break;
        case 'R': set.reorder = probability(optarg); break;
        case 'w': set.watched_bytes = whole_number(optarg); break;
        case 'o': set.only_watched = true; break;
        case 'f': set.gap_from = whole_number(optarg); break;
        case 't': set.gap_to = whole_number(optarg); break;
        case 'p': set.police_bps = whole_number(optarg); break;
        case 'b': set.burst_bytes = whole_number(optarg); break;
        case 'h': set.hole_bytes = whole_number(optarg); break;
        case 'W':
            set.hole[0] = strcmp(optarg, "down") != 0;
            set.hole[1] = strcmp(optarg, "up") != 0;
            break;
        default: usage();
        }
    }
    if (!set.client || !set.server || !set.device || optind != argc)
        usage();
    return set;
}

int main(int argc, char **argv)
{
    struct settings set = parse(argc, argv);
    sigset_t signals = catch_signals();
    prctl(PR_SET_TIMERSLACK, 1UL); /* the usual 50 us would be added to every delay */
    int client = open_tun(set.client, set.device), server = open_tun(set.server, set.device);
    struct direction ways[2] = {
        make_direction(client, server, set.seed, 0),
        make_direction(server, client, ~set.seed, 1),
    };
    puts("ready");
    fflush(stdout);
    run(ways, &set, &signals);
    putchar('{');
    report("up", &ways[0], ", ");
    report("down", &ways[1], "}\n");
    return 0;
}
