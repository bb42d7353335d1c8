/* Pacing: an absolute schedule. Datagram k is due k intervals after the schedule's zero. It is
 * computed from k each time, so no rounding adds up however long the run.
 *
 * A sender that wakes up late sends the datagrams that are due, but at most half a millisecond of
 * rate together, and sends the rest of the backlog at no more than twice the rate. A backlog that
 * is too old is dropped by moving the schedule's zero, so that a stall never causes a burst at line
 * rate.
 */
#ifndef NM_PACE_H
#define NM_PACE_H

#include <stdint.h>
#include <string.h>

#include "nm_assert.h"
#include "nm_atomic.h"
#include "nm_rate.h"

enum {
    NM_PACE_QUANTUM_NS = 100000, /* of rate in a portion: at most 10 000 wake-ups per second */
    NM_PACE_MOST_NS = 500000,    /* of rate in a portion after a late wake-up */
    NM_PACE_LATE_NS = 100000
};

typedef struct {
    uint64_t bps;             /* payload bits per second; or */
    uint64_t pps;             /* datagrams per second; both 0: not paced */
    uint64_t burst_datagrams; /* leave together by design; 0: as many as are due in a quantum */
    int64_t catch_up_ns;      /* what is further behind than this is given up */
    int64_t spin_ns;          /* the last part of each wait is spent awake */
} nm_pace_options;

typedef struct {
    nm_rate rate; /* without a rate there is no pacing */
    int64_t zero_ns;
    uint64_t scheduled; /* k of the next datagram to send */
    uint64_t quantum;   /* datagrams that leave together by design */
    uint64_t most;      /* datagrams that leave together after a late wake-up */
    int64_t catch_up_ns;
    int64_t late_after_ns;
    int64_t spin_ns;
    int64_t not_before_ns; /* of the next decision, after one that made up for lost time */
    int64_t pause_ns;      /* the same, counted from when everything has been sent */
    int repaying;          /* the last decision left a backlog */
    /* published */
    uint64_t wakeups; /* decisions */
    uint64_t late_wakeups;
    int64_t skipped_ns; /* of the schedule, given up after stalls */
} nm_pace;

static inline int nm_paced(const nm_pace *p) { return p->rate.denominator != 0; }

static inline void nm_pace_init(nm_pace *p, uint64_t datagram_bytes, const nm_pace_options *o) {
    memset(p, 0, sizeof *p);
    p->rate = nm_rate_of(datagram_bytes, o->bps, o->pps);
    if (!nm_paced(p)) return;
    p->spin_ns = o->spin_ns > 0 ? o->spin_ns : 0;
    p->quantum = o->burst_datagrams ? o->burst_datagrams : nm_rate_due(&p->rate, NM_PACE_QUANTUM_NS);
    p->most = nm_rate_due(&p->rate, NM_PACE_MOST_NS) / p->quantum * p->quantum;
    if (p->most < p->quantum) p->most = p->quantum;
    p->late_after_ns = nm_rate_span(&p->rate, p->quantum);
    p->catch_up_ns = o->catch_up_ns > p->late_after_ns ? o->catch_up_ns : p->late_after_ns;
    if (p->late_after_ns < NM_PACE_LATE_NS) p->late_after_ns = NM_PACE_LATE_NS;
}

static inline void nm_pace_start(nm_pace *p, int64_t zero_ns) { p->zero_ns = zero_ns; }

/* Returns the ns that n datagrams take. */
static inline int64_t nm_pace_span(const nm_pace *p, uint64_t n) { return nm_rate_span(&p->rate, n); }

/* Returns when the next decision is due. */
static inline int64_t nm_pace_due(const nm_pace *p) {
    int64_t due = nm_add_ns(p->zero_ns, nm_rate_span(&p->rate, p->scheduled));
    return due > p->not_before_ns ? due : p->not_before_ns;
}

/* Returns how many datagrams are due before a moment and not sent yet. */
static inline uint64_t nm_pace_open(const nm_pace *p, int64_t moment) {
    uint64_t due = moment > p->zero_ns ? nm_rate_due(&p->rate, moment - p->zero_ns) : 0;
    return due > p->scheduled ? due - p->scheduled : 0;
}

/* Decides, at a wake-up, how many datagrams leave now. A decision that comes too early sends none. */
static inline uint64_t nm_pace_decide(nm_pace *p, int64_t now, int64_t deadline) {
    int64_t behind = now - nm_add_ns(p->zero_ns, nm_rate_span(&p->rate, p->scheduled));
    uint64_t ready, left;
    nm_assert(behind >= 0 && now < deadline);
    if (behind < 0) return 0;
    NM_ADD(&p->wakeups, 1);
    if (behind > p->late_after_ns && !p->repaying) NM_ADD(&p->late_wakeups, 1);
    if (behind > p->catch_up_ns) {
        p->zero_ns += behind - p->catch_up_ns;
        NM_ADD(&p->skipped_ns, behind - p->catch_up_ns);
    }
    ready = nm_pace_open(p, now + 1);
    ready = (ready + p->quantum - 1) / p->quantum * p->quantum;
    p->repaying = ready > p->most;
    if (p->repaying) ready = p->most;
    p->not_before_ns = p->repaying ? now + nm_rate_span(&p->rate, ready) / 2 : 0;
    /* Sending may take long, so that the next is due at once: not two portions in one go. */
    p->pause_ns = ready > p->quantum ? nm_rate_span(&p->rate, p->quantum) / 2 : 0;
    left = nm_pace_open(p, deadline);
    return ready < left ? ready : left;
}

/* Books `n` sent datagrams of a decision, `left` of which are still to come. */
static inline void nm_pace_sent(nm_pace *p, uint64_t n, uint64_t left, int64_t now) {
    p->scheduled += n;
    if (left == 0 && p->pause_ns > 0 && p->not_before_ns < now + p->pause_ns)
        p->not_before_ns = now + p->pause_ns;
}

/* Gives up what was due before a moment and has not been sent: the sender's time is over. */
static inline void nm_pace_end(nm_pace *p, int64_t moment) {
    uint64_t missed = nm_paced(p) ? nm_pace_open(p, moment) : 0;
    if (missed > 0) NM_ADD(&p->skipped_ns, nm_rate_span(&p->rate, missed));
}

#endif
