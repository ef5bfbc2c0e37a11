/* The C ABI of the vecdb core, and at the same time the declarations that cffi parses.
 *
 * Conventions:
 *  (1) Every function that can fail returns a vecdb_status; results go through out-pointers, last.
 *  (2) On failure vecdb_last_error() holds the message, per thread, until the next failing call of that thread.
 *  (3) A NULL handle is accepted by the destroy functions only. Arrays are pointer + count; a count of 0 allows NULL.
 *  (4) Nothing here keeps a pointer that a caller passed in beyond the call, and nothing calls back.
 *  (5) Handles may be used from many threads at once, except where a function says otherwise.
 *
 * The reader of this file strips lines that begin with '#' and the two extern "C" lines; the rest is plain C11.
 */
#ifndef VECDB_H
#define VECDB_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ------------------------------------------------------------------------------------------------ */

typedef enum {
  VECDB_OK = 0,
  VECDB_INVALID_ARGUMENT = 1,
  VECDB_NOT_FOUND = 2,
  VECDB_CORRUPTION = 3,
  VECDB_STORAGE_ERROR = 4,
  VECDB_OUT_OF_MEMORY = 5,
  VECDB_CAPACITY = 6, /* a fixed limit is reached, such as max_elements of a labelled index */
  VECDB_INTERNAL = 7
} vecdb_status;

const char* vecdb_last_error(void);

/* Raised whenever a declaration here changes; checked when the extension is imported. */
uint32_t vecdb_abi_version(void);

/* Names of the kernels in use, such as "avx512". */
const char* vecdb_kernels(void);

/* CRC32C (Castagnoli) of data, continuing from crc; start with 0. */
uint32_t vecdb_crc32c(uint32_t crc, const void* data, uint64_t size);

/* How many of the first of count entries hold. Each lies in data as a key and a value, which begins with the CRC32C of the key and the rest
 * of the value; sizes has the bytes of keys and values, in turn, as uint32_t. */
uint64_t vecdb_count_sealed(const void* data, uint64_t size, const void* sizes, uint64_t count);

/* ---- filter programs ---------------------------------------------------------------------------------------- *
 * A program is an array of 64-bit words in postfix order, over a stack of sets of offsets. One word names the
 * operation, its operands follow. The stack must hold exactly one set at the end. An empty program is ALL.
 *
 *   ALL                                       push every live offset
 *   NONE                                      push the empty set
 *   TAG tag                                   push the offsets with this tag
 *   ANY_TAG n tag*n                           push the union of n tags
 *   RANGE column bounds lo lo_rest hi hi_rest push the offsets with a value in the range; bounds is an OR of the
 *                                             VECDB_BOUND_ values, lo and hi are the bits of a double and the rests
 *                                             int64 (see vecdb_changes.column_rest)
 *   GEO column shape n operand*n              push the offsets with a point inside an area: shape is a vecdb_geo_shape,
 *                                             the operands are the bits of doubles, in degrees and metres:
 *                                             RADIUS: lat lon metres (haversine, nearer than that); BOX: top left
 *                                             bottom right (crosses the antimeridian when left > right); POLYGON:
 *                                             for each ring, the exterior one first, its number of points, a word,
 *                                             and (lat lon)*points, the last point the same as the first
 *   OFFSETS n offset*n                        push exactly these offsets (ascending; dead ones are dropped)
 *   AND n | OR n                              pop n sets, push their intersection | union
 *   AT_LEAST n min                            pop n sets, push the offsets that are in at least min of them
 *   NOT                                       pop one set, push the live offsets that are not in it
 */
typedef enum {
  VECDB_OP_ALL = 1,
  VECDB_OP_NONE = 2,
  VECDB_OP_TAG = 3,
  VECDB_OP_ANY_TAG = 4,
  VECDB_OP_RANGE = 5,
  VECDB_OP_OFFSETS = 6,
  VECDB_OP_AND = 7,
  VECDB_OP_OR = 8,
  VECDB_OP_AT_LEAST = 9,
  VECDB_OP_NOT = 10,
  VECDB_OP_GEO = 11
} vecdb_op;

