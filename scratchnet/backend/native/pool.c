/* A small pool of threads, and matrix products cut over it.

A job is cut into blocks. The caller and the workers claim blocks one by one; the caller
takes what nobody has claimed, so it never waits for a worker that has not begun. A worker
without a job looks for one for some microseconds, then sleeps. One job runs at a time: a
second caller computes its own job alone. */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"

enum { MOST = 256 };   /* threads */
enum { LOOKS = 2000 }; /* for a job, or for the end of one, before a thread sleeps */

/* A ticket is the number of a job, times 2^32, plus the block to claim next. */
static const uint64_t BLOCK = 0xffffffff; /* as a block: none is left */

static struct {
    atomic_flag busy; /* a job is running */
    _Atomic(uint64_t) ticket;
    _Atomic(part) function;
    _Atomic(const void *) call;
    atomic_long n, blocks, finished;
    atomic_int threads, workers, sleeping;
    pthread_mutex_t mutex;
    pthread_cond_t begun, ended;
} pool = {.busy = ATOMIC_FLAG_INIT, .ticket = BLOCK, .threads = 1,
          .mutex = PTHREAD_MUTEX_INITIALIZER, .begun = PTHREAD_COND_INITIALIZER,
          .ended = PTHREAD_COND_INITIALIZER};

static void look(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int left(uint64_t ticket) {
    return (long)(ticket & BLOCK) < atomic_load(&pool.blocks);
}

/* Claim and compute blocks until none is left; return whether there was one. */
static int work(void) {
    int found = 0;
    uint64_t ticket = atomic_load(&pool.ticket);
    while (left(ticket)) {
        /* These belong to the ticket's job if the exchange below succeeds: the next job
           changes the ticket before it changes them. */
        long n = atomic_load(&pool.n), blocks = atomic_load(&pool.blocks);
        part function = atomic_load(&pool.function);
        const void *call = atomic_load(&pool.call);
        if (!atomic_compare_exchange_strong(&pool.ticket, &ticket, ticket + 1))
            continue;
        found = 1;
        long block = (long)(ticket & BLOCK);
        function(call, n * block / blocks, n * (block + 1) / blocks);
        if (atomic_fetch_add(&pool.finished, 1) + 1 == blocks) {
            pthread_mutex_lock(&pool.mutex);
            pthread_cond_signal(&pool.ended);
            pthread_mutex_unlock(&pool.mutex);
        }
        ticket = atomic_load(&pool.ticket);
    }
    return found;
}

static void *worker(void *unused) {
    for (;;) {
        for (int looks = 0; looks < LOOKS; ++looks) {
            if (work())
                looks = 0;
            look();
        }
        pthread_mutex_lock(&pool.mutex);
        atomic_fetch_add(&pool.sleeping, 1);
        while (!left(atomic_load(&pool.ticket)))
            pthread_cond_wait(&pool.begun, &pool.mutex);
        atomic_fetch_sub(&pool.sleeping, 1);
        pthread_mutex_unlock(&pool.mutex);
    }
    return unused;
}

/* Start workers until there are `wanted`, or as many as the system gives. */
static void hire(int wanted) {
    sigset_t all, before;
    sigfillset(&all); /* signals are for the threads of Python */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (atomic_load(&pool.workers) < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, NULL))
            break;
        pthread_detach(thread);
        atomic_fetch_add(&pool.workers, 1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Compute [0, n) by the pool, in blocks of `least` or more. */
static void run(part function, const void *call, long n, long least) {
    long blocks = least > 0 ? n / least : n, threads = atomic_load(&pool.threads);
    blocks = blocks < threads ? blocks : threads;
    if (blocks < 2 || atomic_flag_test_and_set(&pool.busy)) {
        function(call, 0, n);
        return;
    }
    hire((int)blocks - 1);
    uint64_t job = (atomic_load(&pool.ticket) & ~BLOCK) + BLOCK + 1;
    atomic_store(&pool.ticket, job | BLOCK); /* an old ticket claims nothing from here */
    atomic_store(&pool.n, n);
    atomic_store(&pool.blocks, blocks);
    atomic_store(&pool.function, function);
    atomic_store(&pool.call, call);
    atomic_store(&pool.finished, 0);
    atomic_store(&pool.ticket, job);
    if (atomic_load(&pool.sleeping)) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.begun);
        pthread_mutex_unlock(&pool.mutex);
    }
    work();
    for (int looks = 0; looks < LOOKS && atomic_load(&pool.finished) < blocks; ++looks)
        look();
    if (atomic_load(&pool.finished) < blocks) {
        pthread_mutex_lock(&pool.mutex);
        while (atomic_load(&pool.finished) < blocks)
            pthread_cond_wait(&pool.ended, &pool.mutex);
        pthread_mutex_unlock(&pool.mutex);
    }
    atomic_flag_clear(&pool.busy);
}

