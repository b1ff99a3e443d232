/* Clients of one federated round: each one's plain descent from common weights, and their sum.
 *
 * The model is the knowledge tracer of models/dkt.py without item bias and practice. A client's
 * update is the sum of its steps' gradients. It is formed, measured, clipped and added while it is
 * in the cache, with copies of those rows of the tables only that the client reads. In their first
 * step clients still have the same weights and are run side by side.
 *
 * Arrays are dense and row-major. U, the units, is a multiple of LANES; units that only fill up
 * have weights of zero, and then their states and gradients are zero too. Gates are in the order
 * input, forget, cell, output. tanh(x) is 2·sigmoid(2x) - 1.
 */

#include "vectors.h"

#define BLOCK 8

typedef struct {
    int64_t units, skills, inputs, outputs; /* skills of an answer, rows of the two tables */
    int64_t steps;
    float rate, clip, tiny;      /* a clip of zero: none; tiny is added to norms */
    const float *input, *turned; /* (inputs, 4U); (U, 4U), the recurrent matrix turned */
    const float *matrix;         /* (4U, U) as it is */
    const float *output;         /* (outputs, U + 1), the bias last */
    const int64_t *clients;      /* (clients + 1,) where each client's windows begin */
    const int64_t *starts, *lengths; /* (windows,) in answers */
    const int64_t *places;       /* (windows + 1,) lengths summed up */
    const float *weights;        /* (windows,) of an answer's loss */
    const float *shares;         /* (answers, skills), zero where padded */
    const float *correct;        /* (answers,) */
    const float *factors;        /* (clients,) what updates are multiplied with, but for one step
                                    without a clip: that is linear, and `weights` say it all */
    const int32_t *read, *asked; /* (answers, skills) rows of the two tables */
} Round;

/* Where updates are summed: like the weights, of which `turned` is the recurrent matrix. */
typedef struct {
    float *input, *turned, *output;
} Sums;

/* The rows of a table that a client reads: its update of each, and its own copy. */
typedef struct {
    int64_t width, count;
    const float *common;
    float *sum;            /* where updates go at once, or NULL */
    const float **now;     /* (rows of the table,) where the client's weights are */
    int32_t *slots;        /* (rows of the table,) or -1 */
    int32_t *touched;      /* (count,) rows of the table */
    float *updates, *own;  /* (count, width) */
} Table;

/* What a thread works with. The tape is of the windows of the clients that are run together. */
typedef struct {
    Table input, output;
    const float *turned, *matrix;           /* the weights that are run: common or own */
    float *update, *own_turned, *own_matrix; /* (U, 4U) twice, (4U, U) */
    int64_t base, room;                     /* the tape's first place, how many it has */
    float *gates, *cells, *tanhs, *states;  /* (room, 4U), (room, U) each; cells, states: before */
    float *slopes;                          /* (room,) of the loss in the logit */
    float *gate, *state, *carried;          /* (BLOCK, 4U), (BLOCK, U) each */
} Work;

/* Products. ------------------------------------------------------------------------------------- */

/* Adds a (1, depth) times b (depth, columns) to `out`. */
static void add_line(int64_t depth, int64_t columns, const float *a, const float *b, float *out) {
    int64_t at = 0;
    for (; at + 8 * LANES <= columns; at += 8 * LANES)
        add_tile(1, 8, depth, a, 0, 1, b + at, columns, out + at, 0);
    for (; at + 4 * LANES <= columns; at += 4 * LANES)
        add_tile(1, 4, depth, a, 0, 1, b + at, columns, out + at, 0);
    for (; at < columns; at += LANES) add_tile(1, 1, depth, a, 0, 1, b + at, columns, out + at, 0);
}

/* Adds a (rows, depth), element (r, k) at r·by_row + k·by_step, times b (depth, columns) to `out`
 * (rows, columns); whole tiles of rows. */
static void add_lines(int64_t rows, int64_t depth, int64_t columns, const float *a, int64_t by_row,
                      int64_t by_step, const float *b, float *out) {
    int64_t at = 0;
    for (; at + PANEL <= columns; at += PANEL)
        for (int64_t row = 0; row < rows; row += ROWS)
            add_tile(ROWS, 2, depth, a + row * by_row, by_row, by_step, b + at, columns,
                     out + row * columns + at, columns);
    if (at < columns)
        for (int64_t row = 0; row < rows; row += ROWS)
            add_tile(ROWS, 1, depth, a + row * by_row, by_row, by_step, b + at, columns,
                     out + row * columns + at, columns);
}