typedef enum { VECDB_BOUND_GT = 1, VECDB_BOUND_GTE = 2, VECDB_BOUND_LT = 4, VECDB_BOUND_LTE = 8 } vecdb_bound;

typedef enum { VECDB_GEO_RADIUS = 1, VECDB_GEO_BOX = 2, VECDB_GEO_POLYGON = 3 } vecdb_geo_shape;

/* ---- the index of a collection ------------------------------------------------------------------------------ */

typedef enum { VECDB_COSINE = 0, VECDB_DOT = 1, VECDB_L2 = 2 } vecdb_metric;

typedef enum { VECDB_ID_INT = 0, VECDB_ID_STR = 1 } vecdb_id_kind;

typedef struct vecdb_index vecdb_index;

/* Whether a field keeps its rows as codes of 8 bits a dimension too, by which graphs and scans rank; scores come from the rows. */
typedef enum { VECDB_NO_CODES = 0, VECDB_EIGHT_BITS = 1 } vecdb_coding;

typedef struct {
  uint32_t dim;
  uint32_t metric; /* vecdb_metric */
  uint32_t m;
  uint32_t ef_construction;
  uint64_t seed;
  uint32_t coding; /* vecdb_coding */
} vecdb_field;

/* Create an empty index with field_count vector fields, numbered from 0. threads bounds the background workers that
 * move the tail into the graphs; 0 means that nothing is indexed in the background. */
vecdb_status vecdb_index_create(const vecdb_field* fields, uint32_t field_count, uint32_t threads, vecdb_index** out);
void vecdb_index_destroy(vecdb_index* index);
/* Change the bound of the background workers; they start if a tail is long. An index is filled with 0, given its saved graphs,
 * and then its threads. */
vecdb_status vecdb_index_set_threads(vecdb_index* index, uint32_t threads);

/* Rows are stored before the change that uses them: either appended to anonymous memory, or, for a field backed by a
 * file, written to the file by the caller and then mapped. Row r is the r-th present vector in offset order. map_rows maps rows
 * [0, rows) of fd (which may be closed after). Behind mapped rows that end with a page, rows may be appended, once and for all: a later
 * map_rows then shows as many of those as fill pages from the file, which must hold the same, and gives their memory back. */
vecdb_status vecdb_index_append_rows(vecdb_index* index, uint32_t field, const float* rows, uint64_t count);
vecdb_status vecdb_index_map_rows(vecdb_index* index, uint32_t field, int32_t fd, uint64_t rows);

/* Rows in one checksum block: a power of two near 64 KiB of vector bytes. */
uint32_t vecdb_rows_per_block(uint32_t dim);

/* Checksums of whole blocks, from block 0 on: such a block is compared with its CRC32C before its first use, and a
 * difference is VECDB_CORRUPTION from whatever call met it. Blocks beyond count are trusted. */
vecdb_status vecdb_index_expect_checksums(vecdb_index* index, uint32_t field, const uint32_t* crcs, uint64_t count);

/* One atomic change: searches see all of it or nothing. The caller serialises calls of apply.
 * New offsets follow the last one: first_offset must equal the count so far. */