/* A child process has no workers, and no job. */
static void forked(void) {
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.begun, NULL);
    pthread_cond_init(&pool.ended, NULL);
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.sleeping, 0);
    atomic_store(&pool.ticket, atomic_load(&pool.ticket) | BLOCK);
    atomic_flag_clear(&pool.busy);
}

/* At exit the running job ends, and no other one begins. */
static void leave(void) {
    while (atomic_flag_test_and_set(&pool.busy))
        look();
}

/* --- Matrix products ------------------------------------------------------------- */

/* OpenBLAS's, with integers of 64 bits: by rows is 101, as stored 111, transposed 112. */
typedef void (*gemm32)(int, int, int, int64_t, int64_t, int64_t, float, const float *,
                       int64_t, const float *, int64_t, float, float *, int64_t);
typedef void (*gemm64)(int, int, int, int64_t, int64_t, int64_t, double, const double *,
                       int64_t, const double *, int64_t, double, double *, int64_t);
typedef void (*gemv32)(int, int, int64_t, int64_t, float, const float *, int64_t,
                       const float *, int64_t, float, float *, int64_t);
typedef void (*gemv64)(int, int, int64_t, int64_t, double, const double *, int64_t,
                       const double *, int64_t, double, double *, int64_t);
static struct {
    gemm32 sgemm;
    gemm64 dgemm;
    gemv32 sgemv;
    gemv64 dgemv;
} blas;

typedef struct {
    char *data;
    int64_t rows, columns, step; /* of the matrix, and from line to line in entries */
    int turned;                  /* stored by columns */
} matrix;

typedef struct {
    matrix a, b, out;
    int wide; /* cut into columns, not rows */
    int dtype;
} product_call;

enum { STRIP = 16 }; /* rows or columns of a block are a multiple of this */
enum { WORK = 1 << 19 }; /* multiply-adds that are worth a thread */

static matrix transposed(matrix m) {
    return (matrix){m.data, m.columns, m.rows, m.step, !m.turned};
}

static void *entry(const matrix *m, int64_t row, int64_t column, int dtype) {
    int64_t place = m->turned ? column * m->step + row : row * m->step + column;
    return (char *)m->data + place * width(dtype);
}

/* Compute a part of the rows of out, or of its columns. */
static void strips(const void *call, long begin, long end) {
    const product_call *c = call;
    int64_t length = c->wide ? c->out.columns : c->out.rows, k = c->a.columns;
    int64_t from = (int64_t)begin * STRIP, to = (int64_t)end * STRIP;
    int64_t count = (to < length ? to : length) - from;
    int64_t m = c->wide ? c->out.rows : count, n = c->wide ? count : c->out.columns;
    const void *a = entry(&c->a, c->wide ? 0 : from, 0, c->dtype);
    const void *b = entry(&c->b, 0, c->wide ? from : 0, c->dtype);
    void *out = entry(&c->out, c->wide ? 0 : from, c->wide ? from : 0, c->dtype);
    int64_t lda = c->a.step, ldb = c->b.step, ldc = c->out.step;
    int ta = c->a.turned ? 112 : 111, tb = c->b.turned ? 112 : 111;
    if (n == 1) {
        int64_t stored_rows = c->a.turned ? k : m, stored_columns = c->a.turned ? m : k;
        int64_t every = c->b.turned ? 1 : ldb, every_out = c->out.turned ? 1 : ldc;
        if (c->dtype == FLOAT32)
            blas.sgemv(101, ta, stored_rows, stored_columns, 1, a, lda, b, every, 0, out,
                       every_out);
        else
            blas.dgemv(101, ta, stored_rows, stored_columns, 1, a, lda, b, every, 0, out,
                       every_out);
    } else if (c->dtype == FLOAT32)
        blas.sgemm(101, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, out, ldc);
    else
        blas.dgemm(101, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, out, ldc);
}