/* Adds a (rows, depth) times b (depth, columns) to `out`, in which there are BLOCK rows. */
static void add_block(int64_t rows, int64_t depth, int64_t columns, const float *a, const float *b,
                      float *out) {
    if (rows > 2) add_lines(round_up(rows, ROWS), depth, columns, a, depth, 1, b, out);
    else
        for (int64_t row = 0; row < rows; row++)
            add_line(depth, columns, a + row * depth, b, out + row * columns);
}

/* Adds factor · from to `to`. */
ALWAYS void add_scaled(int64_t count, float factor, const float *restrict from, float *restrict to) {
    for (int64_t i = 0; i < count; i++) to[i] += factor * from[i];
}

static double squared_norm(const float *values, int64_t count) {
    vec sums = {0};
    double square = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) sums += *(vec *)(values + i) * *(vec *)(values + i);
    for (; i < count; i++) square += values[i] * values[i];
    for (int lane = 0; lane < LANES; lane++) square += sums[lane];
    return square;
}

/* Tables. --------------------------------------------------------------------------------------- */

static int make_table(Table *table, int64_t rows, int64_t width, const float *common, float *sum) {
    *table = (Table){.width = width, .common = common, .sum = sum};
    table->now = malloc(rows * sizeof(float *));
    table->slots = malloc(rows * sizeof(int32_t));
    table->touched = malloc(rows * sizeof(int32_t));
    /* The system gives memory for as many rows of these as are touched. */
    table->updates = malloc(rows * width * sizeof(float));
    table->own = malloc(rows * width * sizeof(float));
    if (!table->now || !table->slots || !table->touched || !table->updates || !table->own) return 1;
    for (int64_t row = 0; row < rows; row++) table->now[row] = common + row * width;
    memset(table->slots, -1, rows * sizeof(int32_t));
    return 0;
}

static void free_table(Table *table) {
    free(table->now);
    free(table->slots);
    free(table->touched);
    free(table->updates);
    free(table->own);
}

/* Where the client's update of a row is; zeros when it is asked for the first time. */
static float *update_of(Table *table, int32_t row) {
    if (table->sum) return table->sum + row * table->width;
    if (table->slots[row] < 0) {
        table->slots[row] = (int32_t)table->count;
        table->touched[table->count] = row;
        memset(table->updates + table->count * table->width, 0, table->width * sizeof(float));
        table->count++;
    }
    return table->updates + table->slots[row] * table->width;
}

/* Gives the client its own copy of every row that it has an update of. */
static void move_table(Table *table, float rate) {
    for (int64_t slot = 0; slot < table->count; slot++) {
        int32_t row = table->touched[slot];
        const float *common = table->common + row * table->width;
        const float *update = table->updates + slot * table->width;
        float *own = table->own + slot * table->width;
        for (int64_t i = 0; i < table->width; i++) own[i] = common[i] - rate * update[i];
        table->now[row] = own;
    }
}

static void add_table(const Table *table, float factor, float *total) {
    for (int64_t slot = 0; slot < table->count; slot++)
        add_scaled(table->width, factor, table->updates + slot * table->width,
                   total + table->touched[slot] * table->width);
}

static void forget_table(Table *table) {
    for (int64_t slot = 0; slot < table->count; slot++) {
        int32_t row = table->touched[slot];
        table->now[row] = table->common + row * table->width;
        table->slots[row] = -1;
    }
    table->count = 0;
}

/* One step of windows: forward, scores, backward. ------------------------------------------------ */

/* One window's step: turns `gate` into activations, kept at the tape's `place`, and gives `state`. */
static void run_step(int64_t units, const float *gate, int64_t place, Work *work, float *state) {
    float *kept = work->gates + place * 4 * units, *cells = work->cells + place * units;
    float *tanhs = work->tanhs + place * units, *states = work->states + (place + 1) * units;
    for (int64_t u = 0; u < units; u += LANES) {
        vec enter = sigmoid(*(const vec *)(gate + u));
        vec forget = sigmoid(*(const vec *)(gate + units + u));
        vec fresh = 2 * sigmoid(2 * *(const vec *)(gate + 2 * units + u)) - 1;
        vec leave = sigmoid(*(const vec *)(gate + 3 * units + u));
        vec cell = forget * *(vec *)(cells + u) + enter * fresh;
        vec squashed = 2 * sigmoid(2 * cell) - 1;
        *(vec *)(kept + u) = enter;
        *(vec *)(kept + units + u) = forget;
        *(vec *)(kept + 2 * units + u) = fresh;
        *(vec *)(kept + 3 * units + u) = leave;
        *(vec *)(cells + units + u) = cell;
        *(vec *)(tanhs + u) = squashed;
        *(vec *)(states + u) = *(vec *)(state + u) = leave * squashed;
    }
}