typedef struct {
  uint32_t first_offset;
  uint32_t count;
  const uint64_t* ids;     /* count: the int id, or (start << 16 | length) into id_bytes */
  const uint8_t* id_kinds; /* count: vecdb_id_kind */
  const char* id_bytes;
  uint64_t id_bytes_size;
  const uint8_t* present; /* field_count rows of count bytes each: 1 where the offset has a row in that field */

  const uint32_t* tombstones;
  uint64_t tombstone_count;

  /* Pairs (offset, tag). Removals are done before additions. */
  const uint32_t* tag_removed_offsets;
  const uint64_t* tag_removed;
  uint64_t tag_removed_count;
  const uint32_t* tag_added_offsets;
  const uint64_t* tag_added;
  uint64_t tag_added_count;

  /* Entries (column, offset, value). A value is the pair (v, rest): v is the number rounded to a double, rest is what
   * the rounding lost of an integer (number - v); pairs are ordered lexicographically, so integers compare exactly. */
  const uint32_t* column_removed;
  const uint32_t* column_removed_offsets;
  const double* column_removed_values;
  const int32_t* column_removed_rests;
  uint64_t column_removed_count;
  const uint32_t* column_added;
  const uint32_t* column_added_offsets;
  const double* column_added_values;
  const int32_t* column_added_rests;
  uint64_t column_added_count;

  /* Points (column, offset, lat, lon) in degrees, finite; a column has either numbers or points. */
  const uint32_t* geo_removed;
  const uint32_t* geo_removed_offsets;
  const double* geo_removed_lats;
  const double* geo_removed_lons;
  uint64_t geo_removed_count;
  const uint32_t* geo_added;
  const uint32_t* geo_added_offsets;
  const double* geo_added_lats;
  const double* geo_added_lons;
  uint64_t geo_added_count;
} vecdb_changes;

/* version counts the applied changes; out_version may be NULL. */
vecdb_status vecdb_index_apply(vecdb_index* index, const vecdb_changes* changes, uint64_t* out_version);

/* Drop all entries of these tags | of this column: the payload index that used them is gone. */
vecdb_status vecdb_index_drop_tags(vecdb_index* index, const uint64_t* tags, uint64_t count);
vecdb_status vecdb_index_drop_column(vecdb_index* index, uint32_t column);

/* An entry of a column: of numbers value and rest, of points lat and lon. */
typedef struct {
  double first;
  double second;
  uint32_t offset;
} vecdb_column_entry;

/* Copy what tags | a column of numbers | a column of points hold, to be saved, in pieces: no change is applied while one of these calls is
 * at work. Of tags the offsets in [first, last) of one after the other, ascending, how many each has in out_counts (count of them) and the
 * number of all in *out_total; when that is beyond capacity, none is written to out_offsets. Of columns the entries beyond `after` (NULL:
 * from the first on), in their order: at most capacity, their number in *out_total. Between two pieces entries may come and go, but each
 * of those that stay is in exactly one piece. */
vecdb_status vecdb_index_copy_tags(vecdb_index* index, const uint64_t* tags, uint64_t count, uint32_t first, uint32_t last,
                                   uint32_t* out_counts, uint32_t* out_offsets, uint64_t capacity, uint64_t* out_total);
vecdb_status vecdb_index_copy_column(vecdb_index* index, uint32_t column, const vecdb_column_entry* after, uint32_t* out_offsets,
                                     double* out_values, int32_t* out_rests, uint64_t capacity, uint64_t* out_total);
vecdb_status vecdb_index_copy_points(vecdb_index* index, uint32_t column, const vecdb_column_entry* after, uint32_t* out_offsets,
                                     double* out_lats, double* out_lons, uint64_t capacity, uint64_t* out_total);

/* Give the points of each of these tags links among themselves, so that a search that only they can satisfy walks over them alone; m links
 * a point and level, 0 for the usual number. They are made by the background workers, for tags that have enough points for them to pay and
 * on at most 0.6 of all points, now or later. Tags that searches ask for often get links without this, within a budget of memory.
 * unlink_tags forgets the links and the wish; drop_tags does too. */
vecdb_status vecdb_index_link_tags(vecdb_index* index, uint32_t field, const uint64_t* tags, uint64_t count, uint32_t m);
vecdb_status vecdb_index_unlink_tags(vecdb_index* index, uint32_t field, const uint64_t* tags, uint64_t count);
/* Windows of a column's values, and cells of a geo column, get such links when searches keep asking for ranges or areas in them, within the
 * same budget. For a column of numbers or points named here one search is enough, and any gain; m as above. unlink_column forgets the links
 * and the wish; drop_column does too. */
vecdb_status vecdb_index_link_column(vecdb_index* index, uint32_t field, uint32_t column, uint32_t m);
vecdb_status vecdb_index_unlink_column(vecdb_index* index, uint32_t field, uint32_t column);

