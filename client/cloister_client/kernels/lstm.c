/* The LSTM recurrence over ragged rows, its backward, and clipped sums of matrix gradients.
 *
 * What PyTorch does in a dozen calls a step is one pass here, over rows that fit the cache; threads
 * are the caller's, who gives each some rows. Every result for a row, or for a learner, is computed
 * from that row's or learner's numbers alone and in an order that does not depend on anybody else,
 * so that it is the same to the last bit whoever is in the batch.
 *
 * Arrays are dense and row-major: gates and deltas (R, T, 4H), cells and states (R, T, H), before
 * each step; a row has `lengths` steps, of which the last starts from a state but need not be run.
 * Gates are in the order input, forget, cell, output. tanh(x) is 2·sigmoid(2x) - 1: whoever packs
 * the weights doubles those of the cell gate.
 */

#include "vectors.h"

#define BLOCK 16

int64_t cloister_lanes(void) { return LANES; }
int64_t cloister_block(void) { return BLOCK; }

/* Products. ------------------------------------------------------------------------------------- */

/* Adds a (rows, depth) times the packed matrix (depth, columns) to `out`; whole tiles of rows. */
static void add_product(int64_t rows, int64_t depth, int64_t columns, const float *a, int64_t a_row,
                        const float *packed, float *out, int64_t out_row) {
    for (int64_t column = 0; column < columns; column += PANEL) {
        int narrow = columns - column <= LANES;
        for (int64_t row = 0; row < rows; row += ROWS) {
            const float *from = a + row * a_row;
            float *to = out + row * out_row + column;
            if (narrow) add_tile(ROWS, 1, depth, from, a_row, 1, packed, LANES, to, out_row);
            else add_tile(ROWS, 2, depth, from, a_row, 1, packed, PANEL, to, out_row);
        }
        packed += depth * (narrow ? LANES : PANEL);
    }
}

/* How many floats a packed (depth, columns) matrix takes. */
int64_t cloister_packed_size(int64_t depth, int64_t columns) { return depth * round_up(columns, LANES); }

/* Packs matrix (depth, columns), element (k, j) at k·by_depth + j·by_column, for `add_product`. */
void cloister_pack(const float *matrix, int64_t depth, int64_t columns, int64_t by_depth,
                   int64_t by_column, float *packed) {
    for (int64_t column = 0; column < columns; column += PANEL) {
        int64_t width = columns - column <= LANES ? LANES : PANEL;
        for (int64_t k = 0; k < depth; k++)
            for (int64_t j = 0; j < width; j++)
                *packed++ = column + j < columns ? matrix[k * by_depth + (column + j) * by_column] : 0;
    }
}

/* In place, over a count that is a multiple of LANES. */
static void sigmoids(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) *(vec *)(values + i) = sigmoid(*(vec *)(values + i));
}

/* The recurrence. ------------------------------------------------------------------------------- */

typedef struct {
    int64_t steps, skills, hidden;
    const int64_t *indices; /* (R, T, S) */
    const float *shares;    /* (R, T, S) */
    const int64_t *lengths; /* (R,), falling */
    float *gates, *cells, *states;
} Rows;

static int64_t live_rows(const Rows *rows, int64_t first, int64_t count, int64_t step) {
    while (count && rows->lengths[first + count - 1] - 1 <= step) count--;
    return count;
}

/* What the answers of `row` at `step` add to the gates. */
static void read_table(const Rows *rows, const float *table, int64_t row, int64_t step, float *gate) {
    int64_t width = 4 * rows->hidden, at = (row * rows->steps + step) * rows->skills;
    memset(gate, 0, width * sizeof(float));
    for (int64_t s = 0; s < rows->skills; s++) {
        float share = rows->shares[at + s];
        if (share == 0) continue;
        const float *from = table + rows->indices[at + s] * width;
        for (int64_t j = 0; j < width; j++) gate[j] += share * from[j];
    }
}

