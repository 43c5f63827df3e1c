/* One decode step of a Llama-like decoder in float32, for one row of text, on the cores of a CPU.
 *
 * From the embedding of a token to the logits of the next: for each layer RMSNorm, queries, keys and values, rotation,
 * attention over what is cached, or a leader's weights used again, and a gated MLP. `core.decoding.compiled` hands over where
 * torch keeps the weights and the cache; nothing is copied, and nothing here outlives a call but a runner's work space and threads.
 *
 * Work is cut into chunks that threads claim one by one, and a phase ends when its chunks are done: whoever the machine keeps
 * waiting holds up nobody. Sums are in an order that depends on sizes alone, not on threads, so logits are the same to the bit. */

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LANES = 8, MOST_THREADS = 64, MOST_SPLITS = 16, SPLIT_TOKENS = 256, MOST_ROWS = 256, PATIENCE = 2000 };
enum { OWN, SHARE, SKIP, KV, KEYS }; /* what a layer does: see core.decoding.recipe */

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* as it lies in memory */
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

/* Mirrored by ctypes structures of the same names in core/decoding/compiled.py. */
typedef struct {
    const float *norm, *q, *q_bias, *q_norm, *k, *k_bias, *k_norm, *v, *v_bias, *o, *o_bias;
    const float *mlp_norm, *gate, *gate_bias, *up, *up_bias, *down, *down_bias;
    float *keys, *values;    /* [kv_heads, capacity, head_dim]: those that it attends to, its leader's where it has none */
    float *weights;          /* [heads, capacity]: e^(score - highest of the split); a follower's are its leader's */
    float *highest, *sums;   /* [heads, MOST_SPLITS]: of the scores and the weights of each split */
    const int32_t *heads;    /* [heads]: whose weights each head reads */
    const int64_t *room;     /* [3]: slots of the buffers, first visible one, visible ones before this token */
    double scaling;
    float norm_eps, q_eps, k_eps, mlp_eps;
    int32_t does, rotates;
} Layer;

typedef struct {
    int64_t layers, hidden, heads, kv_heads, head_dim, inner, vocabulary;
    const float *embedding, *norm, *head, *head_bias;
    float norm_eps;
    int32_t unused;
} Model;

typedef struct {
    _Alignas(64) atomic_long next;
    _Alignas(64) atomic_long done;
} Phase;

typedef struct {
    float *normed, *attended, *queries;
} Own; /* work space of a thread */

typedef struct Runner Runner;

typedef struct {
    Runner *runner;
    int number;
} Seat;

struct Runner {
    Model model;
    int threads, phases;
    pid_t process;
    Phase *phase;
    float *space, *x, *q, *k, *v, *partial, *inner;
    Own own[MOST_THREADS];
    /* of the present step */
    const Layer *layers;
    const float *cos, *sin;
    float *logits;
    /* of the threads */
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_t worker[MOST_THREADS];
    Seat seat[MOST_THREADS];
    int workers, open, quit;
    uint64_t steps;
    atomic_int inside;
};

/* Sums. */

static inline float total(lanes a) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += a[i];
    return sum;
}

/* Products with x of `rows` rows (a constant where it is inlined) that lie `apart`, each in the same order of sums. */
static inline __attribute__((always_inline)) void dots(
    int rows, const float *w, int64_t apart, int64_t width, const float *x, float *out, int64_t out_apart) {
    lanes a[4] = {{0}}, b[4] = {{0}};
    int64_t i = 0;
    for (; i + 2 * LANES <= width; i += 2 * LANES) {
        lanes left = *(const loose *)(x + i), right = *(const loose *)(x + i + LANES);
        for (int r = 0; r < rows; r++) {
            a[r] += *(const loose *)(w + r * apart + i) * left;
            b[r] += *(const loose *)(w + r * apart + i + LANES) * right;
        }
    }
    for (int r = 0; r < rows; r++) {
        float rest = 0;
        for (int64_t j = i; j < width; j++) rest += w[r * apart + j] * x[j];
        out[r * out_apart] = total(a[r] + b[r]) + rest;
    }
}

/* out = w x + bias, for w [rows, width]: four rows at a time, a quarter of all apart, since memory is read faster in
 * a few long streams than in rows that end soon. */