/* Read a matrix whose rows or columns are contiguous; return whether it is one. */
static int read_matrix(const array *x, int size, matrix *m) {
    if (x->rank != 2 || !(x->flags & ALIGNED) || x->shape[0] < 1 || x->shape[1] < 1)
        return 0;
    intptr_t rows = x->shape[0], columns = x->shape[1];
    intptr_t by_row = x->strides[0] / size, by_column = x->strides[1] / size;
    if (x->strides[0] % size || x->strides[1] % size)
        return 0;
    *m = (matrix){x->data, rows, columns, 0, 0};
    if ((by_column == 1 || columns == 1) && (by_row >= columns || rows == 1)) {
        m->step = rows > 1 ? by_row : columns;
        return 1;
    }
    if ((by_row == 1 || rows == 1) && (by_column >= rows || columns == 1)) {
        m->step = columns > 1 ? by_column : rows;
        m->turned = 1;
        return 1;
    }
    return 0;
}

static int overlap(const matrix *x, const matrix *y, int dtype) {
    const char *x_last = entry(x, x->rows - 1, x->columns - 1, dtype);
    const char *y_last = entry(y, y->rows - 1, y->columns - 1, dtype);
    return x->data <= y_last && y->data <= x_last;
}

static host shared;

/* Write a b to out; return 0, having done nothing, where np.matmul has to do it. */
int product(const void *a_object, const void *b_object, const void *out_object) {
    const array *a = array_in(&shared, a_object), *b = array_in(&shared, b_object);
    const array *out = array_in(&shared, out_object);
    product_call c;
    if (!a || !b || !out)
        return 0;
    c.dtype = dtype_of(out);
    if (c.dtype != FLOAT32 && c.dtype != FLOAT64)
        return 0;
    if (dtype_of(a) != c.dtype || dtype_of(b) != c.dtype || !(out->flags & WRITEABLE))
        return 0;
    if (!blas.sgemm)
        return 0;
    int size = width(c.dtype);
    if (!read_matrix(a, size, &c.a) || !read_matrix(b, size, &c.b) ||
        !read_matrix(out, size, &c.out) || c.out.turned)
        return 0;
    if (c.a.columns != c.b.rows || c.out.rows != c.a.rows || c.out.columns != c.b.columns ||
        overlap(&c.out, &c.a, c.dtype) || overlap(&c.out, &c.b, c.dtype))
        return 0;
    if (c.out.rows == 1) { /* a row times a matrix: the transposed, times a column */
        matrix row = c.a;
        c.a = transposed(c.b);
        c.b = transposed(row);
        c.out = transposed(c.out);
    }
    /* Each block packs one factor whole and its part of the other: cut the longer side. */
    c.wide = c.out.columns > c.out.rows;
    int64_t length = c.wide ? c.out.columns : c.out.rows;
    int64_t each = STRIP * c.a.columns * (c.wide ? c.out.rows : c.out.columns);
    run(strips, &c, (length + STRIP - 1) / STRIP, 1 + WORK / each);
    return 1;
}

/* --- What Python calls once ------------------------------------------------------ */

void use_threads(int n) {
    atomic_store(&pool.threads, n < MOST ? n : MOST);
}

/* Return what kernels need: np.ndarray, and the pool. Products need a BLAS. */
const host *setup(void *type, void *const *products) {
    static int again;
    shared = (host){type, run};
    memcpy(&blas, products, sizeof blas);
    if (!again && !pthread_atfork(NULL, NULL, forked) && !atexit(leave))
        again = 1;
    return &shared;
}
