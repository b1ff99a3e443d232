/* One step of clients' windows on given weights: forward, scores, backward.
 *
 * The model is the knowledge tracer of models/dkt.py. Arrays are dense and row-major. U, the units, is
 * a multiple of LANES; units that only fill up have weights of zero, and then their states and
 * gradients are zero too. Gates are in the order input, forget, cell, output. tanh(x) is
 * 2·sigmoid(2x) - 1.
 */

#pragma once

#include "client_tables.h"
#include "vectors.h"

#define BLOCK 8

/* A tracer's tables; without item bias or practice these have no rows. */
enum { INPUT, OUTPUT, ITEM_BIAS, PRACTICE, SKILL_PRACTICE, TABLES };

typedef struct {
    int64_t units, skills, steps;           /* skills of an answer */
    int64_t rows[TABLES], widths[TABLES];   /* 4U; U + 1, the bias last; 1; features; 1 */
    float rate, clip, tiny;                 /* a clip of zero: none; tiny is added to norms */
    const float *tables[TABLES];
    const float *turned, *matrix;           /* the recurrent matrix (U, 4U) turned, (4U, U) as it is */
    const int64_t *clients;                 /* (clients + 1,) where each client's windows begin */
    const int64_t *starts, *lengths;        /* (windows,) in answers */
    const int64_t *places;                  /* (windows + 1,) lengths summed up */
    const float *weights;                   /* (windows,) of an answer's loss */
    const float *shares;                    /* (answers, skills), zero where padded */
    const float *correct;                   /* (answers,) */
    const float *practice;                  /* (answers, features) */
    const float *skill_practice;            /* (answers, skill features, skills), zero where padded */
    const float *factors;        /* (clients,) what updates are multiplied with, but for one step
                                    without a clip: that is linear, and `weights` say it all */
    const int32_t *read, *asked, *items;    /* (answers, skills) twice, (answers,): tables' rows */
} Round;

/* What a thread works with. The tape is of the windows of the clients that are run together. */
typedef struct {
    Table tables[TABLES];
    const float *turned, *matrix;           /* the weights that are run: common or own */
    float *update, *own_turned, *own_matrix; /* (U, 4U) twice, (4U, U) */
    int64_t base, room;                     /* the tape's first place, how many it has */
    float *gates, *cells, *tanhs, *states;  /* (room, 4U), (room, U) each; cells, states: before */
    float *slopes;                          /* (room,) of the loss in the logit */
    float *gate, *state, *carried;          /* (BLOCK, 4U), (BLOCK, U) each */
} Work;

/* Products. ------------------------------------------------------------------------------------- */

/* Adds a (rows, depth), of which there are one or two, times b (depth, columns) to `out`. */
ALWAYS void add_few(int rows, int64_t depth, int64_t columns, const float *a, const float *b,
                    float *out) {
    int64_t at = 0;
    for (; at + ROWS * LANES <= columns; at += ROWS * LANES)
        add_tile(rows, ROWS, depth, a, depth, 1, b + at, columns, out + at, columns);
    for (; at + 4 * LANES <= columns; at += 4 * LANES)
        add_tile(rows, 4, depth, a, depth, 1, b + at, columns, out + at, columns);
    for (; at < columns; at += LANES)
        add_tile(rows, 1, depth, a, depth, 1, b + at, columns, out + at, columns);
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
    if (rows == 1) add_few(1, depth, columns, a, b, out);
    else if (rows == 2) add_few(2, depth, columns, a, b, out);
    else add_lines(round_up(rows, ROWS), depth, columns, a, depth, 1, b, out);
}

/* The recurrence and the scores. ----------------------------------------------------------------- */

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
    const float *row = work->tables[INPUT].now[round->read[at]];
    for (int64_t i = 0; i < width; i++) gate[i] = round->shares[at] * row[i];
    for (int64_t s = at + 1; s < at + round->skills; s++)
        if (round->shares[s] != 0)
            add_scaled(width, round->shares[s], work->tables[INPUT].now[round->read[s]], gate);
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

/* How many rows of SKILL_PRACTICE a skill has, one for each of its features. */
static int64_t skill_features(const Round *round) {
    return round->rows[SKILL_PRACTICE] / round->rows[OUTPUT];
}

/* What the item's bias, practice and the skills' own practice add to an answer's logit. */
static float wide_score(const Round *round, int64_t answer, const Work *work) {
    int64_t features = round->widths[PRACTICE], own = skill_features(round), skills = round->skills;
    float logit = round->rows[ITEM_BIAS] ? *work->tables[ITEM_BIAS].now[round->items[answer]] : 0;
    for (int64_t f = 0; f < features; f++)
        logit += work->tables[PRACTICE].now[0][f] * round->practice[answer * features + f];
    for (int64_t f = 0; f < own; f++)
        for (int64_t s = 0; s < skills; s++) {
            float feature = round->skill_practice[(answer * own + f) * skills + s];
            int64_t row = round->asked[answer * skills + s] + f * round->rows[OUTPUT];
            if (feature != 0) logit += feature * *work->tables[SKILL_PRACTICE].now[row];
        }
    return logit;
}

/* Writes the slopes of a window's losses. */
static void score(const Round *round, int64_t window, Work *work) {
    int64_t units = round->units, place = round->places[window] - work->base;
    for (int64_t step = 0; step < round->lengths[window]; step++) {
        int64_t answer = round->starts[window] + step, at = answer * round->skills;
        const float *state = work->states + (place + step) * units;
        float logit = wide_score(round, answer, work);
        for (int64_t s = at; s < at + round->skills; s++) {
            if (round->shares[s] == 0) continue;
            const float *row = work->tables[OUTPUT].now[round->asked[s]];
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
                       work->tables[OUTPUT].now[round->asked[s]], state);
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