static void product(const float *w, const float *bias, int64_t rows, int64_t width, const float *x, float *out) {
    int64_t quarter = rows / 4;
    for (int64_t r = 0; r < quarter; r++) dots(4, w + r * width, quarter * width, width, x, out + r, quarter);
    for (int64_t r = 4 * quarter; r < rows; r++) dots(1, w + r * width, 0, width, x, out + r, 0);
    if (bias)
        for (int64_t r = 0; r < rows; r++) out[r] += bias[r];
}

static inline float dot(const float *a, const float *b, int64_t width) {
    float out;
    dots(1, a, 0, width, b, &out, 0);
    return out;
}

static void rms_norm(const float *x, const float *weight, float eps, int64_t width, float *out) {
    float scale = 1.0f / sqrtf(dot(x, x, width) / (float)width + eps);
    for (int64_t i = 0; i < width; i++) out[i] = weight[i] * (x[i] * scale);
}

/* e^x: 2^n e^r with |r| <= ln 2 / 2, e^r by its Taylor polynomial of degree 7, exact to a few units of the last place. */
static inline lanes exponential(lanes x) {
    const lanes least = (lanes){0} - 87.0f, most = (lanes){0} + 88.0f, magic = (lanes){0} + 12582912.0f;
    ints low = x < least, high = x > most;
    x = (lanes)(((ints)least & low) | ((ints)x & ~low));
    x = (lanes)(((ints)most & high) | ((ints)x & ~high));
    lanes n = x * 1.44269504f + magic; /* the sum is rounded to a whole number in its last bits */
    ints power = ((ints)n - (ints)magic + 127) << 23;
    n = n - magic;
    lanes r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    lanes p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * (lanes)power;
}

/* a = e^(a - offset), and their sum. */
static float exponentials(float *a, int64_t count, float offset) {
    lanes sum = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        lanes e = exponential(*(const loose *)(a + i) - offset);
        *(loose *)(a + i) = e;
        sum += e;
    }
    float rest = 0;
    for (; i < count; i++) {
        lanes one = {a[i] - offset};
        rest += a[i] = exponential(one)[0];
    }
    return total(sum) + rest;
}

/* out = silu(gate) * up */
static void gated(const float *gate, const float *up, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i += LANES) {
        lanes g = {0}, u = {0};
        size_t size = sizeof(float) * (size_t)(count - i < LANES ? count - i : LANES);
        memcpy(&g, gate + i, size);
        memcpy(&u, up + i, size);
        u = g / (1.0f + exponential(-g)) * u;
        memcpy(out + i, &u, size);
    }
}

/* Halves rotated: x cos + (-second half, first half) sin. */
static void rotate(const float *x, const float *cos, const float *sin, int64_t width, float *out) {
    int64_t half = width / 2;
    for (int64_t i = 0; i < half; i++) {
        float first = x[i], second = x[half + i];
        out[i] = first * cos[i] - second * sin[i];
        out[half + i] = second * cos[half + i] + first * sin[half + i];
    }
}

/* A head's query or key as attention reads it: normed and rotated. */
static void finish_head(
    const Runner *run, const Layer *layer, const float *x, const float *norm, float eps, float *out) {
    int64_t width = run->model.head_dim;
    if (norm) rms_norm(x, norm, eps, width, out);
    else memcpy(out, x, sizeof(float) * (size_t)width);
    if (layer->rotates) rotate(out, run->cos, run->sin, width, out);
}

/* Attention. */

static int64_t splits_of(int64_t tokens) {
    int64_t splits = tokens / SPLIT_TOKENS;
    return splits < 1 ? 1 : splits > MOST_SPLITS ? MOST_SPLITS : splits;
}