/* Runs rows [first, last), at most BLOCK of them; 0, or 1 if there is no memory. */
int64_t cloister_forward(const Rows *rows, const float *table, const float *packed, int64_t first,
                         int64_t last) {
    int64_t hidden = rows->hidden, width = 4 * hidden, count = last - first;
    int64_t gate_row = round_up(width, LANES), unit_row = round_up(hidden, LANES);
    size_t floats = BLOCK * (gate_row + hidden) + 2 * unit_row;
    float *scratch = calloc(floats, sizeof(float));
    if (!scratch) return 1;
    FLUSH_SUBNORMALS;
    float *gates = scratch, *state = gates + BLOCK * gate_row, *tanhs = state + BLOCK * hidden;
    for (int64_t row = first; row < last; row++) {
        float *states = rows->states + row * rows->steps * hidden;
        int64_t known = rows->lengths[row] > 0 ? rows->lengths[row] : 1;
        memset(rows->cells + row * rows->steps * hidden, 0, hidden * sizeof(float));
        memset(states, 0, hidden * sizeof(float));
        memset(states + known * hidden, 0, (rows->steps - known) * hidden * sizeof(float));
    }
    for (int64_t step = 0;; step++) {
        int64_t live = live_rows(rows, first, count, step);
        if (!live) break;
        for (int64_t row = 0; row < live; row++)
            read_table(rows, table, first + row, step, gates + row * gate_row);
        if (step)
            add_product(round_up(live, ROWS), hidden, width, state, hidden, packed, gates, gate_row);
        for (int64_t row = 0; row < live; row++) {
            float *gate = gates + row * gate_row;
            int64_t place = (first + row) * rows->steps + step;
            const float *restrict before = rows->cells + place * hidden;
            float *restrict cell = rows->cells + (place + 1) * hidden;
            float *restrict after = rows->states + (place + 1) * hidden;
            sigmoids(gate, gate_row);
            for (int64_t u = 0; u < hidden; u++) {
                float enter = gate[u];
                float now = gate[hidden + u] * before[u] + enter * (2 * gate[2 * hidden + u] - 1);
                cell[u] = now;
                tanhs[u] = 2 * now;
            }
            sigmoids(tanhs, unit_row);
            for (int64_t u = 0; u < hidden; u++)
                after[u] = gate[3 * hidden + u] * (2 * tanhs[u] - 1);
            memcpy(state + row * hidden, after, hidden * sizeof(float));
            memcpy(rows->gates + place * width, gate, width * sizeof(float));
        }
    }
    free(scratch);
    RESTORE;
    return 0;
}

/* One row's step backwards: `state` is its state's gradient, `carried` its cell's; writes deltas. */
ALWAYS void back_step(int64_t hidden, const float *restrict gate, const float *restrict before,
                      const float *restrict tanhs, const float *restrict state,
                      float *restrict carried, float *restrict delta) {
    for (int64_t u = 0; u < hidden; u++) {
        float enter = gate[u], forget = gate[hidden + u];
        float doubled = gate[2 * hidden + u], leave = gate[3 * hidden + u];
        float squashed = 2 * tanhs[u] - 1;
        float cell = carried[u] + state[u] * leave * (1 - squashed * squashed);
        delta[u] = cell * (2 * doubled - 1) * enter * (1 - enter);
        delta[hidden + u] = cell * before[u] * forget * (1 - forget);
        delta[2 * hidden + u] = cell * enter * 4 * doubled * (1 - doubled);
        delta[3 * hidden + u] = state[u] * squashed * leave * (1 - leave);
        carried[u] = cell * forget;
    }
}

/* Turns the gates of rows [first, last) into the gradient of the pre-activations.
 *
 * `gradient` is of the states: of row r before step t at r·by_row + t·by_step, H in a line. */
int64_t cloister_backward(const Rows *rows, const float *packed, const float *gradient,
                          int64_t by_row, int64_t by_step, int64_t first, int64_t last) {
    int64_t hidden = rows->hidden, width = 4 * hidden, count = last - first;
    int64_t unit_row = round_up(hidden, LANES);
    size_t floats = BLOCK * (width + 2 * unit_row) + unit_row;
    float *scratch = calloc(floats, sizeof(float));
    if (!scratch) return 1;
    FLUSH_SUBNORMALS;
    float *deltas = scratch, *state = deltas + BLOCK * width;
    float *carried = state + BLOCK * unit_row, *tanhs = carried + BLOCK * unit_row;
    for (int64_t row = first; row < last; row++) {
        int64_t run = rows->lengths[row] > 0 ? rows->lengths[row] - 1 : 0;
        float *rest = rows->gates + (row * rows->steps + run) * width;
        memset(rest, 0, (rows->steps - run) * width * sizeof(float));
    }
    int64_t later = 0;
    for (int64_t step = count ? rows->lengths[first] - 2 : -1; step >= 0; step--) {
        int64_t live = live_rows(rows, first, count, step);
        memset(state, 0, BLOCK * unit_row * sizeof(float));
        for (int64_t row = 0; row < live; row++)
            memcpy(state + row * unit_row, gradient + (first + row) * by_row + (step + 1) * by_step,
                   hidden * sizeof(float));
        if (later)
            add_product(round_up(later, ROWS), width, hidden, deltas, width, packed, state, unit_row);
        for (int64_t row = 0; row < live; row++) {
            int64_t place = (first + row) * rows->steps + step;
            const float *cell = rows->cells + (place + 1) * hidden;
            float *gate = rows->gates + place * width, *delta = deltas + row * width;
            for (int64_t u = 0; u < hidden; u++) tanhs[u] = 2 * cell[u];
            sigmoids(tanhs, unit_row);
            back_step(hidden, gate, rows->cells + place * hidden, tanhs, state + row * unit_row,
                      carried + row * unit_row, delta);
            memcpy(gate, delta, width * sizeof(float));
        }
        later = live;
    }
    free(scratch);
    RESTORE;
    return 0;
}

/* Clipped sums of matrix gradients. ------------------------------------------------------------- */