/* Move on from the tail in the calling thread while it is longer than its bound, at most max_points points. Where nobody has searched for
 * ten seconds, the bound is 32 times as long: it is there for the sake of searches. */
vecdb_status vecdb_index_help(vecdb_index* index, uint32_t max_points, uint32_t* out_done);
/* Wait until every tail is empty and every linked tag's points are linked, at most timeout_ms; works itself when no background worker may.
 * *out_done is 1 when they are.
 * A field with no more rows than its bound has no graph, and no tail in this sense. */
vecdb_status vecdb_index_wait_indexed(vecdb_index* index, uint32_t timeout_ms, uint32_t* out_done);

typedef struct {
  uint32_t field;
  uint32_t k;
  uint32_t ef;          /* plain beam width; 0: chosen, with a bound on distances, for a recall of 0.95 */
  uint32_t exact;       /* 1: exact scan */
  uint32_t threads;     /* upper bound of threads for a batch; 0 and 1 mean the calling thread only */
  const float* queries; /* query_count x dim */
  uint64_t query_count;
  const uint64_t* program;
  uint64_t program_size;
} vecdb_search;

typedef enum { VECDB_PLAN_EMPTY = 0, VECDB_PLAN_EXACT = 1, VECDB_PLAN_GRAPH = 2, VECDB_PLAN_TAG = 3, VECDB_PLAN_SWEEP = 4 } vecdb_plan_kind;

typedef struct {
  uint64_t version;     /* the state that was searched */
  uint64_t cardinality; /* live points that match and have the field */
  uint64_t total;       /* live points that have the field */
  uint64_t tail;        /* rows scanned because no graph, or not the links that are walked, cover them yet */
  uint32_t strategy;    /* vecdb_plan_kind */
  uint32_t ef;
  double cost_exact_ns; /* predicted, one query */
  double cost_graph_ns; /* of the walk that was chosen, or of the one over the base graph */
} vecdb_plan;

/* k hits a query: out_offsets, out_ids, out_id_kinds, out_scores are query_count x k, best first; row q holds
 * out_counts[q] = min(k, cardinality) of them, the rest is unspecified. An id of kind STR is a place for
 * vecdb_index_id_text. Scores: similarity for cosine and dot, Euclidean distance for l2. plan may be NULL. */
vecdb_status vecdb_index_search(vecdb_index* index, const vecdb_search* search, uint32_t* out_offsets, uint64_t* out_ids,
                                uint8_t* out_id_kinds, float* out_scores, uint32_t* out_counts, vecdb_plan* plan);
/* What search would do, without doing it. */
vecdb_status vecdb_index_plan(vecdb_index* index, const vecdb_search* search, vecdb_plan* plan);

/* The live offsets that satisfy the program: how many, or which (ascending, at most capacity of them written, the whole
 * number in *out_count). out_version may be NULL. */
vecdb_status vecdb_index_count(vecdb_index* index, const uint64_t* program, uint64_t program_size, uint64_t* out_count,
                               uint64_t* out_version);
vecdb_status vecdb_index_select(vecdb_index* index, const uint64_t* program, uint64_t program_size, uint32_t* out_offsets,
                                uint64_t capacity, uint64_t* out_count, uint64_t* out_version);

/* Copy rows out: out_rows is count x dim, out_present[i] is 0 (and the row zeros) where the offset has no such vector. */
vecdb_status vecdb_index_get_rows(vecdb_index* index, uint32_t field, const uint32_t* offsets, uint64_t count, float* out_rows,
                                  uint8_t* out_present);
/* Ids of offsets, as vecdb_index_search gives them. */
vecdb_status vecdb_index_get_ids(vecdb_index* index, const uint32_t* offsets, uint64_t count, uint64_t* out_ids, uint8_t* out_kinds);
/* The text of a STR id; the pointer is valid while the index lives. */
vecdb_status vecdb_index_id_text(vecdb_index* index, uint64_t place, const char** out_text, uint32_t* out_size);