/* One head of keys and values, one split of the tokens: weights, unless they are the leader's, and values under them. */
static void attend(Runner *run, const Layer *layer, Own *own, int64_t kv_head, int64_t split, int64_t splits) {
    const Model *m = &run->model;
    int64_t width = m->head_dim, group = m->heads / m->kv_heads, capacity = layer->room[0], begin = layer->room[1];
    int64_t tokens = layer->room[2] + 1, size = (tokens + splits - 1) / splits;
    int64_t from = split * size, to = from + size < tokens ? from + size : tokens;
    float *keys = layer->keys + (kv_head * capacity + begin) * width;
    float *values = layer->values + (kv_head * capacity + begin) * width;
    if (to == tokens) { /* the newest token: into the cache, where it is the layer's own */
        if (layer->does == OWN)
            finish_head(run, layer, run->k + kv_head * width, layer->k_norm, layer->k_eps, keys + (tokens - 1) * width);
        if (layer->does != KV)
            memcpy(values + (tokens - 1) * width, run->v + kv_head * width, sizeof(float) * (size_t)width);
    }
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        int64_t source = layer->heads[head];
        float *weights = layer->weights + source * capacity;
        if (layer->does != SHARE) {
            float *query = own->queries, highest = -INFINITY;
            finish_head(run, layer, run->q + head * width, layer->q_norm, layer->q_eps, query);
            for (int64_t i = 0; i < width; i++) query[i] *= (float)layer->scaling;
            product(keys + from * width, NULL, to - from, width, query, weights + from);
            for (int64_t t = from; t < to; t++) highest = weights[t] > highest ? weights[t] : highest;
            layer->highest[head * MOST_SPLITS + split] = highest;
            layer->sums[head * MOST_SPLITS + split] = exponentials(weights + from, to - from, highest);
        }
        float *out = run->partial + (head * MOST_SPLITS + split) * width;
        memset(out, 0, sizeof(float) * (size_t)width);
        int64_t t = from;
        for (; t + 4 <= to; t += 4) {
            const float *v = values + t * width, *w = weights + t;
            for (int64_t i = 0; i < width; i++)
                out[i] += w[0] * v[i] + w[1] * v[width + i] + w[2] * v[2 * width + i] + w[3] * v[3 * width + i];
        }
        for (; t < to; t++)
            for (int64_t i = 0; i < width; i++) out[i] += weights[t] * values[t * width + i];
    }
}

/* What all splits found together, [heads, head_dim]. */
static void combine(const Runner *run, const Layer *layer, float *out) {
    const Model *m = &run->model;
    int64_t width = m->head_dim, splits = splits_of(layer->room[2] + 1);
    for (int64_t head = 0; head < m->heads; head++) {
        const float *highest = layer->highest + layer->heads[head] * MOST_SPLITS;
        const float *sums = layer->sums + layer->heads[head] * MOST_SPLITS;
        const float *partial = run->partial + head * MOST_SPLITS * width;
        float most = -INFINITY, sum = 0;
        for (int64_t s = 0; s < splits; s++) most = highest[s] > most ? highest[s] : most;
        for (int64_t i = 0; i < width; i++) out[head * width + i] = 0;
        for (int64_t s = 0; s < splits; s++) {
            float share = expf(highest[s] - most);
            sum += share * sums[s];
            for (int64_t i = 0; i < width; i++) out[head * width + i] += share * partial[s * width + i];
        }
        for (int64_t i = 0; i < width; i++) out[head * width + i] /= sum;
    }
}

/* Phases. */

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The next chunk of a phase, or -1 when all are taken; then its end has come when this returns. */
static long claim(Phase *phase, long chunks) {
    long chunk = atomic_fetch_add_explicit(&phase->next, 1, memory_order_relaxed);
    if (chunk < chunks) return chunk;
    for (int tries = 0; atomic_load_explicit(&phase->done, memory_order_acquire) < chunks; tries++)
        if (tries < PATIENCE) relax();
        else sched_yield();
    return -1;
}

static inline void finish(Phase *phase) { atomic_fetch_add_explicit(&phase->done, 1, memory_order_release); }

/* Rows of a chunk: two chunks for each thread, of four rows at a time, and no more than work space holds. */
static int64_t chunk_rows(const Runner *run, int64_t rows) {
    int64_t parts = run->threads == 1 ? 1 : 2 * run->threads;
    int64_t size = ((rows + parts - 1) / parts + 3) / 4 * 4;
    return size < 8 ? 8 : size > MOST_ROWS ? MOST_ROWS : size;
}

#define ROWS_OF_CHUNK(rows) int64_t first = chunk * size, last = first + size < (rows) ? first + size : (rows)

/* Those of rows first … last that lie in a projection whose rows begin at `*start`. */
static void part(
    const float *w, const float *bias, int64_t rows, int64_t width, const float *x, float *out,
    int64_t first, int64_t last, int64_t *start) {
    if (!w) return;
    int64_t from = first - *start, to = last - *start;
    *start += rows;
    from = from < 0 ? 0 : from;
    to = to > rows ? rows : to;
    if (from < to) product(w + from * width, bias ? bias + from : NULL, to - from, width, x, out + from);
}