/* The same backwards: `state` is the state's gradient, `carried` the cell's; gates become deltas. */
static void back_step(int64_t units, const float *state, float *carried, int64_t place, Work *work,
                      float *delta) {
    float *gate = work->gates + place * 4 * units;
    const float *cells = work->cells + place * units, *tanhs = work->tanhs + place * units;
    for (int64_t u = 0; u < units; u += LANES) {
        vec enter = *(vec *)(gate + u), forget = *(vec *)(gate + units + u);
        vec fresh = *(vec *)(gate + 2 * units + u), leave = *(vec *)(gate + 3 * units + u);
        vec squashed = *(const vec *)(tanhs + u), above = *(const vec *)(state + u);
        vec cell = *(vec *)(carried + u) + above * leave * (1 - squashed * squashed);
        vec parts[4] = {
            cell * fresh * enter * (1 - enter),
            cell * *(const vec *)(cells + u) * forget * (1 - forget),
            cell * enter * (1 - fresh * fresh),
            above * squashed * leave * (1 - leave),
        };
        for (int gates = 0; gates < 4; gates++)
            *(vec *)(gate + gates * units + u) = *(vec *)(delta + gates * units + u) = parts[gates];
        *(vec *)(carried + u) = cell * forget;
    }
}

/* What the answer adds to the gates. */
static void read_answer(const Round *round, const Work *work, int64_t answer, float *gate) {
    int64_t at = answer * round->skills, width = 4 * round->units;
    const float *row = work->input.now[round->read[at]];
    for (int64_t i = 0; i < width; i++) gate[i] = round->shares[at] * row[i];
    for (int64_t s = at + 1; s < at + round->skills; s++)
        if (round->shares[s] != 0)
            add_scaled(width, round->shares[s], work->input.now[round->read[s]], gate);
}

/* How many of `count` windows, the longest first, need the state after `step`. */
static int64_t live_windows(const Round *round, const int64_t *windows, int64_t count, int64_t step) {
    while (count && round->lengths[windows[count - 1]] - 1 <= step) count--;
    return count;
}

static void run_forward(const Round *round, const int64_t *windows, int64_t count, Work *work) {
    int64_t units = round->units, width = 4 * units;
    for (int64_t i = 0; i < count; i++) {
        int64_t place = round->places[windows[i]] - work->base;
        memset(work->cells + place * units, 0, units * sizeof(float));
        memset(work->states + place * units, 0, units * sizeof(float));
    }
    for (int64_t step = 0;; step++) {
        count = live_windows(round, windows, count, step);
        if (!count) return;
        for (int64_t i = 0; i < count; i++)
            read_answer(round, work, round->starts[windows[i]] + step, work->gate + i * width);
        if (step) add_block(count, units, width, work->state, work->turned, work->gate);
        for (int64_t i = 0; i < count; i++)
            run_step(units, work->gate + i * width, round->places[windows[i]] - work->base + step,
                     work, work->state + i * units);
    }
}