/* The graph of a field as bytes of a derived file, and back. save with buffer == NULL gives the size, with a buffer it writes
 * exactly *out_size bytes; VECDB_CAPACITY with the size now needed in *out_size when background workers have made the graph larger than
 * the buffer meanwhile. VECDB_NOT_FOUND when there is no graph. load must be called while no other thread calls apply. load checks every
 * byte it uses, VECDB_CORRUPTION leaves the index as it was. uuid is 16 bytes and must agree; *out_rows is what the graph covers: a
 * graph that is there already and covers as much is kept. */
vecdb_status vecdb_index_save_graph(vecdb_index* index, uint32_t field, const uint8_t* uuid, uint64_t generation, uint64_t lsn,
                                    uint8_t* buffer, uint64_t buffer_size, uint64_t* out_size);
/* As save, for the field after compaction: only rows with a set bit in kept_rows (64 rows a word, ascending; rows from row_count on are
 * left out) are kept, and numbered anew in their order. REQUIRES: no other thread calls apply. */
vecdb_status vecdb_index_save_compacted_graph(vecdb_index* index, uint32_t field, const uint8_t* uuid, uint64_t generation, uint64_t lsn,
                                              const uint64_t* kept_rows, uint64_t row_count, uint8_t* buffer, uint64_t buffer_size,
                                              uint64_t* out_size);
vecdb_status vecdb_index_load_graph(vecdb_index* index, uint32_t field, const uint8_t* uuid, uint64_t generation, const uint8_t* buffer,
                                    uint64_t buffer_size, uint64_t* out_lsn, uint64_t* out_rows);

typedef struct {
  uint64_t version;
  uint64_t offsets; /* handed out so far */
  uint64_t live;
  uint64_t id_bytes;
  uint64_t tag_bytes;
  uint64_t column_bytes;
} vecdb_index_stats;

typedef struct {
  uint64_t rows; /* present rows, dead ones included */
  uint64_t live_rows;
  uint64_t indexed_rows; /* rows that the graph covers; the tail is rows - indexed_rows */
  uint64_t vector_bytes;
  uint64_t norm_bytes;
  uint64_t code_bytes;
  uint64_t graph_bytes;
  uint64_t linked_tags; /* windows and cells included */
  uint64_t linked_rows; /* of all of them */
  uint64_t link_bytes;
  uint64_t dead_in_graph; /* dead rows that walks still go over; repairs take them out once they are a sixteenth */
  uint64_t unreachable;   /* live rows to which no path led in the graph when that was last looked at; see vecdb_index_check_graph */
} vecdb_field_stats;

vecdb_status vecdb_index_get_stats(vecdb_index* index, vecdb_index_stats* out);
vecdb_status vecdb_index_get_field_stats(vecdb_index* index, uint32_t field, vecdb_field_stats* out);

/* Compare every block of every field with its checksum now. */
vecdb_status vecdb_index_verify(vecdb_index* index);

typedef struct {
  uint64_t nodes;             /* live rows in the graph */
  uint64_t dead;              /* dead ones */
  uint64_t unreachable;       /* live rows to which no path leads over level 0 from the entry */
  uint64_t unreachable_above; /* to which none leads over a level above that they have */
} vecdb_graph_report;

/* Look at every link of a field's graph now; all 0 without one. Beside background workers or writers it tells of no single moment. */
vecdb_status vecdb_index_check_graph(vecdb_index* index, uint32_t field, vecdb_graph_report* out);

/* ---- the labelled index: hnswlib's model, with tags ----------------------------------------------------------- */

typedef struct vecdb_labelled vecdb_labelled;

typedef struct {
  uint32_t dim;
  uint32_t metric; /* VECDB_DOT or VECDB_L2; the caller normalises for cosine */
  uint32_t m;      /* 0: no graph, every search is an exact scan */
  uint32_t ef_construction;
  uint64_t seed;
  uint64_t max_elements;
  uint32_t allow_replace_deleted;
} vecdb_labelled_options;

vecdb_status vecdb_labelled_create(const vecdb_labelled_options* options, vecdb_labelled** out);
void vecdb_labelled_destroy(vecdb_labelled* index);