static Phase *projections(Runner *run, const Layer *layer, Own *own, Phase *phase) {
    const Model *m = &run->model;
    int64_t q_rows = m->heads * m->head_dim, kv_rows = m->kv_heads * m->head_dim, width = m->hidden;
    int64_t rows = (layer->q ? q_rows : 0) + (layer->k ? kv_rows : 0) + (layer->v ? kv_rows : 0);
    int64_t size = chunk_rows(run, rows);
    int ready = 0;
    for (long chunk; (chunk = claim(phase, (rows + size - 1) / size)) >= 0; finish(phase)) {
        if (!ready++) rms_norm(run->x, layer->norm, layer->norm_eps, width, own->normed);
        ROWS_OF_CHUNK(rows);
        int64_t start = 0;
        part(layer->q, layer->q_bias, q_rows, width, own->normed, run->q, first, last, &start);
        part(layer->k, layer->k_bias, kv_rows, width, own->normed, run->k, first, last, &start);
        part(layer->v, layer->v_bias, kv_rows, width, own->normed, run->v, first, last, &start);
    }
    return phase + 1;
}

static Phase *attention(Runner *run, const Layer *layer, Own *own, Phase *phase) {
    int64_t splits = splits_of(layer->room[2] + 1);
    for (long chunk; (chunk = claim(phase, run->model.kv_heads * splits)) >= 0; finish(phase))
        attend(run, layer, own, chunk / splits, chunk % splits, splits);
    return phase + 1;
}

/* x += w in + bias; in: what `layer` attended to, or the MLP's inner row. */
static Phase *residual(
    Runner *run, const float *w, const float *bias, int64_t width, const Layer *layer, Own *own, Phase *phase) {
    int64_t rows = run->model.hidden, size = chunk_rows(run, rows);
    const float *in = layer ? own->attended : run->inner;
    float found[MOST_ROWS];
    int ready = 0;
    for (long chunk; (chunk = claim(phase, (rows + size - 1) / size)) >= 0; finish(phase)) {
        if (layer && !ready++) combine(run, layer, own->attended);
        ROWS_OF_CHUNK(rows);
        product(w + first * width, bias ? bias + first : NULL, last - first, width, in, found);
        for (int64_t r = first; r < last; r++) run->x[r] += found[r - first];
    }
    return phase + 1;
}

static Phase *gates(Runner *run, const Layer *layer, Own *own, Phase *phase) {
    int64_t rows = run->model.inner, width = run->model.hidden, size = chunk_rows(run, rows);
    float gate[MOST_ROWS], up[MOST_ROWS];
    int ready = 0;
    for (long chunk; (chunk = claim(phase, (rows + size - 1) / size)) >= 0; finish(phase)) {
        if (!ready++) rms_norm(run->x, layer->mlp_norm, layer->mlp_eps, width, own->normed);
        ROWS_OF_CHUNK(rows);
        product(layer->gate + first * width, layer->gate_bias ? layer->gate_bias + first : NULL, last - first, width,
                own->normed, gate);
        product(layer->up + first * width, layer->up_bias ? layer->up_bias + first : NULL, last - first, width,
                own->normed, up);
        gated(gate, up, last - first, run->inner + first);
    }
    return phase + 1;
}

static void logits(Runner *run, Own *own, Phase *phase) {
    const Model *m = &run->model;
    int64_t rows = m->vocabulary, width = m->hidden, size = MOST_ROWS;
    int ready = 0;
    for (long chunk; (chunk = claim(phase, (rows + size - 1) / size)) >= 0; finish(phase)) {
        if (!ready++) rms_norm(run->x, m->norm, m->norm_eps, width, own->normed);
        ROWS_OF_CHUNK(rows);
        product(m->head + first * width, m->head_bias ? m->head_bias + first : NULL, last - first, width, own->normed,
                run->logits + first);
    }
}

/* A thread's part in a step. */
static void take_part(Runner *run, int number) {
    const Model *m = &run->model;
    Own *own = &run->own[number];
    Phase *phase = run->phase;
    for (int64_t l = 0; l < m->layers; l++) {
        const Layer *layer = &run->layers[l];
        if (layer->does != SKIP) {
            phase = projections(run, layer, own, phase);
            phase = attention(run, layer, own, phase);
            phase = residual(run, layer->o, layer->o_bias, m->heads * m->head_dim, layer, own, phase);
        }
        phase = gates(run, layer, own, phase);
        phase = residual(run, layer->down, layer->down_bias, m->inner, NULL, own, phase);
    }
    logits(run, own, phase);
}