/* Packs columns [from, from + width) of (depth, columns) behind `packed`, zeros beyond the last. */
static void pack_columns(const float *matrix, int64_t depth, int64_t columns, int64_t from,
                         int64_t width, float *packed) {
    int64_t true_width = columns - from < width ? columns - from : width;
    for (int64_t k = 0; k < depth; k++) {
        const float *line = matrix + k * columns + from;
        for (int64_t j = 0; j < true_width; j++) packed[k * width + j] = line[j];
        for (int64_t j = true_width; j < width; j++) packed[k * width + j] = 0;
    }
}

typedef struct {
    int64_t steps, outputs, inputs;
    const float *deltas, *states; /* (R, T, outputs), (R, T, inputs) */
    const int64_t *lengths;       /* (R,) */
    const int64_t *rows;          /* rows in the order of their learners */
    const int64_t *starts;        /* (learners + 1,) where in `rows` each learner's begin */
} Learners;

/* One learner's gradient, tile by tile; its squared norm. The first step's state is zero, and the
 * last step's delta: neither counts. */
static double matrix_gradient(const Learners *all, int64_t learner, float *left, float *right,
                              float *gradient) {
    int64_t depth = 0, tiles = round_up(all->inputs, ROWS) / ROWS;
    const int64_t *mine = all->rows + all->starts[learner];
    int64_t count = all->starts[learner + 1] - all->starts[learner];
    for (int64_t i = 0; i < count; i++)
        if (all->lengths[mine[i]] > 2) depth += all->lengths[mine[i]] - 2;
    for (int64_t tile = 0; tile < tiles; tile++) {
        float *to = left + tile * depth * ROWS;
        for (int64_t i = 0; i < count; i++) {
            int64_t steps = all->lengths[mine[i]] - 2;
            if (steps <= 0) continue;
            const float *from = all->states + (mine[i] * all->steps + 1) * all->inputs;
            pack_columns(from, steps, all->inputs, tile * ROWS, ROWS, to);
            to += steps * ROWS;
        }
    }
    double square = 0;
    for (int64_t column = 0; column < all->outputs; column += PANEL) {
        float *to = right;
        for (int64_t i = 0; i < count; i++) {
            int64_t steps = all->lengths[mine[i]] - 2;
            if (steps <= 0) continue;
            const float *from = all->deltas + (mine[i] * all->steps + 1) * all->outputs;
            pack_columns(from, steps, all->outputs, column, PANEL, to);
            to += steps * PANEL;
        }
        for (int64_t tile = 0; tile < tiles; tile++, gradient += ROWS * PANEL) {
            memset(gradient, 0, ROWS * PANEL * sizeof(float));
            add_tile(ROWS, 2, depth, left + tile * depth * ROWS, 1, ROWS, right, PANEL, gradient, PANEL);
            vec squares = {0};
            for (int i = 0; i < ROWS * PANEL; i += LANES) {
                vec part = *(vec *)(gradient + i);
                squares += part * part;
            }
            for (int lane = 0; lane < LANES; lane++) square += squares[lane];
        }
    }
    return square;
}

/* How many floats a gradient takes, tile by tile. */
int64_t cloister_gradient_size(int64_t outputs, int64_t inputs) {
    return round_up(outputs, PANEL) * round_up(inputs, ROWS);
}

/* Adds the clipped gradients of `count` learners, `which`, to `total` (tile by tile).
 *
 * `squares` (learners,) holds the squared norms of the learners' other gradients, and has the whole
 * ones afterwards. A gradient is multiplied by min(1, clip / (norm + tiny)), and left out if its
 * norm is not finite. `most` is the largest number of steps of a learner. */
int64_t cloister_clipped_sum(const Learners *all, const int64_t *which, int64_t count, int64_t most,
                             float clip, float tiny, float *squares, float *total) {
    int64_t size = cloister_gradient_size(all->outputs, all->inputs);
    int64_t inputs = round_up(all->inputs, ROWS);
    float *scratch = malloc((size + most * (inputs + PANEL) + 1) * sizeof(float));
    if (!scratch) return 1;
    FLUSH_SUBNORMALS;
    float *left = scratch + size, *right = left + most * inputs;
    for (int64_t i = 0; i < count; i++) {
        int64_t learner = which[i];
        squares[learner] += (float)matrix_gradient(all, learner, left, right, scratch);
        if (!isfinite(squares[learner])) continue;
        float factor = clip / (sqrtf(squares[learner]) + tiny);
        if (factor > 1) factor = 1;
        for (int64_t j = 0; j < size; j++) total[j] += factor * scratch[j];
    }
    free(scratch);
    RESTORE;
    return 0;
}

/* Writes the tiles of `total` into matrix (outputs, inputs). */
void cloister_untile(const float *total, int64_t outputs, int64_t inputs, float *matrix) {
    for (int64_t column = 0; column < outputs; column += PANEL)
        for (int64_t tile = 0; tile < inputs; tile += ROWS)
            for (int row = 0; row < ROWS; row++)
                for (int j = 0; j < PANEL; j++, total++)
                    if (column + j < outputs && tile + row < inputs)
                        matrix[(column + j) * inputs + tile + row] = *total;
}