/* Insert count rows; a label that exists is updated. With replace_deleted a deleted point's place is taken first.
 * VECDB_CAPACITY when max_elements would be passed (the rows before that one are inserted). */
vecdb_status vecdb_labelled_add(vecdb_labelled* index, const float* rows, const uint64_t* labels, uint64_t count, uint32_t threads,
                                uint32_t replace_deleted);

/* program as above, over tags only (OFFSETS, RANGE are refused); allowed, unless NULL, lists the labels that may be hits.
 * out_labels and out_distances are query_count x k, nearest first, out_counts[q] of them valid. Distances are squared l2,
 * and 1 - dot. */
vecdb_status vecdb_labelled_search(vecdb_labelled* index, const float* queries, uint64_t query_count, uint32_t k, uint32_t ef,
                                   uint32_t threads, const uint64_t* program, uint64_t program_size, const uint64_t* allowed,
                                   uint64_t allowed_count, uint32_t exact, uint64_t* out_labels, float* out_distances,
                                   uint32_t* out_counts);

vecdb_status vecdb_labelled_get_rows(vecdb_labelled* index, const uint64_t* labels, uint64_t count, float* out_rows);
/* Labels in insertion order, deleted ones included (out_deleted, unless NULL, says which): at most capacity of them are
 * written, the whole number goes to *out_count. It is at most vecdb_labelled_stats.count. */
vecdb_status vecdb_labelled_get_labels(vecdb_labelled* index, uint64_t* out_labels, uint8_t* out_deleted, uint64_t capacity,
                                       uint64_t* out_count);
vecdb_status vecdb_labelled_mark_deleted(vecdb_labelled* index, uint64_t label);
vecdb_status vecdb_labelled_unmark_deleted(vecdb_labelled* index, uint64_t label);
vecdb_status vecdb_labelled_resize(vecdb_labelled* index, uint64_t max_elements);

/* All or none of the labels; VECDB_NOT_FOUND names the first that is missing. */
vecdb_status vecdb_labelled_add_tags(vecdb_labelled* index, const uint64_t* labels, uint64_t count, uint64_t tag);
vecdb_status vecdb_labelled_remove_tags(vecdb_labelled* index, const uint64_t* labels, uint64_t count, uint64_t tag);
vecdb_status vecdb_labelled_get_tags(vecdb_labelled* index, uint64_t label, uint64_t* out_tags, uint64_t capacity, uint64_t* out_count);
vecdb_status vecdb_labelled_reset_tags(vecdb_labelled* index);
/* Links among the union of the points of these tags; m = 0 means the index's own. VECDB_NOT_FOUND when no point has one. */
vecdb_status vecdb_labelled_link_tags(vecdb_labelled* index, const uint64_t* tags, uint64_t count, uint32_t m, uint32_t threads);

typedef struct {
  uint64_t count; /* points, deleted ones included */
  uint64_t deleted;
  uint64_t max_elements;
  uint32_t m;
  uint32_t ef_construction;
  uint32_t dim;
  uint32_t metric;
} vecdb_labelled_stats;

vecdb_status vecdb_labelled_get_stats(vecdb_labelled* index, vecdb_labelled_stats* out);

/* The main file, byte for byte in hnswlib 0.8's format, and the tag file, which names the main file's CRC32C. save_*
 * with buffer == NULL gives the size, 0 for the tags when there are none; nothing may change the index between the calls.
 * load checks every byte it uses; max_elements 0 or below the count in the file means the file's own. tags may be NULL
 * (no tags). */
vecdb_status vecdb_labelled_save(vecdb_labelled* index, uint8_t* buffer, uint64_t buffer_size, uint64_t* out_size);
vecdb_status vecdb_labelled_save_tags(vecdb_labelled* index, uint32_t main_crc, uint8_t* buffer, uint64_t buffer_size, uint64_t* out_size);
vecdb_status vecdb_labelled_load(const vecdb_labelled_options* options, const uint8_t* main, uint64_t main_size, const uint8_t* tags,
                                 uint64_t tags_size, vecdb_labelled** out);

#ifdef __cplusplus
}
#endif

#endif