static void *work(void *given) {
    Seat *seat = given;
    Runner *run = seat->runner;
    uint64_t seen = 0;
    pthread_mutex_lock(&run->lock);
    for (;;) {
        while (!run->quit && (!run->open || run->steps == seen)) pthread_cond_wait(&run->called, &run->lock);
        if (run->quit) break;
        seen = run->steps;
        atomic_fetch_add(&run->inside, 1);
        pthread_mutex_unlock(&run->lock);
        take_part(run, seat->number);
        atomic_fetch_sub(&run->inside, 1);
        pthread_mutex_lock(&run->lock);
    }
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

/* What Python calls. */

int64_t runner_sizes(void) { return (int64_t)sizeof(Layer) * 1000000 + (int64_t)sizeof(Model) * 1000 + MOST_SPLITS; }

void runner_free(Runner *run) {
    if (!run) return;
    if (run->process == getpid()) { /* threads do not live on in a process that was forked */
        pthread_mutex_lock(&run->lock);
        run->quit = 1;
        pthread_cond_broadcast(&run->called);
        pthread_mutex_unlock(&run->lock);
        for (int i = 0; i < run->workers; i++) pthread_join(run->worker[i], NULL);
    }
    free(run->phase);
    free(run->space);
    free(run);
}

/* Work space and threads for steps of this model; NULL where there is no memory. */
Runner *runner_new(const Model *model, int64_t threads) {
    Runner *run = calloc(1, sizeof(Runner));
    if (!run) return NULL;
    run->model = *model;
    run->process = getpid();
    run->threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : (int)threads;
    run->phases = (int)(5 * model->layers + 1);
    int64_t q = model->heads * model->head_dim, kv = model->kv_heads * model->head_dim;
    int64_t of_thread = model->hidden + q + model->head_dim;
    int64_t floats = model->hidden + q + 2 * kv + q * MOST_SPLITS + model->inner + of_thread * run->threads;
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->called, NULL);
    float *at = run->space = calloc((size_t)floats, sizeof(float));
    if (posix_memalign((void **)&run->phase, 64, sizeof(Phase) * (size_t)run->phases)) run->phase = NULL;
    if (!at || !run->phase) {
        runner_free(run);
        return NULL;
    }
    run->x = at, at += model->hidden;
    run->q = at, at += q;
    run->k = at, at += kv;
    run->v = at, at += kv;
    run->partial = at, at += q * MOST_SPLITS;
    run->inner = at, at += model->inner;
    for (int i = 0; i < run->threads; i++) {
        run->own[i].normed = at, at += model->hidden;
        run->own[i].attended = at, at += q;
        run->own[i].queries = at, at += model->head_dim;
    }
    for (int i = 1; i < run->threads; i++) { /* fewer, where the system gives no more */
        run->seat[i] = (Seat){run, i};
        if (pthread_create(&run->worker[run->workers], NULL, work, &run->seat[i])) break;
        run->workers++;
    }
    return run;
}

/* The logits [vocabulary] after `token`, whose rotation is cos and sin [head_dim]; the cache of every layer gets its row. */
void runner_step(Runner *run, const Layer *layers, int64_t token, const float *cos, const float *sin, float *logits) {
    int helped = run->workers && run->process == getpid();
    memcpy(run->x, run->model.embedding + token * run->model.hidden, sizeof(float) * (size_t)run->model.hidden);
    for (int i = 0; i < run->phases; i++) {
        atomic_store_explicit(&run->phase[i].next, 0, memory_order_relaxed);
        atomic_store_explicit(&run->phase[i].done, 0, memory_order_relaxed);
    }
    run->layers = layers, run->cos = cos, run->sin = sin, run->logits = logits;
    if (helped) {
        pthread_mutex_lock(&run->lock);
        run->open = 1;
        run->steps++;
        pthread_cond_broadcast(&run->called);
        pthread_mutex_unlock(&run->lock);
    }
    take_part(run, 0);
    if (!helped) return;
    pthread_mutex_lock(&run->lock);
    run->open = 0; /* whoever has not come yet stays out of this step */
    pthread_mutex_unlock(&run->lock);
    for (int tries = 0; atomic_load_explicit(&run->inside, memory_order_acquire); tries++)
        if (tries < PATIENCE) relax();
        else sched_yield();
}