/* Writes the slopes of a window's losses. */
static void score(const Round *round, int64_t window, Work *work) {
    int64_t units = round->units, place = round->places[window] - work->base;
    for (int64_t step = 0; step < round->lengths[window]; step++) {
        int64_t answer = round->starts[window] + step, at = answer * round->skills;
        const float *state = work->states + (place + step) * units;
        float logit = 0;
        for (int64_t s = at; s < at + round->skills; s++) {
            if (round->shares[s] == 0) continue;
            const float *row = work->output.now[round->asked[s]];
            vec sums = {0};
            for (int64_t u = 0; u < units; u += LANES)
                sums += *(const vec *)(row + u) * *(const vec *)(state + u);
            float sum = row[units];
            for (int half = LANES / 2; half; half /= 2)
                for (int lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
            sum += sums[0];
            logit += round->shares[s] * sum;
        }
        float known = 1 / (1 + expf(-logit));
        work->slopes[place + step] = round->weights[window] * (known - round->correct[answer]);
    }
}

/* What the scores of the answer at the tape's `place` add to the gradient of the state before it. */
static void back_score(const Round *round, const Work *work, int64_t answer, int64_t place,
                       float *state) {
    int64_t at = answer * round->skills;
    for (int64_t s = at; s < at + round->skills; s++)
        if (round->shares[s] != 0)
            add_scaled(round->units, work->slopes[place] * round->shares[s],
                       work->output.now[round->asked[s]], state);
}

static void run_backward(const Round *round, const int64_t *windows, int64_t count, Work *work) {
    int64_t units = round->units, width = 4 * units, later = 0;
    memset(work->carried, 0, BLOCK * units * sizeof(float));
    /* Products are of whole tiles of rows: those that begin later must find nothing there. */
    memset(work->gate, 0, BLOCK * width * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
        int64_t last = round->places[windows[i]] - work->base + round->lengths[windows[i]] - 1;
        memset(work->gates + last * width, 0, width * sizeof(float));
    }
    for (int64_t step = round->lengths[windows[0]] - 2; step >= 0; step--) {
        int64_t live = live_windows(round, windows, count, step);
        memset(work->state, 0, live * units * sizeof(float));
        for (int64_t i = 0; i < live; i++)
            back_score(round, work, round->starts[windows[i]] + step + 1,
                       round->places[windows[i]] - work->base + step + 1, work->state + i * units);
        if (later) add_block(later, width, units, work->gate, work->matrix, work->state);
        for (int64_t i = 0; i < live; i++)
            back_step(units, work->state + i * units, work->carried + i * units,
                      round->places[windows[i]] - work->base + step, work, work->gate + i * width);
        later = live;
    }
}

/* Runs windows [first, last), some at a time, the longest of them first. */
static void run_windows(const Round *round, int64_t first, int64_t last, Work *work) {
    for (; first < last; first += BLOCK) {
        int64_t windows[BLOCK], count = 0;
        for (int64_t next = first; next < last && next < first + BLOCK; next++, count++) {
            int64_t at = count;
            for (; at && round->lengths[windows[at - 1]] < round->lengths[next]; at--)
                windows[at] = windows[at - 1];
            windows[at] = next;
        }
        run_forward(round, windows, count, work);
        for (int64_t i = 0; i < count; i++) score(round, windows[i], work);
        run_backward(round, windows, count, work);
    }
}

/* Whether updates are gradients and nothing is done to them but to add them up. */
static int is_linear(const Round *round) { return round->steps == 1 && round->clip == 0; }

/* A client. ------------------------------------------------------------------------------------- */

/* Adds the gradient that windows [first, last) left on the tape to the client's update, of which
 * the recurrent matrix's part is `update` (U, 4U). */
static void add_gradient(const Round *round, int64_t first, int64_t last, Work *work,
                         float *update) {
    int64_t units = round->units, width = 4 * units;
    for (int64_t window = first; window < last; window++) {
        int64_t place = round->places[window] - work->base, length = round->lengths[window];
        const float *deltas = work->gates + place * width, *states = work->states + place * units;
        /* The first step's state is zero, and the last step's delta. */
        if (length > 2)
            add_lines(units, length - 2, width, states + units, 1, units, deltas + width, update);
        for (int64_t step = 0; step < length; step++) {
            int64_t at = (round->starts[window] + step) * round->skills;
            for (int64_t s = at; s < at + round->skills; s++) {
                float share = round->shares[s], slope = work->slopes[place + step] * share;
                if (share == 0) continue;
                float *output = update_of(&work->output, round->asked[s]);
                add_scaled(units, slope, states + step * units, output);
                output[units] += slope;
                if (step < length - 1)
                    add_scaled(width, share, deltas + step * width,
                               update_of(&work->input, round->read[s]));
            }
        }
    }
}

/* Gives the client weights of its own: the common ones less rate times its update. */
static void move(const Round *round, Work *work) {
    int64_t units = round->units, width = 4 * units;
    for (int64_t k = 0; k < units * width; k++)
        work->own_turned[k] = round->turned[k] - round->rate * work->update[k];
    for (int64_t k = 0; k < units; k += LANES)
        for (int64_t j = 0; j < width; j++)
            for (int64_t lane = 0; lane < LANES; lane++)
                work->own_matrix[j * units + k + lane] = work->own_turned[(k + lane) * width + j];
    move_table(&work->input, round->rate);
    move_table(&work->output, round->rate);
    work->turned = work->own_turned;
    work->matrix = work->own_matrix;
}

/* min(1, clip / norm) of the client's update; zero if the norm is not finite. */
static float clip_factor(const Round *round, const Work *work) {
    if (round->clip == 0) return 1;
    double square = squared_norm(work->update, 4 * round->units * round->units);
    square += squared_norm(work->input.updates, work->input.count * work->input.width);
    square += squared_norm(work->output.updates, work->output.count * work->output.width);
    if (!isfinite((float)square)) return 0;
    float factor = round->clip / (sqrtf((float)square) + round->tiny);
    return factor < 1 ? factor : 1;
}

/* Trains a client whose first step has been run, and adds its update to the sums. */
static void finish_client(const Round *round, int64_t client, Work *work, const Sums *sums) {
    int64_t first = round->clients[client], last = round->clients[client + 1];
    int64_t size = 4 * round->units * round->units;
    if (is_linear(round)) {
        add_gradient(round, first, last, work, sums->turned);
        return;
    }
    memset(work->update, 0, size * sizeof(float));
    add_gradient(round, first, last, work, work->update);
    for (int64_t step = 1; step < round->steps; step++) {
        move(round, work);
        run_windows(round, first, last, work);
        add_gradient(round, first, last, work, work->update);
    }
    float factor = round->factors[client] * clip_factor(round, work);
    if (factor != 0) {
        add_scaled(size, factor, work->update, sums->turned);
        add_table(&work->input, factor, sums->input);
        add_table(&work->output, factor, sums->output);
    }
    forget_table(&work->input);
    forget_table(&work->output);
    work->turned = round->turned;
    work->matrix = round->matrix;
}

/* Memory, and the kernel. ------------------------------------------------------------------------ */

static void free_tape(Work *work) {
    free(work->gates);
    free(work->cells);
    free(work->tanhs);
    free(work->states);
    free(work->slopes);
}

/* Makes a tape of at least `places`. */
static int make_tape(const Round *round, int64_t places, Work *work) {
    if (places <= work->room) return 0;
    free_tape(work);
    /* The state after the last place of all is written where the next one would be. */
    size_t floats = (places + 1) * round->units;
    work->room = places;
    work->gates = malloc(4 * floats * sizeof(float));
    work->cells = malloc(floats * sizeof(float));
    work->tanhs = malloc(floats * sizeof(float));
    work->states = malloc(floats * sizeof(float));
    work->slopes = malloc((places + 1) * sizeof(float));
    return !work->gates || !work->cells || !work->tanhs || !work->states || !work->slopes;
}

static int make_work(const Round *round, const Sums *sums, Work *work) {
    int64_t units = round->units, width = 4 * units;
    *work = (Work){.turned = round->turned, .matrix = round->matrix};
    work->update = malloc(units * width * sizeof(float));
    work->own_turned = malloc(units * width * sizeof(float));
    work->own_matrix = malloc(units * width * sizeof(float));
    /* Whole tiles of rows are computed, also where fewer are there. */
    work->gate = calloc(BLOCK * width, sizeof(float));
    work->state = calloc(BLOCK * units, sizeof(float));
    work->carried = calloc(BLOCK * units, sizeof(float));
    int failed = make_table(&work->input, round->inputs, width, round->input,
                            is_linear(round) ? sums->input : NULL);
    failed |= make_table(&work->output, round->outputs, units + 1, round->output,
                         is_linear(round) ? sums->output : NULL);
    return failed || !work->update || !work->own_turned || !work->own_matrix || !work->gate ||
           !work->state || !work->carried;
}

static void free_work(Work *work) {
    free(work->update);
    free(work->own_turned);
    free(work->own_matrix);
    free(work->gate);
    free(work->state);
    free(work->carried);
    free_table(&work->input);
    free_table(&work->output);
    free_tape(work);
}

/* How many clients from `first` on are run side by side in their first step: at least one. */
static int64_t together(const Round *round, int64_t first, int64_t last) {
    int64_t next = first + 1;
    while (next < last && round->clients[next + 1] - round->clients[first] <= BLOCK) next++;
    return next - first;
}

/* Trains clients [first, last) and adds their updates to the sums. 1 if there is no memory. */
int64_t cloister_train_clients(const Round *round, int64_t first, int64_t last, const Sums *sums) {
    Work work;
    int failed = make_work(round, sums, &work);
    FLUSH_SUBNORMALS;
    while (!failed && first < last) {
        int64_t next = first + together(round, first, last);
        int64_t begin = round->clients[first], end = round->clients[next];
        work.base = round->places[begin];
        failed = make_tape(round, round->places[end] - work.base, &work);
        if (failed) break;
        run_windows(round, begin, end, &work);
        for (; first < next; first++) finish_client(round, first, &work, sums);
    }
    RESTORE;
    free_work(&work);
    return failed;
}
